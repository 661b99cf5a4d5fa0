"""Vectors of the module ``medication``."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from typing import Any

from inference.domain.care_errors import PopulationError
from inference.services.medication.rules import adherence, interactions, schedule
from inference.vectors.cases import Answer, Case, fields
from inference.vectors.document import Suite, Vector


def _fills(i: Any) -> list[adherence.Fill]:
    return [adherence.Fill(on=date.fromisoformat(day), days=days) for day, days in i["fills"]]


def _adherence(vector: Vector, _: Suite) -> Answer:
    """Give each measure that the expected answer names; others may not exist for these fills."""
    i = vector.inputs
    fills = _fills(i)
    first = adherence.ordered(fills)[0].on
    offset = int(i.get("followup_start", 0)) + int(i["ow_start_day"])
    window = adherence.Window(start=first + timedelta(days=offset), days=int(i["ow_days"]))
    answer: dict[str, object] = {}
    percent = 0.0
    for name in vector.expected:
        if name == "CMA8" or name == "lag_days":
            lagged = adherence.cma8(fills, window)
            answer |= {"CMA8": lagged.cma, "lag_days": lagged.lag_days}
            percent = 100 * lagged.cma
        elif name in _MEASURES:
            measured = float(_MEASURES[name](fills, window))
            answer[name] = measured
            percent = 100 * measured
    for name, text in vector.expected.items():
        if name == "printed":
            decimals = len(str(text).rstrip("%").partition(".")[2])
            answer[name] = f"{percent:.{decimals}f}%"
    return answer


_MEASURES: dict[str, Any] = {
    "CMA1": adherence.cma1,
    "CMA2": adherence.cma2,
    "CMA7": adherence.cma7,
}


def _days_covered(vector: Vector, _: Suite) -> Answer:
    fills = _fills(vector.inputs)
    first = adherence.ordered(fills)[0].on
    window = adherence.Window(start=first, days=int(vector.inputs["window_days"]))
    return {
        "start_days": [(day - first).days + 1 for day in adherence.start_of_use(fills)],
        "covered": adherence.covered_days(fills, window),
        "pdc": adherence.cma7(fills, window),
    }


def _rule(vector: Vector, _: Suite) -> Answer:
    local, zone_name = str(vector.inputs["dtstart"]).split()
    start = datetime.fromisoformat(local).replace(tzinfo=schedule.zone(zone_name))
    found = schedule.expand_rule(start, vector.inputs["rrule"])
    if not found:
        raise PopulationError(formula="RFC 5545", field="rrule", value="", studied="some dose")
    return {
        "first": f"{found[0]:%Y-%m-%dT%H:%M}",
        "last": f"{found[-1]:%Y-%m-%dT%H:%M}",
        "count": len(found),
        "times": [f"{moment:%H:%M}" for moment in found],
    }


def _timing(vector: Vector, _: Suite) -> Answer:
    return {"meaning": schedule.timing_text(vector.inputs["repeat"])}


_SAME_WORD = {
    "hours": "h", "hour": "h", "hrs": "h", "minutes": "min", "minute": "min", "mins": "min",
    "days": "d", "day": "d", "weeks": "wk", "week": "wk", "months": "mo", "month": "mo",
    "an": "a", "per": "a", "one": "1", "two": "2", "three": "3", "four": "4", "twice": "2 times",
    "half": "0.5", "½": "0.5", "1/2": "0.5", "monday": "mon", "tuesday": "tue",
    "wednesday": "wed", "thursday": "thu", "friday": "fri", "saturday": "sat", "sunday": "sun",
}  # fmt: skip


def same_timing(text: str) -> str:
    """Bring wordings of a schedule together: units, number words, 0.5 h and 30 min."""
    words = re.sub(r"[,/]", " ", text.casefold().replace("1/2", "½")).split()
    plain = " ".join(_SAME_WORD.get(word, word) for word in words)
    plain = re.sub(r"\b0\.5 (?:a )?h\b", "30 min", plain)
    return plain.replace("every 1 d", "once a d").replace("once a d at", "daily at")


def _pairs(_: Vector, __: Suite) -> Answer:
    return {"pairs": interactions.HIGH_PRIORITY_PAIRS, "behaviour": interactions.BEHAVIOUR}


CASES = (
    Case(
        name="adherence",
        needs=fields("fills ow_start_day ow_days"),
        may=fields("followup_start"),
        answer=_adherence,
    ),
    Case(name="days covered", needs=fields("fills window_days"), answer=_days_covered),
    Case(name="recurrence rule", needs=fields("dtstart rrule"), answer=_rule),
    Case(
        name="timing",
        needs=fields("repeat"),
        answer=_timing,
        spelling={"meaning": same_timing},
    ),
    Case(name="high-priority pairs", needs=fields(""), about="ddi", answer=_pairs),
)
