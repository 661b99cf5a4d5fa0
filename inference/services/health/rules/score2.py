"""SCORE2 (40 to 69 years), SCORE2-OP (70 to 89) and SCORE2 Asia-Pacific (40 to 69).

10-year risk of fatal and non-fatal cardiovascular events, by risk region; not for people with
known cardiovascular disease. Cholesterol in mmol/L.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType

from inference.domain.care_errors import PopulationError
from inference.domain.population import Population, Range, check_truth

_SHARED_RANGES = {
    "sbp_mmhg": Range(low=100, high=180, unit="mm[Hg]", is_open_above=True),
    "total_cholesterol_mmol_l": Range(low=3.0, high=9.0, unit="mmol/L"),
    "hdl_cholesterol_mmol_l": Range(low=0.7, high=2.5, unit="mmol/L"),
}
"""Around what the published charts show; the papers print no input range of their own."""

SCORE2 = Population(
    formula="SCORE2 2021",
    source="SCORE2 working group, Eur Heart J 2021;42:2439-2454, doi:10.1093/eurheartj/ehab309",
    ranges=MappingProxyType(
        {"age_a": Range(low=40, high=70, unit="a", is_open_above=True)} | _SHARED_RANGES
    ),
)
SCORE2_OP = Population(
    formula="SCORE2-OP 2021",
    source="SCORE2-OP working group, Eur Heart J 2021;42:2455-2467, doi:10.1093/eurheartj/ehab312",
    ranges=MappingProxyType(
        {"age_a": Range(low=70, high=90, unit="a", is_open_above=True)} | _SHARED_RANGES
    ),
)
SCORE2_AP = Population(
    formula="SCORE2 Asia-Pacific 2024",
    source="SCORE2 Asia-Pacific group, Eur Heart J 2024, doi:10.1093/eurheartj/ehae609",
    ranges=SCORE2.ranges,
)
REGIONS = ("low", "moderate", "high", "very high")


@dataclass(frozen=True, kw_only=True)
class Score2Input:
    """Facts of one adult; ``region`` is one of `REGIONS`.

    SCORE2 itself is for people without diabetes; the published equations carry the term.
    """

    sex: str
    age_a: float
    is_smoker: bool
    sbp_mmhg: float
    total_cholesterol_mmol_l: float
    hdl_cholesterol_mmol_l: float
    region: str
    has_diabetes: bool = False


# Order: age, smoker, sbp, diabetes, total cholesterol, HDL, then each of the last five x age, S0.
_SCORE2 = MappingProxyType(
    {
        "M": (0.3742, 0.6012, 0.2777, 0.6457, 0.1458, -0.2698,
              -0.0755, -0.0255, -0.0983, -0.0281, 0.0426, 0.9605),
        "F": (0.4648, 0.7744, 0.3131, 0.8096, 0.1002, -0.2606,
              -0.1088, -0.0277, -0.1272, -0.0226, 0.0613, 0.9776),
    }
)  # fmt: skip
_SCORE2_OP = MappingProxyType(
    {
        "M": (0.0634, 0.3524, 0.0094, 0.4245, 0.0850, -0.3564,
              -0.0247, -0.0005, -0.0174, 0.0073, 0.0091, 0.7576),
        "F": (0.0789, 0.4921, 0.0102, 0.6010, 0.0605, -0.3040,
              -0.0255, -0.0004, -0.0107, -0.0009, 0.0154, 0.8082),
    }
)  # fmt: skip
_OP_MEAN = MappingProxyType({"M": 0.0929, "F": 0.2290})
_SCALES = MappingProxyType(
    {
        ("low", "M"): (-0.5699, 0.7476), ("low", "F"): (-0.7380, 0.7019),
        ("moderate", "M"): (-0.1565, 0.8009), ("moderate", "F"): (-0.3143, 0.7701),
        ("high", "M"): (0.3207, 0.9360), ("high", "F"): (0.5710, 0.9369),
        ("very high", "M"): (0.5836, 0.8294), ("very high", "F"): (0.9412, 0.8329),
    }
)  # fmt: skip
_SCALES_OP = MappingProxyType(
    {
        ("low", "M"): (-0.34, 1.19), ("low", "F"): (-0.52, 1.01),
        ("moderate", "M"): (0.01, 1.25), ("moderate", "F"): (-0.10, 1.10),
        ("high", "M"): (0.08, 1.15), ("high", "F"): (0.38, 1.09),
        ("very high", "M"): (0.05, 0.70), ("very high", "F"): (0.38, 0.69),
    }
)  # fmt: skip
_SCALES_AP = MappingProxyType(
    {
        ("low", "M"): (-0.375229965, 0.62020875), ("low", "F"): (-0.986572446, 0.536743779),
        ("moderate", "M"): (0.284885676, 0.778128607), ("moderate", "F"): (0.08278687, 0.718980326),
        ("high", "M"): (0.778231091, 0.844985356), ("high", "F"): (0.611474287, 0.703624072),
        ("very high", "M"): (0.608975204, 0.679014197),
        ("very high", "F"): (0.502751798, 0.555577072),
    }
)  # fmt: skip


def score2_risk(facts: Score2Input) -> float:
    """Return the 10-year risk as a fraction: SCORE2 below 70 years, SCORE2-OP from 70 on.

    Raises
    ------
    PopulationError
    """
    if facts.age_a >= 70:
        _check(facts, SCORE2_OP)
        c = _SCORE2_OP[facts.sex]
        total = _total(
            c,
            facts,
            age=facts.age_a - 73,
            sbp=facts.sbp_mmhg - 150,
            tc=facts.total_cholesterol_mmol_l - 6,
            hdl=facts.hdl_cholesterol_mmol_l - 1.4,
        )
        raw = 1 - c[-1] ** math.exp(total - _OP_MEAN[facts.sex])
        return _recalibrated(raw, _SCALES_OP[facts.region, facts.sex])
    _check(facts, SCORE2)
    return _recalibrated(_score2_raw(facts), _SCALES[facts.region, facts.sex])


def score2_asia_pacific_risk(facts: Score2Input) -> float:
    """Return the 10-year risk as a fraction, with the Asia-Pacific recalibration.

    Raises
    ------
    PopulationError
    """
    _check(facts, SCORE2_AP)
    return _recalibrated(_score2_raw(facts), _SCALES_AP[facts.region, facts.sex])


def _score2_raw(facts: Score2Input) -> float:
    c = _SCORE2[facts.sex]
    total = _total(
        c,
        facts,
        age=(facts.age_a - 60) / 5,
        sbp=(facts.sbp_mmhg - 120) / 20,
        tc=facts.total_cholesterol_mmol_l - 6,
        hdl=(facts.hdl_cholesterol_mmol_l - 1.3) / 0.5,
    )
    return float(1 - c[-1] ** math.exp(total))


def _total(
    c: tuple[float, ...], facts: Score2Input, *, age: float, sbp: float, tc: float, hdl: float
) -> float:
    others = (float(facts.is_smoker), sbp, float(facts.has_diabetes), tc, hdl)
    main = c[0] * age + sum(k * x for k, x in zip(c[1:6], others, strict=True))
    return main + sum(k * x * age for k, x in zip(c[6:11], others, strict=True))


def _recalibrated(raw: float, scale: tuple[float, float]) -> float:
    return 1 - math.exp(-math.exp(scale[0] + scale[1] * math.log(-math.log(1 - raw))))


def _check(facts: Score2Input, population: Population) -> None:
    population.check_choice("sex", facts.sex, ("F", "M"))
    population.check_choice("region", facts.region, REGIONS)
    population.check(
        age_a=facts.age_a,
        sbp_mmhg=facts.sbp_mmhg,
        total_cholesterol_mmol_l=facts.total_cholesterol_mmol_l,
        hdl_cholesterol_mmol_l=facts.hdl_cholesterol_mmol_l,
    )
    check_truth(population.formula, is_smoker=facts.is_smoker, has_diabetes=facts.has_diabetes)
    if facts.hdl_cholesterol_mmol_l >= facts.total_cholesterol_mmol_l:
        raise PopulationError(
            formula=population.formula,
            field="hdl_cholesterol_mmol_l",
            value=facts.hdl_cholesterol_mmol_l,
            studied="less than total cholesterol",
        )
