"""The geometry gate: read a written object back and compare it with the labels it should show.

Nothing leaves without passing here. The file is read from disk with pydicom; every frame's mask is
put into the patient by the frame's own position, orientation and spacing, and every voxel is
compared with the label map in its volume. Nothing that writes objects is used here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage

from dicom_io.gate_report import check_report
from dicom_io.geometry import spacing_tolerance_mm
from dicom_io.result_errors import PlacementError, UnsupportedObjectError
from dicom_io.results import Segment
from dicom_io.segmentation_masks import (
    LABELMAP_STORAGE,
    SegmentFrame,
    SegmentMasks,
    read_segmentation,
)
from dicom_io.source_grid import frame_position_mm
from dicom_io.source_header import dicom_source
from dicom_io.volume import Float64, Volume

TOLERANCE_MM = 0.01
"""Largest distance between a pixel and its voxel: decimal strings and arithmetic, nothing more."""

LabelArray = NDArray[np.uint8] | NDArray[np.uint16]


def check_placement(
    path: Path,
    volume: Volume,
    labels: LabelArray,
    segments: Sequence[Segment],
    *,
    segmentation: Path | None = None,
) -> None:
    """Check that a written SEG or SR says, in patient space, what the labels say.

    Parameters
    ----------
    path : the object as it is on disk
    labels : (slice, row, column), on the volume's grid
    segmentation : for an SR, the SEG on disk that it points at; None if it must point at none

    Raises
    ------
    PlacementError
        ``field``, ``segment``, ``slice_index`` and ``frame`` say what differs and where.
    UnsupportedObjectError
        The file is no SEG or SR of the kinds written here.
    """
    dataset = dcmread(path)
    kind = str(dataset.get("SOPClassUID", ""))
    _same("StudyInstanceUID", dicom_source(volume).study_uid, dataset.get("StudyInstanceUID"))
    if kind in (SegmentationStorage, LABELMAP_STORAGE):
        _check_segmentation(dataset, volume, labels, segments)
    elif kind == Comprehensive3DSRStorage:
        pointed_at = None if segmentation is None else dcmread(segmentation)
        check_report(dataset, volume, labels, segments, pointed_at)
    else:
        raise UnsupportedObjectError(field="SOPClassUID", value=kind)


@dataclass(frozen=True, kw_only=True)
class _Placed:
    """Where a frame lies in the volume: its slice, and how its pixels lie on rows and columns."""

    slice_index: int
    offset_mm: Float64  # of its pixels from their voxels; not 0 only for a slice off the even grid
    is_transposed: bool
    flips: tuple[int, ...]

    def on_grid(self, pixels: NDArray[Any]) -> NDArray[Any]:
        turned = pixels.T if self.is_transposed else pixels
        return np.flip(turned, self.flips)


class _SourceFrames:
    """The frames that a volume was read from, in slice order, looked up once for a whole object."""

    def __init__(self, volume: Volume) -> None:
        source = dicom_source(volume)
        self.is_resampled = source.resampled
        self.frame_of_reference_uid = source.frame_of_reference_uid
        self._affine_lps = volume.affine_lps
        self._frames: list[tuple[Dataset, str, int]] = [
            (instance.header, str(instance.instance_uid), number)
            for instance in source.instances
            for number in instance.frame_numbers
        ]

    def named(self, slice_index: int) -> tuple[str, int]:
        """Return the instance UID and frame number of a slice."""
        _, instance_uid, number = self._frames[slice_index]
        return instance_uid, number

    def offset_mm(self, slice_index: int) -> Float64 | None:
        """Return how far the source's image of a slice lies from the slice, (3,)."""
        if self.is_resampled:
            return None
        header, _, frame_number = self._frames[slice_index]
        position = frame_position_mm(header, frame_number)
        if position is None:
            return None
        return np.asarray(position - (self._affine_lps @ [slice_index, 0, 0, 1])[:3])


