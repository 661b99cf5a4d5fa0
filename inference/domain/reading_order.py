"""The order of the reading list: clinical priority, then an AI finding, then time left.

Without AI the list is sorted by clinical priority and, within one, by the deadline. A finding lifts
its study within its clinical priority; nothing else moves anything. So a study without a finding
(negative, refused, failed, pending, or never looked at by a model) stands behind exactly those that
stand before it without AI, and behind lifted findings, of which there is a cap:

- a study is lifted over at most `MAX_PLACES` others,
- no study is passed by more than `MAX_PASSED_BY` lifted ones,
- a study that is due within `DUE_SOON`, or overdue, is not passed at all,
- clinical priority is never crossed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from inference.domain.job import Priority
from inference.domain.study_state import StudyState

MAX_PLACES = 10
MAX_PASSED_BY = 5
DUE_SOON = timedelta(minutes=15)
"""Policy of this service, not of a standard: a reader can finish what is open within the time."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What decides about a task's place; ``finding``: in words, "" where none may lift it."""

    task_id: int
    priority: Priority
    deadline_at: datetime
    state: StudyState
    finding: str = ""
    is_undone: bool = False

    @property
    def is_lifted(self) -> bool:
        """A finding asks for a better place, and nobody took that back."""
        return self.state is StudyState.FINDING and self.finding != "" and not self.is_undone


@dataclass(frozen=True, kw_only=True)
class Placed:
    """An entry at its place; ``lifted_by`` places, because of ``reason``."""

    entry: Entry
    lifted_by: int = 0
    reason: str = ""


def without_ai(entries: Sequence[Entry]) -> list[Entry]:
    """Return the list as it is without any model."""
    return sorted(entries, key=lambda one: (one.priority, one.deadline_at, one.task_id))


def order(entries: Sequence[Entry], *, now: datetime) -> list[Placed]:
    """Return the list with findings lifted, each with its reason."""
    placed: list[Placed] = []
    passed_by: dict[int, int] = {}
    for entry in without_ai(entries):
        lift = _places_free(entry, placed, passed_by, now) if entry.is_lifted else 0
        place = len(placed) - lift
        for one in placed[place:]:
            passed_by[one.entry.task_id] = passed_by.get(one.entry.task_id, 0) + 1
        reason = f"AI finding: {entry.finding}" if lift else ""
        placed.insert(place, Placed(entry=entry, lifted_by=lift, reason=reason))
    return placed


def _places_free(
    entry: Entry, placed: Sequence[Placed], passed_by: dict[int, int], now: datetime
) -> int:
    lift = 0
    for one in reversed(placed):
        before = one.entry
        if (
            lift == MAX_PLACES
            or before.priority != entry.priority
            or before.is_lifted
            or before.deadline_at <= now + DUE_SOON
            or passed_by.get(before.task_id, 0) >= MAX_PASSED_BY
        ):
            break
        lift += 1
    return lift
