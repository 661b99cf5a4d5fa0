"""Every way to lie on a grid: 24 DICOM orientations, 48 NIfTI ones, oblique ones, and a phantom
in which no two of them look alike."""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
SPACING_MM = (2.5, 0.7, 1.1)  # three different ones, so that a swapped axis shows
ORIGIN_MM = (-21.5, 33.25, -70.13)


def dicom_orientations() -> dict[str, tuple[float, ...]]:
    """24 ImageOrientationPatient values along the axes, named by where columns and rows run."""
    found: dict[str, tuple[float, ...]] = {}
    for along_columns, along_rows in permutations(range(3), 2):
        for signs in product((1, -1), repeat=2):
            columns, rows = np.zeros(3), np.zeros(3)
            columns[along_columns], rows[along_rows] = signs
            name = f"{_letter(along_columns, signs[0])}{_letter(along_rows, signs[1])}"
            found[name] = (*columns.tolist(), *rows.tolist())
    return found


def oblique_orientations() -> dict[str, tuple[float, ...]]:
    """Orientations off the axes, by rotations of a few and of many degrees about all three."""
    found: dict[str, tuple[float, ...]] = {}
    for name, angles in {
        "slight": (4, -3, 2),
        "double": (20, 35, 0),
        "far": (50, -40, 110),
    }.items():
        turned = rotation(*angles)
        found[f"oblique-{name}"] = (*turned[:, 0].tolist(), *turned[:, 1].tolist())
    return found


def grid_affines() -> dict[str, Float64]:
    """48 affines, (slice, row, column) to LPS, of both hands: what NIfTI files may say."""
    found: dict[str, Float64] = {}
    for axes in permutations(range(3)):
        for signs in product((1, -1), repeat=3):
            affine = np.eye(4)
            affine[:3, :3] = 0
            for array_axis, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
                affine[axis, array_axis] = sign * SPACING_MM[array_axis]
            affine[:3, 3] = ORIGIN_MM
            name = "".join(_letter(axis, sign) for axis, sign in zip(axes, signs, strict=True))
            found[name] = affine
    return found


def asymmetric_phantom(shape: tuple[int, int, int] = (6, 7, 9)) -> NDArray[np.int16]:
    """Values that grow along slices, rows and columns by different steps: no symmetry at all."""
    slices, rows, columns = np.indices(shape)
    return (300 * slices + 37 * rows + 3 * columns - 500).astype(np.int16)


def n_misplaced(
    array: NDArray[Any], affine_lps: Float64, truth: NDArray[Any], truth_affine_lps: Float64
) -> int:
    """Voxels of ``truth`` that ``array`` does not hold, with their value, at their place.

    Each voxel of ``array`` is carried through the patient to an index of ``truth``; that index
    must be whole to a thousandth, and each may be met once only.
    """
    indices = np.indices(array.shape).reshape(3, -1)
    indices = np.vstack([indices, np.ones((1, indices.shape[1]))])
    exact = (np.linalg.inv(truth_affine_lps) @ affine_lps @ indices)[:3]
    nearest = np.rint(exact).astype(int)
    is_whole = np.abs(exact - nearest).max(axis=0) < 1e-3
    is_inside = ((nearest >= 0) & (nearest < np.array(truth.shape)[:, None])).all(axis=0)
    met = np.zeros(truth.shape, int)
    for place, value in zip(
        nearest[:, is_whole & is_inside].T, array.ravel()[is_whole & is_inside], strict=True
    ):
        met[tuple(place)] += 1 if truth[tuple(place)] == value else 2
    return int(np.count_nonzero(met != 1))


def rotation(x_deg: float, y_deg: float, z_deg: float) -> Float64:
    """Rotation about x, then y, then z, (3, 3)."""
    result = np.eye(3)
    for axis, angle in enumerate(np.radians((x_deg, y_deg, z_deg))):
        one, two = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[one, one] = turn[two, two] = np.cos(angle)
        turn[one, two], turn[two, one] = -np.sin(angle), np.sin(angle)
        result = turn @ result
    return result


def _letter(axis: int, sign: int) -> str:
    return ("LR", "PA", "SI")[axis][0 if sign > 0 else 1]
