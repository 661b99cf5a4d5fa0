"""10-year risk from United States cohorts: the pooled cohort equations and Framingham 2008."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from types import MappingProxyType

from inference.domain.population import Population, Range, check_truth

POOLED_COHORT = Population(
    formula="Pooled cohort equations 2013",
    source="Goff DC et al. J Am Coll Cardiol 2014;63:2935-2959, Table A",
    ranges=MappingProxyType(
        {
            "age_a": Range(low=40, high=79, unit="a"),
            "total_cholesterol_mg_dl": Range(low=130, high=320, unit="mg/dL"),
            "hdl_cholesterol_mg_dl": Range(low=20, high=100, unit="mg/dL"),
            "sbp_mmhg": Range(low=90, high=200, unit="mm[Hg]"),
        }
    ),
)
FRAMINGHAM_2008 = Population(
    formula="Framingham general CVD 2008",
    source="D'Agostino RB et al. Circulation 2008;117:743-753",
    ranges=MappingProxyType(
        {
            "age_a": Range(low=30, high=74, unit="a"),
            "total_cholesterol_mg_dl": Range(low=100, high=405, unit="mg/dL"),
            "hdl_cholesterol_mg_dl": Range(low=10, high=100, unit="mg/dL"),
            "sbp_mmhg": Range(low=90, high=200, unit="mm[Hg]"),
        }
    ),
)


@dataclass(frozen=True, kw_only=True)
class CohortInput:
    """Facts of one adult without known cardiovascular disease.

    Attributes
    ----------
    group : "WM", "WF", "AM", "AF" for the pooled cohort (white or African American, male or
        female); "M" or "F" for Framingham
    """

    group: str
    age_a: float
    total_cholesterol_mg_dl: float
    hdl_cholesterol_mg_dl: float
    sbp_mmhg: float
    is_bp_treated: bool
    is_smoker: bool
    has_diabetes: bool


POOLED_COEFFICIENTS = MappingProxyType(
    {
        "WM": {"age": 12.344, "tc": 11.853, "age_tc": -2.664, "hdl": -7.990, "age_hdl": 1.769,
               "treated": 1.797, "untreated": 1.764, "smoker": 7.837, "age_smoker": -1.795,
               "diabetes": 0.658, "mean": 61.18, "s0": 0.9144},
        "AM": {"age": 2.469, "tc": 0.302, "hdl": -0.307, "treated": 1.916, "untreated": 1.809,
               "smoker": 0.549, "diabetes": 0.645, "mean": 19.54, "s0": 0.8954},
        "WF": {"age": -29.799, "age2": 4.884, "tc": 13.540, "age_tc": -3.114, "hdl": -13.578,
               "age_hdl": 3.149, "treated": 2.019, "untreated": 1.957, "smoker": 7.574,
               "age_smoker": -1.665, "diabetes": 0.661, "mean": -29.18, "s0": 0.9665},
        "AF": {"age": 17.114, "tc": 0.940, "hdl": -18.920, "age_hdl": 4.475, "treated": 29.291,
               "age_treated": -6.432, "untreated": 27.820, "age_untreated": -6.087,
               "smoker": 0.691, "diabetes": 0.874, "mean": 86.61, "s0": 0.9533},
    }
)  # fmt: skip
"""Table A. Two traps in copies: the mean of African American women is 86.61 (not 86.16), and ln age
x ln TC of white women is negative."""

FRAMINGHAM_COEFFICIENTS = MappingProxyType(
    {
        "M": {"age": 3.06117, "tc": 1.12370, "hdl": -0.93263, "untreated": 1.93303,
              "treated": 1.99881, "smoker": 0.65451, "diabetes": 0.57367, "mean": 23.9802,
              "s0": 0.88936},
        "F": {"age": 2.32888, "tc": 1.20904, "hdl": -0.70833, "untreated": 2.76157,
              "treated": 2.82263, "smoker": 0.52873, "diabetes": 0.69154, "mean": 26.1931,
              "s0": 0.95012},
    }
)  # fmt: skip


def pooled_cohort_risk(facts: CohortInput) -> float:
    """Return the 10-year risk of a first hard ASCVD event as a fraction.

    Raises
    ------
    PopulationError
        Outside 40 to 79 years or the ranges of the equations; other ancestries have no equation.
    """
    return _risk(facts, POOLED_COHORT, POOLED_COEFFICIENTS)


def framingham_risk(facts: CohortInput) -> float:
    """Return the 10-year risk of any cardiovascular event as a fraction (Cox model, Table 2).

    Raises
    ------
    PopulationError
    """
    return _risk(facts, FRAMINGHAM_2008, FRAMINGHAM_COEFFICIENTS)


def _risk(
    facts: CohortInput,
    population: Population,
    coefficients: MappingProxyType[str, dict[str, float]],
) -> float:
    _check(facts, population, tuple(coefficients))
    c = coefficients[facts.group]
    ln_age = math.log(facts.age_a)
    ln_tc, ln_hdl = math.log(facts.total_cholesterol_mg_dl), math.log(facts.hdl_cholesterol_mg_dl)
    pressure = "treated" if facts.is_bp_treated else "untreated"
    ln_sbp = math.log(facts.sbp_mmhg)
    total = (
        c["age"] * ln_age
        + c.get("age2", 0.0) * ln_age**2
        + (c["tc"] + c.get("age_tc", 0.0) * ln_age) * ln_tc
        + (c["hdl"] + c.get("age_hdl", 0.0) * ln_age) * ln_hdl
        + (c[pressure] + c.get(f"age_{pressure}", 0.0) * ln_age) * ln_sbp
        + (c["smoker"] + c.get("age_smoker", 0.0) * ln_age) * facts.is_smoker
        + c["diabetes"] * facts.has_diabetes
    )
    return float(1 - c["s0"] ** math.exp(total - c["mean"]))


def _check(facts: CohortInput, population: Population, groups: tuple[str, ...]) -> None:
    population.check_choice("group", facts.group, groups)
    population.check(
        age_a=facts.age_a,
        total_cholesterol_mg_dl=facts.total_cholesterol_mg_dl,
        hdl_cholesterol_mg_dl=facts.hdl_cholesterol_mg_dl,
        sbp_mmhg=facts.sbp_mmhg,
    )
    check_truth(
        population.formula,
        is_bp_treated=facts.is_bp_treated,
        is_smoker=facts.is_smoker,
        has_diabetes=facts.has_diabetes,
    )


# Points sheet of the same publication, Tables 5 to 8. Each row: lower edges, then points.
_AGE_EDGES = (35, 40, 45, 50, 55, 60, 65, 70)
_HDL_EDGES = (35, 45, 50, 60)
_TC_EDGES = (160, 200, 240, 280)
_SBP_EDGES = (120, 130, 140, 150, 160)
_POINTS = MappingProxyType(
    {
        "M": {"age": (0, 2, 5, 6, 8, 10, 11, 12, 14), "hdl": (2, 1, 0, -1, -2),
              "tc": (0, 1, 2, 3, 4), "untreated": (-2, 0, 1, 2, 2, 3),
              "treated": (0, 2, 3, 4, 4, 5), "smoker": (0, 4), "diabetes": (0, 3)},
        "F": {"age": (0, 2, 4, 5, 7, 8, 9, 10, 11), "hdl": (2, 1, 0, -1, -2),
              "tc": (0, 1, 3, 4, 5), "untreated": (-3, 0, 1, 2, 4, 5),
              "treated": (-1, 2, 3, 5, 6, 7), "smoker": (0, 3), "diabetes": (0, 4)},
    }
)  # fmt: skip
_PERCENT = MappingProxyType(
    {
        "M": (-2, (1.1, 1.4, 1.6, 1.9, 2.3, 2.8, 3.3, 3.9, 4.7, 5.6, 6.7, 7.9, 9.4, 11.2, 13.2,
                   15.6, 18.4, 21.6, 25.3, 29.4)),
        "F": (-1, (1.0, 1.2, 1.5, 1.7, 2.0, 2.4, 2.8, 3.3, 3.9, 4.5, 5.3, 6.3, 7.3, 8.6, 10.0,
                   11.7, 13.7, 15.9, 18.5, 21.5, 24.8, 28.5)),
    }
)  # fmt: skip


def framingham_points(facts: CohortInput) -> int:
    """Return the points of the printed sheet.

    Raises
    ------
    PopulationError
    """
    _check(facts, FRAMINGHAM_2008, ("M", "F"))
    sheet = _POINTS[facts.group]
    pressure = "treated" if facts.is_bp_treated else "untreated"
    return (
        sheet["age"][bisect.bisect_right(_AGE_EDGES, facts.age_a)]
        + sheet["hdl"][bisect.bisect_right(_HDL_EDGES, facts.hdl_cholesterol_mg_dl)]
        + sheet["tc"][bisect.bisect_right(_TC_EDGES, facts.total_cholesterol_mg_dl)]
        + sheet[pressure][bisect.bisect_right(_SBP_EDGES, facts.sbp_mmhg)]
        + sheet["smoker"][int(facts.is_smoker)]
        + sheet["diabetes"][int(facts.has_diabetes)]
    )


def framingham_points_percent(facts: CohortInput) -> float | None:
    """Return the risk in percent that the sheet prints for the points; None below or above it.

    The sheet prints "<1 %" below its lowest and ">30 %" above its highest row.

    Raises
    ------
    PopulationError
    """
    first, percents = _PERCENT[facts.group]
    row = framingham_points(facts) - first
    return percents[row] if 0 <= row < len(percents) else None
