"""Write measurements as a Comprehensive 3D SR (TID 1500), the root of a result.

Per segment found: a TID 1411 group (volume, mean, SD, minimum, maximum) that points at the segment
of the segmentation object, and TID 1410 groups with outlines (area, long and short axis) on up to
three key slices, because several viewers draw only those. All groups of a segment carry its
tracking identifiers. A segment searched for and not found has a group that says so; a comment says
it in words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage, PositronEmissionTomographyImageStorage

from dicom_io.equipment import check_names, stamp
from dicom_io.evidence import evidence, stand_in
from dicom_io.report_content import (
    QUANTITIES,
    Group,
    absent_group,
    comment,
    key_slices,
    observation_context,
    outline_groups,
    procedure_reported,
    quantity_of,
    volume_group,
)
from dicom_io.result_errors import ResultInputError
from dicom_io.results import Algorithm, Measurement, ResultIdentity, Segment
from dicom_io.segmentation import LabelArray, check_labels
from dicom_io.source_grid import SliceGrid, slice_grid
from dicom_io.source_header import dicom_source, result_header
from dicom_io.volume import Float64, Volume

SERIES_NUMBER = 9002
_NOT_IN_REPORTS = (
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "BodyPartExamined",
    "Laterality",
)
"""Attributes that the SR's modules do not have."""
_LIBRARY_CLASSES = {CTImageStorage, MRImageStorage, PositronEmissionTomographyImageStorage}


