"""Who watches which workitem, and what they were not told yet (PS3.4 CC.2.3 and CC.2.4).

A subscription to all workitems is kept as such, and besides as one subscription for each workitem
that it brought, as the standard wants it: suspending the first leaves the second.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, insert, literal, select

from inference.domain import workitem as steps
from inference.domain.workitem import StepState, Workitem
from inference.domain.workitem_match import Document, first_value, matches
from inference.storage.worklist_tables import (
    workitem,
    workitem_event,
    workitem_reported,
    workitem_subscription,
)

STATE_REPORT, CANCEL_REQUESTED, PROGRESS_REPORT, ASSIGNED = 1, 2, 3, 5
GLOBAL_TARGETS = (steps.GLOBAL_SUBSCRIPTION_UID, steps.FILTERED_SUBSCRIPTION_UID)
KEPT_FOR = timedelta(days=1)
"""An event that nobody fetched for so long is dropped; the workitem itself says where it stands."""

FINAL = (StepState.COMPLETED.value, StepState.CANCELED.value)
_PROGRESS, _STATE, _READINESS = "00741002", "00741000", "00404041"


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event for one receiver; ``document`` in the DICOM JSON model."""

    id: int
    ae_title: str
    workitem_uid: str
    event_type: int
    document: dict[str, Any]


def subscribe(
    connection: Connection,
    ae_title: str,
    target: str,
    *,
    now: datetime,
    existing: Iterable[tuple[str, Document]] = (),
    keys: Document | None = None,
    has_deletion_lock: bool = False,
) -> None:
    """Watch one workitem, or all (those that match ``keys``); ``existing``: the ones there are."""
    _put(connection, ae_title, target, now, json.dumps(keys or {}), has_deletion_lock)
    for uid, document in existing:
        if matches(document, keys or {}):
            _put(connection, ae_title, uid, now, "{}", has_deletion_lock)


def unsubscribe(connection: Connection, ae_title: str, target: str) -> None:
    """Watch no more: one workitem, or every one."""
    query = delete(workitem_subscription).where(workitem_subscription.c.ae_title == ae_title)
    if target not in GLOBAL_TARGETS:
        query = query.where(workitem_subscription.c.target == target)
    connection.execute(query)


def suspend(connection: Connection, ae_title: str) -> None:
    """Take no new workitems; those watched already stay so."""
    connection.execute(
        delete(workitem_subscription).where(
            workitem_subscription.c.ae_title == ae_title,
            workitem_subscription.c.target.in_(GLOBAL_TARGETS),
        )
    )


def subscriptions(connection: Connection, ae_title: str) -> tuple[str, ...]:
    """Return what a receiver watches: UIDs, the ones for all workitems among them."""
    query = select(workitem_subscription.c.target).where(
        workitem_subscription.c.ae_title == ae_title
    )
    return tuple(sorted(connection.execute(query).scalars()))


def subscribe_new(connection: Connection, uid: str, document: Document, *, now: datetime) -> None:
    """Give a new workitem the watchers of all workitems."""
    query = select(workitem_subscription).where(workitem_subscription.c.target.in_(GLOBAL_TARGETS))
    for row in connection.execute(query).all():
        if matches(document, json.loads(row.filter)):
            _put(connection, row.ae_title, uid, now, "{}", row.has_deletion_lock)


def report_state(connection: Connection, one: Workitem, *, now: datetime) -> None:
    """Tell the watchers of a workitem its new state."""
    document = json.loads(one.document)
    body: dict[str, Any] = {
        _STATE: {"vr": "CS", "Value": [one.state.value]},
        _READINESS: {"vr": "CS", "Value": [first_value(document, _READINESS) or "READY"]},
    }
    if one.state is StepState.CANCELED and _PROGRESS in document:
        body[_PROGRESS] = document[_PROGRESS]
    report(connection, one.uid, STATE_REPORT, body, now=now)


def report_cancel_request(
    connection: Connection, one: Workitem, request: Document, *, now: datetime
) -> None:
    """Tell the watchers, the performer among them, that somebody wants it cancelled."""
    report(connection, one.uid, CANCEL_REQUESTED, dict(request), now=now)


def report_progress(connection: Connection, one: Workitem, *, now: datetime) -> None:
    """Tell the watchers of a workitem how far it is."""
    progress = json.loads(one.document).get(_PROGRESS)
    if progress:
        report(connection, one.uid, PROGRESS_REPORT, {_PROGRESS: progress}, now=now)


def report(
    connection: Connection, uid: str, event_type: int, document: Document, *, now: datetime
) -> None:
    """Keep an event for each watcher of a workitem."""
    watchers = select(workitem_subscription.c.ae_title).where(workitem_subscription.c.target == uid)
    for ae_title in connection.execute(watchers).scalars().all():
        connection.execute(
            insert(workitem_event).values(
                ae_title=ae_title,
                workitem_uid=uid,
                event_type=event_type,
                document=json.dumps(document, ensure_ascii=False),
                created_at=now,
            )
        )


def has_watchers(connection: Connection) -> bool:
    """Whether anybody watches anything."""
    return (
        connection.execute(
            select(literal(1)).select_from(workitem_subscription).limit(1)
        ).one_or_none()
        is not None
    )


def pending(connection: Connection, ae_title: str, *, after_id: int = 0) -> tuple[Event, ...]:
    """Return what a receiver was not told yet, oldest first."""
    query = (
        select(workitem_event)
        .where(workitem_event.c.ae_title == ae_title, workitem_event.c.id > after_id)
        .order_by(workitem_event.c.id)
        .limit(200)
    )
    return tuple(
        Event(
            id=row.id,
            ae_title=row.ae_title,
            workitem_uid=row.workitem_uid,
            event_type=row.event_type,
            document=json.loads(row.document),
        )
        for row in connection.execute(query)
    )


def delivered(connection: Connection, event_ids: list[int]) -> None:
    """Drop events that their receiver has."""
    connection.execute(delete(workitem_event).where(workitem_event.c.id.in_(event_ids)))


def tidy(connection: Connection, *, now: datetime) -> None:
    """Drop events that are too old, and watches of workitems that ended."""
    connection.execute(delete(workitem_event).where(workitem_event.c.created_at < now - KEPT_FOR))
    ended = select(workitem.c.uid).where(
        workitem.c.state.in_(FINAL), workitem.c.changed_at < now - KEPT_FOR
    )
    connection.execute(
        delete(workitem_subscription).where(workitem_subscription.c.target.in_(ended))
    )


def reported_states(connection: Connection) -> dict[int, str]:
    """Return the state of each job as its watchers last heard it."""
    return {row.job_id: row.state for row in connection.execute(select(workitem_reported))}


def note_reported(connection: Connection, job_id: int, state: str) -> None:
    """Remember what the watchers of a job were told."""
    connection.execute(delete(workitem_reported).where(workitem_reported.c.job_id == job_id))
    connection.execute(insert(workitem_reported).values(job_id=job_id, state=state))


def _put(
    connection: Connection,
    ae_title: str,
    target: str,
    now: datetime,
    keys: str,
    has_deletion_lock: bool,
) -> None:
    connection.execute(
        delete(workitem_subscription).where(
            workitem_subscription.c.ae_title == ae_title, workitem_subscription.c.target == target
        )
    )
    connection.execute(
        insert(workitem_subscription).values(
            ae_title=ae_title,
            target=target,
            filter=keys,
            has_deletion_lock=has_deletion_lock,
            created_at=now,
        )
    )
