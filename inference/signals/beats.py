"""Beats of one ECG lead with what is measured on each: RR, amplitude, QRS width, PR, QT, QTc."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cuda_kernels.delineate import (
    P_ONSET,
    QRS_OFFSET,
    QRS_ONSET,
    T_OFFSET,
    delineate,
)
from inference.domain.errors import RefusedError
from inference.signals.detector import BeatDetector, FoundBeat
from inference.signals.intervals import QT_RANGE_MS, RR_RANGE_S, corrected_qt_ms
from inference.signals.state import State, nested, under

Float64 = NDArray[np.float64]

BEFORE_S, AFTER_S = 0.4, 0.7
"""The part of the lead that a beat is measured on."""


@dataclass(frozen=True, kw_only=True)
class Beat:
    """One beat; a quantity that could not be measured is None, never zero.

    ``sample`` counts from the start of the stream. ``rr_ms`` is the interval from the beat before,
    None for the first and after a gap. ``amplitude_mv`` is the lead at the beat less its level just
    before the QRS complex. ``qtc_ms`` has the four corrections of `corrected_qt_ms`.
    """

    sample: int
    time_s: float
    looked_twice: bool
    rr_ms: float | None
    amplitude_mv: float | None
    qrs_ms: float | None
    pr_ms: float | None
    qt_ms: float | None
    qtc_ms: dict[str, float] | None


class BeatStream:
    """Detect and measure beats of one lead as it streams; gaps are NaN samples.

    A beat comes out 0.7 s after it happened, or when it was decided if that is later; the end of
    the stream and every gap bring out what is open. Results do not depend on how the signal is cut.
    """

    def __init__(self, sampling_rate_hz: float) -> None:
        self.rate_hz = sampling_rate_hz
        self.detector = BeatDetector(sampling_rate_hz)
        self._open: list[FoundBeat] = []
        self._before = -1
        """The beat before the first open one, -1 after a gap."""

    @property
    def now(self) -> int:
        """Number of samples that have come."""
        return self.detector.now

    def push(self, samples_mv: Float64) -> list[Beat]:
        """Take the next samples in mV; NaN is a missing sample."""
        beats: list[Beat] = []
        is_missing = np.isnan(samples_mv)
        edges = np.flatnonzero(is_missing[1:] != is_missing[:-1]) + 1
        bounds = [0, *edges.tolist(), len(samples_mv)]
        for first, last in pairwise(bounds):
            if first == last:
                continue
            if is_missing[first]:
                beats += self._gap(last - first)
                continue
            step = self.detector.block  # the history reaches back from the end of a block
            for start in range(first, last, step):
                self._open += self.detector.push(samples_mv[start : min(start + step, last)])
                beats += self._measured(all_open=False)
        return beats

    def end(self) -> list[Beat]:
        """Bring out the beats still open at the end of a record."""
        self._open += self.detector.end()
        return self._measured(all_open=True)

    def _gap(self, n_missing: int) -> list[Beat]:
        self._open += self.detector.end()
        beats = self._measured(all_open=True)
        self._before = -1
        self.detector.gap(n_missing)
        return beats

    def _measured(self, *, all_open: bool) -> list[Beat]:
        """Measure the open beats whose part of the lead is complete."""
        beats = []
        wait = round(AFTER_S * self.rate_hz)
        while self._open and (all_open or self._open[0].sample + wait < self.now):
            found = self._open.pop(0)
            beats.append(self._measure(found))
            self._before = found.sample
        return beats

    def _measure(self, found: FoundBeat) -> Beat:
        """Measure one beat on 0.4 s before to 0.7 s after it, cut at gaps and ends."""
        history = self.detector.history
        first = max(found.sample - round(BEFORE_S * self.rate_hz), history.begin)
        excerpt = history.between(first, found.sample + round(AFTER_S * self.rate_hz) + 1)
        rr_s = None if self._before < 0 else (found.sample - self._before) / self.rate_hz
        at = found.sample - first
        waves = delineate(
            excerpt, at, sampling_rate_hz=self.rate_hz, rr_s=1.0 if rr_s is None else rr_s
        ).tolist()
        onset = waves[QRS_ONSET]
        qt_ms = self._span_ms(onset, waves[T_OFFSET])
        if qt_ms is not None and not QT_RANGE_MS[0] <= qt_ms <= QT_RANGE_MS[1]:
            qt_ms = None
        return Beat(
            sample=found.sample,
            time_s=found.sample / self.rate_hz,
            looked_twice=found.looked_twice,
            rr_ms=None if rr_s is None else rr_s * 1000.0,
            amplitude_mv=float(excerpt[at] - excerpt[onset]) if onset >= 0 else None,
            qrs_ms=self._span_ms(onset, waves[QRS_OFFSET]),
            pr_ms=self._span_ms(waves[P_ONSET], onset),
            qt_ms=qt_ms,
            qtc_ms=_qtc_or_none(qt_ms, rr_s),
        )

    def _span_ms(self, first: int, last: int) -> float | None:
        return None if first < 0 or last < 0 else (last - first) / self.rate_hz * 1000.0

    def state(self) -> State:
        """Return what a restart needs."""
        rows = [[beat.sample, beat.decided_at, int(beat.looked_twice)] for beat in self._open]
        return {
            "open": np.array(rows, np.int64).reshape(-1, 3),
            "before": np.array(self._before),
            **nested("detector", self.detector.state()),
        }

    def restore(self, state: State) -> None:
        """Go on from the state of a stream of the same rate.

        Raises
        ------
        RefusedError
            The state is that of another rate.
        """
        detector = under("detector", state)
        if float(detector["scalars"][3]) != self.rate_hz:
            raise RefusedError(
                f"stream state: sampling rate {detector['scalars'][3]:g} Hz, this stream has "
                f"{self.rate_hz:g} Hz; start the stream anew"
            )
        self.detector.restore(detector)
        self._open = [
            FoundBeat(sample=sample, decided_at=decided_at, looked_twice=bool(twice))
            for sample, decided_at, twice in state["open"].tolist()
        ]
        self._before = int(state["before"])


def _qtc_or_none(qt_ms: float | None, rr_s: float | None) -> dict[str, float] | None:
    if qt_ms is None or rr_s is None or not RR_RANGE_S[0] <= rr_s <= RR_RANGE_S[1]:
        return None
    return corrected_qt_ms(qt_ms, rr_s)
