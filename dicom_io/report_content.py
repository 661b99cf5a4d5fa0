"""Content items of a measurement report: what is said of one segment, in standard codes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import highdicom as hd
import numpy as np
from highdicom import sr
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as DicomCode

from dicom_io.contours import outlines
from dicom_io.diameters import diameters
from dicom_io.equipment import coded, notice, parameters
from dicom_io.result_errors import ResultInputError
from dicom_io.results import Algorithm, Measurement, ResultIdentity, Segment
from dicom_io.source_grid import FrameReference
from dicom_io.suv import SUVBW_UNIT
from dicom_io.volume import Float64, Volume

MAX_OUTLINES_PER_SLICE = 3
"""Parts of a segment that are outlined in one key slice, largest first."""
MIN_OUTLINE_PIXELS = 4
"""Smaller parts are not outlined (the segment's largest part always is)."""

MILLILITRE = DicomCode("ml", "UCUM", "milliliter")
MILLIMETRE = DicomCode("mm", "UCUM", "millimeter")
SQUARE_MILLIMETRE = DicomCode("mm2", "UCUM", "square millimeter")
UNITS = {
    "[hnsf'U]": DicomCode("[hnsf'U]", "UCUM", "Hounsfield unit"),
    "1": DicomCode("1", "UCUM", "no units"),
    "Bq/mL": DicomCode("Bq/ml", "UCUM", "Becquerels per milliliter"),
    "{SUVbw}g/ml": DicomCode("{SUVbw}g/ml", "UCUM", "Standardized Uptake Value body weight"),
}
QUANTITIES = {
    "CT": codes.DCM.AttenuationCoefficient,
    "MR": codes.DCM.MRSignalIntensity,
    "PT": codes.cid7469.NuclearMedicineTomographicActivity,
}
"""What a voxel value of each modality measures (CID 7469)."""
OTHER_QUANTITY = codes.SCT.Quantity
SUVBW = DicomCode("126401", "DCM", "SUVbw")
"""Quantity of values in ``{SUVbw}g/ml`` (CID 85)."""
PROCEDURES = {
    "CT": codes.cid100.CTUnspecifiedBodyRegion,
    "MR": codes.cid100.MRIUnspecifiedBodyRegion,
    "PT": codes.cid100.PETUnspecifiedBodyRegion,
}
OTHER_PROCEDURE = codes.cid100.ImagingProcedure
LATERALITIES = {"7771000", "24028007", "51440002"}
"""SNOMED CT: left, right, right and left (CID 244)."""
PRESENCE = codes.DCM.PresenceOfProperty
ABSENT = codes.cid240.Absent
DERIVATIONS = {
    "mean": codes.SCT.Mean,
    "sd": codes.SCT.StandardDeviation,
    "minimum": codes.SCT.Minimum,
    "maximum": codes.SCT.Maximum,
}
Group = (
    sr.MeasurementsAndQualitativeEvaluations
    | sr.VolumetricROIMeasurementsAndQualitativeEvaluations
    | sr.PlanarROIMeasurementsAndQualitativeEvaluations
)


def observation_context(algorithm: Algorithm) -> sr.ObservationContext:
    """Observer: this device, with the UID that changes when the model or its weights change."""
    return sr.ObservationContext(
        observer_device_context=sr.ObserverContext(
            observer_type=codes.DCM.Device,
            observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
                uid=algorithm.device_uid,
                name=f"{algorithm.name} {algorithm.version} ({notice(algorithm)})",
                manufacturer_name=algorithm.manufacturer,
                model_name=algorithm.name,
                serial_number=algorithm.device_uid,
            ),
        )
    )


def procedure_reported(volume: Volume) -> sr.CodedConcept:
    """Return the imaging procedure by modality, from CID 100.

    The source's own code stays in the object's Procedure Code Sequence; here, where PixelMed's
    validator takes no code from outside CID 100, a local one is an error.
    """
    return sr.CodedConcept.from_code(PROCEDURES.get(volume.modality, OTHER_PROCEDURE))


def quantity_of(volume: Volume, measurement: Measurement) -> DicomCode:
    """Return what the statistics of a segment are of."""
    if measurement.unit == SUVBW_UNIT:
        return SUVBW
    quantity: DicomCode = QUANTITIES.get(volume.modality, OTHER_QUANTITY)
    return quantity


def absent_group(
    segment: Segment,
    reference: sr.ReferencedSegment | None,
    algorithm: Algorithm,
    identity: ResultIdentity,
) -> Group:
    """Say that a structure was searched for and not found.

    Beside segments that were found it is a TID 1411 group of 0 ml that points at the empty segment
    (a TID 1501 group among TID 1411 ones fails PixelMed's validator); alone, a TID 1501 group.
    """
    evaluations = [sr.QualitativeEvaluation(name=PRESENCE, value=ABSENT)]
    what = _what(segment, algorithm, identity)
    if reference is None:
        return sr.MeasurementsAndQualitativeEvaluations(qualitative_evaluations=evaluations, **what)
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        referenced_segment=reference,
        measurements=[_number(codes.SCT.Volume, 0.0, MILLILITRE, "volume_ml")],
        qualitative_evaluations=evaluations,
        **what,
    )


