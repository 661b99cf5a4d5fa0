"""What time alone does to reading tasks: claims end, deadlines and unanswered results escalate.

`run` is called every second or so and at no other time matters: each step is one write transaction
over what is due, so a service that was down does on its return what it missed.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection

from inference.services.telemedicine import service
from inference.storage import critical_results, readings


def run(connection: Connection, *, now: datetime) -> int:
    """Do everything that is due; return how much was."""
    n_done = service.make_due_tasks(connection, now=now)
    n_done += end_claims(connection, now=now)
    n_done += escalate_deadlines(connection, now=now)
    return n_done + escalate_critical_results(connection, now=now)


def is_due(connection: Connection, *, now: datetime) -> bool:
    """Whether `run` would do something; cheap, takes no lock."""
    return bool(
        readings.studies_without_task(connection, limit=1)
        or readings.due_reads(connection, now=now)
        or readings.due_escalations(connection, now=now)
        or critical_results.due(connection, now=now)
    )


def end_claims(connection: Connection, *, now: datetime) -> int:
    """Free the reads whose claims ran out."""
    due = readings.due_reads(connection, now=now)
    for task_id, read_id in due:
        service.end_claim(connection, task_id, read_id, reason="the claim ran out", now=now)
    return len(due)


def escalate_deadlines(connection: Connection, *, now: datetime) -> int:
    """Call the next deputy of each task that is late; after the last one the badge stays."""
    due = readings.due_escalations(connection, now=now)
    for task_id in due:
        task = readings.get_task(connection, task_id)
        level = task.escalation_level + 1
        is_last = level >= len(task.deputies)
        assert task.next_escalation_at is not None, "the query asks for it"
        later = task.next_escalation_at + timedelta(seconds=task.escalation_s)
        readings.change_task(
            connection,
            task_id,
            escalation_level=level,
            next_escalation_at=None if is_last else later,
        )
        to = task.deputies[level - 1] if level <= len(task.deputies) else ""
        detail = {"level": level, "to": to}
        service.note(connection, task_id, "reading.escalated", service.WHO_RUNS, now, detail)
    return len(due)


def escalate_critical_results(connection: Connection, *, now: datetime) -> int:
    """Tell the next person of each critical result that nobody acknowledged."""
    due = critical_results.due(connection, now=now)
    for one in due:
        level = min(one.level + 1, len(one.chain))
        is_last = one.level >= len(one.chain)
        assert one.due_at is not None, "the query asks for it"
        critical_results.change(
            connection,
            one.id,
            level=level,
            due_at=None if is_last else one.due_at + timedelta(seconds=one.acknowledge_s),
        )
        detail = {"level": level, "to": "" if is_last else one.chain[level - 1]}
        service.note(connection, one.task_id, "critical.escalated", service.WHO_RUNS, now, detail)
    return len(due)
