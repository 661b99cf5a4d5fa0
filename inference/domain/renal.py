"""Renal function: which measure, in which unit, for whom. Shared by risk, medication and contrast.

A drug label that was written with Cockcroft-Gault is answered with Cockcroft-Gault, the weight
named; anything else with CKD-EPI 2021. Both are for adults.
"""

from __future__ import annotations

from types import MappingProxyType

from inference.domain.population import Population, Range

CKD_EPI_2021 = Population(
    formula="CKD-EPI creatinine 2021",
    source="Inker LA et al. N Engl J Med 2021;385:1737-1749, doi:10.1056/NEJMoa2102953",
    ranges=MappingProxyType(
        {
            "age_a": Range(low=18, high=120, unit="a"),
            "creatinine_mg_dl": Range(low=0.1, high=30.0, unit="mg/dL"),
        }
    ),
)
COCKCROFT_GAULT = Population(
    formula="Cockcroft-Gault 1976",
    source="Cockcroft DW, Gault MH. Nephron 1976;16:31-41",
    ranges=MappingProxyType(
        {
            "age_a": Range(low=18, high=120, unit="a"),
            "weight_kg": Range(low=30, high=300, unit="kg"),
            "creatinine_mg_dl": Range(low=0.1, high=30.0, unit="mg/dL"),
        }
    ),
)


def ckd_epi_2021(creatinine_mg_dl: float, age_a: float, sex: str) -> float:
    """Estimate glomerular filtration in mL/min/1.73 m2; no race term.

    Parameters
    ----------
    creatinine_mg_dl : serum creatinine, IDMS traceable assay
    sex : "F" or "M", as used for the formula

    Raises
    ------
    PopulationError
        Under 18 years, or a creatinine that no assay gives.
    """
    CKD_EPI_2021.check(age_a=age_a, creatinine_mg_dl=creatinine_mg_dl)
    CKD_EPI_2021.check_choice("sex", sex, ("F", "M"))
    kappa, alpha = (0.7, -0.241) if sex == "F" else (0.9, -0.302)
    ratio = creatinine_mg_dl / kappa
    egfr = 142 * min(ratio, 1.0) ** alpha * max(ratio, 1.0) ** -1.200 * 0.9938**age_a
    return float(egfr * (1.012 if sex == "F" else 1.0))


def cockcroft_gault(creatinine_mg_dl: float, age_a: float, weight_kg: float, sex: str) -> float:
    """Estimate creatinine clearance in mL/min, not normalised to body surface.

    ``weight_kg`` is the weight that the label names (actual, ideal or adjusted): say which.

    Raises
    ------
    PopulationError
    """
    COCKCROFT_GAULT.check(age_a=age_a, weight_kg=weight_kg, creatinine_mg_dl=creatinine_mg_dl)
    COCKCROFT_GAULT.check_choice("sex", sex, ("F", "M"))
    clearance = (140 - age_a) * weight_kg / (72 * creatinine_mg_dl)
    return float(clearance * (0.85 if sex == "F" else 1.0))
