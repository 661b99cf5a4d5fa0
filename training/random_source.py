"""Random numbers of a training, all from one generator that the caller seeds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class RandomSource:
    """Numbers from one torch generator, by the shapes this module needs."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator

    def uniform(self, low: float, high: float) -> float:
        """Return one number in [low, high)."""
        return low + (high - low) * float(torch.rand((), generator=self._generator))

    def integer(self, low: int, high: int) -> int:
        """Return one integer in [low, high], both ends included."""
        return int(torch.randint(low, high + 1, (), generator=self._generator))

    def chance(self, probability: float) -> bool:
        """Return True that often; draws a number even when the answer is certain."""
        return float(torch.rand((), generator=self._generator)) < probability

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Return standard normal numbers."""
        return torch.randn(tuple(shape), generator=self._generator)
