"""NEWS2: the National Early Warning Score of the Royal College of Physicians (2017).

Reproduced unmodified, with acknowledgement: Royal College of Physicians. National Early Warning
Score (NEWS) 2: Standardising the assessment of acute-illness severity in the NHS. RCP, 2017.

For people of 16 years and over who are not pregnant. SpO2 scale 2 is for confirmed hypercapnic
respiratory failure, and only where a clinician prescribed it. A missing parameter makes the score
incomplete; it is never counted as zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from inference.domain.care_errors import PopulationError, ReadingError
from inference.domain.population import check_truth

FORMULA = "NEWS2"
LEAST_AGE_A = 16
Band = tuple[float, float, int]
"""Lowest and highest value (closed) and the points; infinite where open."""

_INF = math.inf
CHART: MappingProxyType[str, tuple[Band, ...]] = MappingProxyType(
    {
        "rr": ((-_INF, 8, 3), (9, 11, 1), (12, 20, 0), (21, 24, 2), (25, _INF, 3)),
        "spo2_scale1": ((-_INF, 91, 3), (92, 93, 2), (94, 95, 1), (96, _INF, 0)),
        "sbp": ((-_INF, 90, 3), (91, 100, 2), (101, 110, 1), (111, 219, 0), (220, _INF, 3)),
        "pulse": (
            (-_INF, 40, 3), (41, 50, 1), (51, 90, 0), (91, 110, 1), (111, 130, 2), (131, _INF, 3),
        ),
        "temp": (
            (-_INF, 35.0, 3), (35.1, 36.0, 1), (36.1, 38.0, 0), (38.1, 39.0, 1), (39.1, _INF, 2),
        ),
    }
)  # fmt: skip
"""Chart 1 of the report, one row per parameter; scale 2 depends on oxygen and stands below."""

SCALE2_AIR: tuple[Band, ...] = ((-_INF, 83, 3), (84, 85, 2), (86, 87, 1), (88, _INF, 0))
SCALE2_OXYGEN: tuple[Band, ...] = (
    (-_INF, 83, 3), (84, 85, 2), (86, 87, 1), (88, 92, 0), (93, 94, 1), (95, 96, 2), (97, _INF, 3),
)  # fmt: skip
OXYGEN_POINTS = 2
ALERT, NOT_ALERT = "A", ("C", "V", "P", "U")
NOT_ALERT_POINTS = 3

POSSIBLE = MappingProxyType(
    {"rr": (0, 100), "spo2": (20, 100), "sbp": (20, 350), "pulse": (0, 350), "temp": (15.0, 45.0)}
)
"""What a person or a device can show at all; outside is a fault of the reading."""


@dataclass(frozen=True, kw_only=True)
class Observations:
    """One complete set of observations; None is missing.

    Attributes
    ----------
    rr, pulse : per minute; spo2 : %; sbp : mmHg; temp : degrees Celsius
    acvpu : A alert, C new confusion, V voice, P pain, U unresponsive
    scale2_prescribed : a clinician's recorded prescription of SpO2 scale 2
    """

    rr: float | None
    spo2: float | None
    is_on_oxygen: bool | None
    sbp: float | None
    pulse: float | None
    acvpu: str | None
    temp: float | None
    scale2_prescribed: bool = False
    age_a: float | None = None
    is_pregnant: bool = False


@dataclass(frozen=True, kw_only=True)
class News2:
    """The score, what each parameter gave, and the band of the response chart."""

    score: int
    components: dict[str, int]
    band: str


def news2(seen: Observations) -> News2:
    """Return the aggregate score.

    Raises
    ------
    PopulationError
        Under 16 years, or pregnant.
    ReadingError
        A parameter is missing (``missing``) or cannot be (``impossible``): the score is incomplete.
    """
    if seen.age_a is not None and not seen.age_a >= LEAST_AGE_A:
        raise PopulationError(
            formula=FORMULA, field="age_a", value=seen.age_a, studied=f"{LEAST_AGE_A} a and over"
        )
    if seen.is_pregnant:
        raise PopulationError(
            formula=FORMULA, field="is_pregnant", value=True, studied="people who are not pregnant"
        )
    check_truth(FORMULA, scale2_prescribed=seen.scale2_prescribed)
    if seen.is_on_oxygen is None:
        raise _missing("is_on_oxygen")
    check_truth(FORMULA, is_on_oxygen=seen.is_on_oxygen)
    if seen.acvpu is None:
        raise _missing("acvpu")
    if seen.acvpu != ALERT and seen.acvpu not in NOT_ALERT:
        raise ReadingError(field="acvpu", kind="impossible", problem=f"{seen.acvpu!r} is not ACVPU")
    if seen.scale2_prescribed:
        spo2_bands = SCALE2_OXYGEN if seen.is_on_oxygen else SCALE2_AIR
    else:
        spo2_bands = CHART["spo2_scale1"]
    components = {
        "rr": _points("rr", seen.rr, CHART["rr"]),
        "spo2": _points("spo2", seen.spo2, spo2_bands),
        "o2": OXYGEN_POINTS if seen.is_on_oxygen else 0,
        "sbp": _points("sbp", seen.sbp, CHART["sbp"]),
        "hr": _points("pulse", seen.pulse, CHART["pulse"]),
        "cons": 0 if seen.acvpu == ALERT else NOT_ALERT_POINTS,
        "temp": _points("temp", seen.temp, CHART["temp"]),
    }
    score = sum(components.values())
    return News2(score=score, components=components, band=band(score, components))


def band(score: int, components: dict[str, int]) -> str:
    """Return the band of the response chart; a single 3 is "low-medium" and urgent."""
    if score >= 7:
        return "high"
    if score >= 5:
        return "medium"
    return "low-medium" if 3 in components.values() else "low"


BAND_TABLE = MappingProxyType(
    {
        "0-4": "low",
        "single 3": "low-medium, treated as urgent",
        "5-6": "medium",
        ">=7": "high",
    }
)


def chart_table() -> dict[str, Any]:
    """Return the whole chart in words, made from the same numbers that are used."""
    table: dict[str, Any] = {
        name: [[_label(low, high, name == "temp"), points] for low, high, points in bands]
        for name, bands in CHART.items()
    }
    oxygen = [
        [f"{_label(low, high, False)} on O2" if low > 92 else _label(low, high, False), points]
        for low, high, points in SCALE2_OXYGEN
    ]
    zero = next(row for row in oxygen if row[1] == 0)
    zero[0] = f"{zero[0]} or >=93 on air"
    table["spo2_scale2"] = oxygen
    table["o2"] = [["oxygen", OXYGEN_POINTS], ["air", 0]]
    table["consciousness"] = [[ALERT, 0], ["".join(NOT_ALERT), NOT_ALERT_POINTS]]
    table["bands"] = dict(BAND_TABLE)
    return table


def _label(low: float, high: float, is_decimal: bool) -> str:
    def number(value: float) -> str:
        return f"{value:.1f}" if is_decimal else f"{value:g}"

    if low == -_INF:
        return f"<={number(high)}"
    return f">={number(low)}" if high == _INF else f"{number(low)}-{number(high)}"


def _points(field: str, value: float | None, bands: tuple[Band, ...]) -> int:
    if value is None:
        raise _missing(field)
    low, high = POSSIBLE[field]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not low <= value <= high:
        raise ReadingError(
            field=field, kind="impossible", problem=f"{value!r} is outside {low:g} to {high:g}"
        )
    charted = round(value, 1 if field == "temp" else 0)
    if not math.isclose(charted, value, abs_tol=1e-9):
        step = "tenths" if field == "temp" else "whole numbers"
        raise ReadingError(
            field=field, kind="impossible", problem=f"{value!r}: the chart is in {step}; round it"
        )
    return next(points for first, last, points in bands if first <= charted <= last)


def _missing(field: str) -> ReadingError:
    return ReadingError(field=field, kind="missing", problem="the score is incomplete without it")
