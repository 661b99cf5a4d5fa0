"""A proposal: what a model suggests, for whom, within which limits, and until when.

The engine proposes, a licensed person decides. There is no way from here to a device: a decided
proposal is a record that a person may act on.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from inference.domain.care_errors import ConfirmationError
from inference.domain.limits import BoundLimit, LimitLibrary, check_values
from inference.domain.quantities import Quantity


class ProposalState(StrEnum):
    """States of a proposal; every one but ``proposed`` is final.

    ::

        proposed ──► accepted      as shown
            │ ├────► modified      with a person's own values, inside the same hard limits
            │ ├────► rejected      with a reason
            │ ├────► expired       valid_until passed, or the service was restarted
            │ └────► superseded    a later proposal for the same patient and purpose
            └──────► proposed      the first of two persons has confirmed
    """

    PROPOSED = "proposed"
    ACCEPTED = "accepted"
    MODIFIED = "modified"
    REJECTED = "rejected"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"

    @property
    def is_final(self) -> bool:
        """Nothing changes any more."""
        return self is not ProposalState.PROPOSED

    @property
    def is_decided_for(self) -> bool:
        """A person wants it carried out."""
        return self in (ProposalState.ACCEPTED, ProposalState.MODIFIED)


class Event(StrEnum):
    """What may happen to a proposal."""

    CONFIRM = "confirm"
    MODIFY = "modify"
    REJECT = "reject"
    EXPIRE = "expire"
    SUPERSEDE = "supersede"


ALLOWED: Mapping[tuple[ProposalState, Event], ProposalState] = {
    (ProposalState.PROPOSED, Event.CONFIRM): ProposalState.ACCEPTED,
    (ProposalState.PROPOSED, Event.MODIFY): ProposalState.MODIFIED,
    (ProposalState.PROPOSED, Event.REJECT): ProposalState.REJECTED,
    (ProposalState.PROPOSED, Event.EXPIRE): ProposalState.EXPIRED,
    (ProposalState.PROPOSED, Event.SUPERSEDE): ProposalState.SUPERSEDED,
}
"""The whole table: a pair that is not here is refused."""


@dataclass(frozen=True, kw_only=True)
class PatientKey:
    """Who: an identifier and the authority that gave it; one without the other names nobody."""

    identifier: str = field(repr=False)
    assigning_authority: str

    def __post_init__(self) -> None:
        if not self.identifier.strip() or not self.assigning_authority.strip():
            raise ConfirmationError(
                proposal_id="(new)",
                reason="patient",
                problem="a patient identifier and its assigning authority are both needed",
            )


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """One person's yes: who, when, over which bytes, and why beyond a soft limit."""

    person: str
    at: datetime
    shown_sha256: str
    override_reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """One proposal and what became of it.

    Attributes
    ----------
    service : which service and purpose ("treatment.infusion"); one proposal is open for each
        (service, patient)
    model_sha256, input_sha256 : what it was computed by and from
    values : parameter to quantity, as the model gave them
    limits : the bound limits, as they are shown
    valid_until : the earliest end of any input, the library, and the proposal's own time
    author : the person who asked for it or typed it; such a person is no second one
    modified_values : a person's own values, where the state is modified (or half confirmed so)
    confirmations : in order; two where ``needs_two``
    """

    id: str
    service: str
    patient: PatientKey
    model: str
    model_version: str
    model_sha256: str
    input_sha256: str
    library: str
    library_sha256: str
    values: Mapping[str, Quantity]
    limits: Mapping[str, BoundLimit]
    beyond_soft: tuple[str, ...]
    explanation: str
    created_at: datetime
    valid_until: datetime
    author: str = ""
    state: ProposalState = ProposalState.PROPOSED
    modified_values: Mapping[str, Quantity] | None = None
    confirmations: tuple[Confirmation, ...] = ()
    reason: str = ""
    decided_at: datetime | None = None
    revision: int = 0

    @property
    def needs_two(self) -> bool:
        """Whether any of its limits asks for a second person."""
        return any(limit.needs_two for limit in self.limits.values())

    @property
    def agreed_values(self) -> Mapping[str, Quantity]:
        """What is shown and confirmed: the model's values, or the person's own."""
        return self.values if self.modified_values is None else self.modified_values


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a proposal was made by and from; hashes are SHA-256 in hexadecimal."""

    model: str
    model_version: str
    model_sha256: str
    input_sha256: str
    inputs_valid_until: datetime
    author: str = ""


def make_proposal(
    *,
    service: str,
    patient: PatientKey,
    origin: Origin,
    library: LimitLibrary,
    values: Mapping[str, Quantity],
    limits: Mapping[str, BoundLimit],
    explanation: str,
    now: datetime,
    valid_until: datetime,
) -> Proposal:
    """Make a proposal from values that are inside every hard limit.

    Raises
    ------
    HardLimitError, LimitMissingError, QuantityError
        A value is outside its limit, has none, or stands in another unit.
    LibraryError
        The library is not valid now.
    ConfirmationError
        The inputs are not valid any more (``stale_input``), or a hash is missing (``origin``).
    """
    library.check_valid(now)
    for name in ("model_sha256", "input_sha256"):
        if len(getattr(origin, name)) != 64:
            raise ConfirmationError(
                proposal_id="(new)", reason="origin", problem=f"{name} is not a SHA-256"
            )
    end = min(valid_until, origin.inputs_valid_until, library.valid_until)
    if end <= now:
        raise ConfirmationError(
            proposal_id="(new)",
            reason="stale_input",
            problem="an input is already too old to propose from",
        )
    checked = check_values(values, limits)
    return Proposal(
        id=str(uuid.uuid4()),
        service=service,
        patient=patient,
        model=origin.model,
        model_version=origin.model_version,
        model_sha256=origin.model_sha256,
        input_sha256=origin.input_sha256,
        library=f"{library.name} {library.version}{' (EXAMPLE)' if library.is_example else ''}",
        library_sha256=library.sha256,
        values=dict(values),
        limits={name: limits[name] for name in values},
        beyond_soft=checked.beyond_soft,
        explanation=explanation,
        created_at=now,
        valid_until=end,
        author=origin.author,
    )


def shown_sha256(proposal: Proposal, values: Mapping[str, Quantity] | None = None) -> str:
    """Hash of everything a person sees before confirming.

    ``values`` are the person's own, where they differ from the model's. Floats are written so that
    they read back exactly: two displays with the same hash show the same numbers.
    """
    shown = {
        "id": proposal.id,
        "patient": [proposal.patient.identifier, proposal.patient.assigning_authority],
        "service": proposal.service,
        "model": [proposal.model, proposal.model_version, proposal.model_sha256],
        "input": proposal.input_sha256,
        "library": [proposal.library, proposal.library_sha256],
        "values": _plain(proposal.values),
        "own_values": None if values is None else _plain(values),
        "limits": {
            name: [one.low, one.high, one.unit, one.high_from, one.soft_low, one.soft_high]
            for name, one in sorted(proposal.limits.items())
        },
        "explanation": proposal.explanation,
        "valid_until": proposal.valid_until.isoformat(),
    }
    text = json.dumps(shown, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _plain(values: Mapping[str, Quantity]) -> dict[str, list[object]]:
    return {name: [one.value, one.unit, one.kind] for name, one in sorted(values.items())}
