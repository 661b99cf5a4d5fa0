"""Between a dose rate per kilogram and a pump's mL/h; every factor is in the name of its unit."""

from __future__ import annotations

from dataclasses import dataclass

from inference.domain.care_errors import QuantityError
from inference.domain.quantities import Quantity, check_number

MIN_IN_H = 60
UG_IN_MG = 1000


@dataclass(frozen=True, kw_only=True)
class Solution:
    """What is in the syringe or bag: an amount of drug in a volume."""

    drug_mg: float
    volume_ml: float

    @property
    def concentration_ug_per_ml(self) -> float:
        """Micrograms in each millilitre."""
        for field, value, unit in (
            ("drug_mg", self.drug_mg, "mg"),
            ("volume_ml", self.volume_ml, "mL"),
        ):
            if check_number(field, value, unit) <= 0:
                raise QuantityError(field=field, value=value, unit=unit, problem="must be above 0")
        return self.drug_mg * UG_IN_MG / self.volume_ml


def rate_ml_per_h(dose_ug_per_kg_min: float, weight_kg: float, solution: Solution) -> float:
    """Return the pump rate of a weight-based dose rate.

    Raises
    ------
    QuantityError
        Not a number, negative, or a weight or concentration of zero.
    """
    dose = _positive("dose_ug_per_kg_min", dose_ug_per_kg_min, "ug/kg/min", is_zero_fine=True)
    weight = _positive("weight_kg", weight_kg, "kg")
    return dose * weight * MIN_IN_H / solution.concentration_ug_per_ml


def dose_ug_per_kg_min(rate: float, weight_kg: float, solution: Solution) -> float:
    """Return the dose rate that a pump rate in mL/h gives.

    Raises
    ------
    QuantityError
    """
    rate = _positive("rate_ml_per_h", rate, "mL/h", is_zero_fine=True)
    weight = _positive("weight_kg", weight_kg, "kg")
    return rate * solution.concentration_ug_per_ml / (weight * MIN_IN_H)


def pump_rate(dose: Quantity, weight: Quantity, solution: Solution) -> Quantity:
    """Return mL/h for a dose in ug/kg/min and a weight in kg; any other unit is refused.

    Raises
    ------
    QuantityError
    """
    rate = rate_ml_per_h(
        dose.in_unit("ug/kg/min", field="dose"), weight.in_unit("kg", field="weight"), solution
    )
    return Quantity(value=rate, unit="mL/h", kind="pump rate")


def _positive(field: str, value: float, unit: str, *, is_zero_fine: bool = False) -> float:
    number = check_number(field, value, unit)
    if number < 0 or (number == 0 and not is_zero_fine):
        raise QuantityError(field=field, value=value, unit=unit, problem="must be above 0")
    return number
