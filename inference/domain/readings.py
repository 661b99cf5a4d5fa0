"""Whether a measured input may be used: present, recent, moving, possible.

Anything else ends in the neutral state: nothing is proposed, nothing is carried forward, and a
technical alarm says which input and why. The default ages follow the practice of open closed-loop
systems (a glucose value older than 12 min or more than 5 min in the future is not used; 45 min
without any change is a stuck sensor).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from inference.domain.care_errors import ReadingError
from inference.domain.population import Range
from inference.domain.quantities import Quantity


class Fault(StrEnum):
    """Why a reading is not used."""

    MISSING = "missing"
    STALE = "stale"
    FUTURE = "future"
    OUT_OF_ORDER = "out of order"
    FLAT = "flat"
    IMPOSSIBLE = "impossible"
    JUMP = "jump"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One measured value; ``measured_at`` is aware UTC."""

    quantity: Quantity
    measured_at: datetime
    device_id: str


@dataclass(frozen=True, kw_only=True)
class ReadingRule:
    """What one input must be like.

    Attributes
    ----------
    possible : what a body or device can show at all; outside is a fault, not a finding
    max_age_s, max_future_s : against the clock at the time of use
    flat_s : no change at all over so long is a stuck sensor; 0 switches it off
    max_change_per_min : in the unit of ``possible``; faster is a jump; 0 switches it off
    """

    field: str
    possible: Range
    max_age_s: float
    max_future_s: float = 5.0
    flat_s: float = 0.0
    max_change_per_min: float = 0.0


@dataclass(frozen=True, kw_only=True)
class UsableInputs:
    """The latest reading of each field, and until when all of them may be used."""

    readings: Mapping[str, Reading]
    valid_until: datetime


@dataclass(frozen=True, kw_only=True)
class TechnicalAlarm:
    """Something about the input or the link, never about the patient."""

    field: str
    kind: str
    problem: str
    raised_at: datetime


@dataclass(frozen=True, kw_only=True)
class Neutral:
    """Nothing is proposed; the device keeps what it does."""

    alarms: tuple[TechnicalAlarm, ...]


def check_readings(readings: Sequence[Reading], rule: ReadingRule, *, now: datetime) -> Reading:
    """Return the latest reading of one field, oldest first in ``readings``.

    Raises
    ------
    ReadingError
        With the `Fault` as ``kind``.
    QuantityError
        A reading in another unit than the rule's.
    """
    if not readings:
        raise _fault(rule, Fault.MISSING, "there is no reading")
    times = [one.measured_at for one in readings]
    if any(late <= early for early, late in itertools.pairwise(times)):
        raise _fault(rule, Fault.OUT_OF_ORDER, "times go back or repeat")
    values = [one.quantity.in_unit(rule.possible.unit, field=rule.field) for one in readings]
    for value in values:
        if not rule.possible.holds(value):
            raise _fault(rule, Fault.IMPOSSIBLE, f"{value:g} is outside {rule.possible}")
    if len({one.device_id for one in readings}) > 1:
        raise _fault(rule, Fault.IMPOSSIBLE, "the readings come from more than one device")
    age_s = (now - times[-1]).total_seconds()
    if age_s > rule.max_age_s:
        raise _fault(rule, Fault.STALE, f"{age_s:g} s old, {rule.max_age_s:g} s allowed")
    if -age_s > rule.max_future_s:
        raise _fault(rule, Fault.FUTURE, f"{-age_s:g} s ahead of the clock")
    _check_flat(times, values, rule)
    _check_jump(times, values, rule)
    return readings[-1]


def check_inputs(
    inputs: Mapping[str, Sequence[Reading]], rules: Sequence[ReadingRule], *, now: datetime
) -> UsableInputs | Neutral:
    """Check every field; one fault is enough for the neutral state, all of them are named."""
    usable: dict[str, Reading] = {}
    alarms: list[TechnicalAlarm] = []
    for rule in rules:
        try:
            usable[rule.field] = check_readings(inputs.get(rule.field, ()), rule, now=now)
        except ReadingError as error:
            alarms.append(
                TechnicalAlarm(
                    field=rule.field, kind=error.kind, problem=error.problem, raised_at=now
                )
            )
    if alarms:
        return Neutral(alarms=tuple(alarms))
    ends = [usable[r.field].measured_at + timedelta(seconds=r.max_age_s) for r in rules]
    return UsableInputs(readings=usable, valid_until=min(ends))


def _check_flat(times: list[datetime], values: list[float], rule: ReadingRule) -> None:
    if rule.flat_s <= 0:
        return
    since = times[-1]
    for moment, value in zip(reversed(times), reversed(values), strict=True):
        if value != values[-1]:
            return
        since = moment
    if (times[-1] - since).total_seconds() >= rule.flat_s:
        raise _fault(rule, Fault.FLAT, f"no change for {rule.flat_s:g} s")


def _check_jump(times: list[datetime], values: list[float], rule: ReadingRule) -> None:
    if rule.max_change_per_min <= 0 or len(values) < 2:
        return
    minutes = (times[-1] - times[-2]).total_seconds() / 60
    change = abs(values[-1] - values[-2])
    if change > rule.max_change_per_min * minutes:
        raise _fault(rule, Fault.JUMP, f"changed by {change:g} within {minutes:g} min")


def _fault(rule: ReadingRule, kind: Fault, problem: str) -> ReadingError:
    return ReadingError(field=rule.field, kind=kind.value, problem=problem)
