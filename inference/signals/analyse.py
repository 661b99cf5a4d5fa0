"""One recording through the stream: which lead, its beats, its quality, and whether to abstain.

A record is analysed by the very code that a stream goes through. Where the signal cannot be
trusted the result abstains: it says why, and gives no intervals.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from dicom_io.recording import Channel, Recording
from dicom_io.signal_units import MILLIVOLTS
from inference.domain.errors import RefusedError
from inference.signals.beats import Beat
from inference.signals.lead_stream import LeadStream
from inference.signals.leads import lead_reasons
from inference.signals.quality import QualityWindow

PREFERRED_LEADS = ("ii", "mlii", "i", "v5", "v2", "v4", "v6", "v3", "v1", "iii", "avf")
"""Leads in which QRS complexes usually stand out, best first; otherwise the first ECG channel."""
USABLE_PART = 0.5
"""Fewer usable windows than this, and the result abstains."""
ECG_RANGE_MV = 50.0
"""An ECG channel with a larger median deviation is in another unit than its header says."""


@dataclass(frozen=True, kw_only=True)
class SignalResult:
    """What was made of one lead; ``reasons`` is empty unless the result abstains."""

    recording: Recording
    lead: Channel
    beats: tuple[Beat, ...]
    windows: tuple[QualityWindow, ...]
    reasons: tuple[str, ...]

    @property
    def status(self) -> str:
        """``done`` or ``abstained``."""
        return "abstained" if self.reasons else "done"

    def trusted_beats(self) -> tuple[Beat, ...]:
        """Return the beats in windows that can be used; intervals are taken from these."""
        bad = [window for window in self.windows if window.grade == "unusable"]
        return tuple(
            beat
            for beat in self.beats
            if not any(w.first_sample <= beat.sample < w.first_sample + w.n_samples for w in bad)
        )


def choose_lead(recording: Recording, name: str | None = None) -> Channel:
    """Return the named channel, or the ECG lead best suited to finding beats.

    Raises
    ------
    RefusedError
        No channel is in volts, or the named one is not.
    """
    volts = [channel for channel in recording.channels if channel.unit in MILLIVOLTS]
    if name is not None:
        channel = recording.channel(name)
        if channel.unit not in MILLIVOLTS:
            raise RefusedError(
                f"{recording.record}: channel {channel.name} is in {channel.unit}; beats are "
                "found in an ECG lead, in V, mV, uV or nV"
            )
        return channel
    if not volts:
        units = ", ".join(f"{channel.name} in {channel.unit}" for channel in recording.channels)
        raise RefusedError(f"{recording.record}: no ECG lead in V, mV, uV or nV; there is {units}")
    by_name = {channel.name.casefold().removeprefix("ecg ").strip(): channel for channel in volts}
    for preferred in PREFERRED_LEADS:
        if preferred in by_name:
            return by_name[preferred]
    return volts[0]


def analyse(recording: Recording, *, lead: str | None = None) -> SignalResult:
    """Find and measure the beats of one lead, and say how far it can be trusted.

    Raises
    ------
    RefusedError
        There is no ECG lead, or its rate is not one that beats are looked for at.
    """
    channel = choose_lead(recording, lead)
    to_mv = MILLIVOLTS[channel.unit]
    rails_mv = (
        None if channel.rails is None else (channel.rails[0] * to_mv, channel.rails[1] * to_mv)
    )
    stream = LeadStream(channel.sampling_rate_hz, rails_mv=rails_mv)
    samples_mv = channel.samples * to_mv
    results = [stream.push(samples_mv), stream.end()]
    beats = tuple(beat for part in results for beat in part.beats)
    windows = tuple(window for part in results for window in part.windows)
    return SignalResult(
        recording=recording,
        lead=channel,
        beats=beats,
        windows=windows,
        reasons=tuple(_reasons(recording, channel, beats, windows)),
    )


def _reasons(
    recording: Recording,
    channel: Channel,
    beats: tuple[Beat, ...],
    windows: tuple[QualityWindow, ...],
) -> list[str]:
    """Return why no result can be given; empty when one can."""
    if channel.is_missing.all():
        return ["missing: the lead holds no sample"]
    if not windows:
        return [f"short: {channel.duration_s:.1f} s; 5 s are needed"]
    deviation_mv = float(np.nanmedian(np.abs(channel.samples))) * MILLIVOLTS[channel.unit]
    if deviation_mv > ECG_RANGE_MV:
        return [f"unit: the lead's usual value is {deviation_mv:.0f} mV; check its unit and gain"]
    unusable = [window for window in windows if window.grade == "unusable"]
    if len(unusable) > (1.0 - USABLE_PART) * len(windows):
        states = Counter(state for window in unusable for state in window.states)
        named = ", ".join(f"{state} in {count}" for state, count in states.most_common())
        return [f"quality: {len(unusable)} of {len(windows)} windows are unusable ({named})"]
    if not beats:
        return ["beats: none found; look at the strip and at the patient"]
    return lead_reasons(recording, [beat.sample / channel.sampling_rate_hz for beat in beats])