def make_measurement_report(
    volume: Volume,
    labels: LabelArray,
    segments: Sequence[Segment],
    measurements: Sequence[Measurement],
    segmentation: Dataset | None,
    *,
    algorithm: Algorithm,
    identity: ResultIdentity,
) -> Dataset:
    """Report what was measured, or that nothing was found.

    Parameters
    ----------
    labels : (slice, row, column), the label map that `segmentation` was made from
    measurements : one for each label that has a voxel; those of empty labels are ignored
    segmentation : the object to point at, or None when no label has a voxel

    Returns
    -------
    Dataset
        Complete, preliminary, unverified. With file meta, Explicit VR Little Endian. A volume
        whose slices are not the source's own (tilted gantry, resampled) has no outlines: there is
        no image to draw them on.

    Raises
    ------
    ResultInputError, NoDicomSourceError, MissingIdentifierError, SourceGridMismatchError
    """
    segments = tuple(segments)
    check_names(algorithm, segments)
    check_labels(volume, labels, segments)
    source = dicom_source(volume)
    grid = slice_grid(volume)
    words = [algorithm.name, algorithm.manufacturer, *(segment.name for segment in segments)]
    header = result_header(volume, words)
    areas = {segment.label: _areas(labels, segment.label) for segment in segments}
    _check_measurements(measurements, areas, segmentation)
    by_label = {measurement.label: measurement for measurement in measurements}
    missing = [segment for segment in segments if not areas[segment.label].any()]
    groups: list[Group] = []
    key_images: dict[str, int] = {}
    for segment in segments:
        reference = _segment_reference(segmentation, identity, segment, source.series_uid)
        if reference is None or segment in missing:
            groups.append(absent_group(segment, reference, algorithm, identity))
            continue
        groups.append(
            volume_group(
                segment,
                by_label[segment.label],
                reference,
                quantity_of(volume, by_label[segment.label]),
                algorithm,
                identity,
            )
        )
        if grid.references is None:
            continue
        for index in key_slices(areas[segment.label]):
            image = grid.references[index]
            key_images.setdefault(image.instance_uid, index)
            mask = labels[index] == segment.label
            groups += outline_groups(
                segment, mask, image, grid.pixel_spacing_mm, algorithm, identity
            )
    report = sr.MeasurementReport(
        observation_context=observation_context(algorithm),
        procedure_reported=procedure_reported(volume),
        imaging_measurements=groups,
        referenced_images=_library_images(volume, grid, sorted(key_images.values())),
    )
    report[0].ContentSequence.append(comment(missing, algorithm))
    document = sr.Comprehensive3DSR(
        evidence=evidence(
            volume, [] if segmentation is None else [segmentation], str(header.StudyInstanceUID)
        ),
        content=report,
        series_instance_uid=identity.uid("sr-series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=identity.uid("sr"),
        instance_number=identity.revision,
        manufacturer=algorithm.manufacturer,
        is_complete=True,
        is_final=False,
        is_verified=False,
    )
    for keyword in _NOT_IN_REPORTS:
        if keyword in header:
            del header[keyword]
    return stamp(
        document,
        header,
        algorithm,
        identity,
        kind="sr",
        description="report",
        series_number=SERIES_NUMBER,
    )


def _areas(labels: LabelArray, label: int) -> Float64:
    """Pixels with this label in each slice, (n_slices,)."""
    return np.array([np.count_nonzero(plane == label) for plane in labels], dtype=np.float64)


def _check_measurements(
    measurements: Sequence[Measurement],
    areas: dict[int, Float64],
    segmentation: Dataset | None,
) -> None:
    """Refuse measurements that are not those of the label map."""
    counted = {label: int(area.sum()) for label, area in areas.items()}
    found = {label for label, n_voxels in counted.items() if n_voxels}
    if found and segmentation is None:
        raise ResultInputError(
            field="segmentation", problem=f"is None although labels {sorted(found)} have voxels"
        )
    if not found and segmentation is not None:
        raise ResultInputError(
            field="segmentation", problem="is there although no label has voxels"
        )
    given = {measurement.label: measurement for measurement in measurements}
    if len(given) != len(measurements) or not found <= given.keys() <= counted.keys():
        raise ResultInputError(
            field="measurements",
            problem=f"of labels {sorted(m.label for m in measurements)}, labels with voxels are "
            f"{sorted(found)}, segments {sorted(counted)}",
        )
    for label in sorted(given):
        if given[label].n_voxels != counted[label]:
            raise ResultInputError(
                field=f"measurements[{label}].n_voxels",
                problem=f"{given[label].n_voxels} is not the label map's {counted[label]}",
            )


def _segment_reference(
    segmentation: Dataset | None, identity: ResultIdentity, segment: Segment, series_uid: str
) -> sr.ReferencedSegment | None:
    """Point at the segment with this segment's tracking UID; None without a segmentation."""
    if segmentation is None:
        return None
    tracking_uid = identity.tracking_uid(segment.label)
    for item in segmentation.SegmentSequence:
        if item.get("TrackingUID") == tracking_uid:
            return sr.ReferencedSegment(
                sop_class_uid=segmentation.SOPClassUID,
                sop_instance_uid=segmentation.SOPInstanceUID,
                segment_number=int(item.SegmentNumber),
                source_series=sr.SourceSeriesForSegmentation(
                    referenced_series_instance_uid=series_uid
                ),
            )
    raise ResultInputError(
        field="segmentation", problem=f"has no segment with the tracking UID of {segment.name!r}"
    )


def _library_images(volume: Volume, grid: SliceGrid, indices: list[int]) -> list[Dataset] | None:
    """Describe the images that outlines are on, as highdicom's image library wants them.

    Only single-frame CT, MR and PET: an entry describes one plane.
    """
    if grid.references is None or volume.modality not in QUANTITIES:
        return None
    images = []
    for index in indices:
        reference = grid.references[index]
        if reference.frame_number is not None or reference.sop_class_uid not in _LIBRARY_CLASSES:
            continue
        image = stand_in(reference)
        image.Modality = volume.modality
        image.FrameOfReferenceUID = dicom_source(volume).frame_of_reference_uid
        image.Rows, image.Columns = volume.array.shape[1:]
        image.PixelSpacing = list(grid.pixel_spacing_mm)
        image.SliceThickness = grid.slice_thickness_mm
        image.SpacingBetweenSlices = grid.slice_spacing_mm
        image.ImageOrientationPatient = list(grid.orientation)
        image.ImagePositionPatient = [float(value) for value in grid.positions_mm[index]]
        images.append(image)
    return images or None
