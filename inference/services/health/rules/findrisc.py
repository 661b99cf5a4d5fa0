"""FINDRISC: points for the 10-year risk of type 2 diabetes (Lindström and Tuomilehto 2003).

The form of the Finnish Diabetes Association: age counts from 45 years on, and too few vegetables
give one point; copies with other numbers are about.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from inference.domain.population import Population, Range, check_truth

FINDRISC = Population(
    formula="FINDRISC",
    source="Lindström J, Tuomilehto J. Diabetes Care 2003;26:725-731; form of the Finnish"
    " Diabetes Association",
    ranges=MappingProxyType(
        {
            "age_a": Range(low=18, high=120, unit="a"),
            "bmi_kg_m2": Range(low=10, high=100, unit="kg/m2"),
            "waist_cm": Range(low=40, high=250, unit="cm"),
        }
    ),
)
FAMILY_POINTS = MappingProxyType({"none": 0, "second": 3, "first": 5})
"""Diabetes in a grandparent, uncle, aunt or cousin; in a parent, sibling or own child."""


@dataclass(frozen=True, kw_only=True)
class FindriscInput:
    """Answers of the form.

    Attributes
    ----------
    is_active : 30 min of activity a day; ``eats_vegetables`` : every day
    had_high_glucose : at an examination, in an illness, or in pregnancy
    family : one of `FAMILY_POINTS`
    """

    sex: str
    age_a: float
    bmi_kg_m2: float
    waist_cm: float
    is_active: bool
    eats_vegetables: bool
    takes_bp_medicine: bool
    had_high_glucose: bool
    family: str


def findrisc_points(answers: FindriscInput) -> int:
    """Return the points, 0 to 26.

    Raises
    ------
    PopulationError
    """
    FINDRISC.check_choice("sex", answers.sex, ("F", "M"))
    FINDRISC.check_choice("family", answers.family, tuple(FAMILY_POINTS))
    FINDRISC.check(age_a=answers.age_a, bmi_kg_m2=answers.bmi_kg_m2, waist_cm=answers.waist_cm)
    check_truth(
        FINDRISC.formula,
        is_active=answers.is_active,
        eats_vegetables=answers.eats_vegetables,
        takes_bp_medicine=answers.takes_bp_medicine,
        had_high_glucose=answers.had_high_glucose,
    )
    age = answers.age_a
    points = 4 if age >= 65 else 3 if age >= 55 else 2 if age >= 45 else 0
    points += 3 if answers.bmi_kg_m2 > 30 else 1 if answers.bmi_kg_m2 >= 25 else 0
    middle, wide = (94, 102) if answers.sex == "M" else (80, 88)
    points += 4 if answers.waist_cm > wide else 3 if answers.waist_cm >= middle else 0
    points += 0 if answers.is_active else 2
    points += 0 if answers.eats_vegetables else 1
    points += 2 if answers.takes_bp_medicine else 0
    points += 5 if answers.had_high_glucose else 0
    return points + FAMILY_POINTS[answers.family]


def findrisc_band(points: int) -> str:
    """Return the form's words for the 10-year risk."""
    for upper, band in ((7, "low"), (12, "slightly elevated"), (15, "moderate"), (21, "high")):
        if points < upper:
            return band
    return "very high"
