"""Proposals in the database: one open for each patient and purpose, exactly one decision each.

Every change is one conditional update over the state and the revision that it was computed from;
of two that compete, one finds nothing to change and is refused. Each attempt is audited, refused
ones too, in the same transaction; the audit rows name the proposal, never the patient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, func, insert, select, update

from inference.domain import confirmation
from inference.domain.care_errors import CareRefusedError, ProposalStateError
from inference.domain.proposal import PatientKey, Proposal, ProposalState
from inference.storage import audit
from inference.storage.errors import NotFoundError
from inference.storage.proposal_document import from_text, to_text
from inference.storage.tables import proposal as table

OPEN = ProposalState.PROPOSED.value


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one attempt; the caller commits first and raises ``refusal`` after."""

    proposal: Proposal
    refusal: CareRefusedError | None = None

    def proposal_or_raise(self) -> Proposal:
        """Return the changed proposal.

        Raises
        ------
        CareRefusedError
            The attempt was refused; it is audited.
        """
        if self.refusal is not None:
            raise self.refusal
        return self.proposal


def store(connection: Connection, new: Proposal, *, actor: str) -> Proposal:
    """Keep a new proposal; an open one for the same patient and purpose is superseded."""
    open_id = connection.execute(
        select(table.c.id).where(
            table.c.service == new.service,
            table.c.patient_identifier == new.patient.identifier,
            table.c.assigning_authority == new.patient.assigning_authority,
            table.c.state == OPEN,
        )
    ).scalar_one_or_none()
    if open_id is not None:
        older = get(connection, open_id)
        _replace(connection, older, confirmation.supersede(older, by_id=new.id, now=new.created_at))
        _audit(connection, older, "proposal.superseded", actor, new.created_at, {"by": new.id})
    connection.execute(
        insert(table).values(
            id=new.id,
            service=new.service,
            patient_identifier=new.patient.identifier,
            assigning_authority=new.patient.assigning_authority,
            created_at=new.created_at,
            **_columns(new),
        )
    )
    _audit(connection, new, "proposal.proposed", actor, new.created_at, {})
    return new


def get(connection: Connection, proposal_id: str) -> Proposal:
    """One proposal.

    Raises
    ------
    NotFoundError
    """
    document = connection.execute(
        select(table.c.document).where(table.c.id == proposal_id)
    ).scalar_one_or_none()
    if document is None:
        raise NotFoundError(what="proposal", key=proposal_id)
    return from_text(document)


def list_for(
    connection: Connection, patient: PatientKey, *, service: str = "", limit: int = 100
) -> tuple[Proposal, ...]:
    """Proposals of one patient, newest first."""
    query = (
        select(table.c.document)
        .where(
            table.c.patient_identifier == patient.identifier,
            table.c.assigning_authority == patient.assigning_authority,
        )
        .order_by(table.c.created_at.desc(), table.c.id)
        .limit(limit)
    )
    if service:
        query = query.where(table.c.service == service)
    return tuple(from_text(text) for text in connection.execute(query).scalars())


def decide(
    connection: Connection,
    proposal_id: str,
    change: Callable[[Proposal], Proposal],
    *,
    actor: str,
    action: str,
    now: datetime,
) -> Outcome:
    """Apply one decision; ``change`` is one of `inference.domain.confirmation`.

    An expired proposal is marked so on the first touch after its time. A refusal is returned, not
    raised, so that its audit row is committed.

    Raises
    ------
    NotFoundError
    """
    before = get(connection, proposal_id)
    if not before.state.is_final and now >= before.valid_until:
        before = _expire(connection, before, now=now, reason="valid_until passed")
    try:
        after = change(before)
        _replace(connection, before, after)
    except CareRefusedError as refusal:
        detail = {"refused": refusal.code, "problem": getattr(refusal, "reason", "")}
        _audit(connection, before, action, actor, now, detail)
        return Outcome(proposal=before, refusal=refusal)
    _audit(connection, after, action, actor, now, {"revision": after.revision})
    return Outcome(proposal=after)


def expire_due(connection: Connection, *, now: datetime) -> tuple[str, ...]:
    """Expire every open proposal whose time is over; return their ids."""
    due = select(table.c.id).where(table.c.state == OPEN, table.c.valid_until <= now)
    return _expire_all(connection, due, now=now, reason="valid_until passed")


def expire_open(connection: Connection, *, now: datetime) -> tuple[str, ...]:
    """Expire every open proposal, at the start of the service: nobody watched its inputs."""
    return _expire_all(
        connection,
        select(table.c.id).where(table.c.state == OPEN),
        now=now,
        reason="the service was restarted",
    )


def count_overrides(connection: Connection) -> dict[str, int]:
    """Return how often each reason for going beyond a soft limit was given."""
    query = (
        select(table.c.override_reason, func.count())
        .where(table.c.override_reason != "")
        .group_by(table.c.override_reason)
    )
    return {str(reason): int(number) for reason, number in connection.execute(query)}


def count_by_state(connection: Connection) -> dict[ProposalState, int]:
    """Return how many proposals are in each state; every state is there."""
    counts = dict.fromkeys(ProposalState, 0)
    for state, number in connection.execute(
        select(table.c.state, func.count()).group_by(table.c.state)
    ):
        counts[ProposalState(state)] = int(number)
    return counts


def _expire_all(
    connection: Connection, query: Select[Any], *, now: datetime, reason: str
) -> tuple[str, ...]:
    ids = tuple(connection.execute(query).scalars())
    for proposal_id in ids:
        _expire(connection, get(connection, proposal_id), now=now, reason=reason)
    return ids


def _expire(connection: Connection, before: Proposal, *, now: datetime, reason: str) -> Proposal:
    after = confirmation.expire(before, now=now, reason=reason)
    _replace(connection, before, after)
    _audit(connection, after, "proposal.expired", "service", now, {"reason": reason})
    return after


def _replace(connection: Connection, before: Proposal, after: Proposal) -> None:
    """Write ``after`` over ``before``, or refuse where somebody was faster."""
    changed = connection.execute(
        update(table)
        .where(
            table.c.id == before.id,
            table.c.state == before.state.value,
            table.c.revision == before.revision,
        )
        .values(**_columns(after))
    )
    if changed.rowcount != 1:
        raise ProposalStateError(proposal_id=before.id, state="changed", event="decide")


def _columns(one: Proposal) -> dict[str, object]:
    reasons = [given.override_reason for given in one.confirmations if given.override_reason]
    return {
        "state": one.state.value,
        "revision": one.revision,
        "document": to_text(one),
        "override_reason": reasons[0] if reasons and one.state.is_decided_for else "",
        "reason": one.reason,
        "valid_until": one.valid_until,
        "decided_at": one.decided_at,
    }


def _audit(
    connection: Connection,
    one: Proposal,
    action: str,
    actor: str,
    now: datetime,
    detail: dict[str, object],
) -> None:
    audit.append(
        connection,
        at=now,
        actor=actor,
        action=action,
        subject=one.id,
        detail={"state": one.state.value, "service": one.service, **detail},
    )
