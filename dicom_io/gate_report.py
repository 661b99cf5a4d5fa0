"""The gate for reports: what an SR says about places and amounts, against the labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from scipy import ndimage

from dicom_io.contours import fill
from dicom_io.gate_axes import axes_mm
from dicom_io.result_errors import PlacementError
from dicom_io.results import Segment
from dicom_io.source_header import dicom_source
from dicom_io.volume import Volume

LabelArray = NDArray[np.uint8] | NDArray[np.uint16]

_GROUP = "125007"
_TRACKING_IDENTIFIER, _TRACKING_UID = "112039", "112040"
_REFERENCED_SEGMENT, _IMAGE_REGION = "121191", "111030"
_VOLUME, _AREA, _PRESENCE = "118565006", "42798000", "121052"
_LONG_AXIS, _SHORT_AXIS = "103339001", "103340004"
_LONG_AXIS, _SHORT_AXIS = "103339001", "103340004"
_RELATIVE_TOLERANCE = 1e-6
"""Of a stored amount: a decimal string holds at least this much."""


def check_report(
    report: Dataset,
    volume: Volume,
    labels: LabelArray,
    segments: Sequence[Segment],
    segmentation: Dataset | None,
) -> None:
    """Check every reference, volume, area and outline of a report.

    Parameters
    ----------
    segmentation : the SEG that the report must point at; None if it must not point at one

    Raises
    ------
    PlacementError
    """
    _check_references(report, volume, segmentation)
    by_name = {segment.name: segment for segment in segments}
    told: dict[str, str] = {}
    for group in _items(report, _GROUP):
        name = str(_value(group, _TRACKING_IDENTIFIER, "TextValue"))
        if name not in by_name:
            raise PlacementError(field="Tracking Identifier", expected=sorted(by_name), found=name)
        segment = by_name[name]
        if any(_items(group, _IMAGE_REGION)):
            _check_outline(group, segment, volume, labels)
            continue
        is_absent = any(_items(group, _PRESENCE))
        told[name] = "absent" if is_absent else "measured"
        n_voxels = int(np.count_nonzero(labels == segment.label))
        expected = "measured" if n_voxels else "absent"
        if told[name] != expected:
            raise PlacementError(
                field="group", expected=expected, found=told[name], segment=segment.label
            )
        if n_voxels or any(_items(group, _VOLUME)):
            amount_ml = n_voxels * volume.voxel_volume_mm3 / 1000
            _check_amount(group, _VOLUME, "volume_ml", amount_ml, segment)
        if segmentation is not None:
            _check_segment(group, segment, segmentation)
    if told.keys() != by_name.keys():
        raise PlacementError(field="groups", expected=sorted(by_name), found=sorted(told))


def _check_references(report: Dataset, volume: Volume, segmentation: Dataset | None) -> None:
    """Whatever the report points at must exist and be listed as its evidence."""
    source = dicom_source(volume)
    known = {
        str(instance.instance_uid): str(instance.sop_class_uid) for instance in source.instances
    }
    if segmentation is not None:
        known[str(segmentation.SOPInstanceUID)] = str(segmentation.SOPClassUID)
    evidence = {
        str(item.ReferencedSOPInstanceUID)
        for study in report.get("CurrentRequestedProcedureEvidenceSequence") or []
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    if evidence != known.keys():
        difference = sorted(evidence ^ known.keys())
        raise PlacementError(
            field="CurrentRequestedProcedureEvidenceSequence",
            expected="the source instances and the segmentation",
            found=f"a difference of {len(difference)}: {difference[:3]}",
        )
    for item in _walk(report):
        for reference in item.get("ReferencedSOPSequence") or []:
            uid = str(reference.ReferencedSOPInstanceUID)
            if known.get(uid) != str(reference.ReferencedSOPClassUID):
                raise PlacementError(
                    field="ReferencedSOPSequence", expected="an instance of its evidence", found=uid
                )


def _check_segment(group: Dataset, segment: Segment, segmentation: Dataset) -> None:
    """Check that the referenced segment exists and has the tracking UID and name of the group."""
    references = [
        reference
        for item in _items(group, _REFERENCED_SEGMENT)
        for reference in item.ReferencedSOPSequence
    ]
    described = {int(item.SegmentNumber): item for item in segmentation.SegmentSequence}
    for reference in references:
        number = int(reference.get("ReferencedSegmentNumber", 0))
        item = described.get(number)
        found = None if item is None else (str(item.SegmentLabel), str(item.get("TrackingUID", "")))
        expected = (segment.name, str(_value(group, _TRACKING_UID, "UID")))
        if found != expected or reference.ReferencedSOPInstanceUID != segmentation.SOPInstanceUID:
            raise PlacementError(
                field="ReferencedSegmentNumber",
                expected=expected,
                found=(number, found),
                segment=segment.label,
            )
    if not references:
        raise PlacementError(field="Referenced Segment", expected=1, found=0, segment=segment.label)


def _check_outline(group: Dataset, segment: Segment, volume: Volume, labels: LabelArray) -> None:
    """Check that an outline, filled, is one whole part of the segment on the image it names."""
    region = next(_items(group, _IMAGE_REGION))
    reference = next(_walk(region)).ReferencedSOPSequence[0]
    slice_index = _slice_of(reference, volume, segment)
    points = np.array(region.GraphicData, dtype=np.float64).reshape(-1, 2)
    if region.GraphicType != "POLYLINE" or not np.array_equal(points[0], points[-1]):
        raise PlacementError(
            field="GraphicData",
            expected="a closed POLYLINE",
            found=region.GraphicType,
            segment=segment.label,
            slice_index=slice_index,
        )
    mask = labels[slice_index] == segment.label
    inside = fill(points, mask.shape)
    parts, _ = ndimage.label(mask)
    touched = np.unique(parts[inside & mask])
    part = parts == touched[0] if touched.size else np.zeros_like(mask)
    whole = ndimage.binary_fill_holes(part)
    if not np.array_equal(inside, whole):
        raise PlacementError(
            field="GraphicData",
            expected=f"an outline of {np.count_nonzero(whole)} pixels of the segment",
            found=f"one of {np.count_nonzero(inside)}, "
            f"{np.count_nonzero(inside != whole)} of them differ",
            segment=segment.label,
            slice_index=slice_index,
        )
    pixel_area_mm2 = float(volume.spacing_mm[1] * volume.spacing_mm[2])
    area_mm2 = np.count_nonzero(part) * pixel_area_mm2
    _check_amount(group, _AREA, "area_mm2", area_mm2, segment, slice_index)
    long_mm, short_mm = axes_mm(whole, volume.spacing_mm[1:])
    _check_amount(group, _LONG_AXIS, "long_axis_mm", long_mm, segment, slice_index)
    _check_amount(group, _SHORT_AXIS, "short_axis_mm", short_mm, segment, slice_index)


def _slice_of(reference: Dataset, volume: Volume, segment: Segment) -> int:
    """Return the slice that a referenced image, or frame of one, is."""
    frame_number = reference.get("ReferencedFrameNumber")
    wanted = (str(reference.ReferencedSOPInstanceUID), int(frame_number or 1))
    frames = [
        (str(instance.instance_uid), number)
        for instance in dicom_source(volume).instances
        for number in instance.frame_numbers
    ]
    if wanted not in frames or dicom_source(volume).resampled:
        raise PlacementError(
            field="ReferencedSOPInstanceUID",
            expected="an image that is a slice of the volume",
            found=wanted,
            segment=segment.label,
        )
    return frames.index(wanted)


def _check_amount(
    group: Dataset,
    code: str,
    field: str,
    expected: float,
    segment: Segment,
    slice_index: int | None = None,
) -> None:
    """Compare a number, as it is written, with what the labels give."""
    item = next(_items(group, code), None)
    found = None if item is None else float(item.MeasuredValueSequence[0].NumericValue)
    if found is None or abs(found - expected) > _RELATIVE_TOLERANCE * max(expected, 1e-3):
        raise PlacementError(
            field=field,
            expected=expected,
            found=found,
            segment=segment.label,
            slice_index=slice_index,
        )


def _walk(item: Dataset) -> Iterator[Dataset]:
    """All content items below this one."""
    for child in item.get("ContentSequence") or []:
        yield child
        yield from _walk(child)


def _items(item: Dataset, code: str) -> Iterator[Dataset]:
    """Content items below this one whose concept name has this code."""
    for child in _walk(item):
        names = child.get("ConceptNameCodeSequence")
        if names and names[0].CodeValue == code:
            yield child


def _value(item: Dataset, code: str, keyword: str) -> object:
    found = next(_items(item, code), None)
    return None if found is None else found.get(keyword)
