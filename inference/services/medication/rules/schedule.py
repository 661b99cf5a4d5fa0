"""When a dose is due: calendar rules, interval doses in UTC, time-of-day doses in local time.

"Every 8 hours" is eight real hours, across a change of the clocks and across time zones. "At 08:00"
is eight o'clock where the patient is. Mixing them up gives a seven- or nine-hour gap once a year.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dateutil.rrule import rrulestr

from inference.domain.care_errors import PopulationError

MAX_OCCURRENCES = 10_000
HOURS_IN_UNIT = MappingProxyType({"s": 1 / 3600, "min": 1 / 60, "h": 1.0})
FORMULA = "FHIR R4 Timing"


def zone(name: str) -> ZoneInfo:
    """Return a time zone by its IANA name.

    Raises
    ------
    PopulationError
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise PopulationError(
            formula="time zone", field="zone", value=name, studied="an IANA name"
        ) from error


def expand_rule(start: datetime, rule: str) -> tuple[datetime, ...]:
    """Return the occurrences of an RFC 5545 recurrence rule.

    Parameters
    ----------
    start : aware, in the patient's zone; UNTIL in UTC is compared as the moment it is

    Raises
    ------
    PopulationError
        No rule, no end (neither COUNT nor UNTIL), or more than 10,000 occurrences.
    """
    if start.tzinfo is None:
        raise PopulationError(
            formula="RFC 5545", field="start", value=start, studied="a time with its zone"
        )
    if "COUNT=" not in rule.upper() and "UNTIL=" not in rule.upper():
        raise PopulationError(
            formula="RFC 5545", field="rule", value=rule, studied="a rule with COUNT or UNTIL"
        )
    try:
        found: list[datetime] = []
        for moment in rrulestr(rule, dtstart=start):
            found.append(moment)
            if len(found) > MAX_OCCURRENCES:
                break
    except (ValueError, TypeError) as error:  # TypeError: a rule without FREQ
        raise PopulationError(
            formula="RFC 5545", field="rule", value=rule, studied=f"a rule ({error})"
        ) from error
    if len(found) > MAX_OCCURRENCES:
        raise PopulationError(
            formula="RFC 5545", field="rule", value=rule, studied=f"up to {MAX_OCCURRENCES} doses"
        )
    return tuple(found)


def interval_doses(first: datetime, every: timedelta, count: int) -> tuple[datetime, ...]:
    """Return doses a fixed real time apart, in UTC.

    Raises
    ------
    PopulationError
    """
    if first.tzinfo is None or every <= timedelta(0) or not 0 < count <= MAX_OCCURRENCES:
        raise PopulationError(
            formula="interval doses",
            field="first, every, count",
            value=(first, every, count),
            studied=f"an aware time, an interval above 0, 1 to {MAX_OCCURRENCES}",
        )
    begin = first.astimezone(UTC)
    return tuple(begin + i * every for i in range(count))


def time_of_day_doses(
    first: date, times: Sequence[time], days: int, zone_name: str
) -> tuple[datetime, ...]:
    """Return doses at local clock times, as moments in UTC.

    A local time that does not exist that day (spring) moves forward by the gap; one that comes
    twice (autumn) is the first of the two.

    Raises
    ------
    PopulationError
    """
    if not times or not 0 < days * len(times) <= MAX_OCCURRENCES:
        raise PopulationError(
            formula="time-of-day doses", field="times, days", value=(list(times), days),
            studied=f"one or more, up to {MAX_OCCURRENCES} doses",
        )  # fmt: skip
    local = zone(zone_name)
    moments = [
        datetime.combine(first + timedelta(days=day), at, tzinfo=local).astimezone(UTC)
        for day in range(days)
        for at in sorted(times)
    ]
    return tuple(moments)


_DAY_NAMES = MappingProxyType(
    {"mon": "Mon", "tue": "Tue", "wed": "Wed", "thu": "Thu", "fri": "Fri", "sat": "Sat",
     "sun": "Sun"}
)  # fmt: skip
_UNIT_WORDS = MappingProxyType(
    {"s": "second", "min": "minute", "h": "hour", "d": "day", "wk": "week", "mo": "month",
     "a": "year"}
)  # fmt: skip
_WHEN_WORDS = MappingProxyType(
    {
        "MORN": "morning", "MORN.early": "early morning", "MORN.late": "late morning",
        "NOON": "noon", "AFT": "afternoon", "AFT.early": "early afternoon",
        "AFT.late": "late afternoon", "EVE": "evening", "EVE.early": "early evening",
        "EVE.late": "late evening", "NIGHT": "night", "PHS": "after sleep", "HS": "before sleep",
        "WAKE": "after waking", "C": "with a meal", "CM": "with breakfast", "CD": "with lunch",
        "CV": "with dinner", "AC": "before a meal", "ACM": "before breakfast",
        "ACD": "before lunch", "ACV": "before dinner", "PC": "after a meal",
        "PCM": "after breakfast", "PCD": "after lunch", "PCV": "after dinner",
    }
)  # fmt: skip
_KNOWN = frozenset(
    {"frequency", "frequencyMax", "period", "periodMax", "periodUnit", "duration", "durationMax",
     "durationUnit", "dayOfWeek", "timeOfDay", "when", "offset", "count", "countMax"}
)  # fmt: skip


