"""Filter a signal with second-order sections, sample after sample, keeping the state.

The state is all that the past leaves behind, so that a signal filtered in chunks of any length
gives the same bits as the whole at once. CPU only: each sample needs the one before it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cuda_kernels.errors import KernelInputError
from cuda_kernels.jit import jit_serial

Float64 = NDArray[np.float64]


def sos_filter_reference(sos: Float64, signal: Float64, state: Float64) -> Float64:
    """Say what the kernel must compute: transposed direct form II, one section after another."""
    out = signal.copy()
    for (b0, b1, b2, _, a1, a2), memory in zip(sos, state, strict=True):
        for n, x in enumerate(out):
            y = b0 * x + memory[0]
            memory[0] = (b1 * x + memory[1]) - a1 * y
            memory[1] = b2 * x - a2 * y
            out[n] = y
    return out


@jit_serial
def _sos_kernel(sos: Float64, signal: Float64, state: Float64, out: Float64) -> None:
    n_sections = sos.shape[0]
    source = signal
    for first in range(0, n_sections - 1, 2):
        # Two sections in one pass: the second works on a sample while the first takes the next.
        b0, b1, b2 = sos[first, 0], sos[first, 1], sos[first, 2]
        a1, a2 = sos[first, 4], sos[first, 5]
        d0, d1, d2 = sos[first + 1, 0], sos[first + 1, 1], sos[first + 1, 2]
        c1, c2 = sos[first + 1, 4], sos[first + 1, 5]
        z0, z1 = state[first, 0], state[first, 1]
        w0, w1 = state[first + 1, 0], state[first + 1, 1]
        for n in range(out.size):
            x = source[n]
            y = b0 * x + z0
            z0 = (b1 * x + z1) - a1 * y
            z1 = b2 * x - a2 * y
            v = d0 * y + w0
            w0 = (d1 * y + w1) - c1 * v
            w1 = d2 * y - c2 * v
            out[n] = v
        state[first, 0], state[first, 1] = z0, z1
        state[first + 1, 0], state[first + 1, 1] = w0, w1
        source = out
    if n_sections % 2:
        last = n_sections - 1
        b0, b1, b2 = sos[last, 0], sos[last, 1], sos[last, 2]
        a1, a2 = sos[last, 4], sos[last, 5]
        z0, z1 = state[last, 0], state[last, 1]
        for n in range(out.size):
            x = source[n]
            y = b0 * x + z0
            z0 = (b1 * x + z1) - a1 * y
            z1 = b2 * x - a2 * y
            out[n] = y
        state[last, 0], state[last, 1] = z0, z1


def sos_filter(sos: Float64, signal: Float64, state: Float64) -> Float64:
    """Filter one chunk and move ``state`` on.

    Parameters
    ----------
    sos : (n_sections, 6)
        b0 b1 b2 1 a1 a2 of each section, as `scipy.signal` designs them.
    signal : (n_samples,)
        The next chunk, float64, any unit, without NaN (a NaN would stay in the state for ever).
    state : (n_sections, 2), changed in place
        Zero at the start of a signal.

    Returns
    -------
    (n_samples,)
        The filtered chunk, in the unit of ``signal``.

    Raises
    ------
    KernelInputError
        A shape or dtype is another.
    """
    if sos.ndim != 2 or sos.shape[1] != 6 or state.shape != (len(sos), 2):
        raise KernelInputError(f"sos {sos.shape} and state {state.shape} are not (n, 6) and (n, 2)")
    if signal.ndim != 1 or signal.dtype != np.float64:
        raise KernelInputError(f"signal is {signal.dtype} {signal.shape}, not float64 (n,)")
    if not np.all(sos[:, 3] == 1.0):
        raise KernelInputError("a section's a0 is not 1; divide the section by it")
    out = np.empty_like(signal)
    _sos_kernel(sos, signal, state, out)
    return out
