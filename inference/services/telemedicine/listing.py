"""The reading list as one person may see it: order, reasons, and nothing of a blinded reading."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Connection

from inference.domain import reading_order
from inference.domain.reading import Read, ReadRole, Task
from inference.domain.reading_order import Entry, Placed
from inference.domain.study import Study
from inference.domain.study_state import StudyState
from inference.services.telemedicine.rules import routing
from inference.storage import readings, states, studies

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
        tasks = {one.id: one for one in readings.done_tasks(connection)}
        placed = [
            Placed(entry=entry_of(one, StudyState.NOT_APPLICABLE, "")) for one in tasks.values()
        ]
    else:
        tasks = {one.id: one for one in readings.open_tasks(connection)}
    uids = [one.study_uid for one in tasks.values()]
    ai_states, found = states.states_of(connection, uids), studies.get_studies(connection, uids)
    if not is_done:
        placed = order_tasks(connection, tuple(tasks.values()), ai_states, now, promoting_models)
    reader = readings.get_reader(connection, name)
    rows = []
    for number, one in enumerate(placed, start=1):
        task = tasks[one.entry.task_id]
        rows.append(
            row_for(
                task,
                found[task.study_uid],
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
    ai_states: Mapping[str, StudyState],
    now: datetime,
    promoting_models: Collection[str],
) -> list[Placed]:
    """Order tasks by `inference.domain.reading_order`."""
    lifting = [uid for uid, state in ai_states.items() if state is StudyState.FINDING]
    findings = readings.current_findings(connection, lifting)
    entries = [
        entry_of(
            one,
            ai_states[one.study_uid],
            finding_text(findings.get(one.study_uid, ()), promoting_models),
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


def finding_text(
    findings: Sequence[tuple[str, str, list[str]]], promoting_models: Collection[str]
) -> str:
    """Return findings in words; "" where none is of a model that may lift."""
    words = [
        f"{', '.join(names[:3]) or 'finding'} ({model} {version})"
        for model, version, names in findings
        if not promoting_models or model in promoting_models
    ]
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
