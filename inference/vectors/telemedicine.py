"""Vectors of the module ``telemedicine``."""

from __future__ import annotations

from inference.domain import workitem as ups_states
from inference.domain.workitem import Step, StepState
from inference.services.telemedicine.rules import radpeer
from inference.vectors.cases import Answer, Case, fields
from inference.vectors.document import Suite, Vector


def _radpeer(_: Vector, __: Suite) -> Answer:
    return {
        **radpeer.LEVELS,
        **radpeer.SIGNIFICANCE,
        "internal_review_before_submit": radpeer.REVIEW_FIRST,
    }


def _ups_states(_: Vector, __: Suite) -> Answer:
    """Say the state machine's answers, each asked of the machine itself."""
    begun, created = ups_states.create("SCHEDULED")
    claimed, ok = ups_states.change_state(_step("SCHEDULED"), StepState.IN_PROGRESS, "1.2.3")
    if begun is None or created or ok or claimed.transaction_uid != "1.2.3":
        raise ValueError("a scheduled step cannot be claimed")
    running = Step(state=StepState.IN_PROGRESS, transaction_uid="1.2.3")
    done, canceled = _step("COMPLETED"), _step("CANCELED")

    def change(step: Step, wanted: StepState, uid: str = "1.2.3") -> str:
        return f"{ups_states.change_state(step, wanted, uid)[1]:04X}"

    final = {f"{ups_states.update(step, '1.2.3'):04X}" for step in (done, canceled)}
    return {
        "create_must_be": f"SCHEDULED else {ups_states.create('IN PROGRESS')[1]:04X}",
        "claim": f"{begun.state}->{claimed.state} with Transaction UID",
        "already_in_progress": change(running, StepState.IN_PROGRESS, "9"),
        "wrong_uid": change(running, StepState.COMPLETED, "9"),
        "back_to_scheduled": change(running, StepState.SCHEDULED),
        "final_requirements_missing": change(running, StepState.COMPLETED),
        "not_in_progress": change(_step("SCHEDULED"), StepState.COMPLETED),
        "completed": f"{ups_states.request_cancel(done)[1]:04X}"
        f" / {change(done, StepState.COMPLETED)} warning",
        "canceled": f"{change(canceled, StepState.CANCELED)} warning",
        "no_update_after_final": " or ".join(sorted(final)),
    }


def _step(state: str) -> Step:
    return Step(state=StepState(state))


CASES = (
    Case(name="RADPEER", needs=fields(""), about="radpeer", answer=_radpeer),
    Case(name="UPS states", needs=fields(""), about="ups", answer=_ups_states),
)
