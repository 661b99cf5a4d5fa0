"""Vectors of the module ``triage``."""

from __future__ import annotations

from inference.services.diagnosis.rules import danger_zone
from inference.vectors.cases import Answer, Case, fields
from inference.vectors.document import Suite, Vector


def _danger_zone(vector: Vector, _: Suite) -> Answer:
    if vector.inputs["spo2_below"] != danger_zone.SPO2_BELOW_PERCENT:
        raise ValueError(f"SpO2 limit {vector.inputs['spo2_below']}")
    return {band: {"hr": hr, "rr": rr} for band, (_, hr, rr) in danger_zone.LIMITS.items()}


CASES = (Case(name="danger zone", needs=fields("spo2_below"), answer=_danger_zone),)
