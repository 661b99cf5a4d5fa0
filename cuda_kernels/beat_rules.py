"""Decide which peaks of a slope envelope are heart beats, with thresholds that adapt to the signal.

The rules are those of Hamilton (Comput Cardiol 2002;29:101-104), themselves after Pan and Tompkins
(IEEE Trans Biomed Eng 1985;32:230-236): a peak is a beat when it stands above a level between the
medians of the last eight noise peaks and of the last eight beats; nothing within 200 ms of a higher
peak counts; a low peak within 360 ms of a beat is a T wave; when no beat came for 1.5 usual
intervals, the highest peak that was passed over is looked at again with half the threshold.

Everything is decided at a sample, never at the end of a chunk, so chunks of any length give the
same beats. The whole state is two arrays and a ring of passed-over peaks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cuda_kernels.jit import jit_inline

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# Places in the real-valued state.
PEAK, VALLEY, HELD, LAST_HEIGHT, FLOOR, LAST_SHARP = 0, 1, 2, 3, 4, 5
BEATS_AT, NOISE_AT, INTERVALS_AT, LEARNT_AT, SHARP_AT = 8, 16, 24, 32, 40
BEAT_MEDIAN, NOISE_MEDIAN, SHARP_MEDIAN = 48, 49, 50
N_REAL = 51
# Places in the integer state.
NOW, PEAK_AT, HELD_AT, LAST_AT, RISING, N_PASSED, N_INTERVALS, DUE, TRIES, LEARN_UNTIL = range(10)
N_BEATS, N_NOISE, USUAL = 10, 11, 12
N_INTEGER = 13
MEMORY = 8
N_LEARN_PARTS = 4
"""Thresholds start from the median of the highest peaks of this many parts of the learning time."""
PASSED = 64
"""Peaks kept for the second look; older ones are forgotten."""

# Durations in samples, in the order that `timing` of `beat_scan` has them.
REFRACTORY, T_WAVE, LONGEST_PEAK, LEARN, MEMORY_TIME, REACH = 0, 1, 2, 3, 4, 5
THRESHOLD_PART = 0.33
SECOND_LOOK_PART = 0.5
SECOND_LOOK_INTERVALS = 1.5
EARLY_PART = 0.6
"""How much more of that distance the earliest peak must show; none after 0.75 usual intervals."""
BLUNT_PART, BLUNT_HEIGHT_PART = 0.25, 0.8
"""A peak whose steepest slope is less than this part of the usual beat's is a P or T wave, unless
it is nearly as high as a beat (a wide ectopic or paced one)."""
FADE = 0.7
"""After a second look without a beat, the next, half an interval later, asks this much less."""


@jit_inline
def _median8(state: Float64, start: int) -> float:
    ordered = np.sort(state[start : start + MEMORY])
    return float(0.5 * (ordered[3] + ordered[4]))


@jit_inline
def _early_part(since: int, whole: Int64) -> float:
    """How much more a peak must show that comes early: none after 0.75 usual intervals."""
    if whole[USUAL] <= 0:
        return 0.0
    return float(EARLY_PART * max(0.0, 1.0 - since / (0.75 * whole[USUAL])))


@jit_inline
def _threshold(real: Float64, early_part: float) -> float:
    noise = real[NOISE_MEDIAN]
    level = noise + (THRESHOLD_PART + early_part) * (real[BEAT_MEDIAN] - noise)
    return float(max(level, real[FLOOR]))


@jit_inline
def _set_due(real: Float64, whole: Int64) -> None:
    """Say when to look a second time: 1.5 usual intervals after the last beat."""
    if whole[N_INTERVALS] < 2:
        whole[DUE] = -1
        return
    known = min(whole[N_INTERVALS], MEMORY)
    usual = np.median(real[INTERVALS_AT : INTERVALS_AT + known])
    whole[USUAL] = np.int64(usual)
    wait = SECOND_LOOK_INTERVALS + 0.5 * whole[TRIES]
    whole[DUE] = whole[LAST_AT] + np.int64(wait * usual)


@jit_inline
def _accept(
    at: int,
    height: float,
    sharp: float,
    looked_twice: int,
    real: Float64,
    whole: Int64,
    beats: Int64,
    n: int,
) -> int:
    """Take a peak as a beat: write it out, learn its height and interval."""
    if whole[LAST_AT] >= 0:
        real[INTERVALS_AT + whole[N_INTERVALS] % MEMORY] = at - whole[LAST_AT]
        whole[N_INTERVALS] += 1
    real[BEATS_AT + whole[N_BEATS] % MEMORY] = height
    real[SHARP_AT + whole[N_BEATS] % MEMORY] = sharp
    real[BEAT_MEDIAN], real[SHARP_MEDIAN] = _median8(real, BEATS_AT), _median8(real, SHARP_AT)
    whole[N_BEATS] += 1
    whole[LAST_AT] = at
    real[LAST_HEIGHT], real[LAST_SHARP] = height, sharp
    whole[TRIES] = 0
    beats[n, 0], beats[n, 1], beats[n, 2] = at, looked_twice, whole[NOW]
    _set_due(real, whole)
    return n + 1


@jit_inline
def look_again(
    before: int,
    timing: Int64,
    real: Float64,
    whole: Int64,
    passed: Int64,
    heights: Float64,
    sharps: Float64,
    beats: Int64,
    n: int,
) -> int:
    """Take the highest passed-over peak between the last beat and ``before``, if high enough."""
    best = -1
    first = max(0, whole[N_PASSED] - PASSED)
    oldest = max(whole[LAST_AT] + timing[T_WAVE], whole[NOW] - timing[MEMORY_TIME])
    for k in range(first, whole[N_PASSED]):
        slot = k % PASSED
        if oldest <= passed[slot] <= before - timing[REFRACTORY] and (
            best < 0 or heights[slot] > heights[best]
        ):
            best = slot
    asked = SECOND_LOOK_PART * _threshold(real, 0.0) * FADE ** whole[TRIES]
    asked = max(asked, real[FLOOR])
    if best >= 0 and heights[best] > asked:
        return _accept(passed[best], heights[best], sharps[best], 1, real, whole, beats, n)
    whole[TRIES] = min(whole[TRIES] + 1, 6)
    _set_due(real, whole)
    if whole[DUE] >= 0 and whole[DUE] <= before:
        whole[DUE] = before + 1
    return n


@jit_inline
def judge(
    at: int,
    height: float,
    sharp: float,
    timing: Int64,
    real: Float64,
    whole: Int64,
    passed: Int64,
    heights: Float64,
    sharps: Float64,
    beats: Int64,
    n: int,
) -> int:
    """Beat, T wave or noise: what a peak is, once nothing higher can come within 200 ms."""
    since = at - whole[LAST_AT]
    if whole[LAST_AT] >= 0 and since < timing[REFRACTORY]:
        return n
    is_t_wave = (
        whole[LAST_AT] >= 0
        and since < timing[T_WAVE]
        and (height < 0.5 * real[LAST_HEIGHT] or sharp < 0.5 * real[LAST_SHARP])
    )
    asked = _threshold(real, _early_part(since, whole))
    if whole[N_BEATS] >= MEMORY and sharp < BLUNT_PART * real[SHARP_MEDIAN]:
        asked = max(asked, BLUNT_HEIGHT_PART * real[BEAT_MEDIAN])
    if height > asked and not is_t_wave:
        if whole[DUE] >= 0 and at > whole[DUE]:  # a beat may lie hidden before this one
            n = look_again(at, timing, real, whole, passed, heights, sharps, beats, n)
        return _accept(at, height, sharp, 0, real, whole, beats, n)
    slot = whole[N_PASSED] % PASSED
    passed[slot], heights[slot], sharps[slot] = at, height, sharp
    whole[N_PASSED] += 1
    if not is_t_wave:
        real[NOISE_AT + whole[N_NOISE] % MEMORY] = height
        real[NOISE_MEDIAN] = _median8(real, NOISE_AT)
        whole[N_NOISE] += 1
    return n


@jit_inline
def end_learning(
    timing: Int64,
    real: Float64,
    whole: Int64,
    passed: Int64,
    heights: Float64,
    sharps: Float64,
    beats: Int64,
) -> int:
    """Set the thresholds from the learning time, then judge its peaks in their order."""
    highest = np.sort(real[LEARNT_AT : LEARNT_AT + N_LEARN_PARTS])
    usual = np.median(highest[highest > 0.0]) if highest[-1] > 0.0 else 0.0
    for k in range(MEMORY):
        real[BEATS_AT + k], real[NOISE_AT + k] = usual, 0.1 * usual
    real[BEAT_MEDIAN], real[NOISE_MEDIAN] = usual, 0.1 * usual
    whole[LEARN_UNTIL] = -1
    waiting = min(whole[N_PASSED], PASSED)
    at, height, sharp = passed[:waiting].copy(), heights[:waiting].copy(), sharps[:waiting].copy()
    whole[N_PASSED] = 0
    n = 0
    for k in range(waiting):
        n = judge(
            at[k], height[k], sharp[k], timing, real, whole, passed, heights, sharps, beats, n
        )
    return n
