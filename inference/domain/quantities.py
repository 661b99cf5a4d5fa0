"""A number with its unit (UCUM, case sensitive) and what it is a measure of.

Units are never guessed and never converted on the way: a formula asks for its unit and refuses any
other. A person's other unit is brought over by a *named* rule, so that a report can say which
factor was used (cholesterol alone has two in print).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from inference.domain.care_errors import QuantityError

UNITS = frozenset(
    [
        "kg",
        "g",
        "mg",
        "ug",
        "ng",
        "[lb_av]",
        "[oz_av]",
        "L",
        "mL",
        "cm",
        "m",
        "mm",
        "[in_i]",
        "a",
        "mo",
        "d",
        "h",
        "min",
        "s",
        "mm[Hg]",
        "kPa",
        "/min",
        "%",
        "1",
        "Cel",
        "[degF]",
        "mmol/L",
        "umol/L",
        "mg/dL",
        "g/dL",
        "mg/g",
        "mg/mL",
        "ug/mL",
        "ng/mL",
        "ug/L",
        "mg/L",
        "mol/L",
        "mL/h",
        "mL/min",
        "mL/min/{1.73_m2}",
        "L/min",
        "mg/h",
        "mg/min",
        "ug/min",
        "mg/kg",
        "ug/kg",
        "mg/kg/h",
        "mg/kg/min",
        "ug/kg/min",
        "ug/kg/h",
        "[iU]",
        "[iU]/h",
        "[iU]/mL",
        "kg/m2",
        "N",
        "mm/s",
        "deg",
        "{score}",
    ]
)
"""The UCUM units this service knows; https://ucum.org/ucum, case sensitive form."""

NOT_UCUM = MappingProxyType(
    {
        "mcg": "ug", "µg": "ug", "μg": "ug", "gamma": "ug", "lb": "[lb_av]", "lbs": "[lb_av]",
        "pound": "[lb_av]", "KG": "kg", "Kg": "kg", "MG": "mg", "ml": "mL", "cc": "mL", "l": "L",
        "mmHg": "mm[Hg]", "bpm": "/min", "C": "Cel", "°C": "Cel", "years": "a", "y": "a",
        "U/h": "[iU]/h", "U": "[iU]", "IU": "[iU]", "mcg/kg/min": "ug/kg/min", "inch": "[in_i]",
        "ml/h": "mL/h", "mmol/l": "mmol/L", "mg/dl": "mg/dL",
    }
)  # fmt: skip
"""Spellings met in practice and the UCUM unit each may stand for; named in the refusal, not used:
"U" alone is the enzyme unit in UCUM, "MG" is read as megagram."""


@dataclass(frozen=True, kw_only=True)
class ConversionRule:
    """One allowed conversion: ``to = value * factor + offset``.

    Attributes
    ----------
    kind : what must be measured ("cholesterol"); "" where the factor holds for anything
    """

    name: str
    unit: str
    to_unit: str
    factor: float
    offset: float = 0.0
    kind: str = ""
    source: str


