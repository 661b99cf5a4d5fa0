"""Long and short axis of a mask for the gate, computed another way than they were written."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

Float64 = NDArray[np.float64]


def axes_mm(mask: NDArray[np.bool_], spacing_mm: tuple[float, float]) -> tuple[float, float]:
    """Measure the corners of a mask's pixels, as `dicom_io.diameters` defines the two axes.

    Parameters
    ----------
    mask : (row, column), one part without holes
    spacing_mm : (between rows, between columns)
    """
    rows, columns = np.nonzero(mask)
    corners = np.concatenate(
        [np.stack([columns + x, rows + y], axis=1) for x in (0, 1) for y in (0, 1)]
    ) * np.array([spacing_mm[1], spacing_mm[0]])
    hull = corners[ConvexHull(corners).vertices]
    gaps = hull[:, None] - hull[None]
    lengths = np.hypot(gaps[..., 0], gaps[..., 1])
    long_mm = float(lengths.max())
    starts, ends = np.nonzero(np.triu(lengths) >= long_mm * (1 - 1e-9))
    return long_mm, max(
        _chord_mm(hull, (hull[end] - hull[start]) / long_mm)
        for start, end in zip(starts, ends, strict=True)
    )


def _chord_mm(hull: Float64, along: Float64) -> float:
    """Cut the polygon across at each vertex: a crossing on every edge that spans the cut."""
    u, v = hull @ along, hull @ np.array([-along[1], along[0]])
    u_next, v_next = np.roll(u, -1), np.roll(v, -1)
    longest = 0.0
    for at in u:
        spans = (np.minimum(u, u_next) <= at) & (at <= np.maximum(u, u_next)) & (u != u_next)
        share = (at - u[spans]) / (u_next[spans] - u[spans])
        crossings = v[spans] + share * (v_next[spans] - v[spans])
        if crossings.size:
            longest = max(longest, float(np.ptp(crossings)))
    return longest
