"""Find heart beats in one ECG lead as it streams.

Band-pass (6 to 15 Hz, where QRS complexes stand out most from muscle noise and baseline), mean
slope over 120 ms, adaptive thresholds (`cuda_kernels.beat_scan`), then the place of the beat: the
highest excursion of the lead itself within 50 ms of its steepest place. Chunks of any length give
the same beats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import signal as design

from cuda_kernels.beat_scan import BeatScan, place_beats
from cuda_kernels.slope_envelope import DERIVATIVE_DELAY_SAMPLES, slope_envelope
from cuda_kernels.sos_filter import sos_filter
from inference.domain.errors import RefusedError
from inference.signals.history import History
from inference.signals.state import State, nested, under

Float64 = NDArray[np.float64]

BAND_HZ = (6.0, 15.0)
WINDOW_S = 0.12
LOWEST_SLOPE_MV_PER_S = 1.2
"""Mean slope below which nothing is a beat: that of a QRS complex of 0.1 mV. IEC 60601-2-27 asks
monitors not to count complexes of 0.15 mV or less."""
STEEP_S = 0.02
"""The lead's own slope is averaged over this long, to tell a QRS complex from a T or P wave."""
PLACE_S = 0.05
HISTORY_S = 16.0
RELEARN_AFTER_S = 10.0
"""A gap longer than this ends what was learnt about the signal's height."""
RATES_HZ = (100.0, 5000.0)
BLOCK_SAMPLES = 1 << 13
"""Long chunks are worked through in blocks, so that memory stays small."""


@dataclass(frozen=True, kw_only=True)
class FoundBeat:
    """One beat: its sample since the start, and the sample at which it was decided."""

    sample: int
    decided_at: int
    looked_twice: bool


