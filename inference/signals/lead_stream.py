"""One ECG lead as it streams: beats and quality together, with one state for both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.signals.beats import Beat, BeatStream
from inference.signals.quality import WINDOW_S, QualityWindow, assess
from inference.signals.state import from_bytes, nested, to_bytes, under
from inference.signals.windows import Windows

Float64 = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class LeadResults:
    """What one chunk brought out."""

    beats: tuple[Beat, ...]
    windows: tuple[QualityWindow, ...]


class LeadStream:
    """Push a lead in chunks of any length; the results are those of the whole at once.

    Parameters
    ----------
    sampling_rate_hz : float
        100 to 5000 Hz.
    rails_mv : (low, high), optional
        What the recorder can store, for the state ``saturated``.
    """

    def __init__(
        self, sampling_rate_hz: float, *, rails_mv: tuple[float, float] | None = None
    ) -> None:
        self.rate_hz, self._rails_mv = sampling_rate_hz, rails_mv
        self._beats = BeatStream(sampling_rate_hz)
        length = round(WINDOW_S * sampling_rate_hz)
        self._windows = Windows(length=length, hop=length)

    def push(self, samples_mv: Float64) -> LeadResults:
        """Take the next samples in mV, float64; NaN is a missing sample."""
        windows = [self._assess(*window) for window in self._windows.push(samples_mv)]
        return LeadResults(beats=tuple(self._beats.push(samples_mv)), windows=tuple(windows))

    def end(self) -> LeadResults:
        """Bring out what is open at the end of a record."""
        last = self._windows.end()
        windows = () if last is None else (self._assess(*last),)
        return LeadResults(beats=tuple(self._beats.end()), windows=windows)

    def _assess(self, first: int, window: Float64) -> QualityWindow:
        return assess(
            window, first_sample=first, sampling_rate_hz=self.rate_hz, rails_mv=self._rails_mv
        )

    def save(self) -> bytes:
        """Return the whole state; `load` into a new stream of the same rate goes on from it."""
        state = nested("beats", self._beats.state()) | nested("windows", self._windows.state())
        return to_bytes(state)

    def load(self, stored: bytes) -> None:
        """Go on from what `save` returned.

        Raises
        ------
        StreamStateError
            The bytes are damaged or of another version.
        RefusedError
            They are of a stream of another rate.
        """
        state = from_bytes(stored)
        self._beats.restore(under("beats", state))
        self._windows.restore(under("windows", state))
