"""Workitems (unified procedure steps): made, found, claimed, updated, ended.

A workitem's state lives in its column and moves by `inference.domain.workitem` alone, in the
caller's write transaction; writers are serialised, so of two claims one is first and the other is
told so. Who subscribed is told in the same transaction (`workitem_events`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from inference.domain import workitem as steps
from inference.domain.workitem import Step, StepState, Workitem, WorkitemError
from inference.domain.workitem_match import Document, first_value
from inference.storage import workitem_events
from inference.storage.worklist_tables import workitem as table

PATIENT_ID, LABEL, STATE, TRANSACTION_UID = "00100020", "00741204", "00741000", "00081195"
PAGE = 200


def add(
    connection: Connection,
    uid: str,
    document: Document,
    *,
    now: datetime,
    kind: str = "ups",
    is_hidden: bool = False,
) -> Workitem:
    """Make a scheduled workitem.

    ``is_hidden`` keeps it from everybody but its own kind: a blinded reading is nobody's business.

    Raises
    ------
    WorkitemError
        0111: there is one with this UID.
    """
    if find(connection, uid) is not None:
        raise WorkitemError(steps.DUPLICATE, workitem_uid=uid)
    connection.execute(
        insert(table).values(
            uid=uid,
            kind=kind,
            state=StepState.SCHEDULED.value,
            transaction_uid="",
            is_hidden=is_hidden,
            revision=1,
            created_at=now,
            changed_at=now,
            **_document_columns(document),
        )
    )
    made = get(connection, uid)
    if not is_hidden:
        workitem_events.subscribe_new(connection, uid, shown(made), now=now)
        workitem_events.report_state(connection, made, now=now)
    return made


def find(connection: Connection, uid: str) -> Workitem | None:
    """Return a workitem, or None."""
    row = connection.execute(select(table).where(table.c.uid == uid)).one_or_none()
    return None if row is None else _as_workitem(row)


def get(connection: Connection, uid: str) -> Workitem:
    """Return a workitem.

    Raises
    ------
    WorkitemError
        C307.
    """
    found = find(connection, uid)
    if found is None:
        raise WorkitemError(steps.NO_SUCH_WORKITEM, workitem_uid=uid)
    return found


def is_hidden(connection: Connection, uid: str) -> bool:
    """Whether a workitem is kept from every door."""
    return bool(
        connection.execute(select(table.c.is_hidden).where(table.c.uid == uid)).scalar_one_or_none()
    )


def candidates(
    connection: Connection, *, state: str = "", patient_id: str = "", label: str = ""
) -> Iterator[Workitem]:
    """Yield workitems that are not hidden, oldest first; equal values only, "" for any."""
    query = select(table).where(table.c.is_hidden.is_(False))
    for column, value in (("state", state), ("patient_id", patient_id), ("label", label)):
        if value:
            query = query.where(table.c[column] == value)
    ordered = query.order_by(table.c.created_at, table.c.uid)
    for start in range(0, 2**31, PAGE):
        rows = connection.execute(ordered.limit(PAGE).offset(start)).all()
        yield from (_as_workitem(row) for row in rows)
        if len(rows) < PAGE:
            return


def change_state(
    connection: Connection,
    uid: str,
    wanted: StepState,
    transaction_uid: str,
    *,
    is_reported: bool,
    now: datetime,
) -> int:
    """Move a workitem and return the status; a refusal leaves it as it was."""
    found = find(connection, uid)
    if found is None:
        return steps.NO_SUCH_WORKITEM
    after, status = steps.change_state(_step(found, is_reported), wanted, transaction_uid)
    if status == steps.SUCCESS:
        _move(connection, found, after, now=now)
    return status


def request_cancel(connection: Connection, uid: str, request: Document, *, now: datetime) -> int:
    """Cancel what nobody holds; tell the subscribers of what somebody does. Return the status."""
    found = find(connection, uid)
    if found is None:
        return steps.NO_SUCH_WORKITEM
    after, status = steps.request_cancel(_step(found, False))
    if status != steps.SUCCESS:
        return status
    if after.state is found.state:
        workitem_events.report_cancel_request(connection, found, request, now=now)
        return status
    # The standard lets a cancelled step pass through IN PROGRESS; watchers see both.
    _move(connection, found, Step(state=StepState.IN_PROGRESS), now=now)
    _move(connection, get(connection, uid), after, now=now)
    return status


def set_document(
    connection: Connection, before: Workitem, document: Document, *, now: datetime
) -> Workitem:
    """Write changed attributes.

    Raises
    ------
    WorkitemError
        C310 never; 0110 where somebody changed it since ``before`` was read.
    """
    changed = connection.execute(
        update(table)
        .where(table.c.uid == before.uid, table.c.revision == before.revision)
        .values(revision=before.revision + 1, changed_at=now, **_document_columns(document))
    )
    if changed.rowcount != 1:
        raise WorkitemError(0x0110, workitem_uid=before.uid, detail="it was changed meanwhile")
    return get(connection, before.uid)


def show(connection: Connection, uid: str, *, now: datetime) -> None:
    """Open a hidden workitem to the doors: its reading is blinded no more."""
    connection.execute(
        update(table).where(table.c.uid == uid).values(is_hidden=False, changed_at=now)
    )
    opened = get(connection, uid)
    workitem_events.subscribe_new(connection, uid, shown(opened), now=now)
    workitem_events.report_state(connection, opened, now=now)


def shown(one: Workitem) -> dict[str, Any]:
    """Return what a client may see: the attributes and the state, never the Transaction UID."""
    document: dict[str, Any] = json.loads(one.document)
    document.pop(TRANSACTION_UID, None)
    document["00080016"] = {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.34.6.1"]}
    document["00080018"] = {"vr": "UI", "Value": [one.uid]}
    document[STATE] = {"vr": "CS", "Value": [one.state.value]}
    document["00404010"] = {"vr": "DT", "Value": [one.changed_at.strftime("%Y%m%d%H%M%S+0000")]}
    return document


def _move(connection: Connection, before: Workitem, after: Step, *, now: datetime) -> None:
    changed = connection.execute(
        update(table)
        .where(table.c.uid == before.uid, table.c.revision == before.revision)
        .values(
            state=after.state.value,
            transaction_uid=after.transaction_uid,
            revision=before.revision + 1,
            changed_at=now,
        )
    )
    if changed.rowcount != 1:
        raise WorkitemError(0x0110, workitem_uid=before.uid, detail="it was changed meanwhile")
    if not is_hidden(connection, before.uid):
        workitem_events.report_state(connection, get(connection, before.uid), now=now)


def _step(one: Workitem, is_reported: bool) -> Step:
    return Step(state=one.state, transaction_uid=one.transaction_uid, is_reported=is_reported)


def _document_columns(document: Document) -> dict[str, str]:
    kept = {tag: value for tag, value in document.items() if tag not in (STATE, TRANSACTION_UID)}
    return {
        "document": json.dumps(kept, ensure_ascii=False, sort_keys=True),
        "patient_id": first_value(kept, PATIENT_ID),
        "label": first_value(kept, LABEL),
    }


def _as_workitem(row: Row[Any]) -> Workitem:
    return Workitem(
        uid=row.uid,
        kind=row.kind,
        state=StepState(row.state),
        transaction_uid=row.transaction_uid,
        document=row.document,
        revision=row.revision,
        created_at=row.created_at,
        changed_at=row.changed_at,
    )