class BeatDetector:
    """Beats of one lead; feed it chunks in order with `push`, gaps with `gap`, the end with `end`.

    Parameters
    ----------
    sampling_rate_hz : float
        100 to 5000 Hz.

    Raises
    ------
    RefusedError
        The rate is outside.
    """

    block = BLOCK_SAMPLES

    def __init__(self, sampling_rate_hz: float) -> None:
        low, high = RATES_HZ
        if not low <= sampling_rate_hz <= high:
            raise RefusedError(
                f"sampling rate {sampling_rate_hz:g} Hz: beats are looked for at {low:g} to "
                f"{high:g} Hz; resample the lead"
            )
        self.rate_hz = sampling_rate_hz
        self._sos = design.butter(2, BAND_HZ, btype="band", fs=sampling_rate_hz, output="sos")
        self._window = max(1, round(WINDOW_S * sampling_rate_hz))
        self._lead_window = max(1, round(STEEP_S * sampling_rate_hz))
        centre_hz = float(np.sqrt(BAND_HZ[0] * BAND_HZ[1]))
        _, delay = design.group_delay(design.sos2tf(self._sos), w=[centre_hz], fs=sampling_rate_hz)
        self._delay = round(float(delay[0])) + DERIVATIVE_DELAY_SAMPLES + self._window // 2
        self._scan = BeatScan(
            sampling_rate_hz=sampling_rate_hz,
            floor=LOWEST_SLOPE_MV_PER_S / sampling_rate_hz,
            reach_s=(self._delay + self._window // 2) / sampling_rate_hz,
        )
        self.history = History(round(HISTORY_S * sampling_rate_hz) + BLOCK_SAMPLES)
        self._last_sample = -1
        self._gap_began_at = -1
        self._start_filters(0, learn=True)

    @property
    def now(self) -> int:
        """Number of samples that have come, missing ones included."""
        return self.history.end

    def _start_filters(self, at: int, *, learn: bool) -> None:
        self._filter = np.zeros((len(self._sos), 2))
        self._memory, self._ring = np.zeros(5), np.zeros(self._window)
        self._place = np.zeros(1, np.int64)
        self._lead_memory, self._lead_ring = np.zeros(5), np.zeros(self._lead_window)
        self._lead_place = np.zeros(1, np.int64)
        self._first: float | None = None
        self.history.restart(at)
        self._scan.start(at, learn=learn)

    def push(self, samples_mv: Float64) -> list[FoundBeat]:
        """Take the next samples, all finite; return the beats that are decided by now."""
        found: list[FoundBeat] = []
        for start in range(0, len(samples_mv), self.block):
            block = samples_mv[start : start + self.block]
            if self._first is None:
                self._first = float(block[0])
            self.history.push(block)
            found += self._placed(self._scanned(block))
        return found

    def gap(self, n_missing: int) -> list[FoundBeat]:
        """Take missing samples: decide what is open, then start anew behind the gap.

        Returns the beats that were still open when the gap began.
        """
        found = self.end() if self._first is not None else []
        at = self.now
        if self._gap_began_at < 0:
            self._gap_began_at = at
        at += n_missing
        is_long = at - self._gap_began_at > RELEARN_AFTER_S * self.rate_hz
        still_learning = self._scan.learning_ends_at >= 0
        self._start_filters(at, learn=is_long or still_learning)
        return found

    def end(self) -> list[FoundBeat]:
        """Decide the beats still open, as if the last sample went on; a gap or the end follows."""
        if self._first is None:
            return []
        last = self.history.between(self.now - 1, self.now)
        wait = max(self._scan.learning_ends_at - self.now, 0) + round(self.rate_hz)
        held = np.full(wait, last[0])
        return self._placed(self._scanned(held))

    def _scanned(self, block: Float64) -> NDArray[np.int64]:
        """Return the peaks that are decided by the end of this block."""
        self._gap_began_at = -1
        assert self._first is not None
        lead = block - self._first
        filtered = sos_filter(self._sos, lead, self._filter)
        envelope = slope_envelope(filtered, self._memory, self._ring, self._place)
        steepness = slope_envelope(lead, self._lead_memory, self._lead_ring, self._lead_place)
        return self._scan.push(envelope, steepness)

    def _placed(self, decided: NDArray[np.int64]) -> list[FoundBeat]:
        """Move each decided peak to the highest excursion of the lead near it."""
        placed = place_beats(
            self.history.view(),
            self.history.begin,
            decided,
            delay=self._delay,
            reach=round(PLACE_S * self.rate_hz),
            after=self._last_sample,
            end=self.now,
        ).tolist()
        if placed:
            self._last_sample = placed[-1][0]
        return [
            FoundBeat(sample=sample, decided_at=decided_at, looked_twice=bool(looked_twice))
            for sample, looked_twice, decided_at in placed
        ]

    def state(self) -> State:
        """Return what a restart needs to go on with the very same beats."""
        first = np.nan if self._first is None else self._first
        scalars = np.array([first, self._last_sample, self._gap_began_at, self.rate_hz])
        return {
            "scalars": scalars,
            "filter": self._filter.copy(),
            "memory": self._memory.copy(),
            "ring": self._ring.copy(),
            "place": self._place.copy(),
            "lead_memory": self._lead_memory.copy(),
            "lead_ring": self._lead_ring.copy(),
            "lead_place": self._lead_place.copy(),
            **nested("scan", {k: getattr(self._scan, k).copy() for k in BeatScan.ARRAYS}),
            **nested("history", self.history.state(round(HISTORY_S * self.rate_hz))),
        }

    def restore(self, state: State) -> None:
        """Go on from a state of a detector of the same rate."""
        first, last, gap, _ = state["scalars"].tolist()
        self._first = None if np.isnan(first) else first
        self._last_sample, self._gap_began_at = int(last), int(gap)
        self._filter, self._memory = state["filter"], state["memory"]
        self._ring, self._place = state["ring"], state["place"]
        self._lead_memory, self._lead_ring = state["lead_memory"], state["lead_ring"]
        self._lead_place = state["lead_place"]
        for name, array in under("scan", state).items():
            setattr(self._scan, name, array)
        self.history.restore(under("history", state))
