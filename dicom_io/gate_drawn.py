"""The gate for what is drawn: lines of GSPS and RTSTRUCT, pixels of secondary captures.

Lines are filled again, pixel centre by pixel centre, and must give the labels back exactly; every
picture's tint must be that of the label beneath it. Key Object Selections and PDFs must name their
study and their images. Nothing that writes objects is used here but the pictures' layout.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_io.contours import fill
from dicom_io.geometry import spacing_tolerance_mm
from dicom_io.picture_layout import FILL_OPACITY, Tile, source_pixels
from dicom_io.result_errors import PlacementError
from dicom_io.results import Segment
from dicom_io.source_grid import frame_position_mm
from dicom_io.source_header import dicom_source
from dicom_io.volume import Volume

LabelArray = NDArray[np.uint8] | NDArray[np.uint16]
Mask = NDArray[np.bool_]

PLANE_TOLERANCE_MM = 0.01
"""How far a contour's point may be from its pixel corner: decimal strings, nothing more."""
TINT_TOLERANCE = 3.0
"""Levels of 255 by which the three channels of an untinted pixel may differ: rounding."""
_LAYER_PREFIX = "SEGMENT_"


def check_presentation_state(
    state: Dataset, volume: Volume, labels: LabelArray, segments: Sequence[Segment]
) -> None:
    """Every line of every segment on every image it names, filled, must be the segment there.

    Raises
    ------
    PlacementError
    """
    slices = _slice_numbers(volume)
    drawn: dict[tuple[int, int], Mask] = {}
    shape = (labels.shape[1], labels.shape[2])
    by_name = {segment.label: segment.name for segment in segments}
    listed = set()
    for series in state.ReferencedSeriesSequence:
        _same("SeriesInstanceUID", str(dicom_source(volume).series_uid), series.SeriesInstanceUID)
        for item in series.ReferencedImageSequence:
            listed |= {_slice_of(item, number, slices) for number in _frame_numbers(item)}
    for annotation in state.GraphicAnnotationSequence:
        layer = str(annotation.GraphicLayer)
        if not layer.startswith(_LAYER_PREFIX):
            continue
        label = int(layer.removeprefix(_LAYER_PREFIX))
        (item,) = annotation.ReferencedImageSequence
        (number,) = _frame_numbers(item)
        index = _slice_of(item, number, slices)
        _same("ReferencedSeriesSequence", True, index in listed, segment=label, slice_index=index)
        mask = drawn.setdefault((label, index), np.zeros(shape, dtype=bool))
        for line in annotation.GraphicObjectSequence:
            _same("TrackingID", by_name.get(label), line.TrackingID, segment=label)
            points = np.array(line.GraphicData, dtype=np.float64).reshape(-1, 2)
            mask ^= fill(points, shape)
    expected = {
        (segment.label, index)
        for segment in segments
        for index in listed
        if (labels[index] == segment.label).any()
    }
    _same("GraphicAnnotationSequence", sorted(expected), sorted(drawn))
    _compare(drawn, labels, "GraphicData")


def check_structure_set(
    plan: Dataset, volume: Volume, labels: LabelArray, segments: Sequence[Segment]
) -> None:
    """Every contour, put into the volume and filled, must be the labels, on every slice.

    Raises
    ------
    PlacementError
    """
    source = dicom_source(volume)
    frame_uid = str(source.frame_of_reference_uid)
    names = {int(roi.ROINumber): str(roi.ROIName) for roi in plan.StructureSetROISequence}
    _same("ROIName", {segment.label: segment.name for segment in segments}, names)
    for roi in plan.StructureSetROISequence:
        _same("ReferencedFrameOfReferenceUID", frame_uid, roi.ReferencedFrameOfReferenceUID)
    slices = _slice_numbers(volume)
    shape = (labels.shape[1], labels.shape[2])
    drawn: dict[tuple[int, int], Mask] = {}
    for roi in plan.ROIContourSequence:
        label = int(roi.ReferencedROINumber)
        for contour in roi.get("ContourSequence") or []:
            index, corners = _corners(contour, volume, label)
            for item in contour.get("ContourImageSequence") or []:
                (number,) = _frame_numbers(item)
                _same("ContourImageSequence", index, _slice_of(item, number, slices))
            mask = drawn.setdefault((label, index), np.zeros(shape, dtype=bool))
            mask ^= fill(np.concatenate([corners, corners[:1]]), shape)
    expected = {
        (segment.label, index)
        for segment in segments
        for index in np.flatnonzero((labels == segment.label).any(axis=(1, 2))).tolist()
    }
    _same("ContourSequence", sorted(expected), sorted(drawn))
    _compare(drawn, labels, "ContourData")


