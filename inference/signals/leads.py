"""Are the limb leads what they are called? Einthoven's law, swapped arms, a lead upside down."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dicom_io.recording import Channel, Recording
from dicom_io.signal_units import MILLIVOLTS

Float64 = NDArray[np.float64]

EINTHOVEN_MV, EINTHOVEN_PART = 0.05, 0.25
"""How far I + III may vary around II (standard deviation), in mV and as a part of II's own."""
BEFORE_S, AFTER_S = 0.3, 0.45
MANY_BEATS = 40
"""The usual beat is the median of this many, spread over the record."""
UPRIGHT_LEADS = frozenset({"i", "ii", "mlii", "v4", "v5", "v6"})
"""Leads in which P, QRS and T all point up in most people; all three down is a lead upside down or
swapped, or a heart on the right: in either case a person looks first."""


def lead_reasons(recording: Recording, beats_s: list[float]) -> list[str]:
    """Return why the leads cannot be what their names say; empty where they can."""
    leads = {
        channel.name.casefold(): channel
        for channel in recording.channels
        if channel.unit in MILLIVOLTS and not channel.is_missing.all()
    }
    reasons = _einthoven(leads)
    if not reasons and beats_s:
        reasons = _arms(leads, beats_s) or _upside_down(leads, beats_s)
    return reasons


def _einthoven(leads: dict[str, Channel]) -> list[str]:
    if not {"i", "ii", "iii"} <= leads.keys():
        return []
    one, two, three = (
        leads[name].samples * MILLIVOLTS[leads[name].unit] for name in ("i", "ii", "iii")
    )
    if not len(one) == len(two) == len(three):
        return []
    rest = one + three - two
    away_mv, size_mv = float(np.nanstd(rest)), float(np.nanstd(two))
    if away_mv <= max(EINTHOVEN_MV, EINTHOVEN_PART * size_mv):
        return []
    return [
        f"leads: I + III is not II ({away_mv:.2f} mV apart); limb leads are swapped or misnamed"
    ]


def _usual_beat(channel: Channel, beats_s: list[float]) -> Float64 | None:
    """Return the median of many beats less its level, (n_samples,) in mV; the beat is at 0.3 s."""
    rate_hz = channel.sampling_rate_hz
    before, after = round(BEFORE_S * rate_hz), round(AFTER_S * rate_hz)
    at = np.rint(np.array(beats_s[:: max(1, len(beats_s) // MANY_BEATS)]) * rate_hz).astype(int)
    at = at[(at >= before) & (at + after < len(channel.samples))]
    if len(at) < 3:
        return None
    beats = np.array([channel.samples[k - before : k + after] for k in at])
    beats = beats[np.isfinite(beats).all(axis=1)]
    if len(beats) < 3:
        return None
    usual = np.median(beats - np.median(beats, axis=1, keepdims=True), axis=0)
    return np.asarray(usual * MILLIVOLTS[channel.unit], np.float64)


def _directions(channel: Channel, beats_s: list[float]) -> tuple[float, float, float] | None:
    """Return the extremes of P, QRS and T in the usual beat, in mV; positive points up."""
    usual = _usual_beat(channel, beats_s)
    if usual is None:
        return None
    rate_hz = channel.sampling_rate_hz

    def extreme(first_s: float, last_s: float) -> float:
        part = usual[round((BEFORE_S + first_s) * rate_hz) : round((BEFORE_S + last_s) * rate_hz)]
        return float(part.max() if part.max() >= -part.min() else part.min())

    return extreme(-0.22, -0.07), extreme(-0.06, 0.06), extreme(0.14, 0.42)


def _arms(leads: dict[str, Channel], beats_s: list[float]) -> list[str]:
    if not {"i", "avr"} <= leads.keys():
        return []
    one, right = (_directions(leads[name], beats_s) for name in ("i", "avr"))
    if one is None or right is None:
        return []
    if one[0] < -0.03 and one[1] < 0 and right[0] > 0.03 and right[1] > 0:
        return ["leads: P and QRS point down in I and up in aVR; the arm leads are swapped, or the "
                "heart lies on the right"]  # fmt: skip
    return []


def _upside_down(leads: dict[str, Channel], beats_s: list[float]) -> list[str]:
    for name, channel in leads.items():
        if name not in UPRIGHT_LEADS:
            continue
        found = _directions(channel, beats_s)
        if found is not None and found[0] < -0.04 and found[1] < -0.2 and found[2] < -0.1:
            return [f"polarity: P, QRS and T all point down in {channel.name}; the lead is upside "
                    "down or swapped"]  # fmt: skip
    return []