def timing_text(repeat: Mapping[str, Any]) -> str:
    """Say a FHIR R4 ``Timing.repeat`` in words, for a person to confirm.

    Raises
    ------
    PopulationError
        A field that this does not understand, or one that breaks a constraint of the standard
        (tim-1 to tim-10): half a schedule is not said.
    """
    _check_timing(repeat)
    parts: list[str] = []
    days = "/".join(_DAY_NAMES[day] for day in repeat.get("dayOfWeek", ()))
    if days:
        parts.append(days)
    every = _every_text(repeat)
    at = repeat.get("timeOfDay", ())
    when = repeat.get("when", ())
    is_plain_daily = every in ("", "once a day")
    if at:
        clock = ", ".join(str(one)[:5] for one in at)
        parts.append(
            f"at {clock}" if days else f"{'daily' if is_plain_daily else every} at {clock}"
        )
    elif when:
        words = ", ".join(_WHEN_WORDS[one] for one in when)
        if repeat.get("offset"):
            words = f"{repeat['offset']} min {words}"
        if not (is_plain_daily or days):
            parts.append(every)
        parts.append(words)
    elif every and not (days and is_plain_daily):
        parts.append(every)
    if "duration" in repeat:
        amount = _span(repeat, "duration")
        plural = amount != "1"
        parts.append(f"for {amount} {_UNIT_WORDS[repeat['durationUnit']]}{'s' if plural else ''}")
    if "count" in repeat:
        number = _span(repeat, "count")
        parts.append("once" if number == "1" else f"{number} times")
    return " ".join(parts)


def _every_text(repeat: Mapping[str, Any]) -> str:
    if "period" not in repeat:
        return ""
    unit, period = repeat["periodUnit"], _span(repeat, "period")
    frequency = _span(repeat, "frequency") if "frequency" in repeat else "1"
    if frequency == "1" and (period != "1" or unit in HOURS_IN_UNIT):
        if unit in HOURS_IN_UNIT:
            return f"every {period} {unit}"
        return f"every {period} {_UNIT_WORDS[unit]}{'' if period == '1' else 's'}"
    times = "once" if frequency == "1" else f"{frequency} times"
    if period == "1":
        return f"{times} {'an' if unit == 'h' else 'a'} {_UNIT_WORDS[unit]}"
    return f"{times} every {period} {_UNIT_WORDS[unit]}s"


def _span(repeat: Mapping[str, Any], name: str) -> str:
    low, high = repeat[name], repeat.get(f"{name}Max")
    return f"{low:g}" if high is None or high == low else f"{low:g}-{high:g}"


def _check_timing(repeat: Mapping[str, Any]) -> None:
    unknown = set(repeat) - _KNOWN
    rules = (
        (not unknown, f"fields it may have ({', '.join(sorted(unknown))} is not one)"),
        (bool(repeat), "at least one field"),
        ("duration" not in repeat or "durationUnit" in repeat, "a duration with its unit (tim-1)"),
        ("period" not in repeat or "periodUnit" in repeat, "a period with its unit (tim-2)"),
        (repeat.get("duration", 1) > 0, "a duration above 0 (tim-4)"),
        (repeat.get("period", 1) > 0, "a period above 0 (tim-5)"),
        ("periodMax" not in repeat or "period" in repeat, "a period beside periodMax (tim-6)"),
        ("durationMax" not in repeat or "duration" in repeat, "a duration beside it (tim-7)"),
        ("countMax" not in repeat or "count" in repeat, "a count beside countMax (tim-8)"),
        ("offset" not in repeat or bool(repeat.get("when")), "an offset with when (tim-9)"),
        (
            not set(repeat.get("when", ())) & {"C", "CM", "CD", "CV"} or "offset" not in repeat,
            "no offset with a meal itself (tim-9)",
        ),
        (not (repeat.get("timeOfDay") and repeat.get("when")), "timeOfDay or when (tim-10)"),
        (set(repeat.get("when", ())) <= set(_WHEN_WORDS), "a when of the standard"),
        (set(repeat.get("dayOfWeek", ())) <= set(_DAY_NAMES), "a dayOfWeek of the standard"),
        (repeat.get("periodUnit", "d") in _UNIT_WORDS, "a periodUnit of the standard"),
        (repeat.get("durationUnit", "d") in _UNIT_WORDS, "a durationUnit of the standard"),
    )
    for is_kept, rule in rules:
        if not is_kept:
            raise PopulationError(formula=FORMULA, field="repeat", value=dict(repeat), studied=rule)
