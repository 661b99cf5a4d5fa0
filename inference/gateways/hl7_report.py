"""ORU^R01 out: one message for each step of a result, from preliminary to final or withdrawn."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from inference.domain.patient import Authorities, PatientIdentifier
from inference.domain.report import WRONG_PATIENT, Hl7Destination, ReportDelivery, ReportStep
from inference.domain.result import ResultState
from inference.gateways.hl7_ack import read_answer
from inference.gateways.hl7_message import escaped
from inference.gateways.mllp import FramingError, exchange
from inference.jobs.errors import DeliveryError
from inference.jobs.report_content import ReportContent, read_content
from inference.storage.database import Database

VERSION = "2.5.1"
SEGMENTS = ("MSH", "PID", "ORC", "OBR", "OBX", "NTE")
"""Segments of a message of ours, as docs/conformance.md lists them."""

OBSERVATION_STATUS: Mapping[ReportStep, str] = MappingProxyType(
    {
        ReportStep.PRELIMINARY: "P",
        ReportStep.ACCEPTED: "F",
        ReportStep.SIGNED: "F",
        ReportStep.RETRACTED: "D",
        ReportStep.SUPERSEDED: "D",
    }
)
"""OBX-11 (HL7 table 0085). A retraction for the wrong patient is W; what could not be made is X."""

REPORT_STATUS: Mapping[ReportStep, str] = MappingProxyType(
    {
        ReportStep.PRELIMINARY: "P",
        ReportStep.ACCEPTED: "P",
        ReportStep.SIGNED: "F",
        ReportStep.RETRACTED: "C",
        ReportStep.SUPERSEDED: "C",
    }
)
"""OBR-25 (HL7 table 0123): an accepted measurement is final before the report is."""

_NOT_MADE = frozenset({ResultState.REFUSED, ResultState.FAILED, ResultState.NOT_APPLICABLE})
_OUTCOME = "AIOUTCOME^AI outcome^99CLINFER"
_STUDY_UID = "110180^Study Instance UID^DCM"
_SITE = "363698007^Finding site^SCT"
_VOLUME = "118565006^Volume^SCT"
_MEAN = "373098007^Mean^SCT"
_DEVIATION = "386136009^Standard Deviation^SCT"


class Hl7Sender:
    """Sends reports to one receiver, each on a connection of its own."""

    def __init__(
        self, database: Database, destination: Hl7Destination, authorities: Authorities
    ) -> None:
        self._database, self._destination = database, destination
        self._authorities = authorities

    def send(self, due: ReportDelivery) -> None:
        """Return when the receiver has acknowledged the report; see `ReportSender`."""
        to = self._destination
        with self._database.read() as connection:
            content = read_content(connection, due.event)
            now = self._database.now(connection)
        control_id = control_id_of(content, to.name)
        message = write_report(content, to, self._authorities, control_id=control_id, now=now)
        try:
            answer = read_answer(
                exchange(
                    message, host=to.host, port=to.port, timeout_s=to.timeout_s, tls_ca=to.tls_ca
                )
            )
        except (OSError, FramingError) as error:
            raise DeliveryError(
                destination=to.name, problem=f"{type(error).__name__}: {error}"
            ) from error
        if answer.control_id != control_id:
            raise DeliveryError(
                destination=to.name, problem="the answer is for another message (MSA-2)"
            )
        if not answer.is_positive:
            raise DeliveryError(
                destination=to.name,
                problem=f"answered {answer.code or 'nothing'} {answer.problem}".rstrip(),
                is_permanent=not answer.is_repeatable,
            )


def control_id_of(content: ReportContent, destination: str) -> str:
    """Return MSH-10: the same at each try of one event, 20 characters as version 2.5.1 allows."""
    key = f"{content.result.key}/{content.event.id}/{destination}"
    return hashlib.sha256(key.encode()).hexdigest()[:20]


def write_report(
    content: ReportContent,
    to: Hl7Destination,
    authorities: Authorities,
    *,
    control_id: str,
    now: datetime,
) -> bytes:
    """Write the message in UTF-8."""
    receiver = f"{escaped(to.receiving_application)}|{escaped(to.receiving_facility)}"
    lines = [
        f"MSH|^~\\&|CLINFER||{receiver}|{_time(now)}||ORU^R01^ORU_R01|{control_id}|P|{VERSION}"
        "||||||UNICODE UTF-8",
        _pid(content, authorities),
        _orc(content, authorities),
        _obr(content, authorities),
        *_observations(content, authorities),
        _note(content),
    ]
    return ("\r".join(lines) + "\r").encode()


def _pid(content: ReportContent, authorities: Authorities) -> str:
    patient = content.patient
    identifiers = patient.identifiers if patient is not None else ()
    fields = [""] * 9
    fields[1] = "1"
    fields[3] = "~".join(
        _cx(one, authorities) for one in identifiers or (content.identifier,) if one.value
    )
    name = patient.demographics.name if patient is not None else content.study.patient_name
    fields[5] = _xpn(name)
    if patient is not None:
        fields[7], fields[8] = patient.demographics.birth_date, patient.demographics.sex
    return "|".join(["PID", *fields[1:]]).rstrip("|")


def _orc(content: ReportContent, authorities: Authorities) -> str:
    return f"ORC|RE|{_placer(content, authorities)}|{content.result.id}^CLINFER"


def _obr(content: ReportContent, authorities: Authorities) -> str:
    order, study = content.order, content.study
    fields = [""] * 33
    fields[1] = "1"
    fields[2] = _placer(content, authorities)
    fields[3] = f"{content.result.id}^CLINFER"
    if order is not None and order.code:
        fields[4] = "^".join(
            escaped(one) for one in (order.code, order.code_text, order.code_system)
        )
    else:
        fields[4] = "18748-4^Diagnostic imaging study^LN"
    fields[7] = study.study_date + content.study_time.split(".")[0] if study.study_date else ""
    fields[18] = escaped(study.accession_number)
    fields[22] = _time(content.event.at)
    fields[25] = REPORT_STATUS[content.event.step]
    if content.event.step is ReportStep.SIGNED and content.reader is not None:
        fields[32] = escaped(content.reader.actor)
    return "|".join(["OBR", *fields[1:]]).rstrip("|")


def _observations(content: ReportContent, authorities: Authorities) -> Iterator[str]:
    rows: list[tuple[str, str, str, str, str]] = [
        ("ST", _STUDY_UID, "", content.study.study_uid, ""),
        ("ST", _OUTCOME, "", escaped(content.outcome), ""),
    ]
    for number, segment in enumerate(content.segments, start=1):
        rows += [(*row[:2], str(number), *row[2:]) for row in _of_segment(segment)]
    for number, (kind, code, group, value, unit) in enumerate(rows, start=1):
        fields = [""] * 19
        fields[1], fields[2], fields[3], fields[4] = str(number), kind, code, group
        fields[5], fields[6] = value, unit
        fields[11] = _status(content)
        fields[14] = _time(content.result.created_at)
        if content.reader is not None and fields[11] == "F":
            fields[16] = escaped(content.reader.actor)
        if content.result.model:
            model = escaped(content.result.model)
            fields[17] = f"{model}^{model} {escaped(content.result.model_version)}^99CLINFER"
        yield "|".join(["OBX", *fields[1:]]).rstrip("|")


def _of_segment(segment: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    kind, modifier = segment.get("type"), segment.get("modifier")
    name = escaped(str(segment["name"]))
    code = f"{escaped(kind['value'])}^{name}^{escaped(kind['scheme'])}" if kind else f"^{name}"
    if kind and modifier:
        code += f"^{escaped(modifier['value'])}^{escaped(modifier['meaning'])}"
        code += f"^{escaped(modifier['scheme'])}"
    yield "CE", _SITE, code, ""
    yield "NM", _VOLUME, _number(segment["volume_ml"]), "mL^milliliter^UCUM"
    unit = _unit(segment.get("unit"))
    if unit:
        yield "NM", _MEAN, _number(segment["mean"]), unit
        yield "NM", _DEVIATION, _number(segment["sd"]), unit


def _unit(unit: Any) -> str:
    """Return the unit of the voxels' values; "" where the values have none (UCUM ``1``)."""
    code = escaped(str(unit or "1"))
    return "" if code == "1" else f"{code}^{code}^UCUM"