RULES: Mapping[str, ConversionRule] = MappingProxyType(
    {
        rule.name: rule
        for rule in (
            ConversionRule(name="pound_to_kilogram", unit="[lb_av]", to_unit="kg",
                factor=0.45359237, source="international avoirdupois pound, exact"),
            ConversionRule(name="gram_to_kilogram", unit="g", to_unit="kg", factor=1e-3,
                source="SI"),
            ConversionRule(name="milligram_to_microgram", unit="mg", to_unit="ug", factor=1e3,
                source="SI"),
            ConversionRule(name="microgram_to_milligram", unit="ug", to_unit="mg", factor=1e-3,
                source="SI"),
            ConversionRule(name="nanogram_to_microgram", unit="ng", to_unit="ug", factor=1e-3,
                source="SI"),
            ConversionRule(name="inch_to_centimetre", unit="[in_i]", to_unit="cm", factor=2.54,
                source="international inch, exact"),
            ConversionRule(name="metre_to_centimetre", unit="m", to_unit="cm", factor=100.0,
                source="SI"),
            ConversionRule(name="fahrenheit_to_celsius", unit="[degF]", to_unit="Cel",
                factor=5 / 9, offset=-160 / 9, source="definition"),
            ConversionRule(name="kilopascal_to_mmhg", unit="kPa", to_unit="mm[Hg]",
                factor=7.50061683, source="1 mmHg = 133.322387415 Pa"),
            ConversionRule(name="cholesterol_mg_dl_to_mmol_l_prevent", unit="mg/dL",
                to_unit="mmol/L", factor=0.02586, kind="cholesterol",
                source="PREVENT, Circulation 2024;149:430-449, supplement"),
            ConversionRule(name="cholesterol_mmol_l_to_mg_dl_chinapar", unit="mmol/L",
                to_unit="mg/dL", factor=1 / 0.0259, kind="cholesterol",
                source="China-PAR evaluation form"),
            ConversionRule(name="glucose_mg_dl_to_mmol_l", unit="mg/dL", to_unit="mmol/L",
                factor=1 / 18.016, kind="glucose", source="molar mass 180.16 g/mol"),
            ConversionRule(name="creatinine_umol_l_to_mg_dl", unit="umol/L", to_unit="mg/dL",
                factor=1 / 88.42, kind="creatinine", source="molar mass 113.12 g/mol"),
        )
    }
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A finite number in a UCUM unit.

    Attributes
    ----------
    value : in ``unit``
    kind : analyte or quantity ("cholesterol", "body weight"); rules that need one check it

    Raises
    ------
    QuantityError
        No number, not finite, or a unit that is not one of `UNITS`.
    """

    value: float
    unit: str
    kind: str = ""

    def __post_init__(self) -> None:
        check_number("quantity", self.value, self.unit)
        check_unit("quantity", self.value, self.unit)

    def in_unit(self, unit: str, *, field: str) -> float:
        """Return the number where it stands in this very unit.

        Raises
        ------
        QuantityError
            Any other unit, even one of the same dimension; convert it by a named rule first.
        """
        if self.unit != unit:
            rules = [r.name for r in RULES.values() if (r.unit, r.to_unit) == (self.unit, unit)]
            hint = f"; convert it by {' or '.join(rules)}" if rules else ""
            raise QuantityError(
                field=field, value=self.value, unit=self.unit, problem=f"wanted in {unit}{hint}"
            )
        return self.value

    def converted(self, rule_name: str, *, field: str) -> Quantity:
        """Apply one named rule.

        Raises
        ------
        QuantityError
            No such rule, or one for another unit or another measure.
        """
        rule = RULES.get(rule_name)
        if rule is None:
            raise QuantityError(
                field=field, value=self.value, unit=self.unit,
                problem=f"no conversion rule {rule_name}",
            )  # fmt: skip
        if rule.unit != self.unit or (rule.kind and rule.kind != self.kind):
            raise QuantityError(
                field=field, value=self.value, unit=self.unit,
                problem=f"rule {rule.name} is for {rule.kind or 'any measure'} in {rule.unit},"
                f" this is {self.kind or 'an unnamed measure'}",
            )  # fmt: skip
        value = self.value * rule.factor + rule.offset
        return Quantity(value=value, unit=rule.to_unit, kind=self.kind)


def quantity(field: str, value: Any, unit: Any, *, kind: str = "") -> Quantity:
    """Make a quantity from something read outside; the refusal names ``field``.

    Raises
    ------
    QuantityError
        A text, a truth value, NaN, an infinite number, or a unit that is missing or unknown.
    """
    number = check_number(field, value, unit)
    return Quantity(value=number, unit=check_unit(field, value, unit), kind=kind)


def check_number(field: str, value: Any, unit: Any = None) -> float:
    """Return a finite number.

    Raises
    ------
    QuantityError
        Anything else; a text is not read as a number ("41,7" has two readings).
    """
    said = unit if isinstance(unit, str) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise QuantityError(field=field, value=value, unit=said, problem="is not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise QuantityError(field=field, value=value, unit=said, problem="is not a finite number")
    return number


def check_unit(field: str, value: Any, unit: Any) -> str:
    """Return a known UCUM unit.

    Raises
    ------
    QuantityError
        Missing or unknown; a common misspelling is answered with what it may have meant.
    """
    if not isinstance(unit, str) or not unit:
        raise QuantityError(field=field, value=value, unit=None, problem="a unit is needed")
    if unit not in UNITS:
        meant = NOT_UCUM.get(unit)
        hint = f"; if {meant} is meant, write {meant}" if meant else ""
        raise QuantityError(
            field=field, value=value, unit=unit, problem=f"is not a known UCUM unit{hint}"
        )
    return unit
