"""Where the waves of one heart beat begin and end: P, QRS and T in one ECG lead.

The QRS complex is where the slope stays above a part of its steepest; P begins and T ends where the
tangent at the steepest point of their outer flank meets the level behind it (the tangent method,
Lepeschkin and Surawicz, Circulation 1952;6:378-388). Every result is an index into the excerpt, or
-1 where the wave is not there or runs past the excerpt. Only the excerpt counts, so the same one
gives the same bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cuda_kernels.errors import KernelInputError
from cuda_kernels.jit import jit_inline, jit_serial

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

P_ONSET, P_PEAK, QRS_ONSET, QRS_OFFSET, T_PEAK, T_OFFSET = range(6)
FIELDS = 6
SLOPE_PART = 0.06
"""The complex ends where the slope falls below this part of its steepest."""
LOWEST_P_MV, LOWEST_T_MV = 0.03, 0.05
"""Waves lower than this are not measured."""


@jit_inline
def _smooth(signal: Float64, reach: int, out: Float64) -> None:
    """Mean over 2 * reach + 1 samples; fewer at the ends."""
    for n in range(signal.size):
        first, last = max(0, n - reach), min(signal.size - 1, n + reach)
        total = 0.0
        for k in range(first, last + 1):
            total += signal[k]
        out[n] = total / (last - first + 1)


@jit_inline
def _edge(slope: Float64, start: int, step: int, limit: float, quiet: int, furthest: int) -> int:
    """Walk from ``start`` until the slope is below ``limit`` for ``quiet`` samples; -1 if never."""
    calm = 0
    n = start
    while 0 <= n < slope.size and abs(n - start) <= furthest:
        calm = calm + 1 if abs(slope[n]) < limit else 0
        if calm == quiet:
            return n - step * (quiet - 1)
        n += step
    return -1


@jit_inline
def _tangent_foot(smooth: Float64, peak: int, last: int, level: float, rest: int) -> int:
    """Where the steepest tangent from ``peak`` towards ``last`` meets the level that follows it.

    That level is where the flank has come to rest: ``rest`` samples with less than 0.15 of its
    steepest slope. -1 where it never does before ``last``.
    """
    step = 1 if last > peak else -1
    sign = 1.0 if smooth[peak] > level else -1.0
    steepest, at, calm = 0.0, -1, 0
    n = peak
    while n != last:
        fall = sign * (smooth[n] - smooth[n + step])
        if fall > steepest:
            steepest, at, calm = fall, n, 0
        else:
            calm = calm + 1 if fall < 0.15 * steepest else 0
        n += step
        if calm >= rest and sign * (smooth[n] - level) < 0.5 * sign * (smooth[peak] - level):
            height = sign * (0.5 * (smooth[at] + smooth[at + step]) - smooth[n])
            return int(np.rint(at + step * 0.5 + step * height / steepest))
    return -1


@jit_inline
def _extreme(smooth: Float64, first: int, last: int, level0: float, level1: float) -> int:
    """Return the sample furthest from the line from level0 at ``first`` to level1 at ``last``."""
    best, at = 0.0, -1
    for n in range(first, last + 1):
        line = level0 + (level1 - level0) * (n - first) / max(1, last - first)
        away = abs(smooth[n] - line)
        if away > best:
            best, at = away, n
    return at


@jit_serial
def _delineate_kernel(lead: Float64, beat: int, rate_hz: float, rr_s: float, found: Int64) -> None:
    found[:] = -1
    n = lead.size
    fine, coarse = np.empty(n), np.empty(n)
    _smooth(lead, max(1, int(0.004 * rate_hz + 0.5)), fine)
    _smooth(lead, max(1, int(0.012 * rate_hz + 0.5)), coarse)
    slope = np.zeros(n)
    for k in range(1, n - 1):
        slope[k] = 0.5 * (fine[k + 1] - fine[k - 1])

    near = int(0.1 * rate_hz)
    first, last = max(1, beat - near), min(n - 2, beat + near)
    steepest = 0.0
    for k in range(first, last + 1):
        steepest = max(steepest, abs(slope[k]))
    if steepest <= 0.0:
        return
    begin, end = beat, beat
    for k in range(first, last + 1):
        if abs(slope[k]) > 0.25 * steepest:
            begin, end = min(begin, k), max(end, k)
    quiet, furthest = max(2, int(0.012 * rate_hz)), int(0.08 * rate_hz)
    onset = _edge(slope, begin, -1, SLOPE_PART * steepest, quiet, furthest)
    offset = _edge(slope, end, 1, SLOPE_PART * steepest, quiet, furthest)
    found[QRS_ONSET], found[QRS_OFFSET] = onset, offset
    if onset < 0 or offset < 0:
        return
    _find_t(coarse, onset, offset, beat, rate_hz, rr_s, found)
    _find_p(coarse, onset, rate_hz, rr_s, found)


@jit_inline
def _find_t(
    coarse: Float64, onset: int, offset: int, beat: int, rate_hz: float, rr_s: float, found: Int64
) -> None:
    level = coarse[max(0, onset - int(0.016 * rate_hz))]
    first = offset + int(0.06 * rate_hz)
    last = beat + int(min(0.6, 0.7 * rr_s) * rate_hz)
    furthest = beat + int(min(0.45, 0.5 * rr_s) * rate_hz)
    if last >= coarse.size or furthest - first < int(0.1 * rate_hz):
        return
    peak = _extreme(coarse, first, furthest, level, level)
    edge = int(0.02 * rate_hz)
    if peak < first + 1 or peak > furthest - edge or abs(coarse[peak] - level) < LOWEST_T_MV:
        return
    found[T_PEAK] = peak
    found[T_OFFSET] = _tangent_foot(coarse, peak, last, level, edge)


@jit_inline
def _find_p(coarse: Float64, onset: int, rate_hz: float, rr_s: float, found: Int64) -> None:
    first = onset - int(min(0.28, 0.4 * rr_s) * rate_hz)
    last = onset - int(0.02 * rate_hz)
    if first < 0 or last - first < int(0.06 * rate_hz):
        return
    peak = _extreme(coarse, first, last, coarse[first], coarse[last])
    if peak < 0:
        return
    part = (peak - first) / max(1, last - first)
    level = coarse[first] + (coarse[last] - coarse[first]) * part
    if abs(coarse[peak] - level) < LOWEST_P_MV:
        return
    found[P_PEAK] = peak
    found[P_ONSET] = _tangent_foot(
        coarse, peak, max(0, first - int(0.06 * rate_hz)), level, int(0.02 * rate_hz)
    )


def delineate(lead_mv: Float64, beat: int, *, sampling_rate_hz: float, rr_s: float) -> Int64:
    """Find the waves of one beat.

    Parameters
    ----------
    lead_mv : (n_samples,)
        The lead around the beat in mV, float64, finite; 0.4 s before to 0.7 s after it.
    beat : int
        Index of the beat in ``lead_mv``.
    sampling_rate_hz : float
        Of ``lead_mv``.
    rr_s : float
        The interval before the beat in seconds; it bounds where P and T are looked for.

    Returns
    -------
    (6,) of int64
        P onset, P peak, QRS onset, QRS offset, T peak, T offset as indices; -1 where not found.

    Raises
    ------
    KernelInputError
        The excerpt is not float64 (n,), or the beat lies outside it.
    """
    if lead_mv.ndim != 1 or lead_mv.dtype != np.float64 or not 0 <= beat < len(lead_mv):
        raise KernelInputError(f"lead is {lead_mv.dtype} {lead_mv.shape}, beat {beat}")
    found = np.empty(FIELDS, np.int64)
    _delineate_kernel(lead_mv, beat, sampling_rate_hz, rr_s, found)
    return found
