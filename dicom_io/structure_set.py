"""Write segments as an RT Structure Set: closed planar contours in millimetres, for planning.

Contours follow pixel edges on the source's slice planes; a part with holes is one line with cuts of
no width to them. Rasterised again by the even-odd rule they give the label map back.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage

from dicom_io.equipment import check_names, coded, notice, parameters, stamp
from dicom_io.evidence import referenced, source_references
from dicom_io.frame_groups import decimal
from dicom_io.labelled import LabelledVolume
from dicom_io.result_errors import ResultInputError
from dicom_io.results import Algorithm, ResultIdentity, Segment
from dicom_io.rings import rings, without_holes
from dicom_io.segmentation import check_labels
from dicom_io.source_grid import SliceGrid, slice_grid
from dicom_io.source_header import dicom_source, result_header

SERIES_NUMBER = 9005
_DETACHED_STUDY = "1.2.840.10008.3.1.2.3.1"
_LABEL = "AI_CONTOURS"
_ROUNDED_MM = 4
"""Decimals of a contour's millimetres: a ten-thousandth."""
_NOT_IN_STRUCTURE_SETS = ("Laterality", "BodyPartExamined")


def make_structure_set(
    found: LabelledVolume, *, algorithm: Algorithm, identity: ResultIdentity
) -> Dataset:
    """Outline every segment on every slice.

    A segment without a voxel is listed without contours: it was searched for.

    Returns
    -------
    Dataset
        With file meta, Implicit VR Little Endian: a contour of more than 64 kB has no place in
        Explicit VR.

    Raises
    ------
    ResultInputError
        No segment has a voxel.
    NoDicomSourceError, MissingIdentifierError, SourceGridMismatchError
    """
    check_names(algorithm, found.segments)
    check_labels(found.volume, found.labels, found.segments)
    if not found.measurements:
        raise ResultInputError(
            field="labels", problem="no segment has a voxel; there is nothing to outline"
        )
    grid = slice_grid(found.volume)
    words = [algorithm.name, algorithm.manufacturer, *(one.name for one in found.segments)]
    header = result_header(found.volume, words)
    for keyword in _NOT_IN_STRUCTURE_SETS:
        if keyword in header:
            del header[keyword]
    plan = Dataset()
    plan.SOPClassUID = RTStructureSetStorage
    plan.Modality = "RTSTRUCT"
    plan.OperatorsName = ""
    plan.StructureSetLabel = _LABEL
    plan.StructureSetName = f"{algorithm.name} {algorithm.version}"[:64]
    plan.StructureSetDescription = f"{notice(algorithm)}; {'; '.join(parameters(algorithm))}"[:1024]
    plan.ReferencedFrameOfReferenceSequence = [_frame_of_reference(found)]
    plan.StructureSetROISequence = [_roi(segment, found, algorithm) for segment in found.segments]
    plan.ROIContourSequence = [_contours(segment, found, grid) for segment in found.segments]
    plan.RTROIObservationsSequence = [_observation(segment, identity) for segment in found.segments]
    plan.ApprovalStatus = "UNAPPROVED"
    stamped = stamp(
        plan,
        header,
        algorithm,
        identity,
        kind="rtstruct",
        description="contours",
        series_number=SERIES_NUMBER,
    )
    stamped.StructureSetDate, stamped.StructureSetTime = stamped.ContentDate, stamped.ContentTime
    stamped.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    stamped.set_original_encoding(
        is_implicit_vr=True,
        is_little_endian=True,
        character_encoding=stamped._character_set,
    )
    return stamped


def _frame_of_reference(found: LabelledVolume) -> Dataset:
    source = dicom_source(found.volume)
    series = Dataset()
    series.SeriesInstanceUID = str(source.series_uid)
    series.ContourImageSequence = referenced(source_references(found.volume))
    study = Dataset()
    study.ReferencedSOPClassUID = _DETACHED_STUDY
    study.ReferencedSOPInstanceUID = str(source.study_uid)
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = str(source.frame_of_reference_uid)
    frame.RTReferencedStudySequence = [study]
    return frame


def _roi(segment: Segment, found: LabelledVolume, algorithm: Algorithm) -> Dataset:
    roi = Dataset()
    roi.ROINumber = segment.label
    roi.ReferencedFrameOfReferenceUID = str(dicom_source(found.volume).frame_of_reference_uid)
    roi.ROIName = segment.name
    roi.ROIDescription = notice(algorithm)
    volumes = {measured.label: measured.volume_ml for measured in found.measurements}
    roi.ROIVolume = decimal(volumes.get(segment.label, 0.0))  # cubic centimetres
    roi.ROIGenerationAlgorithm = "AUTOMATIC"
    roi.ROIGenerationDescription = f"{algorithm.name} {algorithm.version}"[:64]
    return roi


def _contours(segment: Segment, found: LabelledVolume, grid: SliceGrid) -> Dataset:
    item = Dataset()
    item.ReferencedROINumber = segment.label
    item.ROIDisplayColor = list(segment.color_rgb)
    contours: list[Dataset] = []
    for index, plane in enumerate(found.labels):
        mask = plane == segment.label
        if not mask.any():
            continue
        for part in rings(mask):
            points_mm = contour_points_mm(without_holes(part), grid, index)
            contour = Dataset()
            if grid.references is not None:
                contour.ContourImageSequence = referenced([grid.references[index]])
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(points_mm)
            contour.ContourNumber = len(contours) + 1
            contour.ContourData = [_millimetres(value) for value in points_mm.ravel()]
            contours.append(contour)
    if contours:
        item.ContourSequence = contours
    return item


def contour_points_mm(
    points: NDArray[np.float64], grid: SliceGrid, index: int
) -> NDArray[np.float64]:
    """Put a closed line of pixel corners into the patient, (n, 3) LPS; its last point is left out.

    The contour's last point is joined to its first by its type.
    """
    orientation = np.array(grid.orientation)
    row_mm, column_mm = grid.pixel_spacing_mm
    x = (points[:-1, :1] - 0.5) * column_mm
    y = (points[:-1, 1:] - 0.5) * row_mm
    return np.asarray(grid.positions_mm[index] + x * orientation[:3] + y * orientation[3:])


def _millimetres(value: float) -> str:
    return decimal(round(float(value), _ROUNDED_MM) + 0.0)


def _observation(segment: Segment, identity: ResultIdentity) -> Dataset:
    item = Dataset()
    item.ObservationNumber = segment.label
    item.ReferencedROINumber = segment.label
    item.RTROIIdentificationCodeSequence = [coded(segment.type)]
    item.RTROIInterpretedType = ""
    item.ROIInterpreter = ""
    item.TrackingID = segment.name
    item.TrackingUID = identity.tracking_uid(segment.label)
    return item
