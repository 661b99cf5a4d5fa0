"""Observations that come from other systems: which units a known measurement may have.

A number with the wrong unit is a wrong number: 88 umol/L of creatinine is healthy, 88 mg/dL is
not survived. What has no entry here may have any unit this service knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from inference.domain.quantities import UNITS

LOINC_UNITS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "2160-0": frozenset({"mg/dL", "umol/L"}),  # Creatinine in serum or plasma
        "2345-7": frozenset({"mg/dL", "mmol/L"}),  # Glucose in serum or plasma
        "2823-3": frozenset({"mmol/L"}),  # Potassium in serum or plasma
        "718-7": frozenset({"g/dL"}),  # Haemoglobin in blood
        "8867-4": frozenset({"/min"}),  # Heart rate
        "9279-1": frozenset({"/min"}),  # Respiratory rate
        "8480-6": frozenset({"mm[Hg]", "kPa"}),  # Systolic blood pressure
        "8462-4": frozenset({"mm[Hg]", "kPa"}),  # Diastolic blood pressure
        "8310-5": frozenset({"Cel", "[degF]"}),  # Body temperature
        "59408-5": frozenset({"%"}),  # Oxygen saturation by pulse oximetry
        "29463-7": frozenset({"kg", "g", "[lb_av]"}),  # Body weight
        "8302-2": frozenset({"cm", "m", "[in_i]"}),  # Body height
    }
)
"""LOINC code to the UCUM units it may have; https://loinc.org names each code's property."""


def unit_problem(loinc: str, unit: str) -> str:
    """Return what is wrong with a unit; "" where it may stand. Units are UCUM, case sensitive."""
    allowed = LOINC_UNITS.get(loinc, UNITS)
    if unit in allowed:
        return ""
    if not unit:
        return "the unit is missing"
    if loinc in LOINC_UNITS:
        return f"unit {unit!r} is none of {', '.join(sorted(allowed))}, which LOINC {loinc} has"
    return f"unit {unit!r} is no UCUM unit that this service knows"
