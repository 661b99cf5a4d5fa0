"""What happened, in order, each row chained to the one before it by its hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from inference.storage.errors import StorageError
from inference.storage.tables import audit

FIRST_HASH = "0" * 64


@dataclass(frozen=True, kw_only=True)
class AuditEvent:
    """One row; ``subject`` is the UID or name acted on, ``detail`` JSON-ready facts."""

    seq: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    hash: str


class AuditChainError(StorageError):
    """A row was changed, removed or put in."""

    code = "audit_chain"

    def __init__(self, *, seq: int, problem: str) -> None:
        self.seq, self.problem = seq, problem
        super().__init__(f"audit row {seq}: {problem}")


def append(
    connection: Connection,
    *,
    at: datetime,
    actor: str,
    action: str,
    subject: str = "",
    detail: Mapping[str, Any] | None = None,
) -> AuditEvent:
    """Add one event in the caller's write transaction (writers are serialised)."""
    last = connection.execute(
        select(audit.c.seq, audit.c.hash).order_by(audit.c.seq.desc()).limit(1)
    ).one_or_none()
    seq, prev_hash = (1, FIRST_HASH) if last is None else (last.seq + 1, last.hash)
    detail_json = json.dumps(dict(detail or {}), sort_keys=True, ensure_ascii=True)
    row_hash = _row_hash(seq, at, actor, action, subject, detail_json, prev_hash)
    connection.execute(
        insert(audit).values(
            seq=seq,
            at=at,
            actor=actor,
            action=action,
            subject=subject,
            detail=detail_json,
            prev_hash=prev_hash,
            hash=row_hash,
        )
    )
    return AuditEvent(
        seq=seq,
        at=at,
        actor=actor,
        action=action,
        subject=subject,
        detail=json.loads(detail_json),
        hash=row_hash,
    )


def events(
    connection: Connection,
    *,
    subject: str | None = None,
    after_seq: int = 0,
    limit: int = 100,
) -> tuple[AuditEvent, ...]:
    """Events in order, those after ``after_seq``; of one subject where it is given."""
    query = select(audit).where(audit.c.seq > after_seq).order_by(audit.c.seq).limit(limit)
    if subject is not None:
        query = query.where(audit.c.subject == subject)
    return tuple(_as_event(row) for row in connection.execute(query))


def search(
    connection: Connection,
    *,
    actor: str = "",
    action: str = "",
    subject: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
    before_seq: int | None = None,
    limit: int = 100,
) -> tuple[AuditEvent, ...]:
    """Events that fit every filter that is given, newest first; texts are beginnings."""
    query = select(audit).order_by(audit.c.seq.desc()).limit(limit)
    for column, text in ((audit.c.actor, actor), (audit.c.action, action)):
        if text:
            query = query.where(column.startswith(text, autoescape=True))
    if subject:
        query = query.where(audit.c.subject == subject)
    if since is not None:
        query = query.where(audit.c.at >= since)
    if until is not None:
        query = query.where(audit.c.at < until)
    if before_seq is not None:
        query = query.where(audit.c.seq < before_seq)
    return tuple(_as_event(row) for row in connection.execute(query))


def head(connection: Connection) -> tuple[int, str]:
    """Return the last row's number and hash; kept elsewhere, they prove that no tail was cut."""
    row = connection.execute(
        select(audit.c.seq, audit.c.hash).order_by(audit.c.seq.desc()).limit(1)
    ).one_or_none()
    return (0, FIRST_HASH) if row is None else (row.seq, row.hash)


def verify(connection: Connection, *, known_head: tuple[int, str] | None = None) -> int:
    """Walk the whole chain and return its length.

    Raises
    ------
    AuditChainError
        Names the first row that does not fit.
    """
    expected_seq, prev_hash = 1, FIRST_HASH
    known = dict([known_head]) if known_head else {}
    for row in connection.execute(select(audit).order_by(audit.c.seq)).yield_per(1000):
        if row.seq != expected_seq:
            raise AuditChainError(seq=expected_seq, problem="is missing")
        found = _row_hash(
            row.seq, row.at, row.actor, row.action, row.subject, row.detail, row.prev_hash
        )
        if row.prev_hash != prev_hash or row.hash != found:
            raise AuditChainError(seq=row.seq, problem="does not have its hash")
        if known.pop(row.seq, row.hash) != row.hash:
            raise AuditChainError(seq=row.seq, problem="differs from the known head")
        expected_seq, prev_hash = row.seq + 1, row.hash
    if known and known != {0: FIRST_HASH}:
        raise AuditChainError(seq=expected_seq, problem="the end of the chain was cut off")
    return expected_seq - 1


def _as_event(row: Row[Any]) -> AuditEvent:
    return AuditEvent(
        seq=row.seq,
        at=row.at,
        actor=row.actor,
        action=row.action,
        subject=row.subject,
        detail=json.loads(row.detail),
        hash=row.hash,
    )


def _row_hash(
    seq: int, at: datetime, actor: str, action: str, subject: str, detail: str, prev_hash: str
) -> str:
    fields = [seq, at.astimezone(UTC).isoformat(), actor, action, subject, detail, prev_hash]
    return hashlib.sha256(json.dumps(fields, ensure_ascii=True).encode("ascii")).hexdigest()
