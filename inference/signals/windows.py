"""Cut a stream into windows of one length, at the same samples however it arrives."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from inference.signals.state import State

Float64 = NDArray[np.float64]


class Windows:
    """Windows of ``length`` samples, one every ``hop`` samples; the last may stay incomplete."""

    def __init__(self, *, length: int, hop: int) -> None:
        assert 0 < hop <= length
        self.length, self.hop = length, hop
        self._held = np.empty(0)
        self._first = 0

    def push(self, samples: Float64) -> Iterator[tuple[int, Float64]]:
        """Take a chunk; yield (first sample, window) for each window that is complete by it."""
        self._held = np.concatenate([self._held, samples])
        at = 0
        while len(self._held) - at >= self.length:
            yield self._first, self._held[at : at + self.length].copy()
            at += self.hop
            self._first += self.hop
        self._held = self._held[at:].copy()

    def end(self) -> tuple[int, Float64] | None:
        """Return the incomplete window at the end of a record, if it is half a window or more."""
        if 2 * len(self._held) < self.length:
            return None
        return self._first, self._held.copy()

    def state(self) -> State:
        """Return what a restart needs."""
        return {"held": self._held.copy(), "first": np.array(self._first)}

    def restore(self, state: State) -> None:
        """Go on from a state."""
        self._held, self._first = state["held"], int(state["first"])
