"""A three-compartment model with an effect site: its rate constants and its exact solution.

The state is linear in the dose, so every step is a matrix exponential, not an approximation of it.
Amounts are in mg (or ug), volumes in L, times in min; a concentration is then mg/L = ug/mL
(ug/L = ng/mL).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import expm

from inference.domain.care_errors import PopulationError

Float64 = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Compartments:
    """Parameters of one person.

    Attributes
    ----------
    variant : model and choice of ke0, as it is shown ("propofol Marsh, ke0 0.26/min")
    v1_l, v2_l, v3_l : volumes; cl1, cl2, cl3_l_per_min : elimination and the two exchanges
    ke0_per_min : effect site; None where the source gives none
    """

    variant: str
    v1_l: float
    v2_l: float
    v3_l: float
    cl1_l_per_min: float
    cl2_l_per_min: float
    cl3_l_per_min: float
    ke0_per_min: float | None = None

    @property
    def rates(self) -> Rates:
        """The rate constants in 1/min."""
        return Rates(
            k10=self.cl1_l_per_min / self.v1_l,
            k12=self.cl2_l_per_min / self.v1_l,
            k13=self.cl3_l_per_min / self.v1_l,
            k21=self.cl2_l_per_min / self.v2_l,
            k31=self.cl3_l_per_min / self.v3_l,
        )


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Rate constants in 1/min."""

    k10: float
    k12: float
    k13: float
    k21: float
    k31: float

    def matrix(self) -> Float64:
        """Return (3, 3): d(amounts)/dt = matrix @ amounts."""
        return np.array(
            [
                [-(self.k10 + self.k12 + self.k13), self.k21, self.k31],
                [self.k12, -self.k21, 0.0],
                [self.k13, 0.0, -self.k31],
            ]
        )

    def exponents(self) -> tuple[float, float, float]:
        """Return the three disposition exponents in 1/min, largest first.

        They are the negated eigenvalues; a compartment system that only exchanges and eliminates
        has real, positive ones.

        Raises
        ------
        PopulationError
            A rate constant is negative or not finite.
        """
        for name, rate in vars(self).items():
            if not np.isfinite(rate) or rate < 0:
                raise PopulationError(
                    formula="compartments", field=name, value=rate, studied="0 or more per min"
                )
        first, second, third = sorted(-np.linalg.eigvals(self.matrix()).real, reverse=True)
        return float(first), float(second), float(third)


@dataclass(frozen=True, kw_only=True)
class Dosing:
    """What is given: a bolus at time 0 and constant rates, amounts in mg or ug.

    Attributes
    ----------
    bolus : amount into the central compartment at time 0
    rates : (start_min, end_min, amount per min); they may overlap and then add up
    """

    bolus: float = 0.0
    rates: tuple[tuple[float, float, float], ...] = ()

    def rate_at(self, minute: float) -> float:
        """Amount per min just after this time."""
        return sum(rate for start, end, rate in self.rates if start <= minute < end)


@dataclass(frozen=True, kw_only=True)
class Course:
    """Concentrations over time: amount unit per L; ``effect_site`` None without a ke0."""

    times_min: tuple[float, ...]
    plasma: tuple[float, ...]
    effect_site: tuple[float, ...] | None


def simulate(person: Compartments, dosing: Dosing, times_min: Sequence[float]) -> Course:
    """Solve the system exactly at the asked times.

    Parameters
    ----------
    times_min : not before 0, ascending

    Raises
    ------
    PopulationError
        A time before 0 or out of order, a negative or infinite dose.
    """
    _check(dosing, times_min)
    system = _system(person)
    edges = {0.0, *times_min}
    for start, end, _ in dosing.rates:
        edges |= {start, end}
    moments = sorted(edge for edge in edges if 0 <= edge <= max(times_min, default=0.0))
    state = np.zeros(system.shape[0])  # amounts 1 to 3, effect-site concentration, infusion rate
    state[0] = dosing.bolus
    found = {0.0: state}
    for early, late in pairwise(moments):
        state = state.copy()
        state[-1] = dosing.rate_at(early)
        state = expm(system * (late - early)) @ state
        found[late] = state
    plasma = tuple(float(found[t][0] / person.v1_l) for t in times_min)
    effect = None if person.ke0_per_min is None else tuple(float(found[t][3]) for t in times_min)
    return Course(times_min=tuple(times_min), plasma=plasma, effect_site=effect)


def _system(person: Compartments) -> Float64:
    """Return (5, 5): amounts 1 to 3, effect site, and the constant infusion rate as a state."""
    ke0 = person.ke0_per_min or 0.0
    system = np.zeros((5, 5))
    system[:3, :3] = person.rates.matrix()
    system[0, 4] = 1.0
    system[3, 0] = ke0 / person.v1_l
    system[3, 3] = -ke0
    return system


def _check(dosing: Dosing, times_min: Sequence[float]) -> None:
    numbers = [dosing.bolus, *(value for row in dosing.rates for value in row), *times_min]
    if any(not np.isfinite(number) or number < 0 for number in numbers):
        raise PopulationError(
            formula="compartments", field="dose or time", value=numbers, studied="0 or more"
        )
    if any(late <= early for early, late in pairwise(times_min)):
        raise PopulationError(
            formula="compartments", field="times_min", value=list(times_min), studied="ascending"
        )
    if any(end <= start for start, end, _ in dosing.rates):
        raise PopulationError(
            formula="compartments", field="rates", value=dosing.rates, studied="end after start"
        )
