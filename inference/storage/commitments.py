"""What each sent object's receiver was asked, under which transaction, and what it answered."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from inference.storage.release_tables import commitment

ASKED = "asked"
KEPT = "kept"
NOT_KEPT = "not kept"


def begin(connection: Connection, delivery_id: int, *, now: datetime) -> tuple[str, int]:
    """Open a new transaction for a delivery; return its UID and how often it was asked about."""
    transaction_uid = f"2.25.{uuid.uuid4().int}"
    changed = connection.execute(
        update(commitment)
        .where(commitment.c.delivery_id == delivery_id)
        .values(
            transaction_uid=transaction_uid,
            asked_at=now,
            asks=commitment.c.asks + 1,
            outcome=ASKED,
            problem="",
            answered_at=None,
        )
    )
    if changed.rowcount == 0:
        connection.execute(
            insert(commitment).values(
                delivery_id=delivery_id,
                transaction_uid=transaction_uid,
                asked_at=now,
                asks=1,
                resends=0,
                outcome=ASKED,
                problem="",
            )
        )
    asks = connection.execute(
        select(commitment.c.asks).where(commitment.c.delivery_id == delivery_id)
    ).scalar_one()
    return transaction_uid, int(asks)


def delivery_of(connection: Connection, transaction_uid: str) -> int | None:
    """Return the delivery that a transaction is about; None: we opened no such transaction."""
    found = connection.execute(
        select(commitment.c.delivery_id).where(commitment.c.transaction_uid == transaction_uid)
    ).scalar_one_or_none()
    return None if found is None else int(found)


def record(
    connection: Connection, delivery_id: int, *, is_kept: bool, problem: str, now: datetime
) -> int:
    """Keep an answer; return how often the object has to be sent again so far, this time too."""
    connection.execute(
        update(commitment)
        .where(commitment.c.delivery_id == delivery_id)
        .values(
            outcome=KEPT if is_kept else NOT_KEPT,
            problem=problem,
            answered_at=now,
            resends=commitment.c.resends + (0 if is_kept else 1),
            asks=0,
        )
    )
    return int(
        connection.execute(
            select(commitment.c.resends).where(commitment.c.delivery_id == delivery_id)
        ).scalar_one()
    )
