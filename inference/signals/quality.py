"""How far a window of a signal can be trusted: technical states, and a grade that follows.

States are about the signal path (electrode, cable, amplifier), never about the patient. A window
with a state that hides the heart beat is unusable, and a result abstains when most windows are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Grade = Literal["good", "poor", "unusable"]

WINDOW_S = 10.0
FLAT_RANGE_MV = 0.02
"""A window that moves less than this is flat; an asystole on a patient still moves more, as noise
and breathing do."""
HELD_S = 0.2
"""A value held exactly for this long is not biology."""
RAIL_HELD_S = 0.02
MAINS_HZ = (50.0, 60.0)
LIMITS = {
    "missing": 0.1, "held": 0.5, "saturated": 0.02, "lead_off": 0.5, "mains": 0.5, "muscle": 0.5,
    "baseline": 0.95,
}  # fmt: skip
"""Parts of a window (of its samples, or of its power) above which the state is set. Chosen here on
built signals and the records that the tests name; not clinical limits."""


@dataclass(frozen=True, kw_only=True)
class QualityWindow:
    """One window: its place, its states, its grade and the figures behind them."""

    first_sample: int
    n_samples: int
    grade: Grade
    states: tuple[str, ...]
    figures: dict[str, float]


def assess(
    samples_mv: Float64,
    *,
    first_sample: int,
    sampling_rate_hz: float,
    rails_mv: tuple[float, float] | None,
) -> QualityWindow:
    """Assess one window of an ECG lead.

    Parameters
    ----------
    samples_mv : (n_samples,)
        The window in mV; NaN where missing.
    first_sample : int
        Its place in the stream.
    sampling_rate_hz : float
        Of the window.
    rails_mv : (low, high), optional
        What the recorder can store; without it, a value held at the window's own extreme counts.

    Returns
    -------
    QualityWindow
        States: ``missing``, ``lead_off``, ``flat_line``, ``saturated``, ``mains``, ``muscle``,
        ``baseline``. The last two make the window poor, the others unusable.
    """
    there = samples_mv[np.isfinite(samples_mv)]
    figures = {"missing": 1.0 - len(there) / len(samples_mv)}
    states: list[str] = []
    if figures["missing"] > LIMITS["missing"]:
        states.append("missing")
    if len(there) < 0.5 * len(samples_mv):
        states.append("lead_off")
    else:
        figures["range_mv"] = float(there.max() - there.min())
        figures["held"] = _held_part(there, max(2, round(HELD_S * sampling_rate_hz)))
        figures["saturated"] = _saturated_part(there, sampling_rate_hz, rails_mv)
        figures |= _power_parts(there, sampling_rate_hz)
        states += _states(figures)
    unusable = {"missing", "lead_off", "flat_line", "saturated", "mains"} & set(states)
    return QualityWindow(
        first_sample=first_sample,
        n_samples=len(samples_mv),
        grade="unusable" if unusable else "poor" if states else "good",
        states=tuple(states),
        figures=figures,
    )


def _states(figures: dict[str, float]) -> list[str]:
    if figures["saturated"] > LIMITS["lead_off"]:
        return ["saturated", "lead_off"]
    if figures["range_mv"] < FLAT_RANGE_MV or figures["held"] > LIMITS["held"]:
        return ["flat_line"]
    return [
        name
        for name in ("saturated", "mains", "muscle", "baseline")
        if figures[name] > LIMITS[name]
    ]


def _held_part(samples: Float64, shortest: int) -> float:
    """Return the part of the samples that lie in runs of one value of at least ``shortest``."""
    edges = np.flatnonzero(np.diff(samples)) + 1
    runs = np.diff(np.concatenate([[0], edges, [len(samples)]]))
    return float(runs[runs >= shortest].sum() / len(samples))


def _saturated_part(
    samples: Float64, rate_hz: float, rails_mv: tuple[float, float] | None
) -> float:
    if rails_mv is not None:
        return float(np.mean((samples <= rails_mv[0]) | (samples >= rails_mv[1])))
    total = 0.0
    shortest = max(3, round(RAIL_HELD_S * rate_hz))
    for extreme in (samples.min(), samples.max()):
        at = samples == extreme
        edges = np.flatnonzero(np.diff(at)) + 1
        bounds = np.concatenate([[0], edges, [len(at)]])
        runs = np.diff(bounds)[at[bounds[:-1]]]
        total += float(runs[runs >= shortest].sum())
    return total / len(samples)


def _power_parts(samples: Float64, rate_hz: float) -> dict[str, float]:
    """Return the parts of the power that are mains, muscle and baseline."""
    power = np.abs(np.fft.rfft((samples - samples.mean()) * np.hanning(len(samples)))) ** 2
    hz = np.fft.rfftfreq(len(samples), 1.0 / rate_hz)
    total = float(power[1:].sum())
    if total <= 0.0:
        return {"mains": 0.0, "muscle": 0.0, "baseline": 0.0}
    is_mains = np.zeros(len(hz), bool)
    for mains in MAINS_HZ:
        is_mains |= np.abs(hz - mains) <= 1.0
    above_1 = float(power[hz >= 1.0].sum())
    return {
        "mains": float(power[is_mains].sum()) / max(above_1, 1e-300),
        "muscle": float(power[(hz > 35.0) & ~is_mains].sum()) / max(above_1, 1e-300),
        "baseline": float(power[(hz > 0.0) & (hz < 1.0)].sum()) / total,
    }
