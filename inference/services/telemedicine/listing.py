"""The reading list as one person may see it: order, reasons, and nothing of a blinded reading."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Connection

from inference.domain import reading_order
from inference.domain.reading import Read, ReadRole, Task
from inference.domain.reading_order import Entry, Placed
from inference.domain.result import ResultState
from inference.domain.study import Study
from inference.domain.study_state import StudyState
from inference.services.telemedicine.rules import routing
from inference.storage import readings, results, states, studies

Standing = Literal["open", "mine", "taken", "signed", "arbitration", "done"]
SECOND_READING = "a second reading is required"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the list, for one asker.

    Attributes
    ----------
    place : from 1, among all that is not finished; 0 for what is
    standing : for the asker: free, held by them, held by others, signed by them, decided by a third
    holder : who reads it; "" where nobody does, or where the asker may not know
    note : "a second reading is required", or ""
    why_not : why the asker may not claim it; "" where nothing speaks against it
    """

    task: Task
    study: Study
    place: int
    ai_state: StudyState
    lifted_by: int
    reason: str
    standing: Standing
    holder: str
    note: str
    why_not: str
    own: Read | None
    visible_reads: tuple[Read, ...]


def reading_list(
    connection: Connection,
    *,
    name: str,
    now: datetime,
    promoting_models: Collection[str] = (),
    is_done: bool = False,
) -> list[Row]:
    """Return the list in its order; ``promoting_models``: whose findings lift (empty: any)."""
    if is_done:
        placed = [
            Placed(entry=entry_of(one, StudyState.NOT_APPLICABLE, ""))
            for one in readings.done_tasks(connection)
        ]
        tasks = {one.id: one for one in readings.done_tasks(connection)}
    else:
        tasks = {one.id: one for one in readings.open_tasks(connection)}
        placed = order_tasks(connection, tuple(tasks.values()), now, promoting_models)
    ai_states = states.states_of(connection, [one.study_uid for one in tasks.values()])
    reader = readings.get_reader(connection, name)
    rows = []
    for number, one in enumerate(placed, start=1):
        task = tasks[one.entry.task_id]
        rows.append(
            row_for(
                task,
                studies.get_study(connection, task.study_uid),
                ai_states[task.study_uid],
                one,
                name=name,
                place=0 if is_done else number,
                why_not=routing.why_not(reader, task, now=now),
            )
        )
    return rows


def order_tasks(
    connection: Connection,
    tasks: tuple[Task, ...],
    now: datetime,
    promoting_models: Collection[str],
) -> list[Placed]:
    """Order tasks by `inference.domain.reading_order`."""
    ai_states = states.states_of(connection, [one.study_uid for one in tasks])
    entries = [
        entry_of(
            one,
            ai_states[one.study_uid],
            finding_of(connection, one.study_uid, promoting_models)
            if ai_states[one.study_uid] is StudyState.FINDING
            else "",
        )
        for one in tasks
    ]
    return reading_order.order(entries, now=now)


def entry_of(task: Task, state: StudyState, finding: str) -> Entry:
    """Return what decides about a task's place."""
    return Entry(
        task_id=task.id,
        priority=task.priority,
        deadline_at=task.deadline_at,
        state=state,
        finding=finding,
        is_undone=task.promotion_undone_at is not None,
    )


def finding_of(connection: Connection, study_uid: str, promoting_models: Collection[str]) -> str:
    """Return the study's findings in words; "" where none is of a model that may lift."""
    words: list[str] = []
    for one in results.list_results(connection, study_uid=study_uid):
        if one.outcome is not ResultState.FINDING:
            continue
        if promoting_models and one.model not in promoting_models:
            continue
        names = [str(segment["name"]) for segment in one.summary.get("segments", ())]
        words.append(f"{', '.join(names[:3]) or 'finding'} ({one.model} {one.model_version})")
    return "; ".join(words[:2])


def row_for(
    task: Task,
    study: Study,
    ai_state: StudyState,
    placed: Placed,
    *,
    name: str,
    place: int,
    why_not: str,
) -> Row:
    """Return a task as somebody may see it."""
    own = task.read_of(name)
    visible = task.reads if not task.is_blinded else tuple(one for one in (own,) if one)
    held = [one.reader for one in task.reads if one.is_held and not task.is_blinded]
    return Row(
        task=task,
        study=study,
        place=place,
        ai_state=ai_state,
        lifted_by=placed.lifted_by,
        reason=placed.reason,
        standing=_standing(task, own),
        holder=held[0] if held else (name if own and own.is_held else ""),
        note=SECOND_READING if task.needs_second and task.is_blinded else "",
        why_not=why_not,
        own=own,
        visible_reads=visible,
    )


def hidden_audit_subjects(connection: Connection) -> frozenset[str]:
    """Return the audit subjects that no reader may be shown now: of the blinded tasks."""
    return frozenset(f"reading:{one.id}" for one in readings.blinded_tasks(connection))


def _standing(task: Task, own: Read | None) -> Standing:
    if task.done_at is not None:
        return "done"
    if own is not None:
        return "mine" if own.is_held else "signed"
    free = [one for one in task.reads if one.is_free]
    if not free:
        return "taken"
    return "arbitration" if free[0].role is ReadRole.ARBITER else "open"
