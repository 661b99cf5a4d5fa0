"""The gate that an engine passes before it may serve: agreement with torch fp32, by label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGE_ML = 50.0
"""A structure's mean volume from which on the stricter bound holds: at its surface a rounding
moves a smaller share of its voxels."""
MIN_DICE_LARGE = 0.999
MIN_DICE_SMALL = 0.995
MAX_DROP_OF_MEAN_DICE = 0.002
"""Against reference labels, where there are some."""

Int64 = NDArray[np.int64]


class LabelCounts:
    """Counts voxels of two label maps over several cases, for pooled Dice.

    Cases are counted in millilitres, so that a case with small voxels has no more say.
    """

    def __init__(self, n_classes: int) -> None:
        self._both = np.zeros(n_classes)
        self._reference = np.zeros(n_classes)
        self._other = np.zeros(n_classes)
        self._cases_with = np.zeros(n_classes, np.int64)

    def add(self, reference: NDArray[Any], other: NDArray[Any], voxel_ml: float) -> None:
        """Count one case; both maps lie on one grid."""
        n = len(self._both)
        both, first, second = (np.zeros(n, np.int64) for _ in range(3))
        for a, b in zip(reference, other, strict=True):  # by plane: bincount copies to int64
            both += np.bincount(a[a == b].reshape(-1), minlength=n)
            first += np.bincount(a.reshape(-1), minlength=n)
            second += np.bincount(b.reshape(-1), minlength=n)
        self._both += both * voxel_ml
        self._reference += first * voxel_ml
        self._other += second * voxel_ml
        self._cases_with += first > 0

    def dice(self, label: int) -> float | None:
        """Return the pooled Dice of a label; None where neither map has it anywhere."""
        total = self._reference[label] + self._other[label]
        return float(2 * self._both[label] / total) if total else None

    def volume_ml(self, label: int) -> float:
        """Return a label's mean reference volume over the cases that have it."""
        return float(self._reference[label] / max(self._cases_with[label], 1))

    def mean_dice(self) -> float | None:
        """Return the mean over labels of their pooled Dice, background left out."""
        found = [d for k in range(1, len(self._both)) if (d := self.dice(k)) is not None]
        return float(np.mean(found)) if found else None


def problem_with(
    dice: Mapping[str, float],
    volume_ml: Mapping[str, float],
    *,
    mean_dice: float | None = None,
    reference_mean_dice: float | None = None,
) -> str | None:
    """Return why an engine may not serve; None where it agrees well enough.

    Parameters
    ----------
    dice, volume_ml : pooled Dice with torch fp32 and mean volume, by label name; labels that
        neither found anywhere are absent
    mean_dice, reference_mean_dice : of this engine and of torch fp32 against reference labels
    """
    if not dice:
        return "no label occurs in the data, so nothing can be compared; give cases that have some"
    for name, value in dice.items():
        bound = MIN_DICE_LARGE if volume_ml[name] > LARGE_ML else MIN_DICE_SMALL
        if value < bound:
            return f"{name}: Dice {value:.5f} with fp32 is below {bound} ({volume_ml[name]:.1f} ml)"
    if mean_dice is not None and reference_mean_dice is not None:
        drop = reference_mean_dice - mean_dice
        if drop > MAX_DROP_OF_MEAN_DICE:
            return (
                f"mean Dice with reference labels drops by {drop:.4f}, more than"
                f" {MAX_DROP_OF_MEAN_DICE}"
            )
    return None
