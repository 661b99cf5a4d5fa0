"""From orders and jobs to FHIR: ServiceRequest and Task; and what others gave us, as given."""

from __future__ import annotations

from typing import Any

from inference.domain.job import Job
from inference.domain.order import Order
from inference.domain.patient import Patient
from inference.domain.result import Result
from inference.gateways.fhir.of_result import (
    Resource,
    patient_id,
    reference,
    report_id,
    subject_of,
)
from inference.gateways.fhir.vocabulary import IDENTIFIER_TYPE, PRIORITY, TASK_STATUS
from inference.storage.fhir_resources import StoredResource
from inference.storage.orders_queue import ORDER_CANCELLED

CODE_SYSTEMS = {"LN": "http://loinc.org", "SCT": "http://snomed.info/sct"}


def write_order(order: Order, patient: Patient | None) -> Resource:
    """Write a ServiceRequest."""
    identifiers: list[dict[str, Any]] = [
        _typed("PLAC", order.placer_number) | {"system": order.placer_authority}
    ]
    if not order.placer_authority:
        del identifiers[0]["system"]
    if order.filler_number:
        identifiers.append(_typed("FILL", order.filler_number))
    if order.accession_number:
        identifiers.append(_typed("ACSN", order.accession_number))
    resource: Resource = {
        "resourceType": "ServiceRequest",
        "id": f"s{order.id}",
        "identifier": identifiers,
        "status": order.status.value,
        "intent": "order",
        "priority": PRIORITY[order.priority],
        "subject": subject_of(patient),
        "authoredOn": order.created_at.isoformat(),
    }
    if order.code or order.code_text:
        resource["code"] = _code(order)
    if order.requester:
        resource["requester"] = {"display": order.requester}
    if order.reason:
        resource["reasonCode"] = [{"text": order.reason}]
    return resource


def write_task(job: Job, patient: Patient | None, made: tuple[Result, ...]) -> Resource:
    """Write the Task that a job is."""
    resource: Resource = {
        "resourceType": "Task",
        "id": f"j{job.id}",
        "status": "cancelled" if job.reason_code == ORDER_CANCELLED else TASK_STATUS[job.state],
        "intent": "order",
        "priority": PRIORITY[job.priority],
        "code": {"text": "analyse images"},
        "focus": reference("ImagingStudy", job.study_uid),
        "for": subject_of(patient),
        "authoredOn": job.created_at.isoformat(),
        "lastModified": (job.finished_at or job.started_at or job.created_at).isoformat(),
    }
    if job.reason:
        resource["statusReason"] = {"text": job.reason}
    if job.started_at is not None:
        period = {"start": job.started_at.isoformat()}
        if job.finished_at is not None and job.finished_at >= job.started_at:
            period["end"] = job.finished_at.isoformat()
        resource["executionPeriod"] = period
    if made:
        resource["output"] = [
            {
                "type": {"text": "report"},
                "valueReference": reference("DiagnosticReport", report_id(one.id)),
            }
            for one in made
        ]
    return resource


def write_received(stored: StoredResource, survivor: int) -> Resource:
    """Write a resource that another system gave us; it is the surviving patient's."""
    resource: Resource = dict(stored.body)
    resource["resourceType"], resource["id"] = stored.type, f"o{stored.id}"
    resource["subject"] = reference("Patient", patient_id(survivor))
    return resource


def _code(order: Order) -> dict[str, Any]:
    code: dict[str, Any] = {}
    if order.code:
        written = {"code": order.code}
        if order.code_system:
            system = order.code_system
            written["system"] = CODE_SYSTEMS.get(
                system, system if ":" in system else f"urn:clinfer:scheme:{system}"
            )
        if order.code_text:
            written["display"] = order.code_text
        code["coding"] = [written]
    if order.code_text:
        code["text"] = order.code_text
    return code


def _typed(kind: str, value: str) -> dict[str, Any]:
    return {"type": {"coding": [{"system": IDENTIFIER_TYPE, "code": kind}]}, "value": value}
