"""One result as a transaction Bundle: sent again it changes nothing; what is theirs stays so."""

from __future__ import annotations

from typing import Any

from inference.domain.study import Series
from inference.gateways.fhir.of_result import (
    Resource,
    write_device,
    write_observations,
    write_patient,
    write_provenance,
    write_reader,
    write_report,
    write_selections,
    write_study,
)
from inference.gateways.fhir.vocabulary import stable_uuid
from inference.jobs.report_content import ReportContent

THEIRS = frozenset({"Patient", "ImagingStudy", "Practitioner"})
"""Types that a receiver may hold already: made where they are missing, never overwritten."""


def transaction_of(
    content: ReportContent, series: tuple[Series, ...], *, imaging_selection: bool = False
) -> Resource:
    """Write everything that tells of a result, with conditional requests.

    Each resource is found again by its business identifier; a Provenance has none in R4, and gets
    an id of ours. So a transaction that was committed but not answered may be sent again.
    """
    resources: list[Resource] = []
    patient = content.patient
    is_known = patient is not None and any(one.authority for one in patient.identifiers)
    if patient is not None and is_known:
        resources.append(write_patient(patient))
    device = write_device(content)
    if device is not None:
        resources.append(device)
    if content.reader is not None:
        resources.append(write_reader(content.reader.actor))
    resources.append(write_study(content.study, series, patient))
    resources += write_observations(content)
    report = write_report(content)
    resources += [report, write_provenance(content)]
    if imaging_selection:
        resources += write_selections(content)
    urls = {f"{one['resourceType']}/{one['id']}": _full_url(content, one) for one in resources}
    if "basedOn" in report:
        report["basedOn"] = _their_order(content)
    logical = None if is_known else _logical_subject(content)
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [_entry(content, one, urls, logical) for one in resources],
    }


def _entry(
    content: ReportContent, resource: Resource, urls: dict[str, str], logical: Resource | None
) -> dict[str, Any]:
    type = resource["resourceType"]
    body = _relinked(resource, urls)
    if logical is not None and "subject" in body:
        body["subject"] = logical
    entry: dict[str, Any] = {"fullUrl": urls[f"{type}/{resource['id']}"], "resource": body}
    if type == "Provenance":
        body["id"] = urls[f"{type}/{resource['id']}"].removeprefix("urn:uuid:")
        entry["request"] = {"method": "PUT", "url": f"Provenance/{body['id']}"}
        return entry
    del body["id"]
    criteria = _criteria(resource)
    if type in THEIRS:
        entry["request"] = {"method": "POST", "url": type, "ifNoneExist": criteria}
    else:
        entry["request"] = {"method": "PUT", "url": f"{type}?{criteria}"}
    return entry


def _criteria(resource: Resource) -> str:
    first = next(one for one in resource["identifier"] if "system" in one)
    return f"identifier={first['system']}|{first['value']}"


def _full_url(content: ReportContent, resource: Resource) -> str:
    return stable_uuid(content.result.key, resource["resourceType"], resource["id"])


def _relinked(node: Any, urls: dict[str, str]) -> Any:
    """Point references at the entries of the bundle."""
    if isinstance(node, dict):
        return {
            name: urls.get(value, value) if name == "reference" else _relinked(value, urls)
            for name, value in node.items()
        }
    if isinstance(node, list):
        return [_relinked(one, urls) for one in node]
    return node


def _their_order(content: ReportContent) -> list[dict[str, Any]]:
    """Name the order by the number its placer gave it; the resource is the receiver's."""
    order = content.order
    assert order is not None, "the report is based on it"
    identifier = {"value": order.placer_number}
    if order.placer_authority:
        identifier["system"] = order.placer_authority
    return [{"type": "ServiceRequest", "identifier": identifier}]


def _logical_subject(content: ReportContent) -> Resource:
    """Name a patient whose number has no authority: by the number alone, and no Patient is made."""
    if not content.identifier.value:
        return {"display": "unknown"}
    return {"type": "Patient", "identifier": {"value": content.identifier.value}}
