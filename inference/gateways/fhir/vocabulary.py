"""Code systems, and the words of ours that FHIR has other words for."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from inference.domain.job import JobState, Priority
from inference.domain.report import ReportStep

UCUM = "http://unitsofmeasure.org"
SNOMED = "http://snomed.info/sct"
LOINC = "http://loinc.org"
DICOM_UID = "urn:dicom:uid"
DCM = "http://dicom.nema.org/resources/ontology/DCM"
IDENTIFIER_TYPE = "http://terminology.hl7.org/CodeSystem/v2-0203"
RESULT_SYSTEM = "urn:clinfer:result"
"""System of the identifiers by which a receiver knows a result of ours again."""

DEVICE_SYSTEM = "urn:clinfer:device"
PERSON_SYSTEM = "urn:clinfer:person"

SYSTEMS = {"SCT": SNOMED, "LN": LOINC, "DCM": DCM, "UCUM": UCUM}
"""DICOM's coding scheme designators as URIs."""

REPORT_STATUS: Mapping[ReportStep, str] = MappingProxyType(
    {
        ReportStep.PRELIMINARY: "preliminary",
        ReportStep.ACCEPTED: "preliminary",
        ReportStep.SIGNED: "final",
        ReportStep.RETRACTED: "entered-in-error",
        ReportStep.SUPERSEDED: "cancelled",
    }
)
"""Accepting what was measured is not signing a report."""

OBSERVATION_STATUS: Mapping[ReportStep, str] = MappingProxyType(
    {
        ReportStep.PRELIMINARY: "preliminary",
        ReportStep.ACCEPTED: "final",
        ReportStep.SIGNED: "final",
        ReportStep.RETRACTED: "entered-in-error",
        ReportStep.SUPERSEDED: "cancelled",
    }
)

TASK_STATUS: Mapping[JobState, str] = MappingProxyType(
    {
        JobState.COLLECTING: "received",
        JobState.QUEUED: "ready",
        JobState.LEASED: "in-progress",
        JobState.DONE: "completed",
        JobState.FAILED: "rejected",
        JobState.DEAD: "failed",
        JobState.SUPERSEDED: "cancelled",
    }
)

PRIORITY: Mapping[Priority, str] = MappingProxyType(
    {Priority.STAT: "stat", Priority.URGENT: "urgent", Priority.ROUTINE: "routine"}
)
PRIORITY_OF: Mapping[str, Priority] = MappingProxyType(
    {
        "stat": Priority.STAT,
        "asap": Priority.URGENT,
        "urgent": Priority.URGENT,
        "routine": Priority.ROUTINE,
    }
)
GENDER = {"M": "male", "F": "female", "O": "other", "U": "unknown"}
SEX_OF = {gender: sex for sex, gender in GENDER.items()}

LATERALITY = "272741003"
SIDES = frozenset({"7771000", "24028007", "51440002"})
"""SNOMED CT: left, right, right and left."""

_NAMESPACE = uuid.UUID("6a1f3d0e-53c1-5a39-9d0f-6c1e43f0a9b2")
"""Any fixed UUID: the identifiers made from it are the same each time."""


def stable_uuid(*parts: str) -> str:
    """Return a URN that is the same for the same parts."""
    return f"urn:uuid:{uuid.uuid5(_NAMESPACE, chr(0).join(parts))}"


def short_hash(*parts: str) -> str:
    """Return 16 hexadecimal digits, the same for the same parts."""
    return hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:16]


def coding(code: Mapping[str, str]) -> dict[str, str]:
    """Write a DICOM code (value, scheme, meaning) as a coding."""
    scheme = code["scheme"]
    return {
        "system": SYSTEMS.get(scheme, f"urn:clinfer:scheme:{scheme}"),
        "code": code["value"],
        "display": code["meaning"],
    }


def concept(system: str, code: str, display: str) -> dict[str, Any]:
    """Write one code as a CodeableConcept."""
    return {"coding": [{"system": system, "code": code, "display": display}]}


def body_site(segment: Mapping[str, Any]) -> dict[str, Any]:
    """Return where a segment is: its SNOMED CT code, with the side as post-coordination."""
    site: dict[str, Any] = {"text": str(segment["name"])}
    kind, modifier = segment.get("type"), segment.get("modifier")
    if kind:
        written = coding(kind)
        if modifier and modifier["value"] in SIDES and kind["scheme"] == "SCT":
            written["code"] = f"{kind['value']}:{LATERALITY}={modifier['value']}"
            written["display"] = str(segment["name"])
        site["coding"] = [written]
    return site


def quantity(value: float, unit: str, code: str) -> dict[str, Any]:
    """Write a number with its UCUM unit."""
    return {"value": round(float(value), 6), "unit": unit, "system": UCUM, "code": code}
