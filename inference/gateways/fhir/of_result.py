"""From one result to FHIR: report, observations, provenance, device, reader, and its study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inference.domain.patient import Patient, PatientIdentifier
from inference.domain.report import ReportStep
from inference.domain.study import Series, Study
from inference.gateways.fhir.vocabulary import (
    DCM,
    DEVICE_SYSTEM,
    DICOM_UID,
    GENDER,
    IDENTIFIER_TYPE,
    LOINC,
    OBSERVATION_STATUS,
    PERSON_SYSTEM,
    REPORT_STATUS,
    RESULT_SYSTEM,
    SNOMED,
    body_site,
    concept,
    quantity,
    short_hash,
)
from inference.jobs.report_content import ReportContent

Resource = dict[str, Any]
FINDINGS = concept(LOINC, "18748-4", "Diagnostic imaging study")
IMAGING = concept(
    "http://terminology.hl7.org/CodeSystem/observation-category", "imaging", "Imaging"
)
RADIOLOGY = concept("http://terminology.hl7.org/CodeSystem/v2-0074", "RAD", "Radiology")
VOLUME = concept(SNOMED, "118565006", "Volume")
MEAN = concept(SNOMED, "373098007", "Mean")
DEVIATION = concept(SNOMED, "386136009", "Standard deviation")
RESEARCH = "Research use, not for primary diagnosis."
FHIR_TYPES = "http://hl7.org/fhir/fhir-types"
SELECTION = "http://hl7.org/fhir/5.0/StructureDefinition/extension-ImagingSelection."


def patient_id(row: int) -> str:
    """Return the id of a patient's resource."""
    return f"p{row}"


def report_id(result_id: int) -> str:
    """Return the id of a result's report and provenance."""
    return f"r{result_id}"


def reader_id(name: str) -> str:
    """Return the id of a person's resource."""
    return f"u{short_hash(name)}"


def device_id(model: str, version: str, weights_sha256: str) -> str:
    """Return the id of a model's resource; other weights are another device."""
    return f"m{short_hash(model, version, weights_sha256)}"


def reference(type: str, id: str) -> dict[str, str]:
    """Write a reference to a resource of ours."""
    return {"reference": f"{type}/{id}"}


def write_identifier(identifier: PatientIdentifier) -> dict[str, Any]:
    """Write a patient's number; one without an authority has no system."""
    written: dict[str, Any] = {"type": {"coding": [{"system": IDENTIFIER_TYPE, "code": "MR"}]}}
    if identifier.authority:
        written["system"] = identifier.authority
    return written | {"value": identifier.value}


def write_patient(patient: Patient) -> Resource:
    """Write a Patient."""
    resource: Resource = {"resourceType": "Patient", "id": patient_id(patient.id), "active": True}
    if patient.identifiers:
        resource["identifier"] = [write_identifier(one) for one in patient.identifiers]
    names = [
        _human_name(group) for group in patient.demographics.name.split("=") if group.strip("^ ")
    ]
    if names:
        resource["name"] = names
    if patient.demographics.sex:
        resource["gender"] = GENDER[patient.demographics.sex]
    if patient.demographics.birth_date:
        resource["birthDate"] = fhir_date(patient.demographics.birth_date)
    return resource


def write_study(study: Study, series: tuple[Series, ...], patient: Patient | None) -> Resource:
    """Write an ImagingStudy."""
    resource: Resource = {
        "resourceType": "ImagingStudy",
        "id": study.study_uid,
        "identifier": [{"system": DICOM_UID, "value": f"urn:oid:{study.study_uid}"}],
        "status": "available",
        "subject": subject_of(patient),
        "numberOfSeries": study.n_series,
        "numberOfInstances": study.n_instances,
    }
    if study.accession_number:
        resource["identifier"].append(
            {
                "type": {"coding": [{"system": IDENTIFIER_TYPE, "code": "ACSN"}]},
                "value": study.accession_number,
            }
        )
    if study.modalities:
        resource["modality"] = [{"system": DCM, "code": one} for one in study.modalities]
    if len(study.study_date) == 8 and study.study_date.isdigit():
        resource["started"] = fhir_date(study.study_date)
    if study.description:
        resource["description"] = study.description
    resource["series"] = [
        {
            "uid": one.series_uid,
            "modality": {"system": DCM, "code": one.modality or "OT"},
            "numberOfInstances": one.n_instances,
        }
        | ({"description": one.description} if one.description else {})
        for one in series
    ]
    return resource


