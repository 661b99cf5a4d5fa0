from __future__ import annotations

import math

import pytest

from inference.domain.care_errors import QuantityError
from inference.domain.quantities import NOT_UCUM, RULES, UNITS, Quantity, quantity


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, "41,7", None, True])
def test_only_a_finite_number_is_a_value(value) -> None:
    with pytest.raises(QuantityError) as caught:
        quantity("rate", value, "mL/h")
    assert caught.value.field == "rate"


@pytest.mark.parametrize("unit", ["", None, 5, "mcg", "KG", "lbs", "µg", "U/h", "mg/dl", "stone"])
def test_a_value_without_a_known_unit_is_refused(unit) -> None:
    with pytest.raises(QuantityError) as caught:
        quantity("dose", 5.0, unit)
    assert caught.value.value == 5.0


def test_a_misspelt_unit_is_answered_with_what_it_may_mean() -> None:
    with pytest.raises(QuantityError, match="write ug"):
        quantity("dose", 5.0, "mcg")
    assert set(NOT_UCUM.values()) <= UNITS


@pytest.mark.parametrize(
    ("have", "want"),
    [("[lb_av]", "kg"), ("ug", "mg"), ("mg/dL", "mmol/L"), ("mg/kg/h", "ug/kg/min"), ("h", "min")],
)
def test_another_unit_is_never_converted_on_the_way(have: str, want: str) -> None:
    with pytest.raises(QuantityError) as caught:
        Quantity(value=154.0, unit=have).in_unit(want, field="weight")
    assert caught.value.unit == have


def test_pounds_become_kilograms_by_their_named_rule() -> None:
    weight = Quantity(value=154.0, unit="[lb_av]").converted("pound_to_kilogram", field="weight")
    assert weight.in_unit("kg", field="weight") == pytest.approx(69.853, abs=5e-4)
    fever = Quantity(value=101.3, unit="[degF]").converted("fahrenheit_to_celsius", field="t")
    assert fever.value == pytest.approx(38.5, abs=1e-9)


def test_a_factor_of_one_analyte_is_not_used_for_another() -> None:
    glucose = Quantity(value=180.0, unit="mg/dL", kind="glucose")
    with pytest.raises(QuantityError, match="cholesterol"):
        glucose.converted("cholesterol_mg_dl_to_mmol_l_prevent", field="glucose")
    found = glucose.converted("glucose_mg_dl_to_mmol_l", field="glucose")
    assert found.value == pytest.approx(9.99, abs=0.005)  # 180 mg/dL is 10.0 mmol/L by halves
    with pytest.raises(QuantityError):
        Quantity(value=180.0, unit="mg/dL").converted("glucose_mg_dl_to_mmol_l", field="glucose")


def test_every_rule_is_between_known_units_and_says_its_source() -> None:
    for rule in RULES.values():
        assert {rule.unit, rule.to_unit} <= UNITS
        assert rule.source
