"""Let a result go, take it back, and see to a result that comes after the report was signed.

Everything here is called inside the caller's transaction: what is recorded together is told
together. Sending is done by others, from the outboxes that this fills.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from inference.domain.errors import ClinferError
from inference.domain.release import Cause, LateResult, ReportState, ReportStatus
from inference.domain.report import ReportStep
from inference.domain.result import Destination, ResultState
from inference.storage import audit, deliveries, late_results, report_events, results, retractions

DELIVERED_STATES = frozenset({ResultState.FINDING, ResultState.NO_FINDING})
"""Outcomes whose objects are sent; the others get a statement instead (`state_objects`)."""


class ReleaseError(ClinferError):
    """What was asked for cannot be done with this result or report."""

    code = "release"

    def __init__(self, *, field: str, problem: str) -> None:
        self.field, self.problem = field, problem
        super().__init__(f"{field}: {problem}")


def offer_result(
    connection: Connection,
    result_id: int,
    *,
    destinations: Sequence[Destination],
    now: datetime,
) -> None:
    """Fill the outboxes with a new result, each by its destination's rule; call it once stored.

    A result that comes after the report was signed raises its task here.
    """
    found = results.get_result(connection, result_id)
    if found.outcome in DELIVERED_STATES:
        deliveries.enqueue(connection, result_id, destinations=destinations, now=now)
    if late_results.raise_task(connection, result_id, found.study_uid, now=now):
        audit.append(
            connection,
            at=now,
            actor="release",
            action="result.late",
            subject=found.study_uid,
            detail={"result_id": result_id, "state": found.outcome.value},
        )


def release_result(connection: Connection, result_id: int, *, by: str, now: datetime) -> int:
    """Start the deliveries of a result that wait for the signature; return how many.

    Releasing twice, or a result without any that wait, changes nothing.

    Raises
    ------
    NotFoundError
    ReleaseError
        The result does not hold any more.
    """
    found = results.get_result(connection, result_id)
    if not found.is_current:
        raise ReleaseError(
            field="result_id", problem=f"result {result_id} is {found.state.value}, not current"
        )
    n_released = deliveries.release_held(connection, result_id, now=now)
    if n_released:
        audit.append(
            connection,
            at=now,
            actor=by,
            action="result.released",
            subject=found.study_uid,
            detail={"result_id": result_id, "deliveries": n_released},
        )
    return n_released


def retract_result(
    connection: Connection,
    result_id: int,
    *,
    reason: str,
    by: str,
    now: datetime,
    cause: Cause = Cause.REJECTED,
) -> bool:
    """Take a result back everywhere a copy went; False: it was taken back before.

    What waits to be sent is cancelled, what may have arrived is retracted by the events that are
    written here (see `inference.storage.retractions`). The result is superseded, with the reason.

    Raises
    ------
    NotFoundError
    ReleaseError
        ``reason`` is empty.
    """
    if not reason.strip():
        raise ReleaseError(field="reason", problem="is empty; say why, in words")
    found = results.get_result(connection, result_id)
    if not retractions.add(connection, result_id, cause=cause, reason=reason, by=by, now=now):
        return False
    deliveries.cancel(connection, [result_id])
    if cause is not Cause.SUPERSEDED:  # a successor has superseded it already, and is named there
        code = "recalled" if cause is Cause.RECALLED else "rejected"
        results.take_back(connection, result_id, reason=reason, reason_code=code)
        report_events.note(
            connection, result_id, ReportStep.RETRACTED, now=now, actor=by, reason=reason
        )
    audit.append(
        connection,
        at=now,
        actor=by,
        action="result.retracted",
        subject=found.study_uid,
        detail={"result_id": result_id, "cause": cause.value, "reason": reason[:500]},
    )
    return True


def retract_superseded(
    connection: Connection,
    result_ids: Sequence[int],
    *,
    by: str,
    now: datetime,
    is_replaced: bool = True,
) -> None:
    """Take back what does not hold any more, wherever a copy of it went.

    Where nothing replaced it (``is_replaced`` False: the analysis failed or was refused as a whole)
    only statements are taken back. The copies of findings stay, with the new statement beside them,
    because a next try may show that they hold.
    """
    for result_id in result_ids:
        is_statement = results.get_result(connection, result_id).outcome not in DELIVERED_STATES
        if not is_replaced and not is_statement:
            continue
        if retractions.destinations_of(connection, result_id):
            retract_result(
                connection,
                result_id,
                reason="a later result took its place",
                by=by,
                now=now,
                cause=Cause.SUPERSEDED,
            )


def record_report(connection: Connection, status: ReportStatus, *, now: datetime) -> ReportStatus:
    """Keep what is known of a report; a signature releases what waited for it.

    Results that came after an earlier signature wait for their own acknowledgement: the person who
    signed has not seen them.

    Raises
    ------
    NotFoundError
    ReleaseError
        Signed, but not by whom or when; or in the future.
    """
    if status.status is ReportState.SIGNED:
        _check_signature(status, now)
    kept = late_results.record_status(connection, status)
    audit.append(
        connection,
        at=now,
        actor=status.signed_by or status.source,
        action=f"report.{kept.status.value}",
        subject=status.study_uid,
        detail={"source": status.source},
    )
    if status.status is ReportState.SIGNED:
        late = {
            task.result_id
            for task in late_results.list_tasks(connection, study_uid=status.study_uid, limit=1000)
        }
        for one in results.list_results(connection, study_uid=status.study_uid, limit=1000):
            if one.id not in late:
                release_result(connection, one.id, by=status.signed_by, now=now)
                report_events.note(
                    connection, one.id, ReportStep.SIGNED, now=now, actor=status.signed_by
                )
    return kept


def acknowledge_late_result(
    connection: Connection, task_id: int, *, by: str, note: str, now: datetime
) -> LateResult:
    """Close a late result's task in the reader's name, and let the result go if it still holds.

    Raises
    ------
    NotFoundError
    ReleaseError
        Nobody is named.
    """
    if not by.strip():
        raise ReleaseError(field="by", problem="is empty; a person acknowledges a late result")
    was_open = late_results.get_task(connection, task_id).is_open
    task = late_results.acknowledge(connection, task_id, by=by, note=note, now=now)
    if was_open:
        audit.append(
            connection,
            at=now,
            actor=by,
            action="result.late_acknowledged",
            subject=task.study_uid,
            detail={"task_id": task.id, "result_id": task.result_id, "note": note[:500]},
        )
        if results.get_result(connection, task.result_id).is_current:
            release_result(connection, task.result_id, by=by, now=now)
    return task


def _check_signature(status: ReportStatus, now: datetime) -> None:
    if not status.signed_by.strip():
        raise ReleaseError(field="signed_by", problem="is empty; a signed report names its signer")
    if status.signed_at is None:
        raise ReleaseError(
            field="signed_at", problem="is missing; a signed report has a time (ISO 8601, UTC)"
        )
    if status.signed_at > now:
        raise ReleaseError(field="signed_at", problem=f"{status.signed_at} is in the future")
