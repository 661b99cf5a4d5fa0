"""Long and short axis of an outline: how they are defined here, and nothing else.

Both are taken within one slice, of the convex hull of the outline, which follows pixel edges.

- Long axis: the largest distance between two points of the outline.
- Short axis: the longest chord of the convex hull at a right angle to the long axis.

This is how two perpendicular diameters are measured by hand on a slice (RECIST 1.1: Eisenhauer et
al., Eur J Cancer 2009;45:228-247; there the largest diameter in the plane of acquisition and the
one perpendicular to it). Of equally long axes the one with the longest short axis is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist, squareform

Float64 = NDArray[np.float64]

SAME_LENGTH = 1e-9
"""Relative difference below which two axes count as equally long."""


@dataclass(frozen=True, kw_only=True)
class Diameters:
    """Two perpendicular diameters in one slice, in millimetres."""

    long_axis_mm: float
    short_axis_mm: float


def diameters(points: Float64, pixel_spacing_mm: tuple[float, float]) -> Diameters:
    """Measure an outline.

    Parameters
    ----------
    points : (n, 2), (column, row) in pixels, at least three not on one line
    pixel_spacing_mm : (between rows, between columns)
    """
    flat_mm = points * np.array([pixel_spacing_mm[1], pixel_spacing_mm[0]])  # (x, y)
    hull = flat_mm[ConvexHull(flat_mm).vertices]
    distances = squareform(pdist(hull))
    long_axis_mm = float(distances.max())
    ends = np.argwhere(np.triu(distances) >= long_axis_mm * (1 - SAME_LENGTH))
    return Diameters(
        long_axis_mm=long_axis_mm,
        short_axis_mm=max(_longest_chord_across(hull, first, second) for first, second in ends),
    )


def _longest_chord_across(hull: Float64, first: int, second: int) -> float:
    """Longest chord of a convex polygon at a right angle to one of its diagonals."""
    along = hull[second] - hull[first]
    along = along / np.linalg.norm(along)
    u = (hull - hull[first]) @ along
    v = (hull - hull[first]) @ np.array([-along[1], along[0]])
    v[[first, second]] = 0.0  # what rounding left there
    # The width across is concave and piecewise linear along the diagonal: largest at a vertex.
    return float(np.max(_height(u, v, v >= 0) - _height(u, v, v <= 0)))


def _height(u: Float64, v: Float64, side: NDArray[np.bool_]) -> Float64:
    """Height of one side of the hull over every vertex; both sides end where the diagonal ends."""
    order = np.argsort(u[side])
    return np.interp(u, u[side][order], v[side][order])
