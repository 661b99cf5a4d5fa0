"""Analysis jobs seen as workitems: read from the job's own rows, never stored a second time.

The truth of a job is its row, which workers lease and finish; a copy with a state of its own could
only come to disagree with it. So a job's workitem is worked out when somebody asks. Its UID follows
from the job's number, its performer is this service, and nobody else may claim or change it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select, update

from inference.domain import workitem as steps
from inference.domain.job import Job, JobState, Priority
from inference.domain.workitem import StepState, Workitem
from inference.storage import jobs, workitem_events
from inference.storage.tables import job, result, result_file, study

KIND, LABEL = "job", "AI analysis"
CANCELLED = "cancelled"
"""Reason code of a job that somebody cancelled before it began."""

STATES = {
    JobState.COLLECTING: StepState.SCHEDULED,
    JobState.QUEUED: StepState.SCHEDULED,
    JobState.LEASED: StepState.IN_PROGRESS,
    JobState.DONE: StepState.COMPLETED,
    JobState.FAILED: StepState.CANCELED,
    JobState.DEAD: StepState.CANCELED,
    JobState.SUPERSEDED: StepState.CANCELED,
}
PRIORITY_WORDS = {Priority.STAT: "HIGH", Priority.URGENT: "MEDIUM", Priority.ROUTINE: "LOW"}
_UID_ROOT = "clinfer-job"
PAGE = 200


def uid_of(job_id: int) -> str:
    """Return the workitem UID of a job; the number can be read back (`job_id_of`)."""
    return f"2.25.{_UID_BASE + job_id}"


def job_id_of(workitem_uid: str) -> int | None:
    """Return the number of the job that a workitem UID stands for; None: no job's."""
    tail = workitem_uid.removeprefix("2.25.")
    if tail == workitem_uid or not tail.isdecimal():
        return None
    number = int(tail) - _UID_BASE
    return number if 0 < number < 2**62 else None


_UID_BASE = (int(steps.uid_of(_UID_ROOT).removeprefix("2.25.")) >> 63) << 63


def find(connection: Connection, workitem_uid: str) -> Workitem | None:
    """Return the workitem of a job, or None."""
    job_id = job_id_of(workitem_uid)
    if job_id is None:
        return None
    row = connection.execute(select(job.c.id).where(job.c.id == job_id)).one_or_none()
    if row is None:
        return None
    return _as_workitems(connection, [jobs.get_job(connection, job_id)])[0]


def candidates(
    connection: Connection, *, state: str = "", patient_id: str = "", label: str = ""
) -> Iterator[Workitem]:
    """Yield the workitems of jobs, oldest first; equal values only, "" for any."""
    if label not in ("", LABEL):
        return
    query = select(job.c.id).order_by(job.c.id)
    if state:
        query = query.where(
            job.c.state.in_([one.value for one, step in STATES.items() if step.value == state])
        )
    if patient_id:
        query = query.join(study, study.c.study_uid == job.c.study_uid).where(
            study.c.patient_id == patient_id
        )
    last = 0
    while True:
        ids = connection.execute(query.where(job.c.id > last).limit(PAGE)).scalars().all()
        yield from _as_workitems(connection, [jobs.get_job(connection, one) for one in ids])
        if len(ids) < PAGE:
            return
        last = ids[-1]


def request_cancel(
    connection: Connection, job_id: int, *, by: str, reason: str, now: datetime
) -> int:
    """Cancel a job that waits; one that runs is not stopped (C313). Return the status."""
    found = jobs.get_job(connection, job_id)
    state = STATES[found.state]
    if state is StepState.COMPLETED:
        return steps.ALREADY_COMPLETED
    if state is StepState.CANCELED:
        return steps.WARNING_ALREADY_CANCELED
    if state is StepState.IN_PROGRESS:
        return steps.PERFORMER_REFUSES
    text = f"cancelled by {by}" + (f": {reason}" if reason else "")
    connection.execute(
        update(job)
        .where(job.c.id == job_id)
        .values(
            state=JobState.FAILED.value,
            finished_at=now,
            reason_code=CANCELLED,
            reason=text,
        )
    )
    return steps.SUCCESS


def report_changes(connection: Connection, *, now: datetime) -> int:
    """Tell the watchers of jobs what changed since the last call; return how many did."""
    if not workitem_events.has_watchers(connection):
        return 0
    known = workitem_events.reported_states(connection)
    recent = select(job.c.id, job.c.state).where(
        func.coalesce(job.c.finished_at, now) >= now - workitem_events.KEPT_FOR
    )
    changed = [
        row.id
        for row in connection.execute(recent)
        if known.get(row.id) != STATES[JobState(row.state)].value
    ]
    for one in _as_workitems(connection, [jobs.get_job(connection, job_id) for job_id in changed]):
        job_id = job_id_of(one.uid)
        assert job_id is not None
        if job_id not in known:
            workitem_events.subscribe_new(connection, one.uid, json.loads(one.document), now=now)
        workitem_events.report_state(connection, one, now=now)
        workitem_events.note_reported(connection, job_id, one.state.value)
    return len(changed)


