"""Change a signal's rate by a ratio of whole numbers, chunk after chunk, keeping the state.

Polyphase: of the filter only the taps that meet a sample are used. Each output is one dot product
in a fixed order over the same samples, so chunks of any length give the same bits.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import signal as design

from cuda_kernels.errors import KernelInputError
from cuda_kernels.jit import jit_serial

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


def polyphase_reference(signal: Float64, taps: Float64, up: int, down: int) -> Float64:
    """Say what the kernel must compute for a whole signal, zeros before its start."""
    spread = np.zeros(len(signal) * up)
    spread[::up] = signal
    filtered: Float64 = np.convolve(spread, taps)[: len(spread) : down]
    return filtered


@jit_serial
def _polyphase_kernel(
    known: Float64, first: int, taps: Float64, up: int, down: int, at: int, out: Float64
) -> None:
    # Output m lies at m * down of the raised rate; sample k of the signal lies at k * up.
    for m in range(out.size):
        place = (at + m) * down
        newest = place // up
        total = 0.0
        tap = place - newest * up
        sample = newest - first
        while tap < taps.size and sample >= 0:
            total += taps[tap] * known[sample]
            tap += up
            sample -= 1
        out[m] = total


class PolyphaseResampler:
    """Resample one signal from ``rate_in_hz`` to ``rate_out_hz`` as it streams.

    Parameters
    ----------
    rate_in_hz, rate_out_hz : int
        Whole numbers of Hz.
    taps : (n_taps,), optional
        Low-pass at the raised rate, with a sum of `up`; by default a Kaiser window (beta 5) with
        ten periods of the slower rate on either side, which delays by half its length.

    Raises
    ------
    KernelInputError
        A rate is not a whole number above 0.
    """

    def __init__(self, rate_in_hz: int, rate_out_hz: int, taps: Float64 | None = None) -> None:
        if rate_in_hz <= 0 or rate_out_hz <= 0 or rate_in_hz % 1 or rate_out_hz % 1:
            raise KernelInputError(
                f"rates {rate_in_hz} and {rate_out_hz} Hz are not whole, above 0"
            )
        common = math.gcd(int(rate_in_hz), int(rate_out_hz))
        self.up, self.down = int(rate_out_hz) // common, int(rate_in_hz) // common
        if taps is None and self.up == self.down:
            taps = np.ones(1)  # the same rate
        elif taps is None:
            widest = max(self.up, self.down)
            n_taps = 2 * 10 * widest + 1
            taps = design.firwin(n_taps, 1.0 / widest, window=("kaiser", 5.0)) * self.up
        self.taps = np.ascontiguousarray(taps, np.float64)
        self._reach = -(-len(self.taps) // self.up)
        self._known = np.empty(0)
        self._first = self._at = 0

    @property
    def delay_raised_samples(self) -> float:
        """Half the filter's length, in samples of the raised rate (input rate x up)."""
        return (len(self.taps) - 1) / 2

    def push(self, signal: Float64) -> Float64:
        """Take the next chunk, float64 without NaN; return the outputs that it completes."""
        if signal.ndim != 1 or signal.dtype != np.float64:
            raise KernelInputError(f"signal is {signal.dtype} {signal.shape}, not float64 (n,)")
        known = np.concatenate([self._known, signal])
        end = self._first + len(known)
        total = -(-end * self.up // self.down)  # outputs whose newest sample has come
        out = np.empty(max(total - self._at, 0))
        _polyphase_kernel(known, self._first, self.taps, self.up, self.down, self._at, out)
        self._at += len(out)
        keep = max(0, min(len(known), self._at * self.down // self.up - self._reach - self._first))
        self._known, self._first = known[keep:].copy(), self._first + keep
        return out

    def state(self) -> dict[str, NDArray[np.float64] | Int64]:
        """Return what a restart needs."""
        return {"known": self._known.copy(), "at": np.array([self._first, self._at])}

    def restore(self, state: dict[str, NDArray[np.float64] | Int64]) -> None:
        """Go on from a state of a resampler of the same rates."""
        self._known = np.asarray(state["known"], np.float64)
        self._first, self._at = (int(value) for value in state["at"])
