"""Resample a tilted stack onto an upright grid: every slice slides within its own plane."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from dicom_io.volume import Float64, VoxelArray


def untilt(array: VoxelArray, affine_lps: Float64) -> tuple[VoxelArray, Float64]:
    """Shift each slice in its plane so that the slice axis becomes perpendicular to it.

    The first slice, the spacing within slices and the distance along the normal stay; rows and
    columns are added until no slice is cut off. Values between pixels are interpolated linearly
    (int16 values are rounded), and new pixels take the volume's lowest value.

    Parameters
    ----------
    array : (slice, row, column)
    affine_lps : (4, 4), whose slice axis is not perpendicular to the other two

    Returns
    -------
    array : (slice, row, column), same dtype; rows and columns grown
    affine_lps : (4, 4), upright
    """
    step, per_row, per_column = affine_lps[:3, 0], affine_lps[:3, 1], affine_lps[:3, 2]
    plane = np.stack([per_row, per_column], axis=1)  # (3, 2)
    shift_per_slice = np.linalg.lstsq(plane, step, rcond=None)[0]  # (row, column), in pixels
    shifts = np.outer(np.arange(array.shape[0]), shift_per_slice)  # (slice, 2)
    before = np.floor(shifts.min(axis=0)).astype(int)
    after = np.ceil(shifts.max(axis=0)).astype(int)
    rows, columns = (np.array(array.shape[1:]) + after - before).tolist()
    upright = np.full((array.shape[0], rows, columns), array.min(), dtype=array.dtype)
    for index, (row, column) in enumerate(shifts - before):
        _place(upright[index], array[index], float(row), float(column))
    affine = affine_lps.copy()
    affine[:3, 0] = step - plane @ shift_per_slice
    affine[:3, 3] += plane @ before
    return cast(VoxelArray, upright), affine


def _place(
    out: NDArray[np.generic], slice_: NDArray[np.generic], row: float, column: float
) -> None:
    """Write ``slice_`` into ``out`` with its first pixel at (row, column), both at least 0."""
    background = float(out.flat[0])  # type: ignore[arg-type]
    whole = (int(np.floor(row)), int(np.floor(column)))
    part = (row - whole[0], column - whole[1])
    padded = np.pad(slice_.astype(np.float64) - background, 1)  # one ring to interpolate into
    down = (1 - part[0]) * padded[1:] + part[0] * padded[:-1]
    moved = (1 - part[1]) * down[:, 1:] + part[1] * down[:, :-1] + background
    rows = min(moved.shape[0], out.shape[0] - whole[0])
    columns = min(moved.shape[1], out.shape[1] - whole[1])
    moved = moved[:rows, :columns]
    if np.issubdtype(out.dtype, np.integer):
        moved = np.rint(moved)
    out[whole[0] : whole[0] + rows, whole[1] : whole[1] + columns] = moved
