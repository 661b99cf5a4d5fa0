"""Adherence from dispensing records: CMA1, CMA2, CMA7 and CMA8, each named, none called "the" one.

CMA1 is a medication possession ratio and may exceed 1. CMA7 is the proportion of days covered with
supply carried over from before and inside the window. CMA8 moves the window's start to when earlier
supply is used up. A record says what was dispensed, not what was taken.

References
----------
Vollmer WM et al. BMC Health Serv Res 2012;12:155; Dima AL, Dediu D. PLoS One 2017;12:e0174426.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from inference.domain.care_errors import PopulationError

FORMULA = "continuous medication adherence"


@dataclass(frozen=True, kw_only=True)
class Fill:
    """One dispensing event: when, and for how many days at the prescribed dose."""

    on: date
    days: int


@dataclass(frozen=True, kw_only=True)
class Window:
    """The observation window [start, start + days)."""

    start: date
    days: int

    @property
    def end(self) -> date:
        """The first day after it."""
        return self.start + timedelta(days=self.days)


@dataclass(frozen=True, kw_only=True)
class Lagged:
    """CMA8 and by how many days its window was moved."""

    cma: float
    lag_days: int


def ordered(fills: Sequence[Fill]) -> tuple[Fill, ...]:
    """Return fills by date.

    Raises
    ------
    PopulationError
        None at all, or a supply that is not a whole number of days above 0.
    """
    if not fills:
        raise PopulationError(formula=FORMULA, field="fills", value=0, studied="one or more")
    for fill in fills:
        if isinstance(fill.days, bool) or not isinstance(fill.days, int) or fill.days <= 0:
            raise PopulationError(
                formula=FORMULA, field="days", value=fill.days, studied="whole days above 0"
            )
    return tuple(sorted(fills, key=lambda fill: fill.on))


def cma1(fills: Sequence[Fill], window: Window) -> float:
    """Return supply of all fills but the last, over the days from the first to the last.

    Raises
    ------
    PopulationError
        Fewer than two fills on different days in the window.
    """
    inside = _inside(fills, window)
    if len(inside) < 2 or inside[-1].on == inside[0].on:
        raise PopulationError(
            formula="CMA1", field="fills in the window", value=len(inside), studied="two or more"
        )
    return sum(fill.days for fill in inside[:-1]) / (inside[-1].on - inside[0].on).days


def cma2(fills: Sequence[Fill], window: Window) -> float:
    """Return supply of all fills, over the days from the first one to the window's end.

    Raises
    ------
    PopulationError
        No fill in the window.
    """
    inside = _inside(fills, window)
    if not inside:
        raise PopulationError(
            formula="CMA2", field="fills in the window", value=0, studied="one or more"
        )
    return sum(fill.days for fill in inside) / (window.end - inside[0].on).days


def cma7(fills: Sequence[Fill], window: Window) -> float:
    """Return the share of the window's days that are covered (PDC), supply carried over.

    Raises
    ------
    PopulationError
    """
    return covered_days(fills, window) / _checked(window).days


def cma8(fills: Sequence[Fill], window: Window) -> Lagged:
    """Return the share of covered days from when supply of before the window is used up.

    Raises
    ------
    PopulationError
        The earlier supply outlasts the window.
    """
    before = [end for fill, _, end in _use(ordered(fills)) if fill.on < window.start]
    lag = max(0, (max(before) - window.start).days) if before else 0
    if lag >= _checked(window).days:
        raise PopulationError(
            formula="CMA8", field="lag_days", value=lag, studied=f"below {window.days}"
        )
    later = Window(start=window.start + timedelta(days=lag), days=window.days - lag)
    return Lagged(cma=covered_days(fills, later) / later.days, lag_days=lag)


def covered_days(fills: Sequence[Fill], window: Window) -> int:
    """Return how many days of the window are covered, overlapping supply used one after another.

    Raises
    ------
    PopulationError
    """
    _checked(window)
    total = 0
    for _, start, end in _use(ordered(fills)):
        total += max(0, (min(end, window.end) - max(start, window.start)).days)
    return total


def start_of_use(fills: Sequence[Fill]) -> tuple[date, ...]:
    """Return the day on which each fill begins to be used, carry-over considered.

    Raises
    ------
    PopulationError
    """
    return tuple(start for _, start, _ in _use(ordered(fills)))


def _use(fills: tuple[Fill, ...]) -> list[tuple[Fill, date, date]]:
    """Give each fill its first day of use and the first day after it."""
    used: list[tuple[Fill, date, date]] = []
    for fill in fills:
        start = max(fill.on, used[-1][2]) if used else fill.on
        used.append((fill, start, start + timedelta(days=fill.days)))
    return used


def _inside(fills: Sequence[Fill], window: Window) -> list[Fill]:
    _checked(window)
    return [fill for fill in ordered(fills) if window.start <= fill.on < window.end]


def _checked(window: Window) -> Window:
    if window.days <= 0:
        raise PopulationError(
            formula=FORMULA, field="window", value=window.days, studied="one day or more"
        )
    return window
