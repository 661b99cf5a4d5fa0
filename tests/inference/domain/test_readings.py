from __future__ import annotations

from datetime import timedelta

import pytest

from inference.domain.care_errors import QuantityError, ReadingError
from inference.domain.population import Range
from inference.domain.quantities import Quantity
from inference.domain.readings import (
    Neutral,
    Reading,
    ReadingRule,
    UsableInputs,
    check_inputs,
    check_readings,
)
from tests.builders.care import NOW

GLUCOSE = ReadingRule(
    field="glucose", possible=Range(low=39, high=400, unit="mg/dL"), max_age_s=720,
    max_future_s=300, flat_s=2700, max_change_per_min=10,
)  # fmt: skip


def series(*pairs: tuple[float, float], unit: str = "mg/dL", device: str = "a") -> list[Reading]:
    """Pairs of (minutes before now, value)."""
    return [
        Reading(
            quantity=Quantity(value=value, unit=unit),
            measured_at=NOW - timedelta(minutes=minutes),
            device_id=device,
        )
        for minutes, value in pairs
    ]


def test_a_recent_moving_possible_value_is_used() -> None:
    found = check_readings(series((10, 110), (5, 120), (0, 124)), GLUCOSE, now=NOW)
    assert found.quantity.value == 124


@pytest.mark.parametrize(
    ("readings", "kind"),
    [
        ([], "missing"),
        (series((12.1, 120)), "stale"),
        (series((-5.1, 120)), "future"),
        (series((5, 120), (10, 121)), "out of order"),
        (series((5, 120), (5, 121)), "out of order"),
        (series((0, 38)), "impossible"),
        (series((0, 401)), "impossible"),
        (series(*[(5.0 * i, 120.0) for i in range(9, -1, -1)]), "flat"),
        (series((5, 120), (0, 171)), "jump"),
        (series((5, 120)) + series((0, 121), device="b"), "impossible"),
    ],
)
def test_what_cannot_be_used_says_why(readings: list[Reading], kind: str) -> None:
    with pytest.raises(ReadingError) as caught:
        check_readings(readings, GLUCOSE, now=NOW)
    assert (caught.value.field, caught.value.kind) == ("glucose", kind)


def test_forty_minutes_without_change_are_not_flat_yet() -> None:
    steady = series(*[(5.0 * i, 120.0) for i in range(8, -1, -1)])
    assert check_readings(steady, GLUCOSE, now=NOW).quantity.value == 120


def test_another_unit_is_refused_not_read_as_the_wanted_one() -> None:
    with pytest.raises(QuantityError):
        check_readings(series((0, 6.7), unit="mmol/L"), GLUCOSE, now=NOW)


def test_one_fault_is_the_neutral_state_and_every_fault_is_an_alarm() -> None:
    weight = ReadingRule(
        field="weight", possible=Range(low=1, high=350, unit="kg"), max_age_s=86_400
    )
    found = check_inputs({"glucose": series((30, 120))}, [GLUCOSE, weight], now=NOW)
    assert isinstance(found, Neutral)
    assert {(one.field, one.kind) for one in found.alarms} == {
        ("glucose", "stale"), ("weight", "missing"),
    }  # fmt: skip


def test_inputs_are_valid_until_the_first_of_them_ends() -> None:
    found = check_inputs({"glucose": series((2, 120))}, [GLUCOSE], now=NOW)
    assert isinstance(found, UsableInputs)
    assert found.valid_until == NOW - timedelta(minutes=2) + timedelta(seconds=720)
