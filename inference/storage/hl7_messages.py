"""HL7 messages that were taken or put aside, by sender and control id: a replay has one effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from inference.storage.exchange_tables import hl7_message


@dataclass(frozen=True, kw_only=True)
class StoredMessage:
    """One message; ``body`` is kept of those that were not taken (outcome AE)."""

    id: int
    sender: str
    control_id: str
    type: str
    sha256: str
    outcome: str
    errors: list[dict[str, str]]
    body: bytes | None
    received_at: datetime


def find(connection: Connection, sender: str, control_id: str) -> StoredMessage | None:
    """Return the message that a sender gave this control id; None: it is new."""
    row = connection.execute(
        select(hl7_message).where(
            hl7_message.c.sender == sender, hl7_message.c.control_id == control_id
        )
    ).one_or_none()
    return None if row is None else StoredMessage(**row._mapping)


def put(
    connection: Connection,
    *,
    sender: str,
    control_id: str,
    type: str,
    sha256: str,
    outcome: str,
    now: datetime,
    errors: Sequence[dict[str, str]] = (),
    body: bytes | None = None,
) -> None:
    """Record what became of a message; a new outcome of the same one takes the old one's place."""
    values: dict[str, Any] = {
        "type": type,
        "sha256": sha256,
        "outcome": outcome,
        "errors": list(errors),
        "body": body,
        "received_at": now,
    }
    if find(connection, sender, control_id) is None:
        connection.execute(
            insert(hl7_message).values(sender=sender, control_id=control_id, **values)
        )
    else:
        connection.execute(
            update(hl7_message)
            .where(hl7_message.c.sender == sender, hl7_message.c.control_id == control_id)
            .values(**values)
        )


def list_refused(connection: Connection, *, limit: int = 100) -> tuple[StoredMessage, ...]:
    """Return the messages that were put aside, newest first."""
    query = (
        select(hl7_message)
        .where(hl7_message.c.outcome == "AE")
        .order_by(hl7_message.c.id.desc())
        .limit(limit)
    )
    return tuple(StoredMessage(**row._mapping) for row in connection.execute(query))
