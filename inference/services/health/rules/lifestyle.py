"""Activity and diet against published recommendations: WHO 2020, Healthy Eating Index 2015."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from inference.domain.care_errors import PopulationError
from inference.domain.population import Population, Range

WHO_ACTIVITY = Population(
    formula="WHO physical activity 2020, adults",
    source="WHO guidelines on physical activity and sedentary behaviour, Geneva 2020",
    ranges=MappingProxyType(
        {
            "moderate_min_week": Range(low=0, high=10_080, unit="min"),
            "vigorous_min_week": Range(low=0, high=10_080, unit="min"),
        }
    ),
)
WHO_RECOMMENDATIONS: MappingProxyType[str, dict[str, Any]] = MappingProxyType(
    {
        "adult": {
            "moderate_min_wk": (150, 300),
            "vigorous_min_wk": (75, 150),
            "equivalence": "1 vigorous = 2 moderate",
            "strength_days": 2,
        },
        "older65": {"balance_days": 3},
        "child5_17": {"mvpa_min_day_avg": 60, "vigorous_days": 3},
    }
)
MINUTES_IN_WEEK = 10_080


def moderate_equivalent_min(moderate_min_week: float, vigorous_min_week: float) -> float:
    """Return a week's minutes in moderate ones; a vigorous minute counts twice.

    Raises
    ------
    PopulationError
        Negative, not a number, or more minutes than a week has.
    """
    WHO_ACTIVITY.check(moderate_min_week=moderate_min_week, vigorous_min_week=vigorous_min_week)
    if moderate_min_week + vigorous_min_week > MINUTES_IN_WEEK:
        raise PopulationError(
            formula=WHO_ACTIVITY.formula,
            field="minutes together",
            value=moderate_min_week + vigorous_min_week,
            studied=f"at most {MINUTES_IN_WEEK} min in a week",
        )
    return moderate_min_week + 2 * vigorous_min_week


def meets_aerobic_minimum(moderate_min_week: float, vigorous_min_week: float) -> bool:
    """Whether an adult's week reaches 150 moderate-equivalent minutes.

    Raises
    ------
    PopulationError
    """
    minimum = WHO_RECOMMENDATIONS["adult"]["moderate_min_wk"][0]
    return bool(moderate_equivalent_min(moderate_min_week, vigorous_min_week) >= minimum)


HEI_SOURCE = "HEI-2015 Table 1 (NCI); HEI-2020 keeps components and standards for ages 2 and over"

HEI_COMPONENTS: MappingProxyType[str, tuple[float, float, float, str]] = MappingProxyType(
    {
        "total_fruit": (5, 0.0, 0.8, "cup eq per 1000 kcal"),
        "whole_fruit": (5, 0.0, 0.4, "cup eq per 1000 kcal"),
        "total_vegetables": (5, 0.0, 1.1, "cup eq per 1000 kcal"),
        "greens_and_beans": (5, 0.0, 0.2, "cup eq per 1000 kcal"),
        "whole_grains": (10, 0.0, 1.5, "oz eq per 1000 kcal"),
        "dairy": (10, 0.0, 1.3, "cup eq per 1000 kcal"),
        "total_protein": (5, 0.0, 2.5, "oz eq per 1000 kcal"),
        "seafood_plant_protein": (5, 0.0, 0.8, "oz eq per 1000 kcal"),
        "fatty_acids": (10, 1.2, 2.5, "(PUFA + MUFA) / SFA"),
        "refined_grains": (10, 4.3, 1.8, "oz eq per 1000 kcal"),
        "sodium_g": (10, 2.0, 1.1, "g per 1000 kcal"),
        "added_sugars_pct": (10, 26.0, 6.5, "% of energy"),
        "saturated_fat_pct": (10, 16.0, 8.0, "% of energy"),
    }
)
"""Component: highest score, amount that scores 0, amount that scores the highest, unit."""

HEI_OTHER_NAMES = MappingProxyType(
    {
        "total_fruits": "total_fruit", "whole_fruits": "whole_fruit",
        "total_veg": "total_vegetables", "vegetables": "total_vegetables",
        "greens_beans": "greens_and_beans", "total_protein_foods": "total_protein",
        "seafood_and_plant_proteins": "seafood_plant_protein",
        "seafood_plant": "seafood_plant_protein", "sodium": "sodium_g",
        "added_sugars": "added_sugars_pct", "saturated_fats": "saturated_fat_pct",
        "saturated_fats_pct": "saturated_fat_pct", "saturated_fat": "saturated_fat_pct",
    }
)  # fmt: skip


def hei_component_score(component: str, amount: float) -> float:
    """Return the score of one component, linear between its two standards.

    The score is bounded by the index itself (0 and the highest): that is its definition, not a
    correction of the amount.

    Raises
    ------
    PopulationError
        No such component, or an amount that is negative or not a number.
    """
    name = HEI_OTHER_NAMES.get(component, component)
    if name not in HEI_COMPONENTS:
        raise PopulationError(
            formula="HEI-2015", field="component", value=component,
            studied=", ".join(HEI_COMPONENTS),
        )  # fmt: skip
    highest, at_zero, at_highest, unit = HEI_COMPONENTS[name]
    Population(
        formula="HEI-2015", source=HEI_SOURCE, ranges={name: Range(low=0, high=1e4, unit=unit)}
    ).check(**{name: amount})
    share = (amount - at_zero) / (at_highest - at_zero)
    return highest * min(max(share, 0.0), 1.0)
