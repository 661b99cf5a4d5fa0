"""Where each slice of a volume lies, and which source frame it is: the frames of a result.

A result is written on the *original* slice positions. A volume whose slices are not those of its
source (a tilted gantry, resampled) has frames of its own: positions from its affine, and no frame
references.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import numpy as np
from pydicom.dataset import Dataset

from dicom_io.geometry import spacing_tolerance_mm
from dicom_io.result_errors import ResultInputError, SourceGridMismatchError
from dicom_io.source_header import dicom_source
from dicom_io.volume import Float64, Volume, VolumeSource

IN_PLANE_LIMIT_MM = 0.1
"""How far the volume's last row and column may be from the first source image's."""
ROUNDING_MM = 0.01
"""Decimal strings and arithmetic; added to what reading allows a slice to be off."""


@dataclass(frozen=True, kw_only=True)
class FrameReference:
    """One frame of one source instance; ``frame_number`` is None for a single-frame instance."""

    sop_class_uid: str
    instance_uid: str
    frame_number: int | None = None


@dataclass(frozen=True, kw_only=True)
class SliceGrid:
    """Geometry of a result's frames, in slice order.

    Attributes
    ----------
    positions_mm : (n_slices, 3)
        LPS centre of the first pixel of each slice.
    orientation : 6 values
        ImageOrientationPatient: where the column index grows, then where the row index grows.
    pixel_spacing_mm : (between rows, between columns)
    slice_thickness_mm, slice_spacing_mm
    references : one per slice, or None where slices are not those of the source
    """

    positions_mm: Float64
    orientation: tuple[float, ...]
    pixel_spacing_mm: tuple[float, float]
    slice_thickness_mm: float
    slice_spacing_mm: float
    references: tuple[FrameReference, ...] | None


def slice_grid(volume: Volume) -> SliceGrid:
    """Lay out the frames of a result for this volume.

    Raises
    ------
    NoDicomSourceError, MissingIdentifierError
    ResultInputError
        The source's frames are not as many or not as large as the volume's slices.
    SourceGridMismatchError
        A source frame lies elsewhere than its slice.
    """
    source = dicom_source(volume)
    affine = volume.affine_lps
    n_slices = volume.array.shape[0]
    computed = affine[:3, 3] + np.arange(n_slices)[:, None] * affine[:3, 0]
    _, row_spacing_mm, column_spacing_mm = volume.spacing_mm
    orientation = np.concatenate(
        [affine[:3, 2] / column_spacing_mm, affine[:3, 1] / row_spacing_mm]
    )
    normal = np.cross(orientation[:3], orientation[3:])
    slice_spacing_mm = abs(float(affine[:3, 0] @ normal))
    if source.resampled:
        return SliceGrid(
            positions_mm=computed,
            orientation=tuple(float(value) for value in orientation),
            pixel_spacing_mm=(row_spacing_mm, column_spacing_mm),
            slice_thickness_mm=slice_spacing_mm,
            slice_spacing_mm=slice_spacing_mm,
            references=None,
        )
    positions = _source_positions(source, n_slices)
    limit_mm = spacing_tolerance_mm(slice_spacing_mm) + ROUNDING_MM
    for index, offset in enumerate(positions - computed):
        along_mm = float(offset @ normal)
        sideways_mm = float(np.linalg.norm(offset - along_mm * normal))
        worst_mm = max(abs(along_mm), sideways_mm)
        if worst_mm > limit_mm:
            raise SourceGridMismatchError(
                slice_index=index, distance_mm=worst_mm, limit_mm=limit_mm
            )
    cosines, spacing_mm = _source_plane(source, volume)
    return SliceGrid(
        positions_mm=positions,
        orientation=cosines,
        pixel_spacing_mm=spacing_mm,
        slice_thickness_mm=_slice_thickness_mm(source) or slice_spacing_mm,
        slice_spacing_mm=slice_spacing_mm,
        references=_references(source),
    )


def functional_group(header: Dataset, frame_number: int, macro: str) -> Dataset | None:
    """Return the item of a functional group macro that holds for a frame of a multi-frame image."""
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
    shared = header.get("SharedFunctionalGroupsSequence") or []
    for group in chain(per_frame[frame_number - 1 : frame_number], shared):
        items = group.get(macro)
        if items:
            item: Dataset = items[0]
            return item
    return None


def frame_position_mm(header: Dataset, frame_number: int) -> Float64 | None:
    """Return ImagePositionPatient of a frame, (3,), or None where the image does not say."""
    holder: Dataset | None = header
    if _is_multiframe(header):
        holder = functional_group(header, frame_number, "PlanePositionSequence")
    position = None if holder is None else holder.get("ImagePositionPatient")
    if position is None or len(position) != 3:
        return None
    return np.array([float(value) for value in position])


def _is_multiframe(header: Dataset) -> bool:
    return "PerFrameFunctionalGroupsSequence" in header


def _source_positions(source: VolumeSource, n_slices: int) -> Float64:
    """ImagePositionPatient of every source frame in slice order, (n_slices, 3)."""
    positions = [
        frame_position_mm(instance.header, number)
        for instance in source.instances
        for number in instance.frame_numbers
    ]
    if len(positions) != n_slices:
        raise ResultInputError(
            field="volume.source.instances",
            problem=f"{len(positions)} frames for {n_slices} slices",
        )
    for index, position in enumerate(positions):
        if position is None:
            raise ResultInputError(
                field="ImagePositionPatient", problem=f"absent from the source of slice {index}"
            )
    return np.array(positions, dtype=np.float64)


def _source_plane(
    source: VolumeSource, volume: Volume
) -> tuple[tuple[float, ...], tuple[float, float]]:
    """Orientation and pixel spacing as the source says them, checked against the volume."""
    header = source.instances[0].header
    size = (header.get("Rows"), header.get("Columns"))
    frame_number = source.instances[0].frame_numbers[0]
    oriented: Dataset | None = header
    measured: Dataset | None = header
    if _is_multiframe(header):
        oriented = functional_group(header, frame_number, "PlaneOrientationSequence")
        measured = functional_group(header, frame_number, "PixelMeasuresSequence")
    cosines = None if oriented is None else oriented.get("ImageOrientationPatient")
    spacing = None if measured is None else measured.get("PixelSpacing")
    if size != volume.array.shape[1:] or cosines is None or spacing is None:
        raise ResultInputError(
            field="Rows, Columns, ImageOrientationPatient, PixelSpacing",
            problem="those of the source images are not those of the volume",
        )
    along_columns = np.array(cosines[:3], dtype=np.float64) * float(spacing[1])
    along_rows = np.array(cosines[3:], dtype=np.float64) * float(spacing[0])
    drift_mm = np.abs(volume.affine_lps[:3, 1] - along_rows) * volume.array.shape[1]
    drift_mm += np.abs(volume.affine_lps[:3, 2] - along_columns) * volume.array.shape[2]
    worst_mm = float(np.linalg.norm(drift_mm))
    if worst_mm > IN_PLANE_LIMIT_MM:
        raise SourceGridMismatchError(
            slice_index=0, distance_mm=worst_mm, limit_mm=IN_PLANE_LIMIT_MM
        )
    return tuple(float(value) for value in cosines), (float(spacing[0]), float(spacing[1]))


def _slice_thickness_mm(source: VolumeSource) -> float:
    """SliceThickness of the source, 0 where it has no usable one."""
    instance = source.instances[0]
    holder: Dataset | None = instance.header
    if _is_multiframe(instance.header):
        holder = functional_group(
            instance.header, instance.frame_numbers[0], "PixelMeasuresSequence"
        )
    value = None if holder is None else holder.get("SliceThickness")
    thickness_mm = float(value) if value not in (None, "") else 0.0
    return thickness_mm if np.isfinite(thickness_mm) and thickness_mm > 0 else 0.0


def _references(source: VolumeSource) -> tuple[FrameReference, ...]:
    return tuple(
        FrameReference(
            sop_class_uid=str(instance.sop_class_uid),
            instance_uid=str(instance.instance_uid),
            frame_number=number if _is_multiframe(instance.header) else None,
        )
        for instance in source.instances
        for number in instance.frame_numbers
    )
