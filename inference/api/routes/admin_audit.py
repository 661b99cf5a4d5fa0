"""The audit trail, for auditors: search, export, and proof that nothing was changed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, StreamingResponse
from sqlalchemy import Connection

from inference.api.access import Identity
from inference.api.deps import ApiContext, Asker, Context
from inference.api.errors import ApiError
from inference.api.pages.render import page
from inference.domain.roles import Permissions, Role
from inference.services.telemedicine.listing import hidden_audit_subjects
from inference.storage import audit
from inference.storage.audit import AuditChainError, AuditEvent

AUDITORS = frozenset({Role.AUDITOR})
READS = frozenset({Role.READER, Role.REVIEWER})
router = APIRouter(include_in_schema=False)
PERMISSIONS: Permissions = {
    ("GET", "/admin/audit"): AUDITORS,
    ("GET", "/admin/audit.csv"): AUDITORS,
    ("GET", "/admin/audit/chain"): AUDITORS,
}
ROWS = 100
EXPORT_ROWS = 1000
Filter = Annotated[str, Query(max_length=200)]
Day = Annotated[str, Query(max_length=10)]


@router.get("/admin/audit", response_class=HTMLResponse)
def trail(
    request: Request,
    context: Context,
    asker: Asker,
    actor: Filter = "",
    action: Filter = "",
    subject: Filter = "",
    since: Day = "",
    until: Day = "",
    before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
) -> HTMLResponse:
    """Show events, newest first, narrowed by who, what, on what and when."""
    filters = _filters(actor, action, subject, since, until)
    with context.database.read() as connection:
        found = audit.search(connection, **filters, before_seq=before, limit=ROWS + 1)
        shown = _shown_to(connection, asker, found[:ROWS])
    return page(
        request,
        "admin_audit.html",
        section="admin",
        tab="audit",
        events=shown,
        older=found[ROWS - 1].seq if len(found) > ROWS else None,
        actor=actor,
        action=action,
        subject=subject,
        since=since,
        until=until,
        proof=None,
    )


@router.get("/admin/audit/chain", response_class=HTMLResponse)
def chain(request: Request, context: Context, asker: Asker) -> HTMLResponse:
    """Walk the whole chain, and say how long it is or where it is broken."""
    proof: dict[str, Any]
    with context.database.read() as connection:
        seq, head = audit.head(connection)
        try:
            proof = {"is_whole": True, "n": audit.verify(connection), "seq": seq, "head": head}
        except AuditChainError as error:
            proof = {"is_whole": False, "n": 0, "seq": error.seq, "head": error.problem}
        found = _shown_to(connection, asker, audit.search(connection, limit=ROWS))
    return page(
        request,
        "admin_audit.html",
        section="admin",
        tab="audit",
        events=found,
        older=None,
        actor="",
        action="",
        subject="",
        since="",
        until="",
        proof=proof,
    )


@router.get("/admin/audit.csv")
def export(
    context: Context,
    asker: Asker,
    actor: Filter = "",
    action: Filter = "",
    subject: Filter = "",
    since: Day = "",
    until: Day = "",
) -> StreamingResponse:
    """Return every event that fits, newest first, with the hashes that prove it."""
    filters = _filters(actor, action, subject, since, until)
    return StreamingResponse(
        _lines(context, asker, filters),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="audit.csv"'},
    )


def _lines(context: ApiContext, asker: Identity, filters: dict[str, Any]) -> Iterator[str]:
    yield "seq,at,actor,action,subject,detail,hash\r\n"
    before: int | None = None
    while True:
        with context.database.read() as connection:
            found = audit.search(connection, **filters, before_seq=before, limit=EXPORT_ROWS)
            shown = _shown_to(connection, asker, found)
        for event in shown:
            buffer = io.StringIO()
            csv.writer(buffer).writerow(
                [
                    event.seq,
                    event.at.isoformat(),
                    *(_plain(text) for text in (event.actor, event.action, event.subject)),
                    json.dumps(event.detail, sort_keys=True),
                    event.hash,
                ]
            )
            yield buffer.getvalue()
        if len(found) < EXPORT_ROWS:
            return
        before = found[-1].seq


def _shown_to(
    connection: Connection, asker: Identity, events: Sequence[AuditEvent]
) -> list[AuditEvent]:
    """Leave out what would tell somebody who reads about a colleague's blinded reading."""
    if not asker.roles & READS:
        return list(events)
    hidden = hidden_audit_subjects(connection)
    numbers = {subject.partition(":")[2] for subject in hidden}
    return [
        event
        for event in events
        if event.subject not in hidden
        and not (event.subject in numbers and "/reading-tasks/" in str(event.detail.get("route")))
    ]


def _plain(text: str) -> str:
    """Keep a spreadsheet from taking a text for a formula."""
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text


def _filters(actor: str, action: str, subject: str, since: str, until: str) -> dict[str, Any]:
    return {
        "actor": actor.strip(),
        "action": action.strip(),
        "subject": subject.strip(),
        "since": _day(since, "since"),
        "until": _day(until, "until", timedelta(days=1)),
    }


def _day(text: str, field: str, more: timedelta = timedelta()) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC) + more
    except (ValueError, OverflowError) as error:
        raise ApiError("invalid_request", f"{field}: a day as YYYY-MM-DD") from error
