"""Risk equations: published examples that are not in the vectors, known traps, and refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inference.domain.care_errors import PopulationError
from inference.domain.renal import ckd_epi_2021, cockcroft_gault
from inference.services.health.rules import (
    china_par,
    cohort_risk,
    findrisc,
    lifestyle,
    prevent,
    score2,
)

WOMAN = prevent.PreventInput(
    sex="F", age_a=50, sbp_mmhg=160, is_bp_treated=True, total_cholesterol_mg_dl=200,
    hdl_cholesterol_mg_dl=45, takes_statin=False, has_diabetes=True, is_smoker=False,
    egfr_ml_min=90, bmi_kg_m2=35,
)  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "horizon", "wanted"),
    [
        (WOMAN, 10, (0.147, 0.092, 0.081, 0.044, 0.054)),
        (replace(WOMAN, hba1c_percent=9.2), 30, (0.541, 0.356, 0.449, 0.219, 0.200)),
        (replace(WOMAN, uacr_mg_g=92), 30, (0.565, 0.381, 0.437, 0.220, 0.241)),
    ],
)
def test_prevent_gives_the_reference_packages_values(facts, horizon: int, wanted) -> None:
    """preventr 0.11.0, its test of the publication's example; printed to 3 decimals."""
    found = prevent.prevent_risk(facts, horizon_years=horizon)
    assert tuple(found[name] for name in prevent.OUTCOMES) == pytest.approx(wanted, abs=0.0005)


@pytest.mark.parametrize(
    ("changed", "horizon", "field"),
    [
        ({"age_a": 29}, 10, "age_a"),
        ({"age_a": 80}, 10, "age_a"),
        ({"age_a": 60}, 30, "age_a_30_years"),
        ({"bmi_kg_m2": 40}, 10, "bmi_kg_m2"),
        ({"egfr_ml_min": 14}, 10, "egfr_ml_min"),
        ({"total_cholesterol_mg_dl": 5.2}, 10, "total_cholesterol_mg_dl"),  # mmol/L typed
        ({"sbp_mmhg": None}, 10, "sbp_mmhg"),
        ({"sbp_mmhg": float("nan")}, 10, "sbp_mmhg"),
        ({"is_smoker": None}, 10, "is_smoker"),
        ({"sex": "female"}, 10, "sex"),
        ({"hba1c_percent": 9.2, "uacr_mg_g": 92}, 10, "hba1c_percent and uacr_mg_g"),
        ({}, 20, "horizon"),
    ],
)
def test_prevent_refuses_outside_its_population(changed, horizon: int, field: str) -> None:
    with pytest.raises(PopulationError) as caught:
        prevent.prevent_risk(replace(WOMAN, **changed), horizon_years=horizon)
    assert caught.value.field == field


def test_every_prevent_table_has_the_terms_that_are_used() -> None:
    base = set(prevent._terms(WOMAN)) - {"hba1c_diabetes", "hba1c_no_diabetes", "ln_uacr"}
    extra = {"base": set(), "hba1c": {"hba1c_diabetes", "hba1c_no_diabetes"}, "uacr": {"ln_uacr"}}
    for model, more in extra.items():
        for horizon in (10, 30):
            table = prevent._coefficients(f"prevent_{model}_{horizon}")
            wanted = (base | more) - ({"age_squared"} if horizon == 10 else set())
            assert len(table) == 10
            assert all(set(column) == wanted for column in table.values())


COHORT = cohort_risk.CohortInput(
    group="WF", age_a=55, total_cholesterol_mg_dl=213, hdl_cholesterol_mg_dl=50, sbp_mmhg=120,
    is_bp_treated=False, is_smoker=False, has_diabetes=False,
)  # fmt: skip


def test_pooled_cohort_women_of_the_guidelines_own_table() -> None:
    """Goff 2013, Table A: white women 2.1 %, African American women 3.0 %."""
    assert 100 * cohort_risk.pooled_cohort_risk(COHORT) == pytest.approx(2.1, abs=0.05)
    black = replace(COHORT, group="AF")
    assert 100 * cohort_risk.pooled_cohort_risk(black) == pytest.approx(3.0, abs=0.05)
    for wrong in ({"group": "F"}, {"age_a": 39}, {"age_a": 80}, {"has_diabetes": 1}):
        with pytest.raises(PopulationError):
            cohort_risk.pooled_cohort_risk(replace(COHORT, **wrong))


