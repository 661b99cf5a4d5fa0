"""The outbox: one row for each file of a result and each destination, sent until acknowledged."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    case,
    exists,
    func,
    insert,
    literal,
    not_,
    or_,
    select,
    update,
)

from inference.domain.encoding import files_of
from inference.domain.result import Delivery, DeliveryState, Destination, Release
from inference.storage.errors import LeaseLostError, NotFoundError
from inference.storage.tables import delivery, result, result_file

SENDING = DeliveryState.LEASED.value
WAITING = DeliveryState.WAITING.value
NOTE_KIND = "rejection"
"""Kind of the note that takes a result back: it alone is sent of a result that is not current."""

STATE_KIND = "state"
"""First part of the kinds that say why there is no result (``state_sr``, ``state_sc``)."""


def enqueue(
    connection: Connection,
    result_id: int,
    *,
    destinations: Sequence[Destination],
    now: datetime,
) -> int:
    """Put a result's DICOM files in the outbox of each destination that takes their kind.

    Returns how many rows were added. Order is each destination's order of kinds: a report comes
    after the segmentation it refers to. A row whose destination has to wait for the signature is
    ``held``, and one that its release rule keeps away is ``refused``, with the reason.
    """
    status = _status_of(connection, result_id)
    kinds = set(
        connection.execute(
            select(result_file.c.kind).where(
                result_file.c.result_id == result_id, result_file.c.instance_uid != ""
            )
        ).scalars()
    )
    known = {
        (row.kind, row.destination)
        for row in connection.execute(select(delivery).where(delivery.c.result_id == result_id))
    }
    n_added = 0
    for destination in destinations:
        for kind in chain.from_iterable(files_of(kind, kinds) for kind in destination.kinds):
            if (kind, destination.name) in known:
                continue
            state, reason = released(destination, kind, status)
            _add(connection, result_id, kind, destination.name, state, reason, now)
            n_added += 1
    return n_added


def enqueue_note(
    connection: Connection, result_id: int, *, destination: str, now: datetime
) -> None:
    """Put a result's rejection note in a destination's outbox, whatever kinds it takes."""
    known = connection.execute(
        select(delivery.c.id).where(
            delivery.c.result_id == result_id,
            delivery.c.kind == NOTE_KIND,
            delivery.c.destination == destination,
        )
    ).one_or_none()
    if known is None:
        _add(connection, result_id, NOTE_KIND, destination, DeliveryState.WAITING, "", now)


def released(destination: Destination, kind: str, status: str) -> tuple[DeliveryState, str]:
    """Return in which state a delivery begins, and why, by the destination's release rule.

    ``status`` is that of the model that made the result; only the word "released" lets it leave
    the research destinations. Statements that there is no result, and notes that take one back,
    always go: keeping them would let a missing result pass for a normal one.
    """
    if kind == NOTE_KIND or kind.split("_")[0] == STATE_KIND:
        return DeliveryState.WAITING, ""
    if status != "released" and not destination.is_research:
        return DeliveryState.REFUSED, (
            f"release rule: the model's status is {status or 'unknown'}, and destination"
            f" {destination.name} is not marked research = true"
        )
    if destination.release is Release.AFTER_SIGN_OFF:
        return DeliveryState.HELD, "release rule: waits until the report is signed"
    return DeliveryState.WAITING, ""


def release_held(connection: Connection, result_id: int, *, now: datetime) -> int:
    """Send what waited for the signature, if the result still holds; return how many."""
    changed = connection.execute(
        update(delivery)
        .where(
            delivery.c.result_id == result_id,
            delivery.c.state == DeliveryState.HELD.value,
            _still_holds(),
        )
        .values(state=WAITING, next_at=now, last_error="")
    )
    return int(changed.rowcount)


def cancel(connection: Connection, result_ids: Sequence[int]) -> None:
    """Do not send what was superseded before it left; one being sent now finishes."""
    connection.execute(
        update(delivery)
        .where(
            delivery.c.result_id.in_(result_ids),
            delivery.c.state.in_([WAITING, DeliveryState.HELD.value]),
            delivery.c.kind != NOTE_KIND,
        )
        .values(state=DeliveryState.CANCELLED.value)
    )


def _add(
    connection: Connection,
    result_id: int,
    kind: str,
    destination: str,
    state: DeliveryState,
    reason: str,
    now: datetime,
) -> None:
    connection.execute(
        insert(delivery).values(
            result_id=result_id,
            kind=kind,
            destination=destination,
            state=state.value,
            tries=0,
            next_at=now,
            last_error=reason,
            created_at=now,
        )
    )


def _status_of(connection: Connection, result_id: int) -> str:
    summary = connection.execute(
        select(result.c.summary).where(result.c.id == result_id)
    ).scalar_one()
    return str(summary.get("status", ""))


def has_work(connection: Connection, *, now: datetime, destination: str) -> bool:
    """Whether a claim may find something; cheap, takes no lock."""
    query = select(literal(1)).where(delivery.c.destination == destination, _is_due(now)).limit(1)
    return connection.execute(query).one_or_none() is not None


def claim(
    connection: Connection, *, now: datetime, destination: str, owner: str, lease_s: float
) -> Delivery | None:
    """Lease what is due longest to this destination; ``owner`` must be new for each claim."""
    row_id = connection.execute(
        select(delivery.c.id)
        .where(delivery.c.destination == destination, _is_due(now))
        .order_by(delivery.c.next_at, delivery.c.id)
        .limit(1)
    ).scalar_one_or_none()
    if row_id is None:
        return None
    connection.execute(
        update(delivery)
        .where(delivery.c.id == row_id)
        .values(
            state=SENDING,
            lease_owner=owner,
            lease_until=now + timedelta(seconds=lease_s),
        )
    )
    return get_delivery(connection, row_id)


def acknowledge(connection: Connection, delivery_id: int, *, owner: str, now: datetime) -> None:
    """Record that the receiver has it, where its word is all that is asked for.

    Raises
    ------
    LeaseLostError
    """
    _end_attempt(
        connection,
        delivery_id,
        owner,
        {
            "state": DeliveryState.DELIVERED.value,
            "delivered_at": now,
            "tries": delivery.c.tries + 1,
            "last_error": "",
        },
    )


def mark_sent(connection: Connection, delivery_id: int, *, owner: str, now: datetime) -> None:
    """Record that the receiver took it; it is to be asked at once whether it keeps it.

    Raises
    ------
    LeaseLostError
    """
    values = {"state": DeliveryState.SENT.value, "tries": delivery.c.tries + 1, "next_at": now}
    _end_attempt(connection, delivery_id, owner, values | {"last_error": ""})


def claim_sent(
    connection: Connection, *, now: datetime, destination: str, ask_again_at: datetime
) -> Delivery | None:
    """Take what this destination has to be asked about; nobody else asks before that time."""
    row_id = connection.execute(
        select(delivery.c.id)
        .where(*_is_to_ask(destination, now))
        .order_by(delivery.c.next_at, delivery.c.id)
        .limit(1)
    ).scalar_one_or_none()
    if row_id is None:
        return None
    connection.execute(update(delivery).where(delivery.c.id == row_id).values(next_at=ask_again_at))
    return get_delivery(connection, row_id)


def has_sent(connection: Connection, *, now: datetime, destination: str) -> bool:
    """Whether something is to be asked about; cheap, takes no lock."""
    query = select(literal(1)).where(*_is_to_ask(destination, now)).limit(1)
    return connection.execute(query).one_or_none() is not None


def ask_again(connection: Connection, delivery_id: int, *, error: str, at: datetime) -> None:
    """Ask about it at another time: the receiver could not be asked now."""
    connection.execute(
        update(delivery)
        .where(delivery.c.id == delivery_id, delivery.c.state == DeliveryState.SENT.value)
        .values(next_at=at, last_error=error)
    )


def commit(connection: Connection, delivery_id: int, *, now: datetime) -> bool:
    """Record that the receiver keeps it; False: it is not one that was only sent."""
    changed = connection.execute(
        update(delivery)
        .where(delivery.c.id == delivery_id, delivery.c.state == DeliveryState.SENT.value)
        .values(state=DeliveryState.COMMITTED.value, delivered_at=now, last_error="")
    )
    return bool(changed.rowcount)


def not_committed(
    connection: Connection, delivery_id: int, *, error: str, next_at: datetime | None
) -> None:
    """Send again what the receiver does not keep; no ``next_at`` means that it is dead."""
    connection.execute(
        update(delivery)
        .where(delivery.c.id == delivery_id, delivery.c.state == DeliveryState.SENT.value)
        .values(
            state=DeliveryState.DEAD.value if next_at is None else _waits_or_is_cancelled(),
            next_at=delivery.c.next_at if next_at is None else next_at,
            last_error=error,
        )
    )


def record_failure(
    connection: Connection,
    delivery_id: int,
    *,
    owner: str,
    error: str,
    next_at: datetime | None,
) -> None:
    """End an attempt that was not acknowledged; no ``next_at`` means that it is dead.

    Raises
    ------
    LeaseLostError
    """
    values: dict[str, Any] = {"tries": delivery.c.tries + 1, "last_error": error}
    if next_at is None:
        values["state"] = DeliveryState.DEAD.value
    else:
        values |= {"state": _waits_or_is_cancelled(), "next_at": next_at}
    _end_attempt(connection, delivery_id, owner, values)


def release(connection: Connection, owners_gone: Sequence[str], *, now: datetime) -> int:
    """Send again what owners that are gone were sending; return how many."""
    changed = connection.execute(
        update(delivery)
        .where(delivery.c.state == SENDING, delivery.c.lease_owner.in_(owners_gone))
        .values(state=_waits_or_is_cancelled(), next_at=now, lease_owner=None, lease_until=None)
    )
    return int(changed.rowcount)


def owners(connection: Connection) -> tuple[str, ...]:
    """Who is sending something."""
    query = select(delivery.c.lease_owner).where(delivery.c.state == SENDING).distinct()
    return tuple(connection.execute(query).scalars())


def requeue(connection: Connection, delivery_id: int, *, now: datetime) -> Delivery:
    """Start a dead or cancelled delivery again with fresh tries.

    Raises
    ------
    NotFoundError
        No such delivery that is dead or cancelled, or its result does not hold any more.
    """
    changed = connection.execute(
        update(delivery)
        .where(
            delivery.c.id == delivery_id,
            delivery.c.state.in_([DeliveryState.DEAD.value, DeliveryState.CANCELLED.value]),
            _still_holds(),
        )
        .values(state=WAITING, tries=0, next_at=now)
    )
    if changed.rowcount == 0:
        raise NotFoundError(what="dead or cancelled delivery", key=delivery_id)
    return get_delivery(connection, delivery_id)


def get_delivery(connection: Connection, delivery_id: int) -> Delivery:
    """One delivery.

    Raises
    ------
    NotFoundError
    """
    row = connection.execute(_deliveries().where(delivery.c.id == delivery_id)).one_or_none()
    if row is None:
        raise NotFoundError(what="delivery", key=delivery_id)
    return _as_delivery(row)


def list_deliveries(
    connection: Connection,
    *,
    study_uid: str | None = None,
    result_id: int | None = None,
    state: DeliveryState | None = None,
    limit: int = 100,
) -> tuple[Delivery, ...]:
    """Deliveries, newest first."""
    query = _deliveries().order_by(delivery.c.id.desc()).limit(limit)
    if study_uid is not None:
        query = query.where(result.c.study_uid == study_uid)
    if result_id is not None:
        query = query.where(delivery.c.result_id == result_id)
    if state is not None:
        query = query.where(delivery.c.state == state.value)
    return tuple(_as_delivery(row) for row in connection.execute(query))


def count_by_state(connection: Connection) -> dict[DeliveryState, int]:
    """Return how many deliveries are in each state; every state is there."""
    counts = dict.fromkeys(DeliveryState, 0)
    query = select(delivery.c.state, func.count()).group_by(delivery.c.state)
    for row in connection.execute(query):
        counts[DeliveryState(row[0])] = int(row[1])
    return counts


def _is_due(now: datetime) -> Any:
    other = delivery.alias("other")
    is_still_being_sent = exists().where(
        other.c.result_id == delivery.c.result_id,
        other.c.destination == delivery.c.destination,
        other.c.state == SENDING,
        other.c.id != delivery.c.id,
    )
    may_go = or_(delivery.c.kind != NOTE_KIND, not_(is_still_being_sent))
    return or_(
        (delivery.c.state == WAITING) & (delivery.c.next_at <= now) & may_go,
        (delivery.c.state == SENDING) & (delivery.c.lease_until < now),
    )


def _is_to_ask(destination: str, now: datetime) -> tuple[ColumnElement[bool], ...]:
    return (
        delivery.c.destination == destination,
        delivery.c.state == DeliveryState.SENT.value,
        delivery.c.next_at <= now,
    )


def _still_holds() -> ColumnElement[bool]:
    """Whether the result is current, or the row is the note that takes it back."""
    is_current = exists().where(result.c.id == delivery.c.result_id, result.c.is_current)
    return or_(delivery.c.kind == NOTE_KIND, is_current)


def _waits_or_is_cancelled() -> Any:
    """Return the state after an attempt that failed: what was superseded meanwhile is not sent."""
    return case((_still_holds(), WAITING), else_=DeliveryState.CANCELLED.value)


def _end_attempt(
    connection: Connection, delivery_id: int, owner: str, values: dict[str, Any]
) -> None:
    changed = connection.execute(
        update(delivery)
        .where(
            delivery.c.id == delivery_id,
            delivery.c.lease_owner == owner,
            delivery.c.state == SENDING,
        )
        .values(lease_owner=None, lease_until=None, **values)
    )
    if changed.rowcount == 0:
        raise LeaseLostError(what="delivery", id=delivery_id, owner=owner)


def _deliveries() -> Select[Any]:
    return (
        select(
            delivery,
            result.c.study_uid,
            result.c.model,
            result_file.c.sha256,
            result_file.c.sop_class_uid,
            result_file.c.instance_uid,
        )
        .join(result, result.c.id == delivery.c.result_id)
        .join(
            result_file,
            (result_file.c.result_id == delivery.c.result_id)
            & (result_file.c.kind == delivery.c.kind),
        )
    )


def _as_delivery(row: Row[Any]) -> Delivery:
    fields = dict(row._mapping)
    del fields["lease_owner"], fields["lease_until"]
    fields["state"] = DeliveryState(row.state)
    return Delivery(**fields)
