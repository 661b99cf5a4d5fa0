"""How fast suggestions may change: one step per interval, and no swinging to and fro."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from inference.domain.care_errors import StepError
from inference.domain.limits import BoundLimit

MAX_TURNS = 2
"""Changes of direction within the window that are still accepted; a third is an oscillation."""


@dataclass(frozen=True, kw_only=True)
class PastValue:
    """What was in force from ``at`` on, in the limit's unit."""

    at: datetime
    value: float


def check_step(
    new_value: float,
    past: Sequence[PastValue],
    limit: BoundLimit,
    *,
    now: datetime,
    window_s: float = 3600.0,
) -> None:
    """Refuse a step that is too large, or one more turn of an oscillation.

    Parameters
    ----------
    new_value : in the limit's unit
    past : oldest first; the changes within ``window_s`` before ``now`` are looked at

    Raises
    ------
    StepError
        Too large for the interval, swinging, or the clock went back.
    """
    recent = [one for one in past if (now - one.at).total_seconds() <= window_s]
    if any(one.at > now for one in recent):
        raise StepError(parameter=limit.parameter, problem="a past value lies after the clock")
    if limit.max_step is not None and limit.step_interval_s is not None:
        inside = [r.value for r in recent if (now - r.at).total_seconds() < limit.step_interval_s]
        before = [r.value for r in past if (now - r.at).total_seconds() >= limit.step_interval_s]
        for value in inside + before[-1:]:
            if abs(new_value - value) > limit.max_step:
                raise StepError(
                    parameter=limit.parameter,
                    problem=f"from {value:g} to {new_value:g} {limit.unit} within"
                    f" {limit.step_interval_s:g} s is more than {limit.max_step:g}",
                )
    values = [*(one.value for one in recent), new_value]
    changes = [b - a for a, b in itertools.pairwise(values) if b != a]
    turns = sum((a > 0) != (b > 0) for a, b in itertools.pairwise(changes))
    if turns > MAX_TURNS:
        raise StepError(
            parameter=limit.parameter,
            problem=f"{turns} changes of direction within {window_s:g} s: oscillation",
        )
