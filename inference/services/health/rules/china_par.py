"""China-PAR: 10-year ASCVD risk of Chinese adults (Yang 2016), with coefficients that are a *fit*.

The two-decimal coefficients that the paper prints do not reproduce its own Table 2. What stands
here was fitted to the public evaluation form of the study group; it agrees with Table 2 and the
guideline example, but the authors have not published it. Every result says so. In men the waist
coefficient is negative: waist is never offered to a man as something to change.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import MappingProxyType

from inference.domain.population import Population, Range, check_truth

CHINA_PAR = Population(
    formula="China-PAR 2016 (fitted coefficients)",
    source="Yang X et al. Circulation 2016;134:1430-1440; ranges of the study group's form",
    ranges=MappingProxyType(
        {
            "age_a": Range(low=35, high=74, unit="a"),
            "sbp_mmhg": Range(low=70, high=200, unit="mm[Hg]"),
            "total_cholesterol_mg_dl": Range(low=80, high=400, unit="mg/dL"),
            "hdl_cholesterol_mg_dl": Range(low=20, high=130, unit="mg/dL"),
            "waist_cm": Range(low=50, high=130, unit="cm"),
        }
    ),
)
CAVEAT = "coefficients fitted to the study group's public form, not published by the authors"
VARIANT = "site-fitted"


@dataclass(frozen=True, kw_only=True)
class ChinaParInput:
    """Facts of one Chinese adult; ``is_urban`` and ``has_family_history`` count in men only."""

    sex: str
    age_a: float
    sbp_mmhg: float
    is_bp_treated: bool
    total_cholesterol_mg_dl: float
    hdl_cholesterol_mg_dl: float
    waist_cm: float
    is_smoker: bool
    has_diabetes: bool
    lives_north: bool
    is_urban: bool | None = None
    has_family_history: bool | None = None


@dataclass(frozen=True, kw_only=True)
class ChinaParResult:
    """The risk as a fraction, its band, and the caveat that always goes with it."""

    risk: float
    category: str
    caveat: str = CAVEAT


_MEN = MappingProxyType(
    {"age": 32.344877, "treated": 27.704396, "untreated": 26.455809, "tc": 0.619958,
     "hdl": -0.700506, "waist": -0.717373, "smoker": 3.976209, "diabetes": 0.356826,
     "north": 0.478726, "urban": -0.162623, "family": 6.228884, "age_treated": -6.093602,
     "age_untreated": -5.804677, "age_smoker": -0.943908, "age_family": -1.536263,
     "intercept": -145.726914}
)  # fmt: skip
_WOMEN = MappingProxyType(
    {"age": 25.266747, "treated": 21.036129, "untreated": 20.290294, "tc": 0.064764,
     "hdl": -0.212145, "waist": 1.469891, "smoker": 0.496938, "diabetes": 0.570571,
     "north": 0.545760, "urban": 0.0, "family": 0.0, "age_treated": -4.609343,
     "age_untreated": -4.436694, "age_smoker": 0.0, "age_family": 0.0,
     "intercept": -123.071553}
)  # fmt: skip


def china_par_risk(facts: ChinaParInput) -> ChinaParResult:
    """Return the 10-year risk and its band (below 5 % low, below 10 % moderate, else high).

    Raises
    ------
    PopulationError
        Outside 35 to 74 years or the form's ranges; a fact the equation needs is missing.
    """
    _check(facts)
    c = _MEN if facts.sex == "M" else _WOMEN
    ln_age, ln_sbp = math.log(facts.age_a), math.log(facts.sbp_mmhg)
    pressure = "treated" if facts.is_bp_treated else "untreated"
    z = (
        c["intercept"]
        + c["age"] * ln_age
        + (c[pressure] + c[f"age_{pressure}"] * ln_age) * ln_sbp
        + c["tc"] * math.log(facts.total_cholesterol_mg_dl)
        + c["hdl"] * math.log(facts.hdl_cholesterol_mg_dl)
        + c["waist"] * math.log(facts.waist_cm)
        + (c["smoker"] + c["age_smoker"] * ln_age) * facts.is_smoker
        + c["diabetes"] * facts.has_diabetes
        + c["north"] * facts.lives_north
        + c["urban"] * bool(facts.is_urban)
        + (c["family"] + c["age_family"] * ln_age) * bool(facts.has_family_history)
    )
    risk = 1 - math.exp(-math.exp(z))
    category = "low" if risk < 0.05 else "moderate" if risk < 0.10 else "high"
    return ChinaParResult(risk=risk, category=category)


def ideal_risk(facts: ChinaParInput) -> ChinaParResult:
    """Return the risk of the same person at the form's ideal thresholds.

    Total cholesterol 200 mg/dL, HDL 40 mg/dL, 120 mmHg untreated, waist 90 cm (men) or 85 cm
    (women), no smoking, diabetes or family history; age, sex and residence stay.

    Raises
    ------
    PopulationError
    """
    return china_par_risk(
        replace(
            facts,
            total_cholesterol_mg_dl=200.0,
            hdl_cholesterol_mg_dl=40.0,
            sbp_mmhg=120.0,
            is_bp_treated=False,
            waist_cm=90.0 if facts.sex == "M" else 85.0,
            is_smoker=False,
            has_diabetes=False,
            has_family_history=None if facts.has_family_history is None else False,
        )
    )


def _check(facts: ChinaParInput) -> None:
    CHINA_PAR.check_choice("sex", facts.sex, ("F", "M"))
    CHINA_PAR.check(
        age_a=facts.age_a,
        sbp_mmhg=facts.sbp_mmhg,
        total_cholesterol_mg_dl=facts.total_cholesterol_mg_dl,
        hdl_cholesterol_mg_dl=facts.hdl_cholesterol_mg_dl,
        waist_cm=facts.waist_cm,
    )
    asked: dict[str, object] = {
        "is_bp_treated": facts.is_bp_treated,
        "is_smoker": facts.is_smoker,
        "has_diabetes": facts.has_diabetes,
        "lives_north": facts.lives_north,
    }
    if facts.sex == "M":
        asked |= {"is_urban": facts.is_urban, "has_family_history": facts.has_family_history}
    check_truth(CHINA_PAR.formula, **asked)
