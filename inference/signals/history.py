"""The last samples of a signal, by their number since its start."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from inference.signals.state import State

Float64 = NDArray[np.float64]


class History:
    """Keep the last ``length`` samples; older ones are forgotten.

    Samples are numbered from the start of the signal; `between` gives those of a range that are
    still there.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self._buffer = np.empty(2 * length)
        self._size = 0
        self.end = 0

    @property
    def begin(self) -> int:
        """Number of the oldest sample that is still there."""
        return self.end - min(self._size, self.length)

    def restart(self, at: int) -> None:
        """Forget everything; the next sample is number ``at``."""
        self._size, self.end = 0, at

    def push(self, samples: Float64) -> None:
        """Append a chunk."""
        n = len(samples)
        self.end += n
        if n >= self.length:
            self._buffer[: self.length] = samples[n - self.length :]
            self._size = self.length
            return
        if self._size + n > len(self._buffer):
            keep = min(self._size, self.length)
            self._buffer[:keep] = self._buffer[self._size - keep : self._size].copy()
            self._size = keep
        self._buffer[self._size : self._size + n] = samples
        self._size += n

    def between(self, first: int, last: int) -> Float64:
        """Return a copy of samples first..last-1, cut to those that are there."""
        first, last = max(first, self.begin), min(last, self.end)
        if last <= first:
            return np.empty(0)
        offset = self._size - self.end
        return self._buffer[first + offset : last + offset].copy()

    def view(self) -> Float64:
        """Return the samples from ``begin`` on, without a copy; good until the next push."""
        return self._buffer[self._size - (self.end - self.begin) : self._size]

    def state(self, n_samples: int) -> State:
        """Return the last ``n_samples``, which is what a restart needs."""
        samples = self.between(self.end - n_samples, self.end)
        return {"end": np.array(self.end), "samples": samples}

    def restore(self, state: State) -> None:
        """Go on from a state."""
        samples = state["samples"]
        self.restart(int(state["end"]) - len(samples))
        self.push(samples)
