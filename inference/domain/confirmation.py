"""From an event to the next proposal: pure, whole, and without a way around.

Every check stands before the change: state, clock, expiry, hash of what was shown, who, again who
(where two are needed), limits once more, and a reason beyond a soft limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from inference.domain.care_errors import ConfirmationError, ProposalStateError, SoftLimitError
from inference.domain.limits import OVERRIDE_REASONS, check_values
from inference.domain.proposal import (
    ALLOWED,
    Confirmation,
    Event,
    Proposal,
    ProposalState,
    shown_sha256,
)
from inference.domain.quantities import Quantity

MAX_AUTHENTICATION_AGE = timedelta(seconds=60)
"""A confirmation follows the person's own re-authentication within a minute."""

CLOCK_TOLERANCE = timedelta(seconds=5)
"""A clock that stands before the proposal's own time by more than this was moved."""


@dataclass(frozen=True, kw_only=True)
class Authenticated:
    """A person who has just proved again who they are; ``may_confirm`` comes from their role."""

    person: str
    at: datetime
    may_confirm: bool


class Reauthentication(Protocol):
    """Asks a person to prove again who they are, for one confirmation."""

    def check(self, person: str, secret: str) -> Authenticated:
        """Return who it is, now.

        Raises
        ------
        ConfirmationError
            With reason ``authentication``.
        """
        ...


def confirm(
    proposal: Proposal,
    *,
    by: Authenticated,
    shown: str,
    now: datetime,
    override_reason: str = "",
) -> Proposal:
    """Accept what was shown, or be the first of two to do so.

    Raises
    ------
    ProposalStateError
        It is decided, expired or superseded.
    ConfirmationError
        ``reason``: expired, clock, shown, authentication, role, same_person, author.
    SoftLimitError
        A value is beyond a soft limit and no listed reason was given.
    """
    _check_state(proposal, Event.CONFIRM)
    _check_time(proposal, now)
    _check_person(proposal, by, now)
    own = proposal.modified_values
    if shown != shown_sha256(proposal, own):
        raise _refusal(proposal, "shown", "what was shown is not what is stored; show it again")
    checked = check_values(proposal.agreed_values, proposal.limits)
    _check_reason(checked.beyond_soft, override_reason)
    given = Confirmation(
        person=by.person, at=now, shown_sha256=shown, override_reason=override_reason
    )
    confirmations = (*proposal.confirmations, given)
    if proposal.needs_two and len(confirmations) < 2:
        return replace(proposal, confirmations=confirmations, revision=proposal.revision + 1)
    state = ProposalState.ACCEPTED if own is None else ProposalState.MODIFIED
    return replace(
        proposal,
        confirmations=confirmations,
        state=state,
        decided_at=now,
        revision=proposal.revision + 1,
    )


def modify(
    proposal: Proposal,
    values: Mapping[str, Quantity],
    *,
    by: Authenticated,
    shown: str,
    now: datetime,
    override_reason: str = "",
) -> Proposal:
    """Decide for a person's own values, inside the same hard limits.

    ``shown`` is the hash of the proposal together with ``values``. Where two persons are needed,
    an earlier confirmation (of other values) is dropped and this person is the first.

    Raises
    ------
    ProposalStateError, ConfirmationError, SoftLimitError
        As `confirm`; also ``parameters``, where the values are for other parameters.
    HardLimitError, QuantityError, LimitMissingError
        A value is outside its limit or in another unit.
    """
    _check_state(proposal, Event.MODIFY)
    _check_time(proposal, now)
    if set(values) != set(proposal.values):
        raise _refusal(proposal, "parameters", "the values are not those of this proposal")
    fresh = replace(proposal, confirmations=(), modified_values=dict(values))
    _check_person(fresh, by, now)
    if shown != shown_sha256(proposal, values):
        raise _refusal(proposal, "shown", "what was shown is not what was sent; show it again")
    checked = check_values(values, proposal.limits)
    _check_reason(checked.beyond_soft, override_reason)
    given = Confirmation(
        person=by.person, at=now, shown_sha256=shown, override_reason=override_reason
    )
    changed = replace(
        fresh,
        beyond_soft=checked.beyond_soft,
        confirmations=(given,),
        revision=proposal.revision + 1,
    )
    if proposal.needs_two:
        return changed
    return replace(changed, state=ProposalState.MODIFIED, decided_at=now)


def reject(proposal: Proposal, *, by: Authenticated, reason: str, now: datetime) -> Proposal:
    """Turn it down; a reason is needed.

    Raises
    ------
    ProposalStateError, ConfirmationError
    """
    _check_state(proposal, Event.REJECT)
    if not by.may_confirm:
        raise _refusal(proposal, "role", f"{by.person} may not decide this")
    if not reason.strip():
        raise _refusal(proposal, "reason", "say why it is rejected")
    return _end(proposal, Event.REJECT, now, reason)


def expire(proposal: Proposal, *, now: datetime, reason: str = "valid_until passed") -> Proposal:
    """End a proposal that nobody decided in time.

    Raises
    ------
    ProposalStateError
    """
    _check_state(proposal, Event.EXPIRE)
    return _end(proposal, Event.EXPIRE, now, reason)


def supersede(proposal: Proposal, *, by_id: str, now: datetime) -> Proposal:
    """Give way to a later proposal for the same patient and purpose.

    Raises
    ------
    ProposalStateError
    """
    _check_state(proposal, Event.SUPERSEDE)
    return _end(proposal, Event.SUPERSEDE, now, f"superseded by {by_id}")


def _end(proposal: Proposal, event: Event, now: datetime, reason: str) -> Proposal:
    return replace(
        proposal,
        state=ALLOWED[proposal.state, event],
        decided_at=now,
        reason=reason,
        revision=proposal.revision + 1,
    )


def _check_state(proposal: Proposal, event: Event) -> None:
    if (proposal.state, event) not in ALLOWED:
        raise ProposalStateError(
            proposal_id=proposal.id, state=proposal.state.value, event=event.value
        )


def _check_time(proposal: Proposal, now: datetime) -> None:
    if now >= proposal.valid_until:
        raise _refusal(proposal, "expired", "its inputs are too old; ask for a new one")
    latest = max([proposal.created_at, *(one.at for one in proposal.confirmations)])
    if now < latest - CLOCK_TOLERANCE:
        raise _refusal(proposal, "clock", "the clock stands before the proposal; it was moved")


def _check_person(proposal: Proposal, by: Authenticated, now: datetime) -> None:
    if not by.may_confirm:
        raise _refusal(proposal, "role", f"{by.person} may not confirm this")
    if not -CLOCK_TOLERANCE <= now - by.at <= MAX_AUTHENTICATION_AGE:
        raise _refusal(proposal, "authentication", "authenticate again, for this confirmation")
    if proposal.author and by.person == proposal.author and proposal.needs_two:
        raise _refusal(proposal, "author", "the author is not one of the two who confirm")
    if any(one.person == by.person for one in proposal.confirmations):
        raise _refusal(proposal, "same_person", "a second, different person is needed")


def _check_reason(beyond_soft: tuple[str, ...], reason: str) -> None:
    if beyond_soft and reason not in OVERRIDE_REASONS:
        raise SoftLimitError(parameters=beyond_soft, reasons=OVERRIDE_REASONS)


def _refusal(proposal: Proposal, reason: str, problem: str) -> ConfirmationError:
    return ConfirmationError(proposal_id=proposal.id, reason=reason, problem=problem)
