"""Propofol in three compartments: Marsh, Schnider, Eleveld. The variant is part of every answer."""

from __future__ import annotations

import math
from types import MappingProxyType

from inference.domain.population import Population, Range
from inference.services.treatment.rules.body import (
    fat_free_mass_al_sallami_kg,
    lean_mass_james_kg,
)
from inference.services.treatment.rules.compartments import Compartments, Rates

MARSH = Population(
    formula="propofol Marsh 1991",
    source="Marsh B et al. Br J Anaesth 1991;67:41-48 (adult set)",
    ranges=MappingProxyType(
        {
            "age_a": Range(low=16, high=120, unit="a"),
            "weight_kg": Range(low=30, high=150, unit="kg"),
        }
    ),
)
SCHNIDER = Population(
    formula="propofol Schnider 1998",
    source="Schnider TW et al. Anesthesiology 1998;88:1170-1182 and 1999;90:1502-1516",
    ranges=MappingProxyType(
        {
            "age_a": Range(low=25, high=81, unit="a"),
            "weight_kg": Range(low=44, high=123, unit="kg"),
            "height_cm": Range(low=155, high=196, unit="cm"),
        }
    ),
)
ELEVELD_2018 = Population(
    formula="propofol Eleveld 2018",
    source="Eleveld DJ et al. Br J Anaesth 2018;120:942-959, control file of the supplement",
    ranges=MappingProxyType(
        {
            "age_a": Range(low=0.07, high=88, unit="a"),
            "weight_kg": Range(low=0.68, high=160, unit="kg"),
            "height_cm": Range(low=30, high=210, unit="cm"),
        }
    ),
)

MARSH_RATES = Rates(k10=0.119, k12=0.112, k13=0.0419, k21=0.055, k31=0.0033)
MARSH_KE0 = MappingProxyType({"diprifusor": 0.26, "modified": 1.2})
"""1/min; the two are different models of the same drug, so the choice is named, never a default."""
SCHNIDER_KE0_PER_MIN = 0.456
ELEVELD_KE0_PER_MIN = 0.146
"""At 70 kg, arterial; scaled by weight below."""


def marsh(weight_kg: float, *, ke0: str, age_a: float | None = None) -> Compartments:
    """Return Marsh's parameters; ``ke0`` is "diprifusor" or "modified".

    Raises
    ------
    PopulationError
    """
    MARSH.check(weight_kg=weight_kg)
    if age_a is not None:
        MARSH.check(age_a=age_a)
    MARSH.check_choice("ke0", ke0, tuple(MARSH_KE0))
    v1 = 0.228 * weight_kg
    rates = MARSH_RATES
    return Compartments(
        variant=f"{MARSH.formula}, ke0 {MARSH_KE0[ke0]:g}/min ({ke0})",
        v1_l=v1,
        v2_l=v1 * rates.k12 / rates.k21,
        v3_l=v1 * rates.k13 / rates.k31,
        cl1_l_per_min=v1 * rates.k10,
        cl2_l_per_min=v1 * rates.k12,
        cl3_l_per_min=v1 * rates.k13,
        ke0_per_min=MARSH_KE0[ke0],
    )


def schnider(age_a: float, weight_kg: float, height_cm: float, sex: str) -> Compartments:
    """Return Schnider's parameters; the age terms are centred on 53 years (not 52).

    Raises
    ------
    PopulationError
        Outside the study, or where the lean-mass formula turns over.
    """
    SCHNIDER.check(age_a=age_a, weight_kg=weight_kg, height_cm=height_cm)
    lean_kg = lean_mass_james_kg(weight_kg, height_cm, sex)
    return Compartments(
        variant=f"{SCHNIDER.formula}, ke0 {SCHNIDER_KE0_PER_MIN:g}/min",
        v1_l=4.27,
        v2_l=18.9 - 0.391 * (age_a - 53),
        v3_l=238.0,
        cl1_l_per_min=1.89
        + 0.0456 * (weight_kg - 77)
        - 0.0681 * (lean_kg - 59)
        + 0.0264 * (height_cm - 177),
        cl2_l_per_min=1.29 - 0.024 * (age_a - 53),
        cl3_l_per_min=0.836,
        ke0_per_min=SCHNIDER_KE0_PER_MIN,
    )


def eleveld(
    age_a: float, weight_kg: float, height_cm: float, sex: str, *, with_opioid: bool
) -> Compartments:
    """Return Eleveld's arterial parameters; post-menstrual age is age and 40 weeks.

    Opioids given beside it slow elimination and shrink the third volume with age, so the caller
    says which; there is no default. The maturation of Q2 takes (1 - maturation of Q3), not its
    ratio to the reference person.

    Raises
    ------
    PopulationError
    """
    ELEVELD_2018.check(age_a=age_a, weight_kg=weight_kg, height_cm=height_cm)
    ELEVELD_2018.check_choice("sex", sex, ("F", "M"))
    theta = _ELEVELD_2018_THETA
    opioid = 1.0 if with_opioid else 0.0
    reference_ffm = fat_free_mass_al_sallami_kg(35, 70, 170, "M")
    size = fat_free_mass_al_sallami_kg(age_a, weight_kg, height_cm, sex) / reference_ffm
    weeks, reference_weeks = age_a * 52 + 40, 35 * 52 + 40

    def sigmoid(x: float, half: float, slope: float = 1.0) -> float:
        return float(x**slope / (x**slope + half**slope))

    half_cl, slope_cl = math.exp(theta[7]), math.exp(theta[8])
    mature_cl = sigmoid(weeks, half_cl, slope_cl) / sigmoid(reference_weeks, half_cl, slope_cl)
    half_q3 = math.exp(theta[13])
    mature_q3 = sigmoid(weeks, half_q3)
    half_v1 = math.exp(theta[11])
    v1 = math.exp(theta[0]) * sigmoid(weight_kg, half_v1) / sigmoid(70, half_v1)
    v2_share = weight_kg / 70 * math.exp(theta[9] * (age_a - 35))
    v3_share = size * math.exp(theta[12] * age_a * opioid)
    clearance = math.exp(theta[3] if sex == "M" else theta[14])
    return Compartments(
        variant=f"{ELEVELD_2018.formula}, arterial, {'with' if with_opioid else 'without'} opioid",
        v1_l=v1,
        v2_l=math.exp(theta[1]) * v2_share,
        v3_l=math.exp(theta[2]) * v3_share,
        cl1_l_per_min=clearance
        * (weight_kg / 70) ** 0.75
        * math.exp(theta[10] * age_a * opioid)
        * mature_cl,
        cl2_l_per_min=math.exp(theta[4])
        * v2_share**0.75
        * (1 + math.exp(theta[15]) * (1 - mature_q3)),
        cl3_l_per_min=math.exp(theta[5])
        * v3_share**0.75
        * mature_q3
        / sigmoid(reference_weeks, half_q3),
        ke0_per_min=ELEVELD_KE0_PER_MIN * (weight_kg / 70) ** -0.25,
    )


_ELEVELD_2018_THETA = (
    1.83786, 3.23873, 5.6088, 0.581983, 0.559672, 0.103046, 0.191307, 3.74422, 2.2033,
    -0.015633, -0.00285709, 3.51313, -0.0138166, 4.22357, 0.742043, 0.265642, 0.349885,
    -0.384927,
)  # fmt: skip
"""THETA 1 to 18 of the control file; 7 is the residual error, 17 and 18 are for venous samples."""
