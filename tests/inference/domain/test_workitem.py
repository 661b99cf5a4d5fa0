"""Every cell of PS3.4 table CC.1.1-2, and that the lock holds."""

from __future__ import annotations

from itertools import product

import pytest

from inference.domain import workitem as steps
from inference.domain.workitem import Step, StepState

SCHEDULED, IN_PROGRESS, COMPLETED, CANCELED = StepState
OK = 0x0000
HELD = "1.2.3"

TABLE = {
    # event, with the right UID        SCHEDULED, IN PROGRESS, COMPLETED, CANCELED
    (IN_PROGRESS, "right"): ((OK, IN_PROGRESS), 0xC302, 0xC300, 0xC300),
    (IN_PROGRESS, "none"): (0xC301, 0xC301, 0xC301, 0xC301),
    (SCHEDULED, "right"): (0xC303, 0xC303, 0xC303, 0xC303),
    (SCHEDULED, "none"): (0xC303, 0xC303, 0xC303, 0xC303),
    (COMPLETED, "right"): (0xC310, (OK, COMPLETED), 0xB306, 0xC300),
    (COMPLETED, "wrong"): (0xC310, 0xC301, 0xC301, 0xC301),
    (COMPLETED, "none"): (0xC301, 0xC301, 0xC301, 0xC301),
    (COMPLETED, "incomplete"): (0xC310, 0xC304, 0xB306, 0xC300),
    (CANCELED, "right"): (0xC310, (OK, CANCELED), 0xC300, 0xB304),
    (CANCELED, "wrong"): (0xC310, 0xC301, 0xC301, 0xC301),
    (CANCELED, "none"): (0xC301, 0xC301, 0xC301, 0xC301),
    (CANCELED, "incomplete"): (0xC310, 0xC304, 0xC300, 0xB304),
    ("request cancel", ""): ((OK, CANCELED), (OK, IN_PROGRESS), 0xC311, 0xB304),
    ("update", "right"): ((OK, SCHEDULED), (OK, IN_PROGRESS), 0xC300, 0xC300),
    ("update", "wrong"): ((OK, SCHEDULED), 0xC301, 0xC300, 0xC300),
    ("update", "none"): ((OK, SCHEDULED), 0xC301, 0xC300, 0xC300),
}
"""SCHEDULED with a "wrong" UID: nobody holds it, so no UID can be wrong, and C310 is the answer."""


def _run(step: Step, event: object, uid: str) -> tuple[Step, int]:
    given = {"right": HELD, "incomplete": HELD, "wrong": "9.9", "none": "", "": ""}[uid]
    if event == "request cancel":
        return steps.request_cancel(step)
    if event == "update":
        return step, steps.update(step, given)
    assert isinstance(event, StepState)
    return steps.change_state(step, event, given)


def test_every_transition_of_the_standards_table() -> None:
    n_cells = 0
    for (event, uid), cells in TABLE.items():
        for state, cell in zip(StepState, cells, strict=True):
            held = "" if state is SCHEDULED else HELD
            before = Step(state=state, transaction_uid=held, is_reported=uid != "incomplete")
            after, status = _run(before, event, uid)
            expected, moved = cell if isinstance(cell, tuple) else (cell, state)
            assert (status, after.state) == (expected, moved), (event, uid, state)
            assert steps.is_refusal(status) == (status >> 12 == 0xC)
            assert status in steps.MEANINGS
            n_cells += 1
    assert n_cells == 64


@pytest.mark.parametrize(("state", "wanted"), list(product(StepState, StepState)))
def test_no_final_state_is_left(state: StepState, wanted: StepState) -> None:
    step = Step(state=state, transaction_uid=HELD, is_reported=True)
    after, _ = steps.change_state(step, wanted, HELD)
    assert after.state is state or not state.is_final


def test_a_claim_keeps_the_uid_of_who_came_first() -> None:
    first, _ = steps.change_state(Step(state=SCHEDULED), IN_PROGRESS, "1.1")
    second, status = steps.change_state(first, IN_PROGRESS, "2.2")
    assert (status, second.transaction_uid) == (0xC302, "1.1")
    assert "1.1" not in repr(first)


def test_only_scheduled_is_created() -> None:
    for state in ("", "IN PROGRESS", "COMPLETED", "CANCELED", "scheduled"):
        assert steps.create(state) == (None, 0xC309)
