"""Vectors of the module ``infusion``: pharmacokinetics, dose rates, caps of insulin loops."""

from __future__ import annotations

import re
from typing import Any

from inference.services.treatment.rules import insulin_simulation as insulin
from inference.services.treatment.rules import propofol, remifentanil
from inference.services.treatment.rules.body import lean_mass_james_kg
from inference.services.treatment.rules.compartments import (
    Compartments,
    Dosing,
    Rates,
    simulate,
)
from inference.services.treatment.rules.dose_rate import Solution, rate_ml_per_h
from inference.vectors.cases import Answer, Case, fields
from inference.vectors.document import Suite, Vector

_PERSON = fields("age_y weight_kg height_cm sex")


def _sex(text: str) -> str:
    return {"f": "F", "m": "M", "female": "F", "male": "M"}[text.casefold()]


def _person(i: Any) -> tuple[float, float, float, str]:
    return i["age_y"], i["weight_kg"], i["height_cm"], _sex(i["sex"])


def _parameters(person: Compartments) -> Answer:
    rates = person.rates
    return {
        "v1": person.v1_l,
        "v2": person.v2_l,
        "v3": person.v3_l,
        "cl1": person.cl1_l_per_min,
        "cl2": person.cl2_l_per_min,
        "cl3": person.cl3_l_per_min,
        "ke0": person.ke0_per_min,
        **vars(rates),
    }


def _model_of(vector: Vector) -> Compartments:
    """Return the parameters by the model that the inputs, or else the id, name."""
    name = f"{vector.inputs.get('model', '')} {vector.id}".casefold()
    who = _person(vector.inputs)
    if "schnider" in name:
        return propofol.schnider(*who)
    if "minto" in name:
        return remifentanil.minto(*who)
    if "kim" in name:
        return remifentanil.kim(*who)
    if "eleveld2017" in name or ("remifentanil" in name and "eleveld" in name):
        return remifentanil.eleveld_remifentanil(*who)
    if "eleveld2018" in name or "propofol.eleveld" in name:
        if "arterial" not in name:
            raise ValueError("the model does not say arterial")
        return propofol.eleveld(*who, with_opioid="no_opioid" not in name and "opioid" in name)
    raise ValueError(f"no pharmacokinetic model is named in {name!r}")


def _person_model(vector: Vector, _: Suite) -> Answer:
    return _parameters(_model_of(vector))


def _marsh(vector: Vector, _: Suite) -> Answer:
    weight_kg = vector.inputs["weight_kg"]
    return {
        **_parameters(propofol.marsh(weight_kg, ke0="diprifusor")),
        **{f"ke0_{name}": rate for name, rate in propofol.MARSH_KE0.items()},
    }


def _exponents(vector: Vector, _: Suite) -> Answer:
    rates = Rates(**{name: float(vector.inputs[name]) for name in vector.inputs})
    return {"lambdas": rates.exponents()}


def _lean_mass(vector: Vector, _: Suite) -> Answer:
    i = vector.inputs
    return {"lbm": lean_mass_james_kg(i["weight_kg"], i["height_cm"], _sex(i["sex"]))}


def parse_schedule(text: str, weight_kg: float) -> Dosing:
    """Read "bolus_2mg_kg_plus_6mg_kg_h_60min" or "inf_6mg_kg_h_60min"; amounts in mg.

    Raises
    ------
    ValueError
        A part that is neither.
    """
    bolus, rates = 0.0, []
    for part in text.split("_plus_"):
        shot = re.fullmatch(r"bolus_([\d.]+)mg_kg", part)
        flow = re.fullmatch(r"(?:inf_)?([\d.]+)mg_kg_(h|min)_([\d.]+)min", part)
        if shot:
            bolus += float(shot[1]) * weight_kg
        elif flow:
            per_min = float(flow[1]) * weight_kg / (60 if flow[2] == "h" else 1)
            rates.append((0.0, float(flow[3]), per_min))
        else:
            raise ValueError(f"schedule part {part!r}")
    return Dosing(bolus=bolus, rates=tuple(rates))


def _course(vector: Vector, _: Suite) -> Answer:
    i = vector.inputs
    p = i["params"]
    person = Compartments(
        variant="as given",
        v1_l=p["v1"],
        v2_l=p["v2"],
        v3_l=p["v3"],
        cl1_l_per_min=p["cl1"],
        cl2_l_per_min=p["cl2"],
        cl3_l_per_min=p["cl3"],
        ke0_per_min=p.get("ke0"),
    )
    dosing = parse_schedule(i["schedule"], float(i["weight_kg"]))
    found = simulate(person, dosing, [float(t) for t in i["times_min"]])
    return {"Cp_ug_ml": found.plasma, "Ce_ug_ml": found.effect_site}


