"""A reading as a workitem's attributes, in the DICOM JSON model."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from inference.domain.job import Priority
from inference.domain.reading import Queue
from inference.domain.study import Study

LABEL = "Reading"
PRIORITY_WORDS = {Priority.STAT: "HIGH", Priority.URGENT: "MEDIUM", Priority.ROUTINE: "LOW"}
SCHEME = "99CLINFER"


def reading_document(
    study: Study, queue: Queue, *, priority: Priority, now: datetime, deadline_at: datetime
) -> dict[str, Any]:
    """Return the attributes of a new reading."""
    return {
        "00081084": {"vr": "SQ"},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": study.patient_name}]},
        "00100020": text("LO", study.patient_id),
        "0020000D": text("UI", study.study_uid),
        "00404005": text("DT", moment(now)),
        "00404011": text("DT", moment(deadline_at)),
        "00404018": sequence(code("reading", "Reading of a study")),
        "00404021": sequence(
            {"0040E020": text("CS", "DICOM"), "0020000D": text("UI", study.study_uid)}
        ),
        "00404041": text("CS", "READY"),
        "00741200": text("CS", PRIORITY_WORDS[priority]),
        "00741202": text("LO", queue.name),
        "00741204": text("LO", LABEL),
    }


def replacing(document: Mapping[str, Any], replaced_uid: str, *, now: datetime) -> dict[str, Any]:
    """Return the attributes of the reading that takes the place of a cancelled one."""
    reference = {
        "00081150": text("UI", "1.2.840.10008.5.1.4.34.6.1"),
        "00081155": text("UI", replaced_uid),
    }
    kept = {tag: value for tag, value in document.items() if tag not in ("00741002", "00741216")}
    return {**kept, "00741224": sequence(reference), "00404005": text("DT", moment(now))}


def cancelled(document: Mapping[str, Any], reason: str, *, now: datetime) -> dict[str, Any]:
    """Return the attributes of a reading that its reader did not finish."""
    progress = {
        "00404052": text("DT", moment(now)),
        "0074100E": sequence(code("claim-ended", "The claim ended without a reading")),
        "00741238": text("LT", reason),
    }
    return {**document, "00741002": sequence(progress)}


def performed(
    document: Mapping[str, Any], reader: str, *, began_at: datetime, now: datetime
) -> dict[str, Any]:
    """Return the attributes of a reading that was signed."""
    done = {
        "00404028": sequence(code("clinfer", "clinfer")),
        "00404035": sequence({"00404037": {"vr": "PN", "Value": [{"Alphabetic": reader}]}}),
        "00404050": text("DT", moment(began_at)),
        "00404051": text("DT", moment(now)),
        "00404019": sequence(code("reading", "Reading of a study")),
        "00404033": {"vr": "SQ"},
    }
    return {**document, "00741216": sequence(done)}


def code(value: str, meaning: str) -> dict[str, Any]:
    """Return a coded item of our own scheme."""
    return {
        "00080100": text("SH", value),
        "00080102": text("SH", SCHEME),
        "00080104": text("LO", meaning),
    }


def sequence(*items: dict[str, Any]) -> dict[str, Any]:
    """Return a sequence; empty where there is no item."""
    return {"vr": "SQ", "Value": list(items)} if items else {"vr": "SQ"}


def text(vr: str, value: str) -> dict[str, Any]:
    """Return one value; empty where the text is."""
    return {"vr": vr, "Value": [value]} if value else {"vr": vr}


def moment(at: datetime) -> str:
    """Return a time as DT, in UTC."""
    return at.strftime("%Y%m%d%H%M%S+0000")
