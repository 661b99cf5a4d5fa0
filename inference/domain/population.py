"""For whom a formula was derived; outside of it the formula refuses and says so."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from inference.domain.care_errors import PopulationError


@dataclass(frozen=True, kw_only=True)
class Range:
    """A closed interval, or [low, high) where ``is_open_above``; ``unit`` in UCUM."""

    low: float
    high: float
    unit: str
    is_open_above: bool = False

    def holds(self, value: float) -> bool:
        """Whether the value lies inside; NaN does not."""
        return self.low <= value and (
            value < self.high if self.is_open_above else value <= self.high
        )

    def __str__(self) -> str:
        return f"{self.low:g} to {'<' if self.is_open_above else ''}{self.high:g} {self.unit}"


@dataclass(frozen=True, kw_only=True)
class Population:
    """The ranges a formula's source studied.

    Attributes
    ----------
    formula : name and version, as the answer names it
    source : the publication
    ranges : field to its range
    """

    formula: str
    source: str
    ranges: Mapping[str, Range] = field(default_factory=dict)

    def check(self, **values: float) -> None:
        """Refuse the first value that is not a finite number inside its range.

        Raises
        ------
        PopulationError
        """
        for name, value in values.items():
            studied = self.ranges[name]
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not math.isfinite(value) or not studied.holds(value):
                raise PopulationError(
                    formula=self.formula, field=name, value=value, studied=str(studied)
                )

    def check_choice(self, name: str, value: object, allowed: tuple[str, ...]) -> None:
        """Refuse a word that is not one of the allowed ones.

        Raises
        ------
        PopulationError
        """
        if value not in allowed:
            raise PopulationError(
                formula=self.formula, field=name, value=value, studied=" or ".join(allowed)
            )


def check_truth(formula: str, **values: object) -> None:
    """Refuse anything but True and False: a missing answer is not a "no".

    Raises
    ------
    PopulationError
    """
    for name, value in values.items():
        if not isinstance(value, bool):
            raise PopulationError(formula=formula, field=name, value=value, studied="yes or no")
