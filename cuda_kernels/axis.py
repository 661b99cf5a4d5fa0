"""Linear interpolation along one axis: which two samples each output voxel is made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class LinearAxis:
    """Output ``i`` is ``(1 - weight[i]) * input[low[i]] + weight[i] * input[high[i]]``."""

    low: NDArray[np.int32]
    high: NDArray[np.int32]
    weight: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.low)

    def part(self, start: int, stop: int, *, shift: int = 0) -> LinearAxis:
        """Return outputs start..stop, for an input whose first ``shift`` samples are gone."""
        return LinearAxis(
            low=self.low[start:stop] - np.int32(shift),
            high=self.high[start:stop] - np.int32(shift),
            weight=self.weight[start:stop],
        )


def linear_axis(n_in: int, n_out: int, step: float, *, start: float = 0.0) -> LinearAxis:
    """Place ``n_out`` samples at start, start + step, ... input indices; past an end, that end.

    With ``start`` 0, first sample centres coincide; a sample outside takes the border's value:
    the convention of MONAI's `Spacing` and of its inverse.
    """
    place = np.clip(np.arange(n_out, dtype=np.float64) * step + start, 0, n_in - 1)
    nearest = np.rint(place)
    place = np.where(np.abs(place - nearest) < 1e-6, nearest, place)  # 3 * 0.7 / 0.7 is 3
    low = np.floor(place).astype(np.int32)
    return LinearAxis(
        low=low,
        high=np.minimum(low + 1, n_in - 1).astype(np.int32),
        weight=(place - low).astype(np.float32),
    )


def nearest_indices(axis: LinearAxis) -> NDArray[np.int32]:
    """Return the nearer of each output's two samples; a tie takes the lower index."""
    found: NDArray[np.int32] = np.where(axis.weight > 0.5, axis.high, axis.low).astype(np.int32)
    return found
