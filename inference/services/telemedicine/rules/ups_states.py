"""States of a unified procedure step (a piece of reading work) and the codes of what is refused.

A worker claims a scheduled step with a Transaction UID of its own; from then on only that UID may
change it. DICOM PS3.4 Annex CC, tables CC.1.1-2 and CC.2.1 to CC.2.3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

SOURCE = "DICOM PS3.4 CC.1.1 and CC.2"

SUCCESS = 0x0000
WARNING_ALREADY_CANCELED = 0xB304
WARNING_ALREADY_COMPLETED = 0xB306
NO_UPDATE_AFTER_FINAL = 0xC300
WRONG_TRANSACTION_UID = 0xC301
ALREADY_IN_PROGRESS = 0xC302
BACK_TO_SCHEDULED = 0xC303
FINAL_REQUIREMENTS_MISSING = 0xC304
CREATE_NOT_SCHEDULED = 0xC309
NOT_IN_PROGRESS = 0xC310
ALREADY_COMPLETED = 0xC311


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
    transaction_uid: str = ""
    is_reported: bool = False


def create(state: str) -> tuple[Step | None, int]:
    """Make a step; it begins as scheduled."""
    if state != StepState.SCHEDULED:
        return None, CREATE_NOT_SCHEDULED
    return Step(state=StepState.SCHEDULED), SUCCESS


def change_state(step: Step, wanted: StepState, transaction_uid: str) -> tuple[Step, int]:
    """Return the step after an N-ACTION "change state" and its status; refused, it is unchanged."""
    if wanted is StepState.SCHEDULED:
        return step, BACK_TO_SCHEDULED
    if step.state.is_final:
        if wanted is not step.state:
            return step, NO_UPDATE_AFTER_FINAL
        is_completed = step.state is StepState.COMPLETED
        return step, WARNING_ALREADY_COMPLETED if is_completed else WARNING_ALREADY_CANCELED
    if wanted is StepState.IN_PROGRESS:
        if step.state is StepState.IN_PROGRESS:
            return step, ALREADY_IN_PROGRESS
        if not transaction_uid:
            return step, WRONG_TRANSACTION_UID
        return replace(step, state=wanted, transaction_uid=transaction_uid), SUCCESS
    if step.state is not StepState.IN_PROGRESS:
        return step, NOT_IN_PROGRESS
    if transaction_uid != step.transaction_uid:
        return step, WRONG_TRANSACTION_UID
    if wanted is StepState.COMPLETED and not step.is_reported:
        return step, FINAL_REQUIREMENTS_MISSING
    return replace(step, state=wanted), SUCCESS


def request_cancel(step: Step) -> int:
    """Return the status of somebody else's request to cancel; the holder decides."""
    if step.state is StepState.COMPLETED:
        return ALREADY_COMPLETED
    return WARNING_ALREADY_CANCELED if step.state is StepState.CANCELED else SUCCESS


def update(step: Step, transaction_uid: str) -> int:
    """Return the status of an N-SET: by the holder, and not after the end."""
    if step.state.is_final:
        return NO_UPDATE_AFTER_FINAL
    if step.state is StepState.IN_PROGRESS and transaction_uid != step.transaction_uid:
        return WRONG_TRANSACTION_UID
    return SUCCESS
