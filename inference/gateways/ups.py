"""Unified procedure steps behind both doors, UPS-RS and DIMSE: what may be asked, and the answer.

Three kinds of workitem are here: those that clients make, readings (of the reading list), and
analysis jobs. A reading is claimed by who may read it; a job is performed by this service alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any

from pydicom.dataset import Dataset
from pydicom.valuerep import VR
from sqlalchemy import Connection

from inference.domain import workitem as steps
from inference.domain.reading import Conclusion, ReadingRefusedError
from inference.domain.workitem import StepState, Workitem, WorkitemError
from inference.domain.workitem_match import Document, first_value, matches
from inference.services.telemedicine import service as reading
from inference.storage import audit, readings, workitem_events, workitems, workitems_jobs
from inference.storage.database import Database
from inference.storage.workitems import STATE, TRANSACTION_UID

MISSING_ATTRIBUTE, INVALID_VALUE, PROCESSING_FAILURE = 0x0120, 0x0106, 0x0110
WORKLIST_LABEL, READINESS, PRIORITY = "00741202", "00404041", "00741200"
STARTS_AT, STEP_LABEL, PERFORMED, PROGRESS = "00404005", "00741204", "00741216", "00741002"
REQUIRED = {
    STEP_LABEL: ("Procedure Step Label", ()),
    PRIORITY: ("Scheduled Procedure Step Priority", ("HIGH", "MEDIUM", "LOW")),
    STARTS_AT: ("Scheduled Procedure Step Start DateTime", ()),
    READINESS: ("Input Readiness State", ("INCOMPLETE", "UNAVAILABLE", "READY")),
}
"""Type 1 at creation (PS3.4 table CC.2.5-3), with their enumerated values."""

NEEDED_PERFORMED = {
    "00404028": "Performed Station Name Code Sequence",
    "00404050": "Performed Procedure Step Start DateTime",
    "00404019": "Performed Workitem Code Sequence",
    "00404051": "Performed Procedure Step End DateTime",
}
NEEDED_CANCELLED = {
    "00404052": "Procedure Step Cancellation DateTime",
    "0074100E": "Procedure Step Discontinuation Reason Code Sequence",
}
OUTPUT = "00404033"
FIXED = {
    STATE: "Procedure Step State",
    "00100010": "Patient's Name",
    "00100020": "Patient ID",
    "00100021": "Issuer of Patient ID",
    "00100030": "Patient's Birth Date",
    "00100040": "Patient's Sex",
}
"""What an update may not touch (PS3.4 table CC.2.5-3, column N-SET)."""

OWN_TAGS = ("00080016", "00080018")
MAX_SCANNED = 20_000
DEFAULT_WORKLIST = "clinfer"
MAX_AE_LENGTH = 16


@dataclass(frozen=True, kw_only=True)
class Ups:
    """The service class; each method is one request in one transaction."""

    database: Database

    def create(self, document: Document, *, uid: str, by: str) -> tuple[str, int]:
        """Make a workitem; return its UID and the status (0000, or B300 with what was filled in).

        Raises
        ------
        WorkitemError
            0111, C309, 0120 or 0106 with the attribute's name.
        """
        document = _checked(document)
        if first_value(document, STATE) != StepState.SCHEDULED:
            raise WorkitemError(steps.CREATE_NOT_SCHEDULED, workitem_uid=uid)
        if first_value(document, TRANSACTION_UID):
            raise WorkitemError(INVALID_VALUE, detail="Transaction UID (0008,1195) must be empty")
        for tag, (name, allowed) in REQUIRED.items():
            value = first_value(document, tag)
            if not value:
                raise WorkitemError(MISSING_ATTRIBUTE, detail=f"{name} is missing")
            if allowed and value not in allowed:
                raise WorkitemError(
                    INVALID_VALUE, detail=f"{name} is {value!r}, not {', '.join(allowed)}"
                )
        stated = first_value(document, "00080018")
        if uid and stated and uid != stated:
            raise WorkitemError(INVALID_VALUE, detail="two SOP Instance UIDs are given")
        uid = uid or stated or steps.new_uid()
        status = steps.SUCCESS
        if not first_value(document, WORKLIST_LABEL):
            document[WORKLIST_LABEL] = {"vr": "LO", "Value": [DEFAULT_WORKLIST]}
            status = steps.WARNING_CREATED_WITH_CHANGES
        if workitems_jobs.job_id_of(uid) is not None:
            raise WorkitemError(steps.DUPLICATE, workitem_uid=uid)
        with self.database.write() as connection:
            now = self.database.now(connection)
            workitems.add(connection, uid, _without(document, *OWN_TAGS), now=now)
            _note(connection, uid, "workitem.created", by, now)
        self.database.notify()
        return uid, status

    def search(self, keys: Document, *, limit: int, offset: int = 0) -> list[dict[str, Any]]:
        """Return the workitems that match, oldest first, as clients may see them."""
        if first_value(keys, TRANSACTION_UID):
            raise WorkitemError(INVALID_VALUE, detail="Transaction UID (0008,1195) is no key")
        found: list[dict[str, Any]] = []
        with self.database.read() as connection:
            for number, one in enumerate(_candidates(connection, keys)):
                if number >= MAX_SCANNED or len(found) >= offset + limit:
                    break
                document = workitems.shown(one)
                if matches(document, keys):
                    found.append(document)
        return found[offset : offset + limit]

    def get(self, uid: str) -> dict[str, Any]:
        """Return a workitem as clients may see it.

        Raises
        ------
        WorkitemError
            C307.
        """
        with self.database.read() as connection:
            return workitems.shown(_get(connection, uid))

    def update(self, uid: str, document: Document, *, transaction_uid: str, by: str) -> int:
        """Change attributes; return the status.

        Raises
        ------
        WorkitemError
            C300, C301, C307, or 0106 with the attribute that may not change.
        """
        document = _checked(document)
        for tag, name in FIXED.items():
            if tag in document:
                raise WorkitemError(INVALID_VALUE, detail=f"{name} may not be changed")
        with self.database.write() as connection:
            now = self.database.now(connection)
            before = _get(connection, uid)
            if before.kind == workitems_jobs.KIND:
                raise WorkitemError(steps.NOT_AUTHORISED, workitem_uid=uid)
            step = steps.Step(state=before.state, transaction_uid=before.transaction_uid)
            status = steps.update(step, transaction_uid)
            if steps.is_refusal(status):
                raise WorkitemError(status, workitem_uid=uid)
            changed = {**json.loads(before.document), **_without(document, *OWN_TAGS)}
            after = workitems.set_document(connection, before, changed, now=now)
            if PROGRESS in document:
                workitem_events.report_progress(connection, after, now=now)
            _note(connection, uid, "workitem.updated", by, now)
        self.database.notify()
        return status

    def change_state(self, uid: str, wanted: str, *, transaction_uid: str, by: str) -> int:
        """Claim, complete or cancel; return the status, which may be a warning.

        Raises
        ------
        WorkitemError
            C300 to C304, C307, C310, or 0124 where somebody else is the performer.
        """
        try:
            state = StepState(wanted)
        except ValueError:
            raise WorkitemError(
                INVALID_VALUE, detail=f"Procedure Step State {wanted!r} is none"
            ) from None
        with self.database.write() as connection:
            now = self.database.now(connection)
            before = _get(connection, uid)
            if before.kind == workitems_jobs.KIND:
                raise WorkitemError(steps.NOT_AUTHORISED, workitem_uid=uid)
            missing = missing_for(state, json.loads(before.document))
            if before.kind == "reading" and state is StepState.IN_PROGRESS:
                _check_reader(connection, before, by, now)
            status = workitems.change_state(
                connection, uid, state, transaction_uid, is_reported=not missing, now=now
            )
            if steps.is_refusal(status):
                is_final = status == steps.FINAL_REQUIREMENTS_MISSING
                raise WorkitemError(
                    status, workitem_uid=uid, detail=", ".join(missing) if is_final else ""
                )
            if status == steps.SUCCESS:
                if before.kind == "reading":
                    _follow_reading(connection, uid, state, by, now)
                _note(connection, uid, f"workitem.{state.name.lower()}", by, now)
        self.database.notify()
        return status

    def request_cancel(self, uid: str, request: Document, *, by: str) -> int:
        """Ask for a cancellation; return the status.

        Raises
        ------
        WorkitemError
            C307, C311, or C313 for a job that has begun.
        """
        # An event without any element cannot be sent over DIMSE, and the performer must know who.
        request = {**_requester(by), **(_checked(request) if request else {})}
        with self.database.write() as connection:
            now = self.database.now(connection)
            job_id = workitems_jobs.job_id_of(uid)
            before = _get(connection, uid)
            if job_id is not None:
                reason = first_value(request, "00741238")
                status = workitems_jobs.request_cancel(
                    connection, job_id, by=by, reason=reason, now=now
                )
            elif before.kind == "reading" and before.state is StepState.SCHEDULED:
                # A study stays to be read, whoever would rather not have it on the list.
                status = steps.PERFORMER_REFUSES
            else:
                status = workitems.request_cancel(connection, uid, request, now=now)
            if steps.is_refusal(status):
                raise WorkitemError(status, workitem_uid=uid)
            _note(connection, uid, "workitem.cancel_requested", by, now)
        self.database.notify()
        return status

    def subscribe(
        self,
        target: str,
        ae_title: str,
        *,
        keys: Document | None = None,
        has_deletion_lock: bool = False,
        by: str,
    ) -> int:
        """Watch one workitem or all; a deletion lock is never given, since nothing is deleted.

        Raises
        ------
        WorkitemError
            C307, C314: a filter goes with the filtered subscription, and only with it.
        """
        is_filtered = target == steps.FILTERED_SUBSCRIPTION_UID
        if bool(keys) != is_filtered:
            raise WorkitemError(
                steps.ACTION_NOT_APPROPRIATE,
                detail=f"a filter goes with {steps.FILTERED_SUBSCRIPTION_UID} only",
            )
        with self.database.write() as connection:
            now = self.database.now(connection)
            existing: Iterator[tuple[str, Document]] = iter(())
            if target in workitem_events.GLOBAL_TARGETS:
                existing = (
                    (one.uid, workitems.shown(one))
                    for one in list(_candidates(connection, {}))
                    if not one.state.is_final
                )
            else:
                _get(connection, target)
            workitem_events.subscribe(
                connection, ae_title, target, now=now, keys=keys, existing=existing
            )
            if target not in workitem_events.GLOBAL_TARGETS:
                _report_now(connection, target, now)
            _note(connection, target, "workitem.subscribed", by, now, {"ae_title": ae_title})
        self.database.notify()
        return steps.WARNING_NO_DELETION_LOCK if has_deletion_lock else steps.SUCCESS

    def unsubscribe(self, target: str, ae_title: str, *, by: str) -> int:
        """Watch one workitem, or all, no more.

        Raises
        ------
        WorkitemError
            C307.
        """
        with self.database.write() as connection:
            if target not in workitem_events.GLOBAL_TARGETS:
                _get(connection, target)
            workitem_events.unsubscribe(connection, ae_title, target)
            now = self.database.now(connection)
            _note(connection, target, "workitem.unsubscribed", by, now, {"ae_title": ae_title})
        return steps.SUCCESS

    def suspend(self, target: str, ae_title: str, *, by: str) -> int:
        """Take no new workitems, and keep those that are watched.

        Raises
        ------
        WorkitemError
            C314: only the subscription to all workitems can be suspended.
        """
        if target not in workitem_events.GLOBAL_TARGETS:
            raise WorkitemError(steps.ACTION_NOT_APPROPRIATE, workitem_uid=target)
        with self.database.write() as connection:
            workitem_events.suspend(connection, ae_title)
            now = self.database.now(connection)
            _note(connection, target, "workitem.suspended", by, now, {"ae_title": ae_title})
        return steps.SUCCESS


def missing_for(state: StepState, document: Mapping[str, Any]) -> list[str]:
    """Return the names of what a final state asks for and a workitem does not say.

    PS3.4 table CC.2.5-3, "final state": P for COMPLETED, X for CANCELED. Output Information must be
    there; it may be empty, for work that makes no object.
    """
    if state is StepState.COMPLETED:
        performed = (document.get(PERFORMED, {}).get("Value") or [{}])[0]
        missing = [
            name
            for tag, name in NEEDED_PERFORMED.items()
            if not performed.get(tag, {}).get("Value")
        ]
        return missing + ([] if OUTPUT in performed else ["Output Information Sequence"])
    if state is StepState.CANCELED:
        progress = (document.get(PROGRESS, {}).get("Value") or [{}])[0]
        return [
            name for tag, name in NEEDED_CANCELLED.items() if not progress.get(tag, {}).get("Value")
        ]
    return []


def _checked(document: Document) -> dict[str, Any]:
    """Return a document as pydicom reads it: known VRs, values of their kind, no bulk data.

    Raises
    ------
    WorkitemError
        0106.
    """
    try:
        _check_elements(document)
        checked: dict[str, Any] = Dataset.from_json(dict(document)).to_json_dict()
        text = json.dumps(checked, ensure_ascii=False)
        text.encode()
    except Exception as error:  # pydicom raises what it meets: KeyError, ValueError, TypeError
        raise WorkitemError(INVALID_VALUE, detail="this is not a DICOM JSON data set") from error
    if "\\u0000" in text:
        raise WorkitemError(INVALID_VALUE, detail="a value holds a NUL character")
    return checked


def _requester(name: str) -> dict[str, Any]:
    """Return who asks: an AE title where it is one, else a name to call."""
    if name and len(name) <= MAX_AE_LENGTH:
        return {"00741236": {"vr": "AE", "Value": [name]}}
    return {"0074100C": {"vr": "LO", "Value": [name[:64] or "unknown"]}}


def _check_elements(document: Document) -> None:
    """Raise ValueError, KeyError or TypeError where an element is none of the standard's."""
    for element in document.values():
        if "BulkDataURI" in element or "InlineBinary" in element:
            raise ValueError("a workitem holds no bulk data")
        if VR(element["vr"]) is VR.SQ:
            for item in element.get("Value") or ():
                _check_elements(item)