def test_framingham_points_of_the_two_printed_cases() -> None:
    """D'Agostino 2008: the woman of 61 years has 13 points, the man of 53 years 13."""
    woman = replace(
        COHORT, group="F", age_a=61, total_cholesterol_mg_dl=180, hdl_cholesterol_mg_dl=47,
        sbp_mmhg=124, is_smoker=True,
    )  # fmt: skip
    man = replace(
        COHORT, group="M", age_a=53, total_cholesterol_mg_dl=161, hdl_cholesterol_mg_dl=55,
        sbp_mmhg=125, is_bp_treated=True, has_diabetes=True,
    )  # fmt: skip
    assert cohort_risk.framingham_points(woman) == cohort_risk.framingham_points(man) == 13
    assert cohort_risk.framingham_points_percent(woman) == 10.0
    assert cohort_risk.framingham_points_percent(man) == 15.6


SCORE2 = score2.Score2Input(
    sex="M", age_a=50, is_smoker=True, sbp_mmhg=140, total_cholesterol_mmol_l=6.3,
    hdl_cholesterol_mmol_l=1.4, region="low",
)  # fmt: skip


def test_score2_changes_to_the_older_equation_at_seventy() -> None:
    young, old = replace(SCORE2, age_a=69.9), replace(SCORE2, age_a=70.0)
    assert score2.score2_risk(young) != pytest.approx(score2.score2_risk(old), rel=1e-3)
    with pytest.raises(PopulationError):
        score2.score2_asia_pacific_risk(old)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"age_a": 39}, "age_a"),
        ({"age_a": 90}, "age_a"),
        ({"region": "Asia"}, "region"),
        ({"total_cholesterol_mmol_l": 213.0}, "total_cholesterol_mmol_l"),  # mg/dL typed
        ({"hdl_cholesterol_mmol_l": 45.0}, "hdl_cholesterol_mmol_l"),
        ({"is_smoker": "no"}, "is_smoker"),
    ],
)
def test_score2_refuses_other_units_and_people(changed, field: str) -> None:
    with pytest.raises(PopulationError) as caught:
        score2.score2_risk(replace(SCORE2, **changed))
    assert caught.value.field == field


def test_china_par_needs_a_mans_residence_and_family_and_always_carries_its_caveat() -> None:
    woman = china_par.ChinaParInput(
        sex="F", age_a=50, sbp_mmhg=130, is_bp_treated=False, total_cholesterol_mg_dl=210,
        hdl_cholesterol_mg_dl=55, waist_cm=80, is_smoker=False, has_diabetes=True,
        lives_north=True,
    )  # fmt: skip
    found = china_par.china_par_risk(woman)
    assert (found.category, found.caveat) == ("moderate", china_par.CAVEAT)
    with pytest.raises(PopulationError) as caught:
        china_par.china_par_risk(replace(woman, sex="M"))
    assert caught.value.field == "is_urban"
    for age in (34, 75):
        with pytest.raises(PopulationError):
            china_par.china_par_risk(replace(woman, age_a=age))


def test_findrisc_counts_age_from_45_and_vegetables_as_one() -> None:
    person = findrisc.FindriscInput(
        sex="M", age_a=44, bmi_kg_m2=24.9, waist_cm=93, is_active=True, eats_vegetables=True,
        takes_bp_medicine=False, had_high_glucose=False, family="none",
    )  # fmt: skip
    assert findrisc.findrisc_points(person) == 0
    assert findrisc.findrisc_points(replace(person, age_a=45)) == 2
    assert findrisc.findrisc_points(replace(person, eats_vegetables=False)) == 1
    assert [findrisc.findrisc_band(p) for p in (6, 7, 12, 15, 21)] == [
        "low", "slightly elevated", "moderate", "high", "very high",
    ]  # fmt: skip
    with pytest.raises(PopulationError):
        findrisc.findrisc_points(replace(person, family="cousin"))


def test_renal_function_names_its_measure_and_is_for_adults() -> None:
    """Cockcroft and Gault: 60 years, 72 kg, 1 mg/dL gives 80 mL/min, women 85 % of it."""
    assert cockcroft_gault(1.0, 60, 72, "M") == pytest.approx(80.0)
    assert cockcroft_gault(1.0, 60, 72, "F") == pytest.approx(68.0)
    for call in (lambda: ckd_epi_2021(1.0, 17, "M"), lambda: ckd_epi_2021(88.4, 50, "M")):
        with pytest.raises(PopulationError):
            call()


def test_activity_and_diet_at_their_edges() -> None:
    assert not lifestyle.meets_aerobic_minimum(149.9, 0)
    assert lifestyle.hei_component_score("sodium_g", 5.0) == 0.0
    assert lifestyle.hei_component_score("sodium_g", 0.5) == 10.0
    for wrong in ((-1, 0), (10_081, 0), (9000, 2000), (float("nan"), 0)):
        with pytest.raises(PopulationError):
            lifestyle.moderate_equivalent_min(*wrong)
    with pytest.raises(PopulationError):
        lifestyle.hei_component_score("chocolate", 1.0)
