"""The reading list against the list without AI: a finding lifts, nothing sinks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from inference.domain import reading_order
from inference.domain.job import Priority
from inference.domain.reading_order import DUE_SOON, MAX_PASSED_BY, MAX_PLACES, Entry, order
from inference.domain.study_state import StudyState

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
OTHER_STATES = [one for one in StudyState if one is not StudyState.FINDING]


@st.composite
def lists(draw: st.DrawFn) -> list[Entry]:
    size = draw(st.integers(0, 25))
    return [
        Entry(
            task_id=number,
            priority=draw(st.sampled_from(Priority)),
            deadline_at=NOW + timedelta(minutes=draw(st.integers(-60, 600))),
            state=draw(st.sampled_from(StudyState)),
            finding=draw(st.sampled_from(["", "nodule"])),
            is_undone=draw(st.booleans()),
        )
        for number in range(size)
    ]


@settings(max_examples=300, deadline=None)
@given(lists())
def test_no_study_without_a_finding_ever_sinks(entries: list[Entry]) -> None:
    """Nobody but a lifted finding comes to stand before it: up to the cap, and never when due.

    A list in which something rises has something stand lower by number; what must not happen is
    that a negative, refused, failed or pending study loses its place to anything else.
    """
    without = [one.task_id for one in reading_order.without_ai(entries)]
    placed = order(entries, now=NOW)
    with_ai = [one.entry.task_id for one in placed]
    assert sorted(with_ai) == sorted(without)
    lifted = {one.entry.task_id for one in placed if one.lifted_by}
    for place, one in enumerate(placed):
        entry = one.entry
        before = without.index(entry.task_id)
        newly_ahead = set(with_ai[:place]) - set(without[:before])
        if entry.is_lifted:
            assert not newly_ahead, "findings keep their order among themselves"
            assert place + one.lifted_by <= before + len(lifted)
            assert one.lifted_by <= MAX_PLACES
            continue
        assert one.lifted_by == 0
        assert one.reason == ""
        assert newly_ahead <= lifted
        assert len(newly_ahead) <= MAX_PASSED_BY
        if entry.deadline_at <= NOW + DUE_SOON:
            assert not newly_ahead
    others = [one for one in with_ai if one not in lifted]
    assert others == [one for one in without if one not in lifted]
    assert [one.entry.priority for one in placed] == sorted(one.priority for one in entries)


@settings(max_examples=150, deadline=None)
@given(lists(), st.data())
def test_a_result_that_is_no_finding_changes_no_place(
    entries: list[Entry], data: st.DataObject
) -> None:
    """Whatever the AI says, short of a finding, the list is as if it had said nothing."""
    if not entries:
        return
    number = data.draw(st.integers(0, len(entries) - 1))
    orders = set()
    for state in OTHER_STATES:
        changed = list(entries)
        old = entries[number]
        changed[number] = Entry(
            task_id=old.task_id, priority=old.priority, deadline_at=old.deadline_at, state=state,
            finding=old.finding, is_undone=old.is_undone,
        )  # fmt: skip
        orders.add(tuple(one.entry.task_id for one in order(changed, now=NOW)))
    assert len(orders) == 1


def _entry(number: int, state: StudyState = StudyState.NO_FINDING, **changes: object) -> Entry:
    fields: dict[str, object] = {
        "task_id": number,
        "priority": Priority.ROUTINE,
        "deadline_at": NOW + timedelta(hours=2, minutes=number),
        "state": state,
        "finding": "nodule" if state is StudyState.FINDING else "",
    }
    return Entry(**(fields | changes))  # type: ignore[arg-type]


def test_a_finding_is_lifted_with_its_reason_and_by_no_more_than_the_cap() -> None:
    entries = [_entry(number) for number in range(14)] + [_entry(14, StudyState.FINDING)]
    placed = order(entries, now=NOW)
    assert [one.entry.task_id for one in placed].index(14) == 4
    assert (placed[4].lifted_by, placed[4].reason) == (10, "AI finding: nodule")


def test_undone_means_the_place_without_ai() -> None:
    entries = [_entry(0), _entry(1, StudyState.FINDING, is_undone=True)]
    assert [one.entry.task_id for one in order(entries, now=NOW)] == [0, 1]


def test_clinical_priority_is_never_crossed() -> None:
    entries = [_entry(0, priority=Priority.STAT), _entry(1, StudyState.FINDING)]
    assert [one.entry.task_id for one in order(entries, now=NOW)] == [0, 1]


def test_no_study_is_passed_by_more_than_the_cap() -> None:
    entries = [_entry(0), *(_entry(number, StudyState.FINDING) for number in range(1, 9))]
    placed = [one.entry.task_id for one in order(entries, now=NOW)]
    assert placed == [1, 2, 3, 4, 5, 0, 6, 7, 8]


def test_a_study_that_is_due_soon_is_not_passed() -> None:
    soon = _entry(0, deadline_at=NOW + DUE_SOON)
    assert [one.entry.task_id for one in order([soon, _entry(1, StudyState.FINDING)], now=NOW)] == [
        0,
        1,
    ]