def _check_segmentation(
    dataset: Dataset, volume: Volume, labels: LabelArray, segments: Sequence[Segment]
) -> None:
    _same("labels.shape", volume.array.shape, labels.shape)
    masks = read_segmentation(dataset)
    source = _SourceFrames(volume)
    _same("FrameOfReferenceUID", source.frame_of_reference_uid, masks.frame_of_reference_uid)
    numbers = _described_numbers(dataset, segments)
    n_checked = np.zeros(labels.shape[0], dtype=np.int64)
    seen: set[tuple[int, int]] = set()
    to_voxels = np.linalg.inv(volume.affine_lps)
    for frame in masks.frames:
        placed = _place(frame, masks.shape, volume, to_voxels, source)
        _check_source_image(frame, placed, source)
        for label, number in numbers.items():
            if frame.segment_number not in (None, number):
                continue
            if (label, placed.slice_index) in seen:
                raise PlacementError(
                    field="frame",
                    expected="one frame for a slice of a segment",
                    found="another one",
                    segment=number,
                    slice_index=placed.slice_index,
                    frame=frame.index + 1,
                )
            seen.add((label, placed.slice_index))
            n_checked[placed.slice_index] += _compare(
                masks, frame, placed, labels, label=label, number=number
            )
        if frame.segment_number is not None and frame.segment_number not in numbers.values():
            raise PlacementError(
                field="ReferencedSegmentNumber",
                expected=sorted(numbers.values()),
                found=frame.segment_number,
                frame=frame.index + 1,
            )
    _check_nothing_missing(n_checked, seen, labels, numbers)


def _described_numbers(dataset: Dataset, segments: Sequence[Segment]) -> dict[int, int]:
    """Segment number of each label, found by name and codes in the object itself."""
    described = {}
    for item in dataset.get("SegmentSequence") or []:
        if int(item.SegmentNumber) > 0:  # 0 is the background of a label map
            described[str(item.SegmentLabel)] = item
    _same("SegmentLabel", sorted(s.name for s in segments), sorted(described))
    numbers = {}
    for segment in segments:
        item = described[segment.name]
        kind = item.SegmentedPropertyTypeCodeSequence[0]
        modifiers = kind.get("SegmentedPropertyTypeModifierCodeSequence") or []
        codes = [(kind.CodingSchemeDesignator, kind.CodeValue)]
        codes += [(code.CodingSchemeDesignator, code.CodeValue) for code in modifiers]
        wanted = [(segment.type.scheme, segment.type.value)]
        if segment.modifier is not None:
            wanted.append((segment.modifier.scheme, segment.modifier.value))
        number = int(item.SegmentNumber)
        _same("SegmentedPropertyTypeCodeSequence", wanted, codes, segment=number)
        numbers[segment.label] = number
    return numbers


def _place(
    frame: SegmentFrame,
    shape: tuple[int, int],
    volume: Volume,
    to_voxels: Float64,
    source: _SourceFrames,
) -> _Placed:
    """Find the slice that a frame covers, pixel upon voxel, or say how far off it is."""
    grid = volume.array.shape
    in_voxels = to_voxels @ frame.affine_lps
    steps = in_voxels[:3, 1:3]  # change of (slice, row, column) along the frame's rows, columns
    whole = np.rint(steps)
    reach = np.array([max(shape[0] - 1, 1), max(shape[1] - 1, 1)])
    drift_mm = np.linalg.norm(volume.affine_lps[:3, :3] @ ((steps - whole) * reach), axis=0)
    is_transposed = whole[1, 0] == 0
    turned = whole[1:, ::-1] if is_transposed else whole[1:]
    is_in_plane = not whole[0].any() and np.array_equal(np.abs(turned), np.eye(2))
    if not is_in_plane or drift_mm.max() > TOLERANCE_MM:
        raise PlacementError(
            field="ImageOrientationPatient or PixelSpacing",
            expected="the volume's rows and columns",
            found=f"{np.round(steps.T, 4).tolist()} voxels a pixel",
            frame=frame.index + 1,
        )
    size = (shape[1], shape[0]) if is_transposed else shape
    if size != grid[1:]:
        raise PlacementError(
            field="Rows and Columns", expected=grid[1:], found=size, frame=frame.index + 1
        )
    flips = tuple(axis for axis in (0, 1) if turned[axis, axis] < 0)
    first = np.array([0, *(size[axis] - 1 if axis in flips else 0 for axis in (0, 1))])
    slice_index = int(np.rint(in_voxels[0, 3]))
    first[0] = slice_index
    if not 0 <= slice_index < grid[0]:
        raise PlacementError(
            field="ImagePositionPatient",
            expected=f"slice 0 to {grid[0] - 1}",
            found=f"slice {slice_index}",
            frame=frame.index + 1,
        )
    return _Placed(
        slice_index=slice_index,
        offset_mm=_checked_offset_mm(frame, volume, first, source),
        is_transposed=bool(is_transposed),
        flips=flips,
    )


