"""A unified procedure step ("workitem"): its four states, who may move it, and the answer to each.

A performer claims a scheduled workitem with a Transaction UID that it made up; from then on only
who knows that UID may change it. It is a lock, so it never leaves the service again. DICOM PS3.4
Annex CC: table CC.1.1-2 (transitions) and the status codes of CC.2.1 to CC.2.6.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from inference.domain.errors import ClinferError

SOURCE = "DICOM PS3.4 CC.1.1 and CC.2"

SUCCESS = 0x0000
DUPLICATE = 0x0111
NOT_AUTHORISED = 0x0124
WARNING_CREATED_WITH_CHANGES = 0xB300
WARNING_NO_DELETION_LOCK = 0xB301
WARNING_ALREADY_CANCELED = 0xB304
WARNING_ALREADY_COMPLETED = 0xB306
NO_UPDATE_AFTER_FINAL = 0xC300
WRONG_TRANSACTION_UID = 0xC301
ALREADY_IN_PROGRESS = 0xC302
BACK_TO_SCHEDULED = 0xC303
FINAL_REQUIREMENTS_MISSING = 0xC304
NO_SUCH_WORKITEM = 0xC307
UNKNOWN_RECEIVER = 0xC308
CREATE_NOT_SCHEDULED = 0xC309
NOT_IN_PROGRESS = 0xC310
ALREADY_COMPLETED = 0xC311
PERFORMER_NOT_REACHED = 0xC312
PERFORMER_REFUSES = 0xC313
ACTION_NOT_APPROPRIATE = 0xC314

MEANINGS = MappingProxyType(
    {
        SUCCESS: "success",
        DUPLICATE: "there is a workitem with this UID already",
        NOT_AUTHORISED: "this workitem is performed by the service itself",
        WARNING_CREATED_WITH_CHANGES: "the workitem was created with modifications",
        WARNING_NO_DELETION_LOCK: "a deletion lock is not given",
        WARNING_ALREADY_CANCELED: "the workitem is CANCELED already",
        WARNING_ALREADY_COMPLETED: "the workitem is COMPLETED already",
        NO_UPDATE_AFTER_FINAL: "the workitem is final and may not be changed any more",
        WRONG_TRANSACTION_UID: "the Transaction UID (0008,1195) is missing or not the holder's",
        ALREADY_IN_PROGRESS: "the workitem is IN PROGRESS already",
        BACK_TO_SCHEDULED: "a workitem becomes SCHEDULED by its creation only",
        FINAL_REQUIREMENTS_MISSING: "what a final workitem must say is missing",
        NO_SUCH_WORKITEM: "there is no such workitem here",
        UNKNOWN_RECEIVER: "the receiving AE title is not known here",
        CREATE_NOT_SCHEDULED: "a new workitem must have Procedure Step State SCHEDULED",
        NOT_IN_PROGRESS: "the workitem is not IN PROGRESS yet",
        ALREADY_COMPLETED: "the workitem is COMPLETED; it cannot be cancelled",
        PERFORMER_NOT_REACHED: "the performer cannot be reached",
        PERFORMER_REFUSES: "the performer does not cancel work that has begun",
        ACTION_NOT_APPROPRIATE: "this action is not for this UID",
    }
)
GLOBAL_SUBSCRIPTION_UID = "1.2.840.10008.5.1.4.34.5"
FILTERED_SUBSCRIPTION_UID = "1.2.840.10008.5.1.4.34.5.1"


class WorkitemError(ClinferError):
    """A request on a workitem was refused; ``status`` is the code of PS3.4 CC.2."""

    code = "workitem_refused"

    def __init__(self, status: int, *, workitem_uid: str = "", detail: str = "") -> None:
        self.status, self.workitem_uid, self.detail = status, workitem_uid, detail
        text = f"{status:04X}: {MEANINGS.get(status, 'refused')}"
        super().__init__(f"{text}: {detail}" if detail else text)


class StepState(StrEnum):
    """Procedure Step State (0074,1000)."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"

    @property
    def is_final(self) -> bool:
        """No more change."""
        return self in (StepState.COMPLETED, StepState.CANCELED)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step and the UID of who holds it; ``is_reported``: the final requirements are met."""

    state: StepState
    transaction_uid: str = field(default="", repr=False)
    is_reported: bool = False


@dataclass(frozen=True, kw_only=True)
class Workitem:
    """One stored workitem.

    Attributes
    ----------
    document : the attributes as DICOM JSON text, without state and Transaction UID
    kind : "ups" (made by a client), "reading" (of the reading list), or "job" (an analysis)
    revision : counts the changes; an update names the one that it was made from
    """

    uid: str
    kind: str
    state: StepState
    transaction_uid: str = field(default="", repr=False)
    document: str = field(default="{}", repr=False)
    revision: int = 1
    created_at: datetime
    changed_at: datetime


def create(state: str) -> tuple[Step | None, int]:
    """Make a step; it begins as scheduled."""
    if state != StepState.SCHEDULED:
        return None, CREATE_NOT_SCHEDULED
    return Step(state=StepState.SCHEDULED), SUCCESS


def change_state(step: Step, wanted: StepState, transaction_uid: str) -> tuple[Step, int]:
    """Return the step after an N-ACTION "change state" and its status; refused, it is unchanged."""
    if wanted is StepState.SCHEDULED:
        return step, BACK_TO_SCHEDULED
    if not transaction_uid:
        return step, WRONG_TRANSACTION_UID
    if wanted is StepState.IN_PROGRESS:
        # Who claims brings a UID of its own, so any UID is a right one until somebody holds it.
        if step.state is StepState.IN_PROGRESS:
            return step, ALREADY_IN_PROGRESS
        if step.state.is_final:
            return step, NO_UPDATE_AFTER_FINAL
        return replace(step, state=wanted, transaction_uid=transaction_uid), SUCCESS
    if step.transaction_uid and transaction_uid != step.transaction_uid:
        return step, WRONG_TRANSACTION_UID
    if step.state is StepState.SCHEDULED:
        return step, NOT_IN_PROGRESS
    if step.state.is_final:
        if wanted is not step.state:
            return step, NO_UPDATE_AFTER_FINAL
        is_completed = step.state is StepState.COMPLETED
        return step, WARNING_ALREADY_COMPLETED if is_completed else WARNING_ALREADY_CANCELED
    if not step.is_reported:
        return step, FINAL_REQUIREMENTS_MISSING
    return replace(step, state=wanted), SUCCESS


def request_cancel(step: Step) -> tuple[Step, int]:
    """Return the step after somebody else's request to cancel, and its status.

    What nobody holds is cancelled at once; of what is in progress the performer is told.
    """
    if step.state is StepState.COMPLETED:
        return step, ALREADY_COMPLETED
    if step.state is StepState.CANCELED:
        return step, WARNING_ALREADY_CANCELED
    if step.state is StepState.SCHEDULED:
        return replace(step, state=StepState.CANCELED), SUCCESS
    return step, SUCCESS


def update(step: Step, transaction_uid: str) -> int:
    """Return the status of an N-SET: by the holder, and not after the end."""
    if step.state.is_final:
        return NO_UPDATE_AFTER_FINAL
    if step.state is StepState.IN_PROGRESS and transaction_uid != step.transaction_uid:
        return WRONG_TRANSACTION_UID
    return SUCCESS


def is_refusal(status: int) -> bool:
    """Whether a status means that nothing was changed, other than a warning."""
    return status not in (SUCCESS, 0x0001) and status >> 12 != 0xB


def new_uid() -> str:
    """Return a UID that nobody has used (PS3.5 B.2: 2.25 and a random UUID)."""
    return f"2.25.{uuid.uuid4().int}"


def uid_of(*parts: str) -> str:
    """Return the same UID for the same parts, at every start and on every machine."""
    digest = hashlib.sha256("\x1f".join(parts).encode()).digest()[:16]
    return f"2.25.{uuid.UUID(bytes=digest, version=5).int}"