def write_report(content: ReportContent) -> Resource:
    """Write the DiagnosticReport of a result: preliminary until a person signs it."""
    result = content.result
    conclusion = f"AI result: {content.outcome}."
    if result.summary.get("status") == "research":
        conclusion += f" {RESEARCH}"
    resource: Resource = {
        "resourceType": "DiagnosticReport",
        "id": report_id(result.id),
        "identifier": [{"system": RESULT_SYSTEM, "value": result.key}],
        "status": REPORT_STATUS[content.event.step],
        "category": [RADIOLOGY],
        "code": FINDINGS,
        "subject": subject_of(content.patient),
        "issued": result.created_at.isoformat(),
        "imagingStudy": [reference("ImagingStudy", result.study_uid)],
        "conclusion": conclusion,
    }
    if content.order is not None:
        resource["basedOn"] = [reference("ServiceRequest", f"s{content.order.id}")]
    if content.segments:
        resource["result"] = [
            reference("Observation", f"r{result.id}-{one['label']}") for one in content.segments
        ]
    if content.event.step is ReportStep.SIGNED and content.reader is not None:
        resource["resultsInterpreter"] = [_reader(content.reader.actor)]
    return resource


def write_observations(content: ReportContent) -> list[Resource]:
    """Write one Observation for each segment; final, with the reader named, when accepted."""
    return [_observation(content, segment) for segment in content.segments]


def write_device(content: ReportContent) -> Resource | None:
    """Write the Device that a model is; None: no model made this result."""
    result = content.result
    if not result.model:
        return None
    versions = {
        "model": result.model_version,
        "weights-sha256": result.weights_sha256,
        "software": str(result.summary.get("software_version", "")),
    }
    return {
        "resourceType": "Device",
        "id": device_id(result.model, result.model_version, result.weights_sha256),
        "identifier": [
            {
                "system": DEVICE_SYSTEM,
                "value": device_id(result.model, result.model_version, result.weights_sha256),
            }
        ],
        "status": "active",
        "manufacturer": "clinfer",
        "deviceName": [{"name": result.model, "type": "model-name"}],
        "type": {"text": "image analysis software"},
        "version": [
            {"type": {"text": name}, "value": value} for name, value in versions.items() if value
        ],
    }


def write_provenance(content: ReportContent) -> Resource:
    """Write where a result comes from: the model, its input, and who accepted it."""
    result = content.result
    targets = [reference("DiagnosticReport", report_id(result.id))]
    targets += [
        reference("Observation", f"r{result.id}-{one['label']}") for one in content.segments
    ]
    agent_type = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
    device = write_device(content)
    maker = reference("Device", device["id"]) if device else {"display": "clinfer"}
    agents = [{"type": concept(agent_type, "assembler", "Assembler"), "who": maker}]
    if content.reader is not None:
        agents.append(
            {
                "type": concept(agent_type, "verifier", "Verifier"),
                "who": _reader(content.reader.actor),
            }
        )
    return {
        "resourceType": "Provenance",
        "id": report_id(result.id),
        "target": targets,
        "occurredDateTime": result.created_at.isoformat(),
        "recorded": content.event.at.isoformat(),
        "agent": agents,
        "entity": [{"role": "source", "what": reference("ImagingStudy", result.study_uid)}],
    }


