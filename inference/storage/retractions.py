"""What was taken back and who must be told: an outbox that is emptied until each receiver knows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from inference.domain.release import Cause, EventKind, EventState, Retraction, RetractionEvent
from inference.domain.result import DeliveryState
from inference.storage.errors import NotFoundError
from inference.storage.release_tables import retraction, retraction_event
from inference.storage.tables import delivery

MAY_HAVE_A_COPY = (
    DeliveryState.LEASED.value,
    DeliveryState.SENT.value,
    DeliveryState.DELIVERED.value,
    DeliveryState.COMMITTED.value,
)
"""With these, any that was tried: an attempt without an answer may have arrived."""


def add(
    connection: Connection,
    result_id: int,
    *,
    cause: Cause,
    reason: str,
    by: str,
    now: datetime,
) -> bool:
    """Record that a result was taken back, and everybody to be told; False: it was already."""
    if get_of_result(connection, result_id) is not None:
        return False
    connection.execute(
        insert(retraction).values(
            result_id=result_id,
            cause=cause.value,
            reason=reason,
            retracted_by=by,
            created_at=now,
        )
    )
    for destination in destinations_of(connection, result_id):
        connection.execute(
            insert(retraction_event).values(
                result_id=result_id,
                kind=EventKind.DICOM.value,
                destination=destination,
                state=EventState.WAITING.value,
                tries=0,
                next_at=now,
                last_error="",
                created_at=now,
            )
        )
    return True


def destinations_of(connection: Connection, result_id: int) -> tuple[str, ...]:
    """Names of the destinations that have, or may have, a copy of some object of a result."""
    query = (
        select(delivery.c.destination)
        .where(
            delivery.c.result_id == result_id,
            delivery.c.state.in_(MAY_HAVE_A_COPY) | (delivery.c.tries > 0),
        )
        .distinct()
        .order_by(delivery.c.destination)
    )
    return tuple(connection.execute(query).scalars())


def get_of_result(connection: Connection, result_id: int) -> Retraction | None:
    """Return why a result was taken back; None: it was not."""
    return of_results(connection, [result_id]).get(result_id)


def of_results(connection: Connection, result_ids: Sequence[int]) -> dict[int, Retraction]:
    """Return why each of these results was taken back, by result id."""
    query = select(retraction).where(retraction.c.result_id.in_(result_ids))
    return {
        row.result_id: Retraction(**{**row._mapping, "cause": Cause(row.cause)})
        for row in connection.execute(query)
    }


def due(
    connection: Connection, kinds: Iterable[EventKind], *, now: datetime, limit: int = 50
) -> tuple[RetractionEvent, ...]:
    """Return events of these kinds that somebody must be told now, the oldest first."""
    query = (
        select(retraction_event)
        .where(
            retraction_event.c.kind.in_([kind.value for kind in kinds]),
            retraction_event.c.state == EventState.WAITING.value,
            retraction_event.c.next_at <= now,
        )
        .order_by(retraction_event.c.next_at, retraction_event.c.id)
        .limit(limit)
    )
    return tuple(_as_event(row) for row in connection.execute(query))


def finish(connection: Connection, event_id: int, *, now: datetime) -> None:
    """Record that the receiver was told; doing it twice changes nothing."""
    connection.execute(
        update(retraction_event)
        .where(retraction_event.c.id == event_id, retraction_event.c.state != EventState.DONE.value)
        .values(
            state=EventState.DONE.value,
            done_at=now,
            last_error="",
            tries=retraction_event.c.tries + 1,
        )
    )


def record_failure(
    connection: Connection, event_id: int, *, error: str, next_at: datetime | None
) -> None:
    """Record that the receiver could not be told; no ``next_at`` means that it is dead."""
    values: dict[str, Any] = {"tries": retraction_event.c.tries + 1, "last_error": error}
    if next_at is None:
        values["state"] = EventState.DEAD.value
    else:
        values["next_at"] = next_at
    connection.execute(
        update(retraction_event)
        .where(
            retraction_event.c.id == event_id,
            retraction_event.c.state == EventState.WAITING.value,
        )
        .values(**values)
    )


def postpone(connection: Connection, event_id: int, *, until: datetime) -> None:
    """Look at an event again later, without counting a try."""
    connection.execute(
        update(retraction_event).where(retraction_event.c.id == event_id).values(next_at=until)
    )


def list_events(
    connection: Connection, *, result_ids: Sequence[int]
) -> tuple[RetractionEvent, ...]:
    """Return every event of these results, in order."""
    query = (
        select(retraction_event)
        .where(retraction_event.c.result_id.in_(result_ids))
        .order_by(retraction_event.c.id)
    )
    return tuple(_as_event(row) for row in connection.execute(query))


def requeue(connection: Connection, event_id: int, *, now: datetime) -> None:
    """Start a dead event again.

    Raises
    ------
    NotFoundError
    """
    changed = connection.execute(
        update(retraction_event)
        .where(retraction_event.c.id == event_id, retraction_event.c.state == EventState.DEAD.value)
        .values(state=EventState.WAITING.value, tries=0, next_at=now)
    )
    if changed.rowcount == 0:
        raise NotFoundError(what="dead retraction event", key=event_id)


def _as_event(row: Row[Any]) -> RetractionEvent:
    fields = {**row._mapping, "kind": EventKind(row.kind), "state": EventState(row.state)}
    return RetractionEvent(**fields)
