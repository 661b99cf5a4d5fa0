"""ORU^R01 in: numbers from laboratory and ward, each with its unit, kept as observations."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection

from inference.domain.laboratory import unit_problem
from inference.domain.patient import Authorities
from inference.gateways.hl7_message import DATA_TYPE, TABLE_VALUE, Hl7Error, Hl7Message, Segment
from inference.gateways.hl7_patients import ensure_patient
from inference.gateways.hl7_values import NUMBER, moment_of
from inference.storage import fhir_resources

STATUSES: Mapping[str, str] = MappingProxyType(
    {"F": "final", "P": "preliminary", "C": "corrected", "R": "preliminary"}
)
"""OBX-11 (HL7 table 0085) to FHIR's observation status; others are not taken."""

SYSTEMS = {"LN": "http://loinc.org", "SCT": "http://snomed.info/sct"}
UCUM = "http://unitsofmeasure.org"


def take_result(
    connection: Connection, message: Hl7Message, authorities: Authorities, *, now: datetime
) -> None:
    """Keep every number of a message, or none of them.

    Raises
    ------
    Hl7Error
    """
    patient_row = ensure_patient(connection, message, authorities, now=now)
    message.first("OBX")
    taken_at = ""
    for segment in message.segments:
        if segment.name == "OBR":
            taken_at = segment.text(7, 1)
        if segment.name == "OBX":
            fhir_resources.add(
                connection,
                type="Observation",
                body=_observation(segment, taken_at, now),
                patient_row=patient_row,
                actor=f"hl7:{message.header.sender}",
                now=now,
            )


def _observation(obx: Segment, taken_at: str, now: datetime) -> dict[str, Any]:
    kind = obx.required(2)
    if kind != "NM":
        raise Hl7Error(
            place=obx.place(2), hl7_code=TABLE_VALUE, problem=f"only NM is taken, not {kind!r}"
        )
    code, system = obx.required(3, 1), obx.text(3, 3)
    value, unit = obx.required(5), obx.text(6, 1)
    if not NUMBER.fullmatch(value):
        raise Hl7Error(
            place=obx.place(5),
            hl7_code=DATA_TYPE,
            problem="is no number (NM): digits with a point, no comma and no exponent",
        )
    problem = unit_problem(code if system == "LN" else "", unit)
    if problem:
        raise Hl7Error(place=obx.place(6), hl7_code=TABLE_VALUE, problem=problem)
    status = STATUSES.get(obx.text(11))
    if status is None:
        raise Hl7Error(
            place=obx.place(11),
            hl7_code=TABLE_VALUE,
            problem=f"{obx.text(11)!r} is none of {', '.join(STATUSES)}",
        )
    moment = obx.text(14, 1) or taken_at
    body: dict[str, Any] = {
        "resourceType": "Observation",
        "status": status,
        "code": {
            "coding": [
                {"code": code}
                | ({"system": SYSTEMS[system]} if system in SYSTEMS else {})
                | ({"display": obx.text(3, 2)} if obx.text(3, 2) else {})
            ]
        },
        "valueQuantity": {"value": float(value), "unit": unit, "system": UCUM, "code": unit},
    }
    if moment:
        at = moment_of(moment, obx.place(14))
        if at > now:
            raise Hl7Error(place=obx.place(14), hl7_code=DATA_TYPE, problem="the time is to come")
        body["effectiveDateTime"] = at.isoformat()
    return body
