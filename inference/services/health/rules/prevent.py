"""PREVENT: 10- and 30-year risk of cardiovascular disease, adults without it (Khan 2024).

Base model, and those with HbA1c or with the urine albumin-to-creatinine ratio. The coefficients are
those of the publication's supplement, Tables S12A-C and S12F-H, one CSV file per model and horizon.
The models with a social deprivation index (United States ZIP codes) are not here, nor is the one
that takes HbA1c and UACR together with it.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType

from inference.domain.care_errors import PopulationError
from inference.domain.population import Population, Range, check_truth
from inference.domain.quantities import RULES

OUTCOMES = ("total_cvd", "ascvd", "heart_failure", "chd", "stroke")

PREVENT = Population(
    formula="PREVENT 2024",
    source="Khan SS et al. Circulation 2024;149:430-449, doi:10.1161/CIRCULATIONAHA.123.067626",
    ranges=MappingProxyType(
        {
            "age_a": Range(low=30, high=79, unit="a"),
            "age_a_30_years": Range(low=30, high=59, unit="a"),
            "sbp_mmhg": Range(low=90, high=200, unit="mm[Hg]"),
            "total_cholesterol_mg_dl": Range(low=130, high=320, unit="mg/dL"),
            "hdl_cholesterol_mg_dl": Range(low=20, high=100, unit="mg/dL"),
            "bmi_kg_m2": Range(low=18.5, high=40, unit="kg/m2", is_open_above=True),
            "egfr_ml_min": Range(low=15, high=140, unit="mL/min/{1.73_m2}"),
            "hba1c_percent": Range(low=4.5, high=15, unit="%"),
            "uacr_mg_g": Range(low=0.1, high=25_000, unit="mg/g"),
        }
    ),
)


@dataclass(frozen=True, kw_only=True)
class PreventInput:
    """Facts of one adult without known cardiovascular disease; units end the names.

    ``hba1c_percent`` or ``uacr_mg_g`` select the model that uses it; there is none for both.
    """

    sex: str
    age_a: float
    sbp_mmhg: float
    is_bp_treated: bool
    total_cholesterol_mg_dl: float
    hdl_cholesterol_mg_dl: float
    takes_statin: bool
    has_diabetes: bool
    is_smoker: bool
    egfr_ml_min: float
    bmi_kg_m2: float
    hba1c_percent: float | None = None
    uacr_mg_g: float | None = None

    @property
    def model(self) -> str:
        """Which of the published models these facts select."""
        if self.hba1c_percent is not None:
            return "hba1c"
        return "base" if self.uacr_mg_g is None else "uacr"


def prevent_risk(facts: PreventInput, *, horizon_years: int = 10) -> dict[str, float]:
    """Return the risk of each of `OUTCOMES` as a fraction.

    Raises
    ------
    PopulationError
        A fact is missing or outside the studied range; 30 years are for ages 30 to 59.
    """
    _check(facts, horizon_years)
    table = _coefficients(f"prevent_{facts.model}_{horizon_years}")
    terms = _terms(facts)
    sex = "female" if facts.sex == "F" else "male"
    risks = {}
    for outcome in OUTCOMES:
        column = table[f"{sex}_{outcome}"]
        log_odds = sum(column[name] * terms[name] for name in column)
        risks[outcome] = 1 / (1 + math.exp(-log_odds))
    return risks


def _check(facts: PreventInput, horizon_years: int) -> None:
    PREVENT.check_choice("sex", facts.sex, ("F", "M"))
    if horizon_years not in (10, 30):
        raise PopulationError(
            formula=PREVENT.formula, field="horizon", value=horizon_years, studied="10 or 30 a"
        )
    if facts.hba1c_percent is not None and facts.uacr_mg_g is not None:
        raise PopulationError(
            formula=PREVENT.formula,
            field="hba1c_percent and uacr_mg_g",
            value=(facts.hba1c_percent, facts.uacr_mg_g),
            studied="one of the two; the model with both also needs a deprivation index",
        )
    PREVENT.check(
        age_a=facts.age_a,
        sbp_mmhg=facts.sbp_mmhg,
        total_cholesterol_mg_dl=facts.total_cholesterol_mg_dl,
        hdl_cholesterol_mg_dl=facts.hdl_cholesterol_mg_dl,
        bmi_kg_m2=facts.bmi_kg_m2,
        egfr_ml_min=facts.egfr_ml_min,
    )
    if horizon_years == 30:
        PREVENT.check(age_a_30_years=facts.age_a)
    if facts.hba1c_percent is not None:
        PREVENT.check(hba1c_percent=facts.hba1c_percent)
    if facts.uacr_mg_g is not None:
        PREVENT.check(uacr_mg_g=facts.uacr_mg_g)
    check_truth(
        PREVENT.formula,
        is_bp_treated=facts.is_bp_treated,
        takes_statin=facts.takes_statin,
        has_diabetes=facts.has_diabetes,
        is_smoker=facts.is_smoker,
    )


def _terms(facts: PreventInput) -> dict[str, float]:
    """Centre and scale as the publication does; the names are the rows of the tables."""
    to_mmol = RULES["cholesterol_mg_dl_to_mmol_l_prevent"].factor
    age = (facts.age_a - 55) / 10
    hdl_mmol = facts.hdl_cholesterol_mg_dl * to_mmol
    non_hdl = facts.total_cholesterol_mg_dl * to_mmol - hdl_mmol - 3.5
    hdl = (hdl_mmol - 1.3) / 0.3
    sbp_high = (max(facts.sbp_mmhg, 110) - 130) / 20
    bmi_high = (max(facts.bmi_kg_m2, 30) - 30) / 5
    egfr_low = (min(facts.egfr_ml_min, 60) - 60) / -15
    diabetes, smoking = float(facts.has_diabetes), float(facts.is_smoker)
    treated, statin = float(facts.is_bp_treated), float(facts.takes_statin)
    hba1c = 0.0 if facts.hba1c_percent is None else facts.hba1c_percent - 5.3
    return {
        "age": age,
        "age_squared": age * age,
        "non_hdl": non_hdl,
        "hdl": hdl,
        "sbp_low": (min(facts.sbp_mmhg, 110) - 110) / 20,
        "sbp_high": sbp_high,
        "diabetes": diabetes,
        "smoking": smoking,
        "bmi_low": (min(facts.bmi_kg_m2, 30) - 25) / 5,
        "bmi_high": bmi_high,
        "egfr_low": egfr_low,
        "egfr_high": (max(facts.egfr_ml_min, 60) - 90) / -15,
        "bp_treated": treated,
        "statin": statin,
        "bp_treated_sbp_high": treated * sbp_high,
        "statin_non_hdl": statin * non_hdl,
        "age_non_hdl": age * non_hdl,
        "age_hdl": age * hdl,
        "age_sbp_high": age * sbp_high,
        "age_diabetes": age * diabetes,
        "age_smoking": age * smoking,
        "age_bmi_high": age * bmi_high,
        "age_egfr_low": age * egfr_low,
        "hba1c_diabetes": hba1c * diabetes,
        "hba1c_no_diabetes": hba1c * (1 - diabetes),
        "ln_uacr": 0.0 if facts.uacr_mg_g is None else math.log(facts.uacr_mg_g),
        "constant": 1.0,
    }


@cache
def _coefficients(name: str) -> dict[str, dict[str, float]]:
    """Return column to term to coefficient."""
    path = resources.files("inference.services.health") / "tables" / f"{name}.csv"
    rows = list(csv.DictReader(path.read_text(encoding="ascii").splitlines()))
    columns = [name for name in rows[0] if name != "term"]
    return {column: {row["term"]: float(row[column]) for row in rows} for column in columns}