def _candidates(connection: Connection, keys: Document) -> Iterator[Workitem]:
    wanted = {
        "state": first_value(keys, STATE),
        "patient_id": first_value(keys, "00100020"),
        "label": first_value(keys, STEP_LABEL),
    }
    plain = {
        name: "" if any(sign in value for sign in "*?\\") else value
        for name, value in wanted.items()
    }
    return chain(
        workitems.candidates(connection, **plain), workitems_jobs.candidates(connection, **plain)
    )


def _get(connection: Connection, uid: str) -> Workitem:
    found = workitems_jobs.find(connection, uid) or workitems.find(connection, uid)
    if found is None or workitems.is_hidden(connection, uid):
        raise WorkitemError(steps.NO_SUCH_WORKITEM, workitem_uid=uid)
    return found


def _check_reader(connection: Connection, one: Workitem, by: str, now: datetime) -> None:
    found = readings.task_of_workitem(connection, one.uid)
    if found is None or one.state is not StepState.SCHEDULED:
        return  # the state machine has the answer
    try:
        reading.free_read(connection, found[0], by=by, now=now)
    except ReadingRefusedError as error:
        raise WorkitemError(
            steps.NOT_AUTHORISED, workitem_uid=one.uid, detail=error.problem
        ) from error


def _follow_reading(
    connection: Connection, uid: str, state: StepState, by: str, now: datetime
) -> None:
    """Write down what a client did to a reading."""
    found = readings.task_of_workitem(connection, uid)
    if found is None:
        return
    task, read = found
    if state is StepState.IN_PROGRESS:
        reading.note_claimed(connection, task, read, by=by, now=now)
    elif state is StepState.COMPLETED:
        values = {
            "conclusion": Conclusion.REPORTED_ELSEWHERE.value,
            "finding_codes": [],
            "report": "",
        }
        reading.note_signed(connection, task, read, by=by, now=now, values=values)
    else:
        reading.replace_cancelled(connection, task, read, now=now)


def _report_now(connection: Connection, uid: str, now: datetime) -> None:
    """Tell a new watcher where its workitem stands (PS3.4 CC.2.3.3)."""
    workitem_events.report_state(connection, _get(connection, uid), now=now)


def _without(document: Document, *tags: str) -> dict[str, Any]:
    return {tag: value for tag, value in document.items() if tag not in tags}


def _note(
    connection: Connection,
    uid: str,
    action: str,
    by: str,
    now: datetime,
    detail: dict[str, Any] | None = None,
) -> None:
    audit.append(connection, at=now, actor=by, action=action, subject=uid, detail=detail)
