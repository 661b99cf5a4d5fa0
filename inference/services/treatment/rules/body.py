"""Body size measures that the pharmacokinetic models need, each with where it fails."""

from __future__ import annotations

import math
from types import MappingProxyType

from inference.domain.care_errors import PopulationError
from inference.domain.population import Population, Range

BODY = Population(
    formula="body size",
    source="physical range; each model has its own narrower one",
    ranges=MappingProxyType(
        {
            "age_a": Range(low=0, high=120, unit="a"),
            "weight_kg": Range(low=0.5, high=350, unit="kg"),
            "height_cm": Range(low=30, high=250, unit="cm"),
        }
    ),
)


def bmi_kg_m2(weight_kg: float, height_cm: float) -> float:
    """Return the body mass index.

    Raises
    ------
    PopulationError
    """
    BODY.check(weight_kg=weight_kg, height_cm=height_cm)
    return weight_kg / (height_cm / 100) ** 2


def lean_mass_james_kg(weight_kg: float, height_cm: float, sex: str) -> float:
    """Lean body mass after James (1976), as Schnider and Minto use it.

    The parabola turns over: beyond its top a heavier person would get *less* lean mass, so weights
    beyond it are refused (BMI about 43 in men, 36 in women).

    Raises
    ------
    PopulationError

    References
    ----------
    James WPT. Research on obesity, HMSO 1976; the failure: Green B, Duffull SB, Br J Clin
    Pharmacol 2004;58:119-133.
    """
    BODY.check(weight_kg=weight_kg, height_cm=height_cm)
    BODY.check_choice("sex", sex, ("F", "M"))
    linear, square = (1.07, 148.0) if sex == "F" else (1.10, 128.0)
    top_kg = linear * height_cm**2 / (2 * square)
    if weight_kg > top_kg:
        raise PopulationError(
            formula="James lean body mass",
            field="weight_kg",
            value=weight_kg,
            studied=f"up to {top_kg:.1f} kg at {height_cm:g} cm, where the formula turns over",
        )
    return linear * weight_kg - square * (weight_kg / height_cm) ** 2


def fat_free_mass_al_sallami_kg(
    age_a: float, weight_kg: float, height_cm: float, sex: str
) -> float:
    """Fat-free mass after Al-Sallami (2015), children and adults, as the Eleveld models use it.

    Raises
    ------
    PopulationError

    References
    ----------
    Al-Sallami HS et al. Clin Pharmacokinet 2015;54:1169-1178.
    """
    BODY.check(age_a=age_a, weight_kg=weight_kg, height_cm=height_cm)
    BODY.check_choice("sex", sex, ("F", "M"))
    if sex == "M":
        maturation = 0.88 + (1 - 0.88) / (1 + _power(age_a / 13.4, -12.7))
        return _janmahasatian(maturation, 42.92, 30.93, weight_kg, height_cm)
    maturation = 1.11 + (1 - 1.11) / (1 + _power(age_a / 7.1, -1.1))
    return _janmahasatian(maturation, 37.99, 35.98, weight_kg, height_cm)


def fat_free_mass_janmahasatian_kg(weight_kg: float, height_cm: float, sex: str) -> float:
    """Fat-free mass of adults after Janmahasatian (2005).

    Raises
    ------
    PopulationError

    References
    ----------
    Janmahasatian S et al. Clin Pharmacokinet 2005;44:1051-1065.
    """
    BODY.check_choice("sex", sex, ("F", "M"))
    bmi = bmi_kg_m2(weight_kg, height_cm)
    if sex == "M":
        return 9270 * weight_kg / (6680 + 216 * bmi)
    return 9270 * weight_kg / (8780 + 244 * bmi)


def _janmahasatian(
    maturation: float, top: float, half: float, weight_kg: float, height_cm: float
) -> float:
    square_m2 = (height_cm / 100) ** 2
    return maturation * top * square_m2 * weight_kg / (half * square_m2 + weight_kg)


def _power(base: float, exponent: float) -> float:
    """Take a negative power; at zero (a newborn) it is infinite, not an error."""
    return math.inf if base == 0 else float(base**exponent)