def _status(content: ReportContent) -> str:
    if content.event.step is ReportStep.RETRACTED and content.event.reason == WRONG_PATIENT:
        return "W"
    if content.result.outcome in _NOT_MADE and content.event.step not in (
        ReportStep.RETRACTED,
        ReportStep.SUPERSEDED,
    ):
        return "X"
    return OBSERVATION_STATUS[content.event.step]


def _note(content: ReportContent) -> str:
    text = "Made by software; a person decides."
    if content.result.summary.get("status") == "research":
        text = "Research use, not for primary diagnosis. " + text
    if content.event.reason:
        text += f" {content.event.step.value}: {content.event.reason}."
    return f"NTE|1|L|{escaped(text)}"


def _placer(content: ReportContent, authorities: Authorities) -> str:
    order = content.order
    if order is None:
        return ""
    name, universal, kind = authorities.as_local(order.placer_authority)
    parts = [order.placer_number, name, universal, kind]
    return "^".join(escaped(part) for part in parts).rstrip("^")


def _cx(identifier: PatientIdentifier, authorities: Authorities) -> str:
    parts = [escaped(part) for part in authorities.as_local(identifier.authority)]
    return f"{escaped(identifier.value)}^^^{'&'.join(parts).rstrip('&')}".rstrip("^")


def _xpn(name: str) -> str:
    """Write DICOM's person name as XPN: prefix and suffix change places, one for each group."""
    written = []
    for group, representation in zip(name.split("="), "AIP", strict=False):
        parts = [*group.split("^"), "", "", "", "", ""][:5]
        family, given, middle, prefix, suffix = (escaped(part.strip()) for part in parts)
        if any((family, given, middle)):
            written.append(f"{family}^{given}^{middle}^{suffix}^{prefix}^^^{representation}")
    return "~".join(written)


def _number(value: Any) -> str:
    """Write a number as data type NM asks: plain digits, no exponent."""
    return f"{float(value):.6f}".rstrip("0").rstrip(".")


def _time(moment: datetime) -> str:
    return f"{moment:%Y%m%d%H%M%S}+0000"
