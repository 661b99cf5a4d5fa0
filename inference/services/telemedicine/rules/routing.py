"""Who may read a task: subspecialty, language, and a licence that is valid now."""

from __future__ import annotations

from datetime import datetime

from inference.domain.reading import DEFAULT_QUEUE, Queue, Reader, Task


def queue_for(
    queues: tuple[Queue, ...], *, modalities: tuple[str, ...], body_parts: tuple[str, ...]
) -> Queue:
    """Return the first queue, by position, that takes a study; else the general one."""
    for queue in sorted(queues, key=lambda one: (one.position, one.name)):
        if queue.modality and queue.modality not in modalities:
            continue
        if queue.body_part and queue.body_part.upper() not in {one.upper() for one in body_parts}:
            continue
        return queue
    return DEFAULT_QUEUE


def why_not(reader: Reader, task: Task, *, now: datetime) -> str:
    """Return why a reader may not take a task; "" where nothing speaks against it."""
    if task.subspecialty and task.subspecialty not in reader.subspecialties:
        return f"the subspecialty {task.subspecialty} is asked for"
    if task.language and task.language not in reader.languages:
        return f"reading in the language {task.language} is asked for"
    if not task.jurisdiction:
        return ""
    own = [one for one in reader.credentials if one.jurisdiction == task.jurisdiction]
    if not own:
        return f"a licence for {task.jurisdiction} is asked for"
    last = max(one.valid_until for one in own)
    if last <= now:
        return f"the licence for {task.jurisdiction} ended on {last:%Y-%m-%d}"
    return ""
