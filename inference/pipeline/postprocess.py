"""Remove from a label map what the model's spec says cannot be the structure."""

from __future__ import annotations

from typing import Any, Literal

import cc3d
import numpy as np
from numpy.typing import NDArray

from inference.domain.ports import Labels
from inference.pipeline.spec import Postprocessing

NEIGHBOURS: Literal[26] = 26
"""Voxels that share a face, an edge or a corner are one component."""


def postprocess(labels: Labels, affine_lps: NDArray[np.float64], rules: Postprocessing) -> None:
    """Apply the rules in place, on the scanner's grid; what is removed becomes background.

    Largest components first, then the smallest volume a label may have.
    """
    for label in rules.keep_largest_component:
        _keep_largest(labels, label)
    if rules.min_volume_ml > 0:
        voxel_ml = abs(float(np.linalg.det(np.asarray(affine_lps)[:3, :3]))) / 1000
        counts = _counts(labels)
        for label in range(1, len(counts)):
            if 0 < counts[label] * voxel_ml < rules.min_volume_ml:
                labels[labels == label] = 0


def _keep_largest(labels: Labels, label: int) -> None:
    box = _bounding_box(labels, label)
    if box is None:
        return
    part = labels[box]
    mask = part == label
    components: NDArray[Any] = cc3d.connected_components(
        mask, connectivity=NEIGHBOURS, binary_image=True
    )
    sizes = _counts(components)
    if len(sizes) <= 2:  # background and one component
        return
    sizes[0] = 0
    part[mask & (components != sizes.argmax())] = 0  # of equals, the first in memory order


def _bounding_box(labels: Labels, label: int) -> tuple[slice, slice, slice] | None:
    planes = [k for k in range(labels.shape[0]) if (labels[k] == label).any()]
    if not planes:
        return None
    rows = np.zeros(labels.shape[1], bool)
    columns = np.zeros(labels.shape[2], bool)
    for k in range(planes[0], planes[-1] + 1):
        mask = labels[k] == label
        rows |= mask.any(axis=1)
        columns |= mask.any(axis=0)
    row, column = np.flatnonzero(rows), np.flatnonzero(columns)
    return (
        slice(planes[0], planes[-1] + 1),
        slice(int(row[0]), int(row[-1]) + 1),
        slice(int(column[0]), int(column[-1]) + 1),
    )


def _counts(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Count each value, plane by plane: `bincount` makes an int64 copy of what it is given."""
    counts = np.zeros(int(labels.max()) + 1, np.int64)
    for plane in labels:
        found = np.bincount(plane.reshape(-1))
        counts[: len(found)] += found
    return counts