def check_picture(
    pixels: NDArray[np.uint8],
    tiles: Sequence[Tile],
    labels: LabelArray,
    segments: Sequence[Segment],
) -> None:
    """Check that the colour over every voxel in a picture is that of its label, or none.

    Parameters
    ----------
    pixels : (row, column, 3)

    Raises
    ------
    PlacementError
    """
    colors = {segment.label: np.array(segment.color_rgb, np.float64) for segment in segments}
    for tile in tiles:
        drawn = pixels[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
        _same("Rows and Columns", (tile.height, tile.width), drawn.shape[:2])
        plane = labels[tile.slice_index]
        under = plane[
            np.ix_(
                source_pixels(plane.shape[0], tile.height),
                source_pixels(plane.shape[1], tile.width),
            )
        ]
        wrong = np.zeros(under.shape, dtype=bool)
        for label in np.unique(under):
            here = under == label
            found = drawn[here].astype(np.float64)
            color = colors.get(int(label))
            if color is None:
                wrong[here] = np.ptp(found, axis=1) > 0
                continue
            grey = (found - FILL_OPACITY * color) / (1 - FILL_OPACITY)
            is_tinted = np.ptp(grey, axis=1) <= TINT_TOLERANCE
            is_edge = (found == color).all(axis=1)
            wrong[here] = ~(is_tinted | is_edge)
        if wrong.any():
            raise PlacementError(
                field="PixelData",
                expected="the tint of each label",
                found=f"{np.count_nonzero(wrong)} pixels of another",
                slice_index=tile.slice_index,
            )


def check_references(dataset: Dataset, volume: Volume) -> None:
    """Images of the source series that an object names must be the volume's.

    Raises
    ------
    PlacementError
    """
    source = dicom_source(volume)
    known = {
        str(instance.instance_uid): str(instance.sop_class_uid) for instance in source.instances
    }
    items = [*(dataset.get("SourceImageSequence") or [])]
    items += dataset.get("SourceInstanceSequence") or []
    for study in dataset.get("CurrentRequestedProcedureEvidenceSequence") or []:
        for series in study.ReferencedSeriesSequence:
            items += series.ReferencedSOPSequence
    if not items:
        raise PlacementError(field="references", expected="source images", found="none")
    for item in items:
        uid = str(item.ReferencedSOPInstanceUID)
        _same("ReferencedSOPClassUID", known.get(uid), str(item.ReferencedSOPClassUID))


def _slice_numbers(volume: Volume) -> dict[tuple[str, int], int]:
    frames = [
        (str(instance.instance_uid), number)
        for instance in dicom_source(volume).instances
        for number in instance.frame_numbers
    ]
    return {frame: index for index, frame in enumerate(frames)}


def _frame_numbers(item: Dataset) -> list[int]:
    numbers = item.get("ReferencedFrameNumber")
    if numbers is None:
        return [1]
    return [int(numbers)] if isinstance(numbers, int) else [int(each) for each in numbers]


def _slice_of(item: Dataset, number: int, slices: dict[tuple[str, int], int]) -> int:
    wanted = (str(item.ReferencedSOPInstanceUID), number)
    if wanted not in slices:
        raise PlacementError(
            field="ReferencedSOPInstanceUID", expected="a slice of the volume", found=wanted
        )
    return slices[wanted]


def _corners(contour: Dataset, volume: Volume, label: int) -> tuple[int, NDArray[np.float64]]:
    """Slice of a contour, and its pixel corners there, (n, 2) whole (column, row).

    Every point must be a corner of four pixels, to a hundredth of a millimetre. Slices of a real
    series lie a little off an even grid; a contour is then on the source's own plane.
    """
    to_voxels = np.linalg.inv(volume.affine_lps)
    points_mm = np.array(contour.ContourData, dtype=np.float64).reshape(-1, 3)
    slices = points_mm @ to_voxels[0, :3] + to_voxels[0, 3]
    index = int(np.rint(slices.mean()))
    if not 0 <= index < len(volume.array):
        raise PlacementError(
            field="ContourData",
            expected=f"slice 0 to {len(volume.array) - 1}",
            found=f"slice {index}",
            segment=label,
        )
    on_grid_mm = points_mm - _plane_offset_mm(volume, index)
    indices = on_grid_mm @ to_voxels[:3, :3].T + to_voxels[:3, 3]
    corners = np.rint(indices[:, [2, 1]] + 0.5)
    ideal = np.column_stack(
        [np.full(len(corners), index), corners[:, 1] - 0.5, corners[:, 0] - 0.5]
    )
    off_mm = np.linalg.norm((indices - ideal) @ volume.affine_lps[:3, :3].T, axis=1).max()
    if off_mm > PLANE_TOLERANCE_MM:
        raise PlacementError(
            field="ContourData",
            expected=f"pixel corners, to {PLANE_TOLERANCE_MM} mm",
            found=f"{off_mm:.3f} mm off",
            segment=label,
            slice_index=index,
        )
    return index, corners


def _plane_offset_mm(volume: Volume, index: int) -> NDArray[np.float64]:
    """Return how far the source's image lies from the even grid's slice, (3,), within limits."""
    source = dicom_source(volume)
    if source.resampled:
        return np.zeros(3)
    frames = [
        (instance.header, number)
        for instance in source.instances
        for number in instance.frame_numbers
    ]
    position = frame_position_mm(*frames[index])
    if position is None:
        return np.zeros(3)
    offset_mm = position - (volume.affine_lps @ [index, 0, 0, 1])[:3]
    limit_mm = 2 * spacing_tolerance_mm(volume.spacing_mm[0])  # along the normal and sideways
    distance_mm = float(np.linalg.norm(offset_mm))
    if distance_mm > limit_mm:
        raise PlacementError(
            field="ImagePositionPatient of the source",
            expected=f"within {limit_mm:.3f} mm of the slice",
            found=f"{distance_mm:.3f} mm",
            slice_index=index,
        )
    return np.asarray(offset_mm)


def _compare(drawn: dict[tuple[int, int], Mask], labels: LabelArray, field: str) -> None:
    for (label, index), mask in drawn.items():
        expected = labels[index] == label
        if not np.array_equal(mask, expected):
            raise PlacementError(
                field=field,
                expected=f"{np.count_nonzero(expected)} pixels",
                found=f"{np.count_nonzero(mask)} pixels, "
                f"{np.count_nonzero(mask != expected)} of them differ",
                segment=label,
                slice_index=index,
            )


def _same(field: str, expected: object, found: object, **place: int) -> None:
    if expected != found:
        raise PlacementError(field=field, expected=expected, found=found, **place)
