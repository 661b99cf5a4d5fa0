"""The outbox: one row for each file of a result and each destination, sent until acknowledged."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Row, Select, func, insert, literal, or_, select, update

from inference.domain.encoding import files_of
from inference.domain.result import Delivery, DeliveryState, Destination
from inference.storage.errors import LeaseLostError, NotFoundError
from inference.storage.tables import delivery, result, result_file

SENDING = DeliveryState.LEASED.value
WAITING = DeliveryState.WAITING.value


def enqueue(
    connection: Connection,
    result_id: int,
    *,
    destinations: Sequence[Destination],
    now: datetime,
) -> int:
    """Put a result's DICOM files in the outbox of each destination that takes their kind.

    Returns how many rows were added. Order is each destination's order of kinds: a report comes
    after the segmentation it refers to.
    """
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
            connection.execute(
                insert(delivery).values(
                    result_id=result_id,
                    kind=kind,
                    destination=destination.name,
                    state=WAITING,
                    tries=0,
                    next_at=now,
                    last_error="",
                    created_at=now,
                )
            )
            n_added += 1
    return n_added


def cancel(connection: Connection, result_ids: Sequence[int]) -> None:
    """Do not send what was superseded before it left; one being sent now finishes."""
    connection.execute(
        update(delivery)
        .where(delivery.c.result_id.in_(result_ids), delivery.c.state == WAITING)
        .values(state=DeliveryState.CANCELLED.value)
    )


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
    """Record that the receiver has it.

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
        values |= {"state": WAITING, "next_at": next_at}
    _end_attempt(connection, delivery_id, owner, values)


def release(connection: Connection, owners_gone: Sequence[str], *, now: datetime) -> int:
    """Send again what owners that are gone were sending; return how many."""
    changed = connection.execute(
        update(delivery)
        .where(delivery.c.state == SENDING, delivery.c.lease_owner.in_(owners_gone))
        .values(state=WAITING, next_at=now, lease_owner=None, lease_until=None)
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
        No such delivery that is dead or cancelled.
    """
    changed = connection.execute(
        update(delivery)
        .where(
            delivery.c.id == delivery_id,
            delivery.c.state.in_([DeliveryState.DEAD.value, DeliveryState.CANCELLED.value]),
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
    destination: str | None = None,
    limit: int = 100,
    before_id: int | None = None,
) -> tuple[Delivery, ...]:
    """Deliveries, newest first."""
    query = _deliveries().order_by(delivery.c.id.desc()).limit(limit)
    if study_uid is not None:
        query = query.where(result.c.study_uid == study_uid)
    if result_id is not None:
        query = query.where(delivery.c.result_id == result_id)
    if state is not None:
        query = query.where(delivery.c.state == state.value)
    if destination is not None:
        query = query.where(delivery.c.destination == destination)
    if before_id is not None:
        query = query.where(delivery.c.id < before_id)
    return tuple(_as_delivery(row) for row in connection.execute(query))


def count_by_state(connection: Connection) -> dict[DeliveryState, int]:
    """Return how many deliveries are in each state; every state is there."""
    counts = dict.fromkeys(DeliveryState, 0)
    query = select(delivery.c.state, func.count()).group_by(delivery.c.state)
    for row in connection.execute(query):
        counts[DeliveryState(row[0])] = int(row[1])
    return counts


def _is_due(now: datetime) -> Any:
    return or_(
        (delivery.c.state == WAITING) & (delivery.c.next_at <= now),
        (delivery.c.state == SENDING) & (delivery.c.lease_until < now),
    )


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