def _as_workitems(connection: Connection, found: Sequence[Job]) -> list[Workitem]:
    studies = {
        row.study_uid: row
        for row in connection.execute(
            select(study).where(study.c.study_uid.in_({one.study_uid for one in found}))
        )
    }
    outputs: dict[int, list[Any]] = {one.id: [] for one in found}
    query = (
        select(
            result.c.job_id,
            result.c.series_uid,
            result_file.c.sop_class_uid,
            result_file.c.instance_uid,
        )
        .join(result_file, result_file.c.result_id == result.c.id)
        .where(result.c.job_id.in_(list(outputs)), result_file.c.instance_uid != "")
        .order_by(result_file.c.instance_uid)
    )
    for row in connection.execute(query):
        outputs[row.job_id].append(row)
    return [_as_workitem(one, studies[one.study_uid], outputs[one.id]) for one in found]


def _as_workitem(one: Job, row: Any, outputs: Sequence[Any]) -> Workitem:
    document = {
        "00081084": _sequence(),
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": row.patient_name}]},
        "00100020": _text("LO", row.patient_id),
        "00404005": _text("DT", _moment(one.run_after)),
        "00404018": _sequence(_code("clinfer-analysis", "99CLINFER", "AI analysis of a study")),
        "00404021": _sequence(_study_reference(one.study_uid)),
        "00404041": _text("CS", "INCOMPLETE" if one.state is JobState.COLLECTING else "READY"),
        "00741200": _text("CS", PRIORITY_WORDS[one.priority]),
        "00741202": _text("LO", "clinfer"),
        "00741204": _text("LO", LABEL),
        "0020000D": _text("UI", one.study_uid),
        "00741002": _sequence(_progress(one)),
    }
    if one.model:
        document["00741210"] = _sequence(
            _code(one.model[:16], "99CLINFER", one.model[:64], value_type=True)
        )
    state = STATES[one.state]
    if state is StepState.COMPLETED:
        document["00741216"] = _sequence(_performed(one, outputs))
    return Workitem(
        uid=uid_of(one.id),
        kind=KIND,
        state=state,
        document=json.dumps(document, ensure_ascii=False),
        created_at=one.created_at,
        changed_at=one.finished_at or one.started_at or one.created_at,
    )


def _progress(one: Job) -> dict[str, Any]:
    found = {"00741004": {"vr": "DS", "Value": [round(one.progress * 100, 1)]}}
    if one.step or one.reason:
        found["00741006"] = _text("ST", one.reason or one.step)
    if STATES[one.state] is StepState.CANCELED:
        found["00404052"] = _text("DT", _moment(one.finished_at or one.created_at))
        found["0074100E"] = _sequence(_code("110513", "DCM", "Discontinued for unspecified reason"))
        found["00741238"] = _text("LT", one.reason)
    return found


def _performed(one: Job, outputs: Sequence[Any]) -> dict[str, Any]:
    return {
        "00404028": _sequence(_code("clinfer", "99CLINFER", "clinfer")),
        "00404050": _text("DT", _moment(one.started_at or one.created_at)),
        "00404051": _text("DT", _moment(one.finished_at or one.created_at)),
        "00404019": _sequence(_code("clinfer-analysis", "99CLINFER", "AI analysis of a study")),
        "00404033": _sequence(
            *(
                {
                    "0040E020": _text("CS", "DICOM"),
                    "0020000D": _text("UI", one.study_uid),
                    "00081199": _sequence(
                        {
                            "00081150": _text("UI", row.sop_class_uid),
                            "00081155": _text("UI", row.instance_uid),
                        }
                    ),
                }
                for row in outputs
            )
        ),
    }


def _study_reference(study_uid: str) -> dict[str, Any]:
    return {"0040E020": _text("CS", "DICOM"), "0020000D": _text("UI", study_uid)}


def _code(value: str, scheme: str, meaning: str, *, value_type: bool = False) -> dict[str, Any]:
    item = {
        "00080100": _text("SH", value),
        "00080102": _text("SH", scheme),
        "00080104": _text("LO", meaning),
    }
    if not value_type:
        return item
    name = {"0040A043": _sequence(_code("clinfer-model", "99CLINFER", "Model"))}
    return {"0040A040": _text("CS", "TEXT"), **name, "0040A160": _text("UT", meaning)}


def _sequence(*items: dict[str, Any]) -> dict[str, Any]:
    return {"vr": "SQ", "Value": list(items)} if items else {"vr": "SQ"}


def _text(vr: str, value: str) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]} if value else {"vr": vr}


def _moment(moment: datetime) -> str:
    return moment.strftime("%Y%m%d%H%M%S+0000")