def volume_group(
    segment: Segment,
    measurement: Measurement,
    reference: sr.ReferencedSegment,
    quantity: DicomCode,
    algorithm: Algorithm,
    identity: ResultIdentity,
) -> Group:
    """Volume and statistics of a segment, pointing at it in the segmentation (TID 1411)."""
    unit = UNITS.get(measurement.unit, DicomCode(measurement.unit, "UCUM", measurement.unit))
    items = [_number(codes.SCT.Volume, measurement.volume_ml, MILLILITRE, "volume_ml")]
    items += [
        _number(quantity, getattr(measurement, field), unit, field, derivation)
        for field, derivation in DERIVATIONS.items()
    ]
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        referenced_segment=reference,
        measurements=items,
        **_what(segment, algorithm, identity),
    )


def outline_groups(
    segment: Segment,
    mask: np.ndarray[tuple[int, int], np.dtype[np.bool_]],
    reference: FrameReference,
    pixel_spacing_mm: tuple[float, float],
    algorithm: Algorithm,
    identity: ResultIdentity,
) -> Iterator[Group]:
    """Outlines of a segment on one source image, measured (TID 1410), largest first.

    The area is that of the part's own pixels; the line runs around its holes too. Long and short
    axis are those of `diameters`.
    """
    for order, outline in enumerate(outlines(mask, at_most=MAX_OUTLINES_PER_SLICE)):
        if order > 0 and outline.n_pixels < MIN_OUTLINE_PIXELS:
            return
        area_mm2 = outline.n_pixels * pixel_spacing_mm[0] * pixel_spacing_mm[1]
        axes = diameters(outline.points, pixel_spacing_mm)
        yield sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            referenced_region=sr.ImageRegion(
                graphic_type=sr.GraphicTypeValues.POLYLINE,
                graphic_data=outline.points,
                source_image=sr.SourceImageForRegion(
                    referenced_sop_class_uid=reference.sop_class_uid,
                    referenced_sop_instance_uid=reference.instance_uid,
                    referenced_frame_numbers=(
                        None if reference.frame_number is None else [reference.frame_number]
                    ),
                ),
            ),
            measurements=[
                _number(codes.SCT.Area, area_mm2, SQUARE_MILLIMETRE, "area"),
                _number(codes.cid7470.LongAxis, axes.long_axis_mm, MILLIMETRE, "long_axis"),
                _number(codes.cid7470.ShortAxis, axes.short_axis_mm, MILLIMETRE, "short_axis"),
            ],
            **_what(segment, algorithm, identity, is_outline=True),
        )


def comment(missing: Sequence[Segment], algorithm: Algorithm) -> sr.TextContentItem:
    """In plain words, for a reader without the codes: what it is, and what was not found."""
    text = f"{algorithm.name} {algorithm.version}: {notice(algorithm)}."
    if missing:
        text += f" Searched for and not found: {', '.join(segment.name for segment in missing)}."
    return sr.TextContentItem(
        name=codes.DCM.Comment, value=text, relationship_type=sr.RelationshipTypeValues.CONTAINS
    )


def key_slices(areas: Float64) -> tuple[int, ...]:
    """Slices worth outlining: the largest, and those with a quarter and three quarters below.

    Parameters
    ----------
    areas : (n_slices,), pixels of the segment in each slice, not all 0
    """
    share = np.cumsum(areas) / np.sum(areas)
    chosen = {int(np.argmax(areas))}
    chosen |= {int(np.searchsorted(share, quantile)) for quantile in (0.25, 0.75)}
    return tuple(sorted(chosen))


def _what(
    segment: Segment, algorithm: Algorithm, identity: ResultIdentity, *, is_outline: bool = False
) -> dict[str, Any]:
    """Arguments that every group about a segment shares; outlines leave the parameters out."""
    return {
        "tracking_identifier": sr.TrackingIdentifier(
            uid=identity.tracking_uid(segment.label), identifier=segment.name
        ),
        "finding_category": coded(segment.category),
        "finding_type": coded(segment.type),
        "finding_sites": _sites(segment),
        "algorithm_id": sr.AlgorithmIdentification(
            name=algorithm.name,
            version=algorithm.version,
            parameters=None if is_outline else parameters(algorithm),
        ),
    }


def _sites(segment: Segment) -> list[sr.FindingSite] | None:
    """Return the side or part of the structure, which its type alone does not say."""
    if segment.modifier is None:
        return None
    modifier = coded(segment.modifier)
    if segment.modifier.scheme == "SCT" and segment.modifier.value in LATERALITIES:
        return [sr.FindingSite(anatomic_location=coded(segment.type), laterality=modifier)]
    return [sr.FindingSite(anatomic_location=coded(segment.type), topographical_modifier=modifier)]


def _number(
    name: DicomCode,
    value: float,
    unit: DicomCode,
    field: str,
    derivation: DicomCode | None = None,
) -> hd.sr.Measurement:
    if not math.isfinite(value):
        raise ResultInputError(field=f"measurement.{field}", problem=f"{value} is not a number")
    return sr.Measurement(name=name, value=float(value), unit=unit, derivation=derivation)
