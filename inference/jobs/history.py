"""What happened to a study: its jobs, results, deliveries and record, and one sentence of why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from inference.domain.job import Job, JobState
from inference.domain.result import Delivery, DeliveryState, Result
from inference.domain.study import Study
from inference.storage import audit, deliveries, jobs, results, studies
from inference.storage.audit import AuditEvent
from inference.storage.errors import NotFoundError

MOST_EVENTS = 100_000
COUNTED_ACTIONS = frozenset({"instance.received", "instance.repeated", "study.read"})
"""One for each slice or look: counted, not listed."""


@dataclass(frozen=True, kw_only=True)
class History:
    """Everything on record about a study; ``study`` is None where nothing of it is stored.

    ``n_counted`` are the actions of `COUNTED_ACTIONS`; ``n_before`` how many jobs the queue has
    before the study's newest one.
    """

    study_uid: str
    study: Study | None
    jobs: tuple[Job, ...]
    results: tuple[Result, ...]
    deliveries: tuple[Delivery, ...]
    events: tuple[AuditEvent, ...]
    n_counted: dict[str, int]
    n_before: int


def what_happened(connection: Connection, study_uid: str) -> History:
    """Read everything on record about a study, newest first but for the events.

    Raises
    ------
    NotFoundError
        Nothing is on record under this UID, not even a refusal.
    """
    events = audit.events(connection, subject=study_uid, limit=MOST_EVENTS)
    try:
        study = studies.get_study(connection, study_uid)
    except NotFoundError:
        if not events:
            raise
        study = None
    found = jobs.list_jobs(connection, study_uid=study_uid, limit=1000)
    return History(
        study_uid=study_uid,
        study=study,
        jobs=found,
        results=results.list_results(
            connection, study_uid=study_uid, current_only=False, limit=1000
        ),
        deliveries=deliveries.list_deliveries(connection, study_uid=study_uid, limit=1000),
        events=tuple(event for event in events if event.action not in COUNTED_ACTIONS),
        n_counted=dict(
            Counter(event.action for event in events if event.action in COUNTED_ACTIONS)
        ),
        n_before=jobs.count_before(connection, found[0]) if found else 0,
    )


def why(history: History, *, now: datetime) -> str:
    """Say in one sentence where the study stands, and what has to happen next."""
    if history.study is None:
        return _why_nothing(history)
    if not history.jobs:
        return "stored; it holds no image, so there is nothing to analyse"
    job = history.jobs[0]
    if job.state in (JobState.COLLECTING, JobState.QUEUED):
        return _why_waiting(history, job, now)
    if job.state is JobState.LEASED:
        return _why_running(job, now)
    if job.state is JobState.FAILED:
        return f"refused: {job.reason_code}: {job.reason}"
    if job.state is JobState.DEAD:
        return (
            f"failed for good after {job.tries} tries and {job.losses} losses:"
            f" {job.reason_code}: {job.reason}; a person may start it again"
        )
    if job.state is JobState.SUPERSEDED:
        return "overtaken by a later version of the study"
    return _why_done(history)


def holder(job: Job) -> str:
    """Return who holds a job, as host, process and worker; "" where nobody does."""
    if job.lease_owner is None:
        return ""
    host, pid, _, worker, *_ = [*job.lease_owner.split("|"), "", "", ""]
    return f"{worker} on {host}, process {pid}"


def _why_nothing(history: History) -> str:
    last = history.events[-1].detail if history.events else {}
    return (
        f"nothing of it is stored: {last.get('code', 'unknown')}:"
        f" {last.get('reason') or last.get('problem') or 'no reason is on record'}"
    )


def _why_waiting(history: History, job: Job, now: datetime) -> str:
    wait_s = (job.run_after - now).total_seconds()
    if job.state is JobState.COLLECTING and wait_s > 0:
        return f"waits {wait_s:.0f} s more for further instances"
    if wait_s > 0:
        return (
            f"waits {wait_s:.0f} s for its next attempt, after {job.tries} tries and"
            f" {job.losses} losses: {job.reason_code}: {job.reason}"
        )
    return f"waits for a worker; {history.n_before} jobs are before it"


def _why_running(job: Job, now: datetime) -> str:
    assert job.lease_until is not None, "a leased job has a lease"
    left_s = (job.lease_until - now).total_seconds()
    if left_s < 0:
        return f"{holder(job)} went silent {-left_s:.0f} s ago; the next worker takes it over"
    return f"running: {job.step or 'just begun'} ({job.progress:.0%}), by {holder(job)}"


def _why_done(history: History) -> str:
    current = [one for one in history.results if one.is_current]
    said = [
        f"{one.model or 'whole study'}: {one.outcome.value}"
        + (f" ({one.reason_code}: {one.reason})" if one.reason else "")
        for one in current
    ]
    states = Counter(one.state for one in history.deliveries)
    owed = states[DeliveryState.WAITING] + states[DeliveryState.LEASED]
    if owed:
        said.append(f"{owed} objects are still to be delivered")
    if states[DeliveryState.DEAD]:
        said.append(f"{states[DeliveryState.DEAD]} objects could not be delivered")
    return "done: " + "; ".join(said)
