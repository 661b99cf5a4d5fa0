"""Which voxels a slice on the screen shows: radiological convention, for drawing and drawing on.

On screen the patient's right is at the left in axial and coronal planes, anterior is up in axial
ones, the head is up in coronal and sagittal ones, and anterior is at the left in sagittal ones.
Slices are counted from 0 at the top of the head, the front, or the patient's right.
"""

from __future__ import annotations

from typing import Any, Literal

from numpy.typing import NDArray

from inference.pipeline.preprocess import CanonicalAxes

Plane = Literal["axial", "coronal", "sagittal"]
PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")
AXIS: dict[Plane, int] = {"axial": 0, "coronal": 1, "sagittal": 2}
"""Which canonical axis (slice to Superior, row to Posterior, column to Left) a plane cuts."""


def cut(canonical: NDArray[Any], plane: Plane, index: int) -> NDArray[Any]:
    """Return a slice as (row, column) of the screen; writing into it writes the array."""
    if plane == "axial":
        shown: NDArray[Any] = canonical[canonical.shape[0] - 1 - index]  # rows to P, columns to L
    elif plane == "coronal":
        shown = canonical[::-1, index, :]  # rows to I, columns to L
    else:
        shown = canonical[::-1, :, index]  # rows to I, columns to P
    return shown


def acquired_plane(axes: CanonicalAxes) -> Plane:
    """Return the plane in which the scanner made the slices."""
    return next(plane for plane in PLANES if axes.permutation[AXIS[plane]] == 0)
