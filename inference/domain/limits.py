"""Limits from outside any model: the smallest of independent caps binds, and is named.

A hard limit refuses; a soft limit asks for a reason and an identity. A parameter without a hard
upper limit has no proposal: "not in the library" means zero, not infinity. Nothing is clamped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from inference.domain.care_errors import (
    HardLimitError,
    LibraryError,
    LimitMissingError,
)
from inference.domain.population import Range
from inference.domain.quantities import Quantity

OVERRIDE_REASONS = (
    "clinical_condition_requires",
    "titrated_to_effect",
    "specialist_advice",
    "established_home_dose",
    "palliative_care",
)
"""Reasons a person may give for going beyond a soft limit; counted, see docs/care/safety.md."""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One entry of a library: the caps of one parameter in one care area.

    Attributes
    ----------
    parameter : what is limited ("propofol.infusion_rate")
    hard_high : refused above; ``hard_low`` : refused below (0 where nothing is said)
    soft_low, soft_high : None where there is no soft limit
    max_step, step_interval_s : largest change within an interval; None where not limited
    weight_kg, age_a : for whom; a person outside has no limit, so no proposal
    needs_two : a second, different person confirms
    """

    parameter: str
    unit: str
    care_area: str
    hard_high: float
    hard_low: float = 0.0
    soft_low: float | None = None
    soft_high: float | None = None
    max_step: float | None = None
    step_interval_s: float | None = None
    weight_kg: Range
    age_a: Range
    needs_two: bool = False
    source: str


@dataclass(frozen=True, kw_only=True)
class LimitLibrary:
    """A loaded library; only `inference.storage.limit_library` makes one that may be used.

    Attributes
    ----------
    sha256 : of the signed bytes
    signed_by : the persons whose signatures were verified; empty only for EXAMPLE data in a demo
    """

    name: str
    version: str
    sha256: str
    is_example: bool
    valid_from: datetime
    valid_until: datetime
    signed_by: tuple[str, ...]
    limits: tuple[Limit, ...]

    def check_valid(self, now: datetime) -> None:
        """Refuse outside its time of validity.

        Raises
        ------
        LibraryError
        """
        if not self.valid_from <= now < self.valid_until:
            raise LibraryError(
                library=f"{self.name} {self.version}",
                problem=f"is valid from {self.valid_from.isoformat()} to"
                f" {self.valid_until.isoformat()}, now is {now.isoformat()}",
            )


@dataclass(frozen=True, kw_only=True)
class Person:
    """What a limit needs to know of the patient; no identity."""

    weight_kg: float
    age_a: float


@dataclass(frozen=True, kw_only=True)
class Cap:
    """One independent upper bound; ``name`` is shown beside the value it bound."""

    name: str
    high: Quantity


@dataclass(frozen=True, kw_only=True)
class BoundLimit:
    """What one parameter may be, here and now.

    Attributes
    ----------
    high : the smallest cap, in ``unit``; ``high_from`` names it
    """

    parameter: str
    unit: str
    low: float
    high: float
    high_from: str
    soft_low: float | None
    soft_high: float | None
    needs_two: bool
    max_step: float | None = None
    step_interval_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Checked:
    """Values that are inside every hard limit; ``beyond_soft`` names those that need a reason."""

    beyond_soft: tuple[str, ...] = ()
    limits: Mapping[str, BoundLimit] = field(default_factory=dict)


def find_limit(
    library: LimitLibrary, parameter: str, *, care_area: str, person: Person, now: datetime
) -> Limit:
    """Return the one entry for this parameter, care area and person.

    Raises
    ------
    LibraryError
        The library is not valid now.
    LimitMissingError
        None fits, or more than one does.
    """
    library.check_valid(now)
    label = f"{library.name} {library.version}"
    named = [
        one for one in library.limits if (one.parameter, one.care_area) == (parameter, care_area)
    ]
    fitting = [
        one
        for one in named
        if one.weight_kg.holds(person.weight_kg) and one.age_a.holds(person.age_a)
    ]
    if len(fitting) != 1:
        if not named:
            problem = f"no entry in care area {care_area}"
        elif not fitting:
            problem = "no entry for this weight and age"
        else:
            problem = f"{len(fitting)} entries fit the same person"
        raise LimitMissingError(parameter=parameter, library=label, problem=problem)
    return fitting[0]


def bind(limit: Limit, caps: Sequence[Cap] = (), *, library: str = "") -> BoundLimit:
    """Combine the library's hard limit with the other caps: the smallest binds.

    Raises
    ------
    QuantityError
        A cap is in another unit.
    LimitMissingError
        A cap lies below the lowest allowed value: there is nothing left to propose.
    """
    every = [Cap(name="library hard limit", high=Quantity(value=limit.hard_high, unit=limit.unit))]
    every += list(caps)
    highs = [(cap.high.in_unit(limit.unit, field=f"cap {cap.name}"), cap.name) for cap in every]
    high, name = min(highs)
    if high < limit.hard_low:
        raise LimitMissingError(
            parameter=limit.parameter,
            library=library,
            problem=f"{name} allows {high:g} {limit.unit}, less than the lowest allowed"
            f" {limit.hard_low:g}",
        )
    return BoundLimit(
        parameter=limit.parameter,
        unit=limit.unit,
        low=limit.hard_low,
        high=high,
        high_from=name,
        soft_low=limit.soft_low,
        soft_high=limit.soft_high,
        needs_two=limit.needs_two,
        max_step=limit.max_step,
        step_interval_s=limit.step_interval_s,
    )


def check_values(values: Mapping[str, Quantity], limits: Mapping[str, BoundLimit]) -> Checked:
    """Check every proposed value against its bound; nothing is moved.

    Raises
    ------
    LimitMissingError
        A value has no limit, or there is no value at all.
    QuantityError
        A value is in another unit than its limit.
    HardLimitError
        A value is outside; ``cap`` names the rule that bound it.
    """
    if not values:
        raise LimitMissingError(parameter="(none)", library="", problem="there is no value")
    beyond: list[str] = []
    for parameter, proposed in values.items():
        limit = limits.get(parameter)
        if limit is None:
            raise LimitMissingError(parameter=parameter, library="", problem="no limit is bound")
        value = proposed.in_unit(limit.unit, field=parameter)
        if not limit.low <= value <= limit.high:
            cap = limit.high_from if value > limit.high else "library hard limit"
            raise HardLimitError(
                parameter=parameter, value=value, unit=limit.unit,
                low=limit.low, high=limit.high, cap=cap,
            )  # fmt: skip
        is_low = limit.soft_low is not None and value < limit.soft_low
        is_high = limit.soft_high is not None and value > limit.soft_high
        if is_low or is_high:
            beyond.append(parameter)
    return Checked(beyond_soft=tuple(beyond), limits=dict(limits))
