"""Slices to a grid: order along the normal, spacing, gaps, shear, and the affine. NumPy only.

LPS millimetres throughout. An orientation is ImageOrientationPatient: the direction in which the
column index grows, then the one in which the row index grows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dicom_io.errors import (
    OrientationError,
    SliceGapError,
    SliceShiftError,
    TiltError,
    UnevenSpacingError,
)
from dicom_io.volume import Float64

UNIT_VECTOR_TOLERANCE = 1e-3
"""How far a direction's length may be from 1, and the cosine between two from 0: four decimals."""

SAME_POSITION_MM = 0.01
"""Two slices nearer than this along the normal lie at one position."""

TILT_TOLERANCE = 0.002
"""Sideways shift per millimetre along the normal (0.11 degrees) above which a stack is tilted.
Below, the affine carries the shift exactly; rounded headers are the usual cause."""


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Slices in order along their normal.

    ``order[k]`` is the input index of slice ``k``; ``distances_mm`` are along the normal.
    """

    order: tuple[int, ...]
    distances_mm: Float64
    positions_mm: Float64
    normal: Float64


def spacing_tolerance_mm(spacing_mm: float) -> float:
    """Return how far a slice may be off: 1 % of the spacing or 0.1 mm (10 % if that is less)."""
    return max(0.01 * spacing_mm, min(0.1, 0.1 * spacing_mm))


def check_orientation(orientation: Sequence[float], *, series_uid: str, slice_index: int) -> None:
    """Refuse an orientation that is not two perpendicular unit vectors.

    Raises
    ------
    OrientationError
    """
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    lengths = (float(np.linalg.norm(row)), float(np.linalg.norm(column)))
    is_right = (
        all(abs(length - 1) <= UNIT_VECTOR_TOLERANCE for length in lengths)
        and abs(float(row @ column)) <= UNIT_VECTOR_TOLERANCE
    )
    if not is_right:
        raise OrientationError(
            series_uid=series_uid, slice_index=slice_index, values=tuple(orientation)
        )


def slice_normal(orientation: Sequence[float]) -> Float64:
    """Return the unit vector across the slices: row direction x column direction."""
    normal = np.cross(np.array(orientation[:3]), np.array(orientation[3:]))
    return np.asarray(normal / np.linalg.norm(normal), dtype=np.float64)


def order_slices(positions_mm: Float64, orientation: Sequence[float]) -> Stack:
    """Order slices by the projection of their positions on the normal.

    Parameters
    ----------
    positions_mm : (n, 3)
        ImagePositionPatient of each slice, in any order.
    """
    normal = slice_normal(orientation)
    distances = positions_mm @ normal
    order = np.argsort(distances, kind="stable")
    return Stack(
        order=tuple(int(index) for index in order),
        distances_mm=distances[order],
        positions_mm=positions_mm[order],
        normal=normal,
    )


def duplicate_pairs(stack: Stack) -> tuple[int, ...]:
    """Each ``k`` for which slices ``k`` and ``k + 1`` lie at one position."""
    steps = np.diff(stack.distances_mm)
    return tuple(int(index) for index in np.flatnonzero(steps < SAME_POSITION_MM))


def check_spacing(stack: Stack, *, series_uid: str) -> float:
    """Return the spacing of evenly spaced slices (no two of them at one position).

    Raises
    ------
    SliceGapError
        One step is two or more times the usual one.
    UnevenSpacingError
        A step is otherwise not the usual one, or the errors add up.
    """
    steps = np.diff(stack.distances_mm)
    usual = float(np.sort(steps)[(steps.size - 1) // 2])  # of two steps, the shorter
    tolerance = spacing_tolerance_mm(usual)
    wrong = np.flatnonzero(np.abs(steps - usual) > tolerance)
    if wrong.size:
        index = int(wrong[0])
        found = float(steps[index])
        multiple = round(found / usual)
        is_gap = multiple >= 2 and abs(found - multiple * usual) <= multiple * tolerance
        error = SliceGapError if is_gap else UnevenSpacingError
        raise error(series_uid=series_uid, slice_index=index, expected_mm=usual, found_mm=found)
    spacing = float(stack.distances_mm[-1] - stack.distances_mm[0]) / steps.size
    even = stack.distances_mm[0] + spacing * np.arange(steps.size + 1)
    errors = np.abs(stack.distances_mm - even)
    if errors.max() > tolerance:
        index = int(errors.argmax())
        raise UnevenSpacingError(
            series_uid=series_uid,
            slice_index=index,
            expected_mm=float(even[index] - even[0]),
            found_mm=float(stack.distances_mm[index] - stack.distances_mm[0]),
        )
    return spacing


def slice_step(stack: Stack, *, series_uid: str) -> Float64:
    """Vector from one slice to the next, (3,), checked to be the same all along.

    Raises
    ------
    SliceShiftError
        A slice lies beside the straight line of the others.
    """
    step = (stack.positions_mm[-1] - stack.positions_mm[0]) / (len(stack.order) - 1)
    line = stack.positions_mm[0] + np.outer(np.arange(len(stack.order)), step)
    beside = stack.positions_mm - line
    beside -= np.outer(beside @ stack.normal, stack.normal)
    shifts = np.linalg.norm(beside, axis=1)
    if shifts.max() > spacing_tolerance_mm(float(step @ stack.normal)):
        index = int(shifts.argmax())
        raise SliceShiftError(
            series_uid=series_uid, slice_index=index, shift_mm=float(shifts[index])
        )
    return np.asarray(step, dtype=np.float64)


def shear_mm(step: Float64, normal: Float64) -> Float64:
    """Part of a slice step that lies in the slices' plane, (3,)."""
    return np.asarray(step - (step @ normal) * normal, dtype=np.float64)


def is_tilted(step: Float64, normal: Float64) -> bool:
    """Whether the stack is sheared by more than rounding explains."""
    sideways = float(np.linalg.norm(shear_mm(step, normal)))
    return sideways > TILT_TOLERANCE * float(step @ normal)


def tilt_error(step: Float64, normal: Float64, *, series_uid: str) -> TiltError:
    """Build the error that describes the shear of a tilted stack."""
    sideways = float(np.linalg.norm(shear_mm(step, normal)))
    angle_deg = float(np.degrees(np.arctan2(sideways, float(step @ normal))))
    return TiltError(series_uid=series_uid, angle_deg=angle_deg, shift_mm_per_slice=sideways)


def affine_lps(
    origin_mm: Float64,
    orientation: Sequence[float],
    pixel_spacing_mm: tuple[float, float],
    step: Float64,
) -> Float64:
    """Map (slice, row, column) indices to LPS millimetres.

    Parameters
    ----------
    origin_mm : (3,)
        ImagePositionPatient of the first slice: the centre of its first voxel.
    pixel_spacing_mm : (between rows, between columns)
        PixelSpacing, in the order DICOM stores it.
    step : (3,)
        From one slice to the next.

    References
    ----------
    DICOM PS3.3, C.7.6.2.1.1, equation C.7.6.2.1-1; there i is the column index.
    """
    between_rows, between_columns = pixel_spacing_mm
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = np.array(orientation[3:]) * between_rows
    affine[:3, 2] = np.array(orientation[:3]) * between_columns
    affine[:3, 3] = origin_mm
    return affine
