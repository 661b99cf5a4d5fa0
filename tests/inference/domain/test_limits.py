from __future__ import annotations

import math
from datetime import timedelta

import pytest

from inference.domain.care_errors import (
    HardLimitError,
    LibraryError,
    LimitMissingError,
    QuantityError,
    StepError,
)
from inference.domain.limits import Cap, Person, bind, check_values, find_limit
from inference.domain.quantities import Quantity
from inference.domain.step_limits import PastValue, check_step
from tests.builders.care import NOW, RATE, bound, library, rate

ADULT = Person(weight_kg=70, age_a=50)


def find(**changed):
    asked = {"care_area": "icu", "person": ADULT, "now": NOW} | changed
    parameter = asked.pop("parameter", RATE)
    return find_limit(library(), parameter, **asked)


@pytest.mark.parametrize(
    "changed",
    [
        {"parameter": "ketamine.infusion_rate"},
        {"care_area": "ward"},
        {"person": Person(weight_kg=39.9, age_a=50)},
        {"person": Person(weight_kg=154, age_a=50)},  # 70 kg typed as pounds
        {"person": Person(weight_kg=math.nan, age_a=50)},
        {"person": Person(weight_kg=70, age_a=17.9)},
    ],
)
def test_no_limit_no_proposal(changed) -> None:
    with pytest.raises(LimitMissingError):
        find(**changed)


def test_a_library_out_of_date_gives_no_limit() -> None:
    for now in (NOW - timedelta(days=101), NOW + timedelta(days=100)):
        with pytest.raises(LibraryError):
            find(now=now)


def test_the_smallest_cap_binds_and_is_named() -> None:
    caps = [
        Cap(name="three times the day's mean", high=Quantity(value=5.0, unit="mg/kg/h")),
        Cap(name="four times the current rate", high=Quantity(value=3.5, unit="mg/kg/h")),
    ]
    found = bind(find(), caps)
    assert (found.high, found.high_from) == (3.5, "four times the current rate")
    assert bind(find()).high_from == "library hard limit"
    with pytest.raises(QuantityError):
        bind(find(), [Cap(name="other unit", high=Quantity(value=1.0, unit="ug/kg/min"))])


def test_a_cap_below_the_lowest_value_leaves_nothing_to_propose() -> None:
    with pytest.raises(LimitMissingError):
        bind(find(), [Cap(name="organ failure", high=Quantity(value=-1.0, unit="mg/kg/h"))])


@pytest.mark.parametrize("value", [6.0000001, 20.0, -0.1, 1e300])
def test_outside_a_hard_limit_is_refused_and_not_moved(value: float) -> None:
    with pytest.raises(HardLimitError) as caught:
        check_values(rate(value), bound())
    assert caught.value.value == value
    assert caught.value.cap == "library hard limit"


def test_the_edges_are_inside_and_a_soft_limit_is_named() -> None:
    assert check_values(rate(6.0), bound()).beyond_soft == (RATE,)
    assert check_values(rate(0.1), bound()).beyond_soft == (RATE,)
    assert check_values(rate(4.0), bound()).beyond_soft == ()


def test_a_value_in_another_unit_or_without_a_limit_is_refused() -> None:
    with pytest.raises(QuantityError):
        check_values(rate(2.0, "ug/kg/min"), bound())
    with pytest.raises(LimitMissingError):
        check_values({"other": Quantity(value=1.0, unit="mg/kg/h")}, bound())
    with pytest.raises(LimitMissingError):
        check_values({}, bound())


def past(*pairs: tuple[float, float]) -> list[PastValue]:
    return [PastValue(at=NOW - timedelta(seconds=s), value=v) for s, v in pairs]


def test_a_step_larger_than_the_interval_allows_is_withheld() -> None:
    limit = bound()[RATE]
    check_step(4.0, past((600, 2.0)), limit, now=NOW)
    with pytest.raises(StepError):
        check_step(4.1, past((600, 2.0)), limit, now=NOW)
    with pytest.raises(StepError):  # two small steps within one interval are one large one
        check_step(4.0, past((600, 1.0), (60, 2.9)), limit, now=NOW)


def test_swinging_suggestions_are_withheld() -> None:
    limit = bound()[RATE]
    swing = past((1500, 2.0), (1100, 2.5), (700, 2.0), (320, 2.5))
    with pytest.raises(StepError, match="oscillation"):
        check_step(2.0, swing, limit, now=NOW)
    check_step(3.0, past((1500, 2.0), (1100, 2.5), (700, 2.7), (320, 2.9)), limit, now=NOW)


def test_a_past_value_after_the_clock_is_a_moved_clock() -> None:
    with pytest.raises(StepError):
        check_step(2.0, past((-10, 2.0)), bound()[RATE], now=NOW)
