"""Outlines of a mask in one slice, in DICOM's image coordinates.

An outline follows pixel edges, so a pixel's centre is never on it: filling it gives back exactly
the mask it was drawn from (with holes filled), and its area is that many pixels. Coordinates are
those of SCOORD (PS3.3 C.18.6.1.1): (column, row), the outer corner of the first pixel is (0, 0),
that pixel's centre is (0.5, 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Float64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

_AHEAD = {
    (0, 1): ((0, 0), (-1, 0)),
    (1, 0): ((0, -1), (0, 0)),
    (0, -1): ((-1, -1), (0, -1)),
    (-1, 0): ((-1, 0), (-1, -1)),
}
"""For each heading (rows, columns): pixel ahead on the right, pixel ahead on the left."""


@dataclass(frozen=True, kw_only=True)
class Outline:
    """One connected part of a mask in a slice.

    Attributes
    ----------
    points : (n, 2), (column, row), closed: the last point is the first
        The outer edge; corners only.
    n_pixels : pixels of the part itself
    n_hole_pixels : pixels inside the outer edge that do not belong to it
    """

    points: Float64
    n_pixels: int
    n_hole_pixels: int


def outlines(mask: Mask, *, at_most: int) -> tuple[Outline, ...]:
    """Outer edges of the largest parts of a mask, largest first.

    Parts are pixels that share an edge (not only a corner). Holes are counted, not drawn: SCOORD
    has one closed line, and a bridge to the hole would be drawn by viewers.
    """
    parts, n_parts = ndimage.label(mask)
    if n_parts == 0:
        return ()
    sizes = np.bincount(parts.ravel(), minlength=n_parts + 1)[1:]
    largest = np.argsort(-sizes, kind="stable")[:at_most]
    boxes = ndimage.find_objects(parts)
    found = []
    for index in largest:
        rows, columns = boxes[index]
        part = parts[rows, columns] == index + 1
        filled = ndimage.binary_fill_holes(part)
        n_pixels = int(sizes[index])
        found.append(
            Outline(
                points=outer_edge(filled) + np.array([columns.start, rows.start]),
                n_pixels=n_pixels,
                n_hole_pixels=int(np.count_nonzero(filled)) - n_pixels,
            )
        )
    return tuple(found)


def fill(points: Float64, shape: tuple[int, int]) -> Mask:
    """Pixels whose centre lies inside a closed line, (row, column); even-odd rule.

    Parameters
    ----------
    points : (n, 2), (column, row) in SCOORD coordinates
    """
    crossings = np.zeros((shape[0], shape[1] + 1), dtype=np.int64)
    centres = np.arange(shape[0]) + 0.5
    for (x0, y0), (x1, y1) in pairwise(points):
        if y0 == y1:
            continue
        low, high = min(y0, y1), max(y0, y1)
        rows = np.flatnonzero((centres >= low) & (centres < high))
        x = x0 + (centres[rows] - y0) * (x1 - x0) / (y1 - y0)
        first = np.clip(np.ceil(x - 0.5), 0, shape[1]).astype(np.int64)
        np.add.at(crossings, (rows, first), 1)
    return np.asarray(np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1)


def enclosed_area(points: Float64) -> float:
    """Area inside a closed line, in pixels (shoelace formula)."""
    x, y = points[:, 0], points[:, 1]
    return float(abs(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1])) / 2)


def outer_edge(part: Mask) -> Float64:
    """Walk once around a part without holes, the part on the right hand, corners only.

    Each pixel edge between inside and outside is one step of length 1. Where two pixels of the part
    touch at a corner only, the walk turns right: it stays with the pixel that it is following.
    """
    row, column = 0, int(np.argmax(part[0]))
    start = (row, column)
    heading = (0, 1)  # (rows, columns): along the top edge of the first pixel, to the right
    corner, corners = start, [start]
    first_heading = heading
    padded = np.pad(part, 1)

    def inside(point: tuple[int, int], rows: int, columns: int) -> bool:
        # the four pixels around a grid corner; +1 for the padding
        return bool(padded[point[0] + rows + 1, point[1] + columns + 1])

    while True:
        corner = (corner[0] + heading[0], corner[1] + heading[1])
        ahead_right, ahead_left = _AHEAD[heading]
        if not inside(corner, *ahead_right):
            turned = (heading[1], -heading[0])
        elif inside(corner, *ahead_left):
            turned = (-heading[1], heading[0])
        else:
            turned = heading
        if corner == start and turned == first_heading:
            break
        if turned != heading:
            corners.append(corner)
            heading = turned
    points = np.array([*corners, start], dtype=np.float64)
    return np.asarray(points[:, ::-1])
