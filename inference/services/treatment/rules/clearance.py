"""How far a straight path stays from a structure; never overstated.

A distance map between voxel centres overstates the distance to a surface by up to half a voxel
diagonal: the structure's surface lies beyond the centres of its voxels. And a map that ignores the
spacing is in no unit at all. What is reported is the sampled distance less one voxel diagonal.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from inference.domain.care_errors import PopulationError
from inference.services.treatment.rules.frames import Float64, as_points

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class DistanceMap:
    """Distance in mm from each voxel centre to the nearest centre inside a structure.

    Attributes
    ----------
    distance_mm : 3D; same axes as ``spacing_mm``; voxel (i, j, k) is centred at
        ``(i, j, k) * spacing_mm``
    """

    distance_mm: Float64
    spacing_mm: tuple[float, float, float]

    @property
    def diagonal_mm(self) -> float:
        """Length of a voxel's diagonal."""
        return float(np.linalg.norm(self.spacing_mm))


def distance_map(mask: Mask, spacing_mm: tuple[float, float, float]) -> DistanceMap:
    """Return the exact Euclidean distance map of a structure.

    Raises
    ------
    PopulationError
        An empty structure (it would be infinitely far), or a spacing that is not above 0.
    """
    if mask.ndim != 3 or not mask.any():
        raise _refused("mask", mask.shape, "a 3D structure that is not empty")
    if len(spacing_mm) != 3 or not all(np.isfinite(s) and s > 0 for s in spacing_mm):
        raise _refused("spacing_mm", spacing_mm, "three lengths above 0")
    distances = ndimage.distance_transform_edt(~mask, sampling=spacing_mm)
    return DistanceMap(distance_mm=np.asarray(distances, dtype=np.float64), spacing_mm=spacing_mm)


def sampled_distance_mm(
    found: DistanceMap, start_mm: ArrayLike, end_mm: ArrayLike, *, step_mm: float | None = None
) -> float:
    """Return the smallest trilinear distance along a segment: centre to centre, uncorrected.

    Samples lie at most ``step_mm`` apart, by default a quarter of the smallest spacing.

    Raises
    ------
    PopulationError
        The segment leaves the map.
    """
    start, end = as_points("start_mm", start_mm)[0], as_points("end_mm", end_mm)[0]
    step = min(found.spacing_mm) / 4 if step_mm is None else step_mm
    n_steps = max(1, int(np.ceil(np.linalg.norm(end - start) / step)))
    points = start + np.linspace(0.0, 1.0, n_steps + 1)[:, None] * (end - start)
    index = (points / np.asarray(found.spacing_mm)).T  # (3, n)
    last = np.asarray(found.distance_mm.shape)[:, None] - 1
    if (index < 0).any() or (index > last).any():
        raise _refused("segment", (start.tolist(), end.tolist()), "inside the distance map")
    values = ndimage.map_coordinates(found.distance_mm, index, order=1)
    return float(values.min())


def clearance_mm(
    found: DistanceMap, start_mm: ArrayLike, end_mm: ArrayLike, *, tool_radius_mm: float = 0.0
) -> float:
    """Return a distance from the segment to the structure that is never too large.

    It is the sampled distance less one voxel diagonal and the tool's radius; it may be negative.

    Raises
    ------
    PopulationError
    """
    if not np.isfinite(tool_radius_mm) or tool_radius_mm < 0:
        raise _refused("tool_radius_mm", tool_radius_mm, "0 or more")
    return sampled_distance_mm(found, start_mm, end_mm) - found.diagonal_mm - tool_radius_mm


def sphere_clearance_mm(
    centre_mm: ArrayLike, radius_mm: float, start_mm: ArrayLike, end_mm: ArrayLike
) -> float:
    """Return the exact distance from a segment to a sphere's surface; negative inside.

    Raises
    ------
    PopulationError
    """
    centre = as_points("centre_mm", centre_mm)[0]
    start, end = as_points("start_mm", start_mm)[0], as_points("end_mm", end_mm)[0]
    along = end - start
    length2 = float(along @ along)
    share = 0.0 if length2 == 0 else float(np.clip((centre - start) @ along / length2, 0.0, 1.0))
    return float(np.linalg.norm(start + share * along - centre)) - radius_mm


BREACH_GRADES = MappingProxyType({"A": 0.0, "B": 2.0, "C": 4.0, "D": 6.0})
"""Gertzbein-Robbins: A none, B below 2 mm, C 2 to below 4, D 4 to below 6, E from 6 mm on.
Gertzbein SD, Robbins SE. Spine 1990;15:11-14."""


def breach_grade(breach_mm: float) -> str:
    """Return the Gertzbein-Robbins grade of a screw that leaves the pedicle by ``breach_mm``.

    Raises
    ------
    PopulationError
        Negative or not a number.
    """
    if isinstance(breach_mm, bool) or not np.isfinite(breach_mm) or breach_mm < 0:
        raise _refused("breach_mm", breach_mm, "0 mm or more")
    if breach_mm == 0:
        return "A"
    for grade in ("B", "C", "D"):
        if breach_mm < BREACH_GRADES[grade]:
            return grade
    return "E"


def _refused(field: str, value: object, studied: str) -> PopulationError:
    return PopulationError(formula="clearance", field=field, value=value, studied=studied)