def _checked_offset_mm(
    frame: SegmentFrame, volume: Volume, first: NDArray[np.int_], source: _SourceFrames
) -> Float64:
    """Compare the frame's first pixel with its voxel: in the volume, or in the source image.

    Slices of a real series lie a little off an even grid; an object then repeats the source's own
    position, which must itself be within what reading allows.
    """
    slice_index = int(first[0])
    found = frame.affine_lps[:3, 3]
    expected = (volume.affine_lps @ [*first, 1])[:3]
    offset_mm = np.asarray(found - expected)
    if np.linalg.norm(offset_mm) <= TOLERANCE_MM:
        return offset_mm
    offset = source.offset_mm(slice_index)
    limit_mm = 2 * spacing_tolerance_mm(volume.spacing_mm[0])  # along the normal and sideways
    is_known = offset is not None and np.linalg.norm(offset) <= limit_mm
    if is_known and np.linalg.norm(offset_mm - offset) <= TOLERANCE_MM:
        return offset_mm
    raise PlacementError(
        field="ImagePositionPatient",
        expected=np.round(expected, 3).tolist(),
        found=np.round(found, 3).tolist(),
        slice_index=slice_index,
        frame=frame.index + 1,
    )


def _check_source_image(frame: SegmentFrame, placed: _Placed, source: _SourceFrames) -> None:
    """Check that a named source image is the volume's slice and lies where the frame lies."""
    if frame.source_instance_uid is None:
        return
    place = {"slice_index": placed.slice_index, "frame": frame.index + 1}
    if source.is_resampled:
        raise PlacementError(
            field="ReferencedSOPInstanceUID",
            expected="no source image: the slices are resampled",
            found=frame.source_instance_uid,
            **place,
        )
    instance_uid, number = source.named(placed.slice_index)
    _same("ReferencedSOPInstanceUID", instance_uid, frame.source_instance_uid, **place)
    if frame.source_frame_number is not None:
        _same("ReferencedFrameNumber", number, frame.source_frame_number, **place)
    offset = source.offset_mm(placed.slice_index)
    distance_mm = np.inf if offset is None else np.linalg.norm(offset - placed.offset_mm)
    if distance_mm > TOLERANCE_MM:
        raise PlacementError(
            field="position of the source image",
            expected=f"within {TOLERANCE_MM} mm of the frame",
            found=f"{distance_mm:.3f} mm",
            **place,
        )


def _compare(
    masks: SegmentMasks,
    frame: SegmentFrame,
    placed: _Placed,
    labels: LabelArray,
    *,
    label: int,
    number: int,
) -> int:
    """Compare one frame with the labels, every voxel; return how many belong to the segment."""
    found = placed.on_grid(masks.mask(frame, number))
    expected = labels[placed.slice_index] == label
    if not np.array_equal(found, expected):
        raise PlacementError(
            field="mask",
            expected=f"{np.count_nonzero(expected)} voxels",
            found=f"{np.count_nonzero(found)} voxels, "
            f"{np.count_nonzero(found != expected)} of them differ",
            segment=number,
            slice_index=placed.slice_index,
            frame=frame.index + 1,
        )
    return int(np.count_nonzero(expected))


def _check_nothing_missing(
    n_checked: NDArray[np.int64],
    seen: set[tuple[int, int]],
    labels: LabelArray,
    numbers: dict[int, int],
) -> None:
    """Every labelled voxel must have been in a frame."""
    for slice_index, plane in enumerate(labels):
        if np.count_nonzero(plane) == n_checked[slice_index]:
            continue
        for label, number in numbers.items():
            n_voxels = int(np.count_nonzero(plane == label))
            if n_voxels and (label, slice_index) not in seen:
                raise PlacementError(
                    field="frame",
                    expected=f"{n_voxels} voxels",
                    found="no frame",
                    segment=number,
                    slice_index=slice_index,
                )
        raise PlacementError(
            field="labels",
            expected="only labels of the segments",
            found=sorted(set(np.unique(plane).tolist()) - {0, *numbers}),
            slice_index=slice_index,
        )


def _same(field: str, expected: object, found: object, **place: int) -> None:
    if (str(expected) if isinstance(found, str) else expected) != found:
        raise PlacementError(field=field, expected=expected, found=found, **place)