def _named_course(vector: Vector, _: Suite) -> Answer:
    """Simulate the model and person that the id names: ``minto40_70_170m``."""
    i = vector.inputs
    match = re.search(r"(minto|eleveld|kim)(\d+)_(\d+)_(\d+)([mf])", vector.id)
    if match is None:
        raise ValueError(f"the id {vector.id} names no model and person")
    models = {
        "minto": remifentanil.minto,
        "eleveld": remifentanil.eleveld_remifentanil,
        "kim": remifentanil.kim,
    }
    weight_kg = float(i["weight_kg"])
    if weight_kg != float(match[3]):
        raise ValueError(f"weight_kg {weight_kg} is not that of {match[0]}")
    person = models[match[1]](float(match[2]), weight_kg, float(match[4]), _sex(match[5]))
    flow = (0.0, float(i["infusion_min"]), float(i["infusion_ug_kg_min"]) * weight_kg)
    dosing = Dosing(bolus=float(i["bolus_ug"]), rates=(flow,) if flow[1] else ())
    found = simulate(person, dosing, [float(t) for t in i["times_min"]])
    return {"Cp_ng_ml": found.plasma, "Ce_ng_ml": found.effect_site}


def _dose_rate(vector: Vector, _: Suite) -> Answer:
    i = vector.inputs
    solution = Solution(drug_mg=i["drug_mg"], volume_ml=i["volume_ml"])
    return {"rate_ml_h": rate_ml_per_h(i["dose_ug_kg_min"], i["weight_kg"], solution)}


_PROFILE_NAMES = {
    "current_basal": "current_basal",
    "max_daily_basal": "max_daily_basal",
    "max_basal": "max_basal",
    "current_basal_safety_multiplier": "current_multiplier",
    "max_daily_safety_multiplier": "daily_multiplier",
}


def _safe_basal(vector: Vector, _: Suite) -> Answer:
    given = vector.inputs["profile"]
    profile = insulin.BasalProfile(
        **{_PROFILE_NAMES[name]: float(value) for name, value in given.items()}
    )
    rate, cap = insulin.simulated_basal(vector.inputs["requested_U_h"], profile)
    return {"enacted_U_h": rate, "bound_by": cap}


def _round_basal(vector: Vector, _: Suite) -> Answer:
    model = str(vector.inputs.get("model", ""))
    step = 0.025 if model.endswith(("54", "23")) else 0.05
    return {"rounded": insulin.round_basal(vector.inputs["basal"], finest_step=step)}


def _default_iob(_: Vector, __: Suite) -> Answer:
    return {"max_iob": insulin.DEFAULT_MAX_IOB_IU}


def _hard_limits(vector: Vector, _: Suite) -> Answer:
    places = [insulin.AGE_GROUPS.index(group) for group in vector.inputs["order"]]
    by_group = {
        name: [values[place] for place in places] for name, values in insulin.HARD_LIMITS.items()
    }
    return {
        **by_group,
        "max_iob_lgs": insulin.MAX_IOB_LOW_GLUCOSE_SUSPEND_IU,
        "max_carbs": insulin.MAX_CARBOHYDRATES_G,
    }


CASES = (
    Case(
        name="concentration course",
        needs=fields("params schedule weight_kg times_min"),
        answer=_course,
    ),
    Case(
        name="concentration course of a named model",
        needs=fields("bolus_ug infusion_ug_kg_min infusion_min weight_kg times_min"),
        answer=_named_course,
    ),
    Case(name="parameters", needs=_PERSON, may=fields("model"), answer=_person_model),
    Case(name="lean mass", needs=fields("weight_kg height_cm sex"), answer=_lean_mass),
    Case(
        name="dose rate",
        needs=fields("dose_ug_kg_min weight_kg drug_mg volume_ml"),
        answer=_dose_rate,
    ),
    Case(name="Marsh", needs=fields("weight_kg"), about="marsh", answer=_marsh),
    Case(name="exponents", needs=fields("k10 k12 k13 k21 k31"), answer=_exponents),
    Case(name="basal caps", needs=fields("profile requested_U_h"), answer=_safe_basal),
    Case(name="basal steps", needs=fields("basal"), may=fields("model"), answer=_round_basal),
    Case(name="hard limits by age group", needs=fields("order"), answer=_hard_limits),
    Case(name="default insulin on board", needs=fields(""), about="max_iob", answer=_default_iob),
)
