"""Count the voxels of each label on each slice of three axes, in one pass over a label map."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cuda_kernels.jit import jit, prange

Areas = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
_PARTS = 8
"""Parts of the first axis that are counted side by side; the last two axes' counts are summed."""


def label_areas_reference(labels: NDArray[Any], n_labels: int) -> Areas:
    """Say what the kernel must compute: three arrays (size of the axis, n_labels)."""
    found = []
    for axis in range(3):
        slices = np.moveaxis(labels, axis, 0).reshape(labels.shape[axis], -1)
        found.append(np.stack([np.bincount(one, minlength=n_labels) for one in slices]))
    return found[0], found[1], found[2]


def label_areas(labels: NDArray[Any], n_labels: int) -> Areas:
    """Return the counts of every label below ``n_labels`` by slice, row and column.

    ``labels`` is (slice, row, column), unsigned, C-contiguous for speed; runs on all cores.
    Background (0) is not counted: its counts are 0.
    """
    depth, height, width = labels.shape
    by_slice = np.zeros((depth, n_labels), np.int64)
    by_row = np.zeros((_PARTS, height, n_labels), np.int64)
    by_column = np.zeros((_PARTS, width, n_labels), np.int64)
    _count(labels, by_slice, by_row, by_column)
    return by_slice, by_row.sum(axis=0), by_column.sum(axis=0)


@jit
def _count(labels: Any, by_slice: Any, by_row: Any, by_column: Any) -> None:
    parts = by_row.shape[0]
    for part in prange(parts):
        for k in range(part, labels.shape[0], parts):
            for row in range(labels.shape[1]):
                for column in range(labels.shape[2]):
                    label = labels[k, row, column]
                    if label != 0:
                        by_slice[k, label] += 1
                        by_row[part, row, label] += 1
                        by_column[part, column, label] += 1
