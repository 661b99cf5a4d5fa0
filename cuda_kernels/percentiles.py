"""Percentiles of each label's voxels: from a histogram of int16, or by sorting floats.

Linear between neighbours in order of size: percentile p of n values lies at place (n - 1) p / 100
(NumPy's "linear", type 7 of Hyndman and Fan, The American Statistician 1996;50:361-365).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
LEVELS = 2**16
LOWEST = -(2**15)


def histogram_percentiles(histogram: Int64, percentiles: Sequence[float]) -> Float64:
    """Exact percentiles of int16 values.

    Parameters
    ----------
    histogram : (label, 65536), how often each label has each value from -32768 on

    Returns
    -------
    (label, percentile), NaN for a label without voxels
    """
    found = np.full((len(histogram), len(percentiles)), np.nan)
    for label, counts in enumerate(histogram):
        below = np.cumsum(counts)
        n = int(below[-1])
        if n == 0:
            continue
        place = (n - 1) * np.asarray(percentiles, np.float64) / 100
        low = np.floor(place).astype(np.int64)
        high = np.minimum(low + 1, n - 1)
        a, b = (np.searchsorted(below, rank, side="right") + LOWEST for rank in (low, high))
        found[label] = a + (b - a) * (place - low)
    return found


def sorted_percentiles(
    labels: NDArray[Any], image: NDArray[Any], first: Int64, last: Int64,
    percentiles: Sequence[float],
) -> Float64:  # fmt: skip
    """Exact percentiles of values of any dtype; each label is looked for in its box only.

    Parameters
    ----------
    first, last : (label, 3), boxes with both ends inside; -1 for a label without voxels

    Returns
    -------
    (label, percentile), NaN for a label without voxels
    """
    found = np.full((len(first), len(percentiles)), np.nan)
    for label in np.flatnonzero(first[:, 0] >= 0) if percentiles else ():
        box = tuple(
            slice(int(a), int(b) + 1) for a, b in zip(first[label], last[label], strict=True)
        )
        values = image[box][labels[box] == label].astype(np.float64)
        found[label] = np.percentile(values, percentiles)
    return found
