"""Rigid transforms between named frames; LPS inside, RAS only for those who want it.

A bare matrix is refused: a transform names the frame it comes from and the one it goes to, and its
rotation has determinant +1 (a mirror image is another patient's side).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inference.domain.care_errors import PopulationError

Float64 = NDArray[np.float64]
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
RIGID_TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Transform:
    """A rigid map in mm.

    Attributes
    ----------
    matrix : (4, 4); ``matrix @ (x, y, z, 1)`` of a point in ``from_frame`` lies in ``to_frame``
    from_frame, to_frame : Frame of Reference UID, or a registered name; never empty
    """

    matrix: Float64
    from_frame: str
    to_frame: str

    def __post_init__(self) -> None:
        matrix = np.asarray(self.matrix, dtype=np.float64)
        object.__setattr__(self, "matrix", matrix)
        if not self.from_frame.strip() or not self.to_frame.strip():
            raise _refused("frames", (self.from_frame, self.to_frame), "both frames named")
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
            raise _refused("matrix", matrix.shape, "4 x 4 finite numbers")
        if not np.array_equal(matrix[3], (0.0, 0.0, 0.0, 1.0)):
            raise _refused("matrix", matrix[3].tolist(), "a last row of 0 0 0 1")
        rotation = matrix[:3, :3]
        if np.abs(rotation @ rotation.T - np.eye(3)).max() > RIGID_TOLERANCE:
            raise _refused("rotation", "not orthogonal", "a rotation without scale or shear")
        determinant = float(np.linalg.det(rotation))
        if abs(determinant - 1) > RIGID_TOLERANCE:
            raise _refused("rotation", determinant, "determinant +1, not a mirror image")

    def apply(self, points_mm: ArrayLike, *, frame: str) -> Float64:
        """Map points (n, 3) that lie in ``frame``.

        Raises
        ------
        PopulationError
            The points lie in another frame, or are not (n, 3) finite numbers.
        """
        if frame != self.from_frame:
            raise _refused("frame of the points", frame, self.from_frame)
        points = as_points("points_mm", points_mm)
        mapped: Float64 = points @ self.matrix[:3, :3].T + self.matrix[:3, 3]
        return mapped

    def then(self, other: Transform) -> Transform:
        """Return this map followed by another one.

        Raises
        ------
        PopulationError
            The other does not begin where this one ends.
        """
        if other.from_frame != self.to_frame:
            raise _refused("frame of the next transform", other.from_frame, self.to_frame)
        return Transform(
            matrix=other.matrix @ self.matrix,
            from_frame=self.from_frame,
            to_frame=other.to_frame,
        )


def ras_from_lps(points_lps_mm: ArrayLike) -> Float64:
    """Return points (n, 3) with the signs of x and y turned; the map is its own inverse.

    Raises
    ------
    PopulationError
    """
    mapped: Float64 = as_points("points_lps_mm", points_lps_mm) * np.array([-1.0, -1.0, 1.0])
    return mapped


def ras_matrix_from_lps(matrix_lps: ArrayLike) -> Float64:
    """Return the (4, 4) transform of RAS points that does what ``matrix_lps`` does to LPS points.

    Raises
    ------
    PopulationError
    """
    matrix = np.asarray(matrix_lps, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise _refused("matrix_lps", matrix.shape, "4 x 4 finite numbers")
    mapped: Float64 = LPS_TO_RAS @ matrix @ LPS_TO_RAS
    return mapped


def as_points(field: str, points_mm: ArrayLike) -> Float64:
    """Return (n, 3) finite points.

    Raises
    ------
    PopulationError
    """
    points = np.atleast_2d(np.asarray(points_mm, dtype=np.float64))
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise _refused(field, points.shape, "n x 3 finite numbers")
    return points


def _refused(field: str, value: object, studied: str) -> PopulationError:
    return PopulationError(formula="rigid transform", field=field, value=value, studied=studied)
