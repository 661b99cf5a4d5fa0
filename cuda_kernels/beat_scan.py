"""Find the peaks of a slope envelope and let `cuda_kernels.beat_rules` say which are heart beats.

The scan walks sample by sample and keeps its whole state in arrays, so chunks of any length give
the same beats.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cuda_kernels.beat_rules import (
    DUE,
    FLOOR,
    HELD,
    HELD_AT,
    LAST_AT,
    LAST_HEIGHT,
    LAST_SHARP,
    LEARN,
    LEARN_UNTIL,
    LEARNT_AT,
    LONGEST_PEAK,
    N_BEATS,
    N_INTEGER,
    N_INTERVALS,
    N_LEARN_PARTS,
    N_NOISE,
    N_PASSED,
    N_REAL,
    NOW,
    PASSED,
    PEAK,
    PEAK_AT,
    REACH,
    REFRACTORY,
    RISING,
    TRIES,
    USUAL,
    VALLEY,
    end_learning,
    judge,
    look_again,
)
from cuda_kernels.errors import KernelInputError
from cuda_kernels.jit import jit_serial

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@jit_serial
def _scan_kernel(
    envelope: Float64,
    steepness: Float64,
    timing: Int64,
    real: Float64,
    whole: Int64,
    passed: Int64,
    heights: Float64,
    sharps: Float64,
    ring: Float64,
    beats: Int64,
) -> int:
    n = 0
    now = whole[NOW]
    peak, valley, rising, peak_at = real[PEAK], real[VALLEY], whole[RISING], whole[PEAK_AT]
    held_at = whole[HELD_AT]
    slot_now = now % ring.size
    for k in range(envelope.size):
        e = envelope[k]
        ring[slot_now] = steepness[k]
        slot_now = slot_now + 1 if slot_now + 1 < ring.size else 0
        is_peak = False
        if rising == 1:
            if e > peak:
                peak, peak_at = e, now
            elif e < 0.5 * peak or now - peak_at > timing[LONGEST_PEAK]:
                is_peak, rising, valley = True, 0, e
        elif e < valley:
            valley = e
        elif e > 1.25 * valley:
            rising, peak, peak_at = 1, e, now
        if is_peak and (held_at < 0 or peak > real[HELD]):
            # Nothing within 200 ms of a higher peak counts; a lower one before it is dropped.
            held_at, real[HELD] = peak_at, peak
        if held_at >= 0 and now - held_at >= timing[REFRACTORY]:
            sharp = 0.0
            for back in range(held_at - timing[REACH], held_at + 1):
                sharp = max(sharp, ring[back % ring.size])
            if whole[LEARN_UNTIL] >= 0:
                if whole[N_PASSED] < PASSED:
                    slot = whole[N_PASSED]
                    passed[slot], heights[slot], sharps[slot] = held_at, real[HELD], sharp
                    whole[N_PASSED] += 1
                start = whole[LEARN_UNTIL] - timing[LEARN]
                part = (held_at - start) * N_LEARN_PARTS // timing[LEARN]
                part = min(max(part, 0), N_LEARN_PARTS - 1)
                real[LEARNT_AT + part] = max(real[LEARNT_AT + part], real[HELD])
            else:
                n = judge(
                    held_at,
                    real[HELD],
                    sharp,
                    timing,
                    real,
                    whole,
                    passed,
                    heights,
                    sharps,
                    beats,
                    n,
                )
            held_at = -1
        if whole[LEARN_UNTIL] >= 0 and now >= whole[LEARN_UNTIL]:
            n = end_learning(timing, real, whole, passed, heights, sharps, beats)
        if whole[DUE] >= 0 and now >= whole[DUE] + timing[REFRACTORY]:
            n = look_again(
                now - timing[REFRACTORY], timing, real, whole, passed, heights, sharps, beats, n
            )
        now += 1
        whole[NOW] = now
    real[PEAK], real[VALLEY], whole[RISING], whole[PEAK_AT] = peak, valley, rising, peak_at
    whole[HELD_AT] = held_at
    return n


@jit_serial
def _place_kernel(
    lead: Float64, first: int, decided: Int64, delay: int, reach: int, end: int, out: Int64
) -> int:
    n, last_out = 0, out[0, 0]
    for k in range(decided.shape[0]):
        centre = max(decided[k, 0] - delay, first)
        if centre >= end:
            continue
        # Only samples that had come when the beat was decided, whatever came with them.
        known = min(decided[k, 2], end)
        steepest, anchor, step = -1.0, centre, max(1, reach // 6)
        for sample in range(
            max(centre - 2 * reach, first + step), min(centre + 2 * reach, known - step)
        ):
            slope = abs(lead[sample + step - first] - lead[sample - step - first])
            if slope > steepest:
                steepest, anchor = slope, sample
        begin, stop = max(anchor - reach, first), min(anchor + reach + 1, known)
        if stop <= begin:
            continue
        level = 0.5 * (lead[begin - first] + lead[stop - 1 - first])
        best, at = -1.0, begin
        for sample in range(begin, stop):
            away = abs(lead[sample - first] - level)
            if away > best:
                best, at = away, sample
        if at <= last_out:
            continue
        last_out = at
        out[n, 0], out[n, 1], out[n, 2] = at, decided[k, 1], decided[k, 2]
        n += 1
    return n


def place_beats(
    lead: Float64, first: int, decided: Int64, *, delay: int, reach: int, after: int, end: int
) -> Int64:
    """Move each decided peak to the highest excursion of the lead around its steepest place.

    The steepest place lies within twice ``reach`` of the peak (in the QRS complex, where a low
    complex would otherwise lose to the P wave beside it), the excursion within ``reach`` of that.

    Parameters
    ----------
    lead : (n_samples,)
        The lead from sample ``first`` on.
    first : int
        Number of its first sample.
    decided : (n_beats, 3)
        As `BeatScan.push` returns them.
    delay : int
        How many samples the envelope lags.
    reach : int
        How far the excursion may lie from the peak.
    after, end : int
        Beats at or before ``after``, or at ``end`` or later, are left out.

    Returns
    -------
    (n, 3) of int64
        As ``decided``, with the beat's own sample.
    """
    out = np.empty((len(decided) + 1, 3), np.int64)
    out[0, 0] = after
    return out[: _place_kernel(lead, first, decided, delay, reach, end, out)]


class BeatScan:
    """The scan of one signal: its thresholds, its clock and the peaks it passed over.

    Parameters
    ----------
    sampling_rate_hz : float
        Of the envelope.
    floor : float
        Envelope height below which nothing is a beat, in the envelope's unit.
    reach_s : float
        How far before the envelope's peak the steepest slope of the same wave may lie.
    """

    ARRAYS = ("real", "whole", "passed", "heights", "sharps", "ring")

    def __init__(self, *, sampling_rate_hz: float, floor: float, reach_s: float) -> None:
        seconds = np.array([0.2, 0.36, 0.15, 6.0, 8.0, reach_s])
        self.timing = np.rint(seconds * sampling_rate_hz).astype(np.int64)
        self.real, self.whole = np.zeros(N_REAL), np.zeros(N_INTEGER, np.int64)
        self.passed = np.zeros(PASSED, np.int64)
        self.heights, self.sharps = np.zeros(PASSED), np.zeros(PASSED)
        self.ring = np.zeros(int(2 * self.timing[REFRACTORY] + self.timing[REACH]) + 2)
        self.real[FLOOR] = floor
        self.start(0, learn=True)

    @property
    def learning_ends_at(self) -> int:
        """The sample at which learning ends, -1 when it has."""
        return int(self.whole[LEARN_UNTIL])

    def start(self, at: int, *, learn: bool) -> None:
        """Begin at sample ``at`` after a gap: nothing before it is an interval or a peak.

        With ``learn`` the thresholds are learnt anew, as at the start of a signal.
        """
        self.whole[[HELD_AT, LAST_AT, DUE]] = -1
        self.whole[[RISING, N_PASSED, N_INTERVALS, TRIES, USUAL]] = 0
        self.real[[PEAK, VALLEY, HELD, LAST_HEIGHT, LAST_SHARP]] = 0.0
        self.ring[:] = 0.0
        self.whole[NOW] = at
        if learn:
            self.whole[[N_BEATS, N_NOISE]] = 0
            self.real[LEARNT_AT : LEARNT_AT + N_LEARN_PARTS] = 0.0
            self.whole[LEARN_UNTIL] = at + self.timing[LEARN]

    def push(self, envelope: Float64, steepness: Float64) -> Int64:
        """Scan the next chunk of the envelope, with the lead's own slope at the same samples.

        Returns
        -------
        (n_beats, 3) of int64
            Sample of the envelope's peak, 1 where it was found at a second look, and the sample at
            which it was decided; in the order of time.

        Raises
        ------
        KernelInputError
            The two are not float64 (n,) of one length.
        """
        for array in (envelope, steepness):
            if array.shape != (len(envelope),) or array.dtype != np.float64:
                raise KernelInputError(f"{array.dtype} {array.shape} is not float64 (n,)")
        # Decided beats lie at least the refractory time apart; those of the learning time come
        # at once, and those of a second look may have waited for as long as peaks are kept.
        most = len(envelope) // int(self.timing[REFRACTORY]) + 2 * PASSED
        beats = np.zeros((most, 3), np.int64)
        n = _scan_kernel(
            envelope,
            steepness,
            self.timing,
            self.real,
            self.whole,
            self.passed,
            self.heights,
            self.sharps,
            self.ring,
            beats,
        )
        return beats[:n]
