"""Every edge of a mask in one slice, holes too; and the same as single lines without holes.

Coordinates are those of `contours`: (column, row), pixel edges, (0, 0) is the outer corner of the
first pixel. Filling all lines of a mask by the even-odd rule gives the mask back, pixel for pixel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dicom_io.contours import outer_edge

Float64 = NDArray[np.float64]
Mask = NDArray[np.bool_]


def rings(mask: Mask) -> list[list[Float64]]:
    """Edges of each part of a mask: the outer one first, then one for each hole.

    Parts are pixels that share an edge. Every line is (n, 2) and closed.
    """
    parts, n_parts = ndimage.label(mask)
    found = []
    for number, box in enumerate(ndimage.find_objects(parts), start=1):
        part = parts[box] == number
        offset = np.array([box[1].start, box[0].start])
        filled = ndimage.binary_fill_holes(part)
        holes, _ = ndimage.label(filled & ~part)
        lines = [outer_edge(filled) + offset]
        for hole_number, hole_box in enumerate(ndimage.find_objects(holes), start=1):
            inner = np.array([hole_box[1].start, hole_box[0].start])
            lines.append(outer_edge(holes[hole_box] == hole_number) + inner + offset)
        found.append(lines)
    assert len(found) == n_parts
    return found


def without_holes(lines: list[Float64]) -> Float64:
    """Join a part's edges into one closed line, by a cut of no width to each hole.

    The cut runs along a row of pixel corners, to the left, to the nearest line that is joined
    already; it is walked there and back, so it encloses nothing (the "keyhole" of PS3.3 C.8.8.6.3).

    Parameters
    ----------
    lines : the outer edge first, each closed, as `rings` returns them
    """
    joined, *holes = lines
    for hole in sorted(holes, key=_leftmost):
        start = int(np.lexsort((hole[:-1, 1], hole[:-1, 0]))[0])  # leftmost, uppermost corner
        open_hole = np.roll(hole[:-1], -start, axis=0)
        x, y = open_hole[0]
        edge, at = _edge_to_the_left(joined, x, y)
        cut = np.array([at, y])
        # Walked the other way round, so that filling by winding number leaves it empty too.
        back = open_hole[::-1]
        way = np.concatenate([[cut], [open_hole[0]], back, [cut]])
        joined = np.concatenate([joined[: edge + 1], way, joined[edge + 1 :]])
    return joined


def _leftmost(line: Float64) -> tuple[float, float]:
    order = np.lexsort((line[:, 1], line[:, 0]))
    return float(line[order[0], 0]), float(line[order[0], 1])


def _edge_to_the_left(line: Float64, x: float, y: float) -> tuple[int, float]:
    """Find the nearest upright edge left of a point: its index in the line, and its column."""
    starts, ends = line[:-1], line[1:]
    is_upright = starts[:, 0] == ends[:, 0]
    spans = (np.minimum(starts[:, 1], ends[:, 1]) <= y) & (
        np.maximum(starts[:, 1], ends[:, 1]) >= y
    )
    candidates = np.flatnonzero(is_upright & spans & (starts[:, 0] <= x))
    assert candidates.size, "a hole lies inside its part's outer edge"
    nearest = candidates[np.argmax(starts[candidates, 0])]
    return int(nearest), float(starts[nearest, 0])
