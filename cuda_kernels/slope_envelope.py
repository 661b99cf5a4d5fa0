"""Mean absolute slope over a short moving window: high where a signal is steep, as in a QRS.

The derivative is the five-point one of Pan and Tompkins (IEEE Trans Biomed Eng 1985;32:230-236),
in units per sample; the mean is taken over the last ``window`` samples. State is kept between
chunks, and chunks of any length give the same bits: the moving sum is formed anew from the ring
each time the ring is full, at the same samples however the signal is cut.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cuda_kernels.errors import KernelInputError
from cuda_kernels.jit import jit_serial

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

DERIVATIVE_DELAY_SAMPLES = 2
"""The five-point derivative belongs to the sample two before the newest."""


def slope_envelope_reference(signal: Float64, window: int) -> Float64:
    """Say what the kernel must compute for a whole signal; zeros stand before its start."""
    x = np.concatenate([np.zeros(4), signal])
    slope = np.abs(2 * x[4:] + x[3:-1] - x[1:-3] - 2 * x[:-4]) / 8.0
    padded = np.concatenate([np.zeros(window - 1), slope])
    mean: Float64 = np.lib.stride_tricks.sliding_window_view(padded, window).mean(axis=1)
    return mean


@jit_serial
def _envelope_kernel(
    signal: Float64, memory: Float64, ring: Float64, place: Int64, out: Float64
) -> None:
    window = ring.size
    x1, x2, x3, x4, total = memory[0], memory[1], memory[2], memory[3], memory[4]
    at = place[0]
    for n in range(signal.size):
        x = signal[n]
        slope = abs(2.0 * x + x1 - x3 - 2.0 * x4) / 8.0
        x4, x3, x2, x1 = x3, x2, x1, x
        total = total + (slope - ring[at])
        ring[at] = slope
        at += 1
        if at == window:
            at = 0
            total = 0.0
            for k in range(window):  # rounding does not add up over days
                total += ring[k]
        out[n] = total / window
    memory[0], memory[1], memory[2], memory[3], memory[4] = x1, x2, x3, x4, total
    place[0] = at


def slope_envelope(signal: Float64, memory: Float64, ring: Float64, place: Int64) -> Float64:
    """Return the envelope of the next chunk and move the state on.

    Parameters
    ----------
    signal : (n_samples,)
        The next chunk, float64, without NaN.
    memory : (5,), ring : (window,), place : (1,), changed in place
        The state; zeros at the start of a signal.

    Returns
    -------
    (n_samples,)
        Units of ``signal`` per sample; it lags by 2 + (window - 1) / 2 samples.

    Raises
    ------
    KernelInputError
        A shape or dtype is another.
    """
    if signal.ndim != 1 or signal.dtype != np.float64:
        raise KernelInputError(f"signal is {signal.dtype} {signal.shape}, not float64 (n,)")
    if memory.shape != (5,) or place.shape != (1,) or ring.ndim != 1 or not ring.size:
        raise KernelInputError("memory, place and ring are not (5,), (1,) and (window,)")
    out = np.empty_like(signal)
    _envelope_kernel(signal, memory, ring, place, out)
    return out
