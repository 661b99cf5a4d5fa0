"""Vectors of the module ``health``."""

from __future__ import annotations

from inference.services.health.rules import lifestyle
from inference.vectors.cases import Answer, Case, fields
from inference.vectors.document import Suite, Vector


def _activity(vector: Vector, _: Suite) -> Answer:
    minutes = vector.inputs["moderate"], vector.inputs["vigorous"]
    return {
        "equivalent": lifestyle.moderate_equivalent_min(*minutes),
        "meets": lifestyle.meets_aerobic_minimum(*minutes),
    }


def _recommendations(_: Vector, __: Suite) -> Answer:
    return lifestyle.WHO_RECOMMENDATIONS


def _diet(vector: Vector, _: Suite) -> Answer:
    i = vector.inputs
    return {"score": lifestyle.hei_component_score(i["component"], i["value"])}


CASES = (
    Case(name="WHO activity", needs=fields("moderate vigorous"), answer=_activity),
    Case(name="HEI component", needs=fields("component value"), answer=_diet),
    Case(name="WHO table", needs=fields(""), about="who", answer=_recommendations),
)
