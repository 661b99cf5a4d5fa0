"""Vectors of the module ``disease_risk``."""

from __future__ import annotations

from typing import Any

from inference.domain.quantities import Quantity
from inference.domain.renal import ckd_epi_2021
from inference.services.health.rules import china_par, cohort_risk, findrisc, prevent, score2
from inference.vectors.cases import Answer, Case, fields
from inference.vectors.document import Suite, Vector


def _sex(text: str) -> str:
    return {"female": "F", "male": "M", "f": "F", "m": "M"}[text.casefold()]


def _prevent(vector: Vector, _: Suite) -> Answer:
    i = vector.inputs
    facts = prevent.PreventInput(
        sex=_sex(i["sex"]),
        age_a=i["age"],
        sbp_mmhg=i["sbp"],
        is_bp_treated=i["bp_tx"],
        total_cholesterol_mg_dl=i["total_c_mg_dl"],
        hdl_cholesterol_mg_dl=i["hdl_c_mg_dl"],
        takes_statin=i["statin"],
        has_diabetes=i["dm"],
        is_smoker=i["smoking"],
        egfr_ml_min=i["egfr"],
        bmi_kg_m2=i["bmi"],
        hba1c_percent=i.get("hba1c"),
        uacr_mg_g=i.get("uacr"),
    )
    if i.get("model", facts.model) != facts.model:
        raise ValueError(f"model {i['model']} is not the one that these facts select")
    return prevent.prevent_risk(facts, horizon_years=i["horizon_y"])


def _cohort(i: Any, group: str) -> cohort_risk.CohortInput:
    return cohort_risk.CohortInput(
        group=group,
        age_a=i["age"],
        total_cholesterol_mg_dl=i["tc"],
        hdl_cholesterol_mg_dl=i["hdl"],
        sbp_mmhg=i["sbp"],
        is_bp_treated=i["treated"],
        is_smoker=i["smoker"],
        has_diabetes=i["diabetes"],
    )


def _pooled_cohort(vector: Vector, _: Suite) -> Answer:
    facts = _cohort(vector.inputs, vector.inputs["group"])
    return {"risk_pct": 100 * cohort_risk.pooled_cohort_risk(facts)}


def _framingham(vector: Vector, _: Suite) -> Answer:
    facts = _cohort(vector.inputs, _sex(vector.inputs["sex"]))
    return {
        "risk_pct": 100 * cohort_risk.framingham_risk(facts),
        "points": cohort_risk.framingham_points(facts),
        "points_pct": cohort_risk.framingham_points_percent(facts),
    }


def _score2_facts(vector: Vector) -> score2.Score2Input:
    i = vector.inputs
    return score2.Score2Input(
        sex=_sex(i["sex"]),
        age_a=i["age"],
        is_smoker=i["smoker"],
        sbp_mmhg=i["sbp"],
        total_cholesterol_mmol_l=i["tc"],
        hdl_cholesterol_mmol_l=i["hdl"],
        region=i["region"].casefold().replace("_", " "),
        has_diabetes=i.get("diabetes", False),
    )


def _score2(vector: Vector, _: Suite) -> Answer:
    return {"risk_pct": 100 * score2.score2_risk(_score2_facts(vector))}


def _score2_ap(vector: Vector, _: Suite) -> Answer:
    return {"risk_pct": 100 * score2.score2_asia_pacific_risk(_score2_facts(vector))}


def _china_par(vector: Vector, _: Suite) -> Answer:
    i = vector.inputs
    facts = china_par.ChinaParInput(
        sex=_sex(i["sex"]),
        age_a=i["age"],
        sbp_mmhg=i["sbp"],
        is_bp_treated=i["treated"],
        total_cholesterol_mg_dl=_cholesterol_mg_dl(i, "tc"),
        hdl_cholesterol_mg_dl=_cholesterol_mg_dl(i, "hdl"),
        waist_cm=i["waist_cm"],
        is_smoker=i["smoker"],
        has_diabetes=i["diabetes"],
        lives_north=i["north"],
        is_urban=i.get("urban"),
        has_family_history=i.get("family_history"),
    )
    found = china_par.china_par_risk(facts)
    ideal = china_par.ideal_risk(facts)
    return {
        "risk_pct": 100 * found.risk,
        "category": found.category,
        "ideal_risk_pct": 100 * ideal.risk,
    }


def _cholesterol_mg_dl(i: Any, name: str) -> float:
    if f"{name}_mg_dl" in i:
        return float(i[f"{name}_mg_dl"])
    if i.get("mg_factor", 0.0259) != 0.0259:
        raise ValueError(f"mg_factor {i['mg_factor']} is not that of the form")
    measured = Quantity(value=float(i[f"{name}_mmol"]), unit="mmol/L", kind="cholesterol")
    return measured.converted("cholesterol_mmol_l_to_mg_dl_chinapar", field=name).value


def _ckd_epi(vector: Vector, _: Suite) -> Answer:
    i = vector.inputs
    return {"egfr": ckd_epi_2021(i["scr_mg_dl"], i["age"], _sex(i["sex"]))}


def _findrisc(vector: Vector, _: Suite) -> Answer:
    i = vector.inputs
    points = findrisc.findrisc_points(
        findrisc.FindriscInput(
            sex=_sex(i["sex"]),
            age_a=i["age"],
            bmi_kg_m2=i["bmi"],
            waist_cm=i["waist"],
            is_active=i["activity"],
            eats_vegetables=i["veg"],
            takes_bp_medicine=i["bp"],
            had_high_glucose=i["glu"],
            family=i["fam"] or "none",
        )
    )
    return {"points": points, "band": findrisc.findrisc_band(points)}


_COHORT_FIELDS = "age tc hdl sbp treated smoker diabetes"
_SCORE2_FIELDS = fields("sex age smoker sbp tc hdl region")

CASES = (
    Case(
        name="PREVENT",
        needs=fields(
            "age sbp bp_tx total_c_mg_dl hdl_c_mg_dl statin dm smoking egfr bmi sex horizon_y"
        ),
        may=fields("model hba1c uacr"),
        answer=_prevent,
    ),
    Case(name="pooled cohort", needs=fields(f"group {_COHORT_FIELDS}"), answer=_pooled_cohort),
    Case(
        name="China-PAR",
        needs=fields("sex age sbp treated waist_cm smoker diabetes north"),
        may=fields("dbp tc_mmol hdl_mmol mg_factor tc_mg_dl hdl_mg_dl urban family_history"),
        answer=_china_par,
        variant=china_par.VARIANT,
    ),
    Case(name="Framingham", needs=fields(f"sex {_COHORT_FIELDS}"), answer=_framingham),
    Case(
        name="SCORE2 Asia-Pacific",
        needs=_SCORE2_FIELDS,
        may=fields("diabetes"),
        about=r"score2[._-]?ap",
        answer=_score2_ap,
    ),
    Case(name="SCORE2", needs=_SCORE2_FIELDS, may=fields("diabetes"), answer=_score2),
    Case(name="CKD-EPI 2021", needs=fields("scr_mg_dl age sex"), answer=_ckd_epi),
    Case(
        name="FINDRISC",
        needs=fields("age bmi waist sex activity veg bp glu fam"),
        answer=_findrisc,
    ),
)