def write_reader(name: str) -> Resource:
    """Write the Practitioner that accepted or signed something."""
    return {
        "resourceType": "Practitioner",
        "id": reader_id(name),
        "identifier": [{"system": PERSON_SYSTEM, "value": name}],
        "name": [{"text": name}],
    }


def write_selections(content: ReportContent) -> list[Resource]:
    """Write which series each segment was found in: R5's ImagingSelection, as a Basic of R4."""
    if not content.result.series_uid:
        return []
    study = reference("ImagingStudy", content.result.study_uid)
    return [
        {
            "resourceType": "Basic",
            "id": f"r{content.result.id}-{segment['label']}",
            "identifier": [
                {"system": RESULT_SYSTEM, "value": f"{content.result.key}-{segment['label']}"}
            ],
            "extension": [
                {"url": f"{SELECTION}status", "valueCode": "available"},
                {"url": f"{SELECTION}studyUid", "valueId": content.result.study_uid},
                {"url": f"{SELECTION}seriesUid", "valueId": content.result.series_uid},
                {"url": f"{SELECTION}derivedFrom", "valueReference": study},
                {"url": f"{SELECTION}bodySite", "valueCodeableConcept": body_site(segment)},
            ],
            "code": {"coding": [{"system": FHIR_TYPES, "code": "ImagingSelection"}]},
            "subject": subject_of(content.patient),
        }
        for segment in content.segments
    ]


def subject_of(patient: Patient | None) -> dict[str, str]:
    """Return the reference to a patient; said to be unknown where nobody is known."""
    if patient is None:
        return {"display": "unknown"}
    return reference("Patient", patient_id(patient.id))


def fhir_date(digits: str) -> str:
    """Write ``YYYYMMDD``, or its beginning, as FHIR does."""
    return "-".join(part for part in (digits[:4], digits[4:6], digits[6:8]) if part)


def _observation(content: ReportContent, segment: Mapping[str, Any]) -> Resource:
    result = content.result
    resource: Resource = {
        "resourceType": "Observation",
        "id": f"r{result.id}-{segment['label']}",
        "identifier": [{"system": RESULT_SYSTEM, "value": f"{result.key}-{segment['label']}"}],
        "partOf": [reference("ImagingStudy", result.study_uid)],
        "status": OBSERVATION_STATUS[content.event.step],
        "category": [IMAGING],
        "code": VOLUME,
        "subject": subject_of(content.patient),
        "issued": result.created_at.isoformat(),
        "bodySite": body_site(segment),
        "valueQuantity": quantity(segment["volume_ml"], "mL", "mL"),
        "device": reference(
            "Device", device_id(result.model, result.model_version, result.weights_sha256)
        ),
        "derivedFrom": [reference("ImagingStudy", result.study_uid)],
    }
    if content.study.study_date:
        resource["effectiveDateTime"] = fhir_date(content.study.study_date)
    if content.reader is not None and resource["status"] == "final":
        resource["performer"] = [_reader(content.reader.actor)]
    if result.summary.get("status") == "research":
        resource["note"] = [{"text": RESEARCH}]
    unit = str(segment.get("unit") or "1")
    if unit != "1":
        resource["component"] = [
            {"code": MEAN, "valueQuantity": quantity(segment["mean"], unit, unit)},
            {"code": DEVIATION, "valueQuantity": quantity(segment["sd"], unit, unit)},
        ]
    return resource


def _reader(name: str) -> dict[str, str]:
    return reference("Practitioner", reader_id(name)) | {"display": name}


def _human_name(group: str) -> dict[str, Any]:
    family, given, middle, prefix, suffix = [*group.split("^"), "", "", "", "", ""][:5]
    name: dict[str, Any] = {}
    if family.strip():
        name["family"] = family.strip()
    givens = [one.strip() for one in (given, middle) if one.strip()]
    if givens:
        name["given"] = givens
    if prefix.strip():
        name["prefix"] = [prefix.strip()]
    if suffix.strip():
        name["suffix"] = [suffix.strip()]
    return name or {"text": group}
