"""Remifentanil in three compartments: Minto, Eleveld, and Kim for obesity."""

from __future__ import annotations

import math
from types import MappingProxyType

from inference.domain.care_errors import PopulationError
from inference.domain.population import Population, Range
from inference.services.treatment.rules.body import (
    bmi_kg_m2,
    fat_free_mass_al_sallami_kg,
    lean_mass_james_kg,
)
from inference.services.treatment.rules.compartments import Compartments

MINTO = Population(
    formula="remifentanil Minto 1997",
    source="Minto CF et al. Anesthesiology 1997;86:10-23",
    ranges=MappingProxyType(
        {
            "age_a": Range(low=20, high=85, unit="a"),
            "weight_kg": Range(low=45, high=106, unit="kg"),
            "height_cm": Range(low=150, high=200, unit="cm"),
        }
    ),
)
ELEVELD_2017 = Population(
    formula="remifentanil Eleveld 2017",
    source="Eleveld DJ et al. Anesthesiology 2017;126:1005-1018",
    ranges=MappingProxyType(
        {
            "age_a": Range(low=0.01, high=85, unit="a"),
            "weight_kg": Range(low=2.5, high=106, unit="kg"),
            "height_cm": Range(low=45, high=200, unit="cm"),
        }
    ),
)
KIM_2017 = Population(
    formula="remifentanil Kim 2017",
    source="Kim TK et al. Anesthesiology 2017;126:1019-1032",
    ranges=MappingProxyType(
        {
            "age_a": Range(low=18, high=85, unit="a"),
            "weight_kg": Range(low=45, high=215, unit="kg"),
            "height_cm": Range(low=140, high=200, unit="cm"),
            "bmi_kg_m2": Range(low=30, high=80, unit="kg/m2"),
        }
    ),
)


def minto(age_a: float, weight_kg: float, height_cm: float, sex: str) -> Compartments:
    """Return Minto's parameters, effect site included.

    Raises
    ------
    PopulationError
        Outside the study, or where the lean-mass formula turns over.
    """
    MINTO.check(age_a=age_a, weight_kg=weight_kg, height_cm=height_cm)
    lean_kg = lean_mass_james_kg(weight_kg, height_cm, sex)
    years, lean = age_a - 40, lean_kg - 55
    return Compartments(
        variant=MINTO.formula,
        v1_l=5.1 - 0.0201 * years + 0.072 * lean,
        v2_l=9.82 - 0.0811 * years + 0.108 * lean,
        v3_l=5.42,
        cl1_l_per_min=2.6 - 0.0162 * years + 0.0191 * lean,
        cl2_l_per_min=2.05 - 0.0301 * years,
        cl3_l_per_min=0.076 - 0.00113 * years,
        ke0_per_min=0.595 - 0.007 * years,
    )


def eleveld_remifentanil(
    age_a: float, weight_kg: float, height_cm: float, sex: str
) -> Compartments:
    """Return Eleveld's parameters; the effect site's rate falls with age.

    Raises
    ------
    PopulationError
    """
    ELEVELD_2017.check(age_a=age_a, weight_kg=weight_kg, height_cm=height_cm)
    ELEVELD_2017.check_choice("sex", sex, ("F", "M"))
    theta = _ELEVELD_2017_THETA
    # The reference person of this model has full maturation: 42.92 without Al-Sallami's factor.
    reference_ffm = 42.92 * 1.7**2 * 70 / (30.93 * 1.7**2 + 70)
    size = fat_free_mass_al_sallami_kg(age_a, weight_kg, height_cm, sex) / reference_ffm
    half = theta[6] ** 2
    mature = (weight_kg**2 / (weight_kg**2 + half)) / (70**2 / (70**2 + half))
    age_v1, age_v2, age_v3 = (math.exp(theta[i] * (age_a - 35)) for i in (7, 8, 9))
    puberty = age_a**6 / (age_a**6 + 12**6)
    elderly = age_a**6 / (age_a**6 + 45**6)
    women = 1 + (sex == "F") * puberty * (1 - elderly) * theta[10]
    v2_share = size * age_v2 * women
    v3_share = size * age_v3 * math.exp(theta[11] * (weight_kg - 70))
    return Compartments(
        variant=ELEVELD_2017.formula,
        v1_l=math.exp(theta[0]) * size * age_v1,
        v2_l=math.exp(theta[1]) * v2_share,
        v3_l=math.exp(theta[2]) * v3_share,
        cl1_l_per_min=math.exp(theta[3]) * size**0.75 * age_v2 * women * mature,
        cl2_l_per_min=math.exp(theta[4]) * v2_share**0.75 * age_v1 * women,
        cl3_l_per_min=math.exp(theta[5]) * v3_share**0.75 * age_v1,
        ke0_per_min=1.09 * math.exp(-0.0289 * (age_a - 35)),
    )


def kim(age_a: float, weight_kg: float, height_cm: float, sex: str) -> Compartments:
    """Return Kim's parameters for BMI 30 and above; the source gives no effect site here.

    The fat-free mass is the one of the reference implementation (weight, not BMI, in the
    denominator): it is what the expected values were made with.

    Raises
    ------
    PopulationError
    """
    KIM_2017.check(age_a=age_a, weight_kg=weight_kg, height_cm=height_cm)
    KIM_2017.check(bmi_kg_m2=bmi_kg_m2(weight_kg, height_cm))
    KIM_2017.check_choice("sex", sex, ("F", "M"))
    top, slope = (6.68, 0.216) if sex == "M" else (8.78, 0.244)
    fat_free_kg = 9.27 * weight_kg / (top + slope * weight_kg)
    years = age_a - 37
    volume = 8.4 * (fat_free_kg / 52.3) ** 0.573 - 0.0936 * years
    if volume <= 0:
        raise PopulationError(
            formula=KIM_2017.formula, field="age_a", value=age_a, studied="a positive volume 2"
        )
    return Compartments(
        variant=KIM_2017.formula,
        v1_l=4.76 * (weight_kg / 74.5) ** 0.658,
        v2_l=volume,
        v3_l=4 - 0.0477 * years,
        cl1_l_per_min=2.77 * (weight_kg / 74.5) ** 0.336 - 0.0149 * years,
        cl2_l_per_min=1.94 - 0.028 * years,
        cl3_l_per_min=0.197,
    )


_ELEVELD_2017_THETA = (
    1.75911, 2.17717, 1.61445, 0.946257, 0.540315, -2.08388, 2.87898, -0.00554481,
    -0.00326985, -0.0315135, 0.470405, -0.0260496,
)  # fmt: skip
