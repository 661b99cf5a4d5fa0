"""When two readings agree, and whose word holds when they do not.

Two readings agree when they come to the same conclusion and name the same finding codes; the words
of the report do not matter. Otherwise a third reader, who is neither of the two, sees both and
decides: that reading is the task's outcome, whichever of the two it is nearer to. The rule is this
service's own; a site that wants another threshold reads the figures of `agrees` before changing it.
"""

from __future__ import annotations

from inference.domain.reading import Read, ReadRole, Task


def agrees(first: Read, second: Read) -> bool:
    """Whether two signed readings say the same."""
    return first.conclusion == second.conclusion and set(first.finding_codes) == set(
        second.finding_codes
    )


def needs_arbiter(task: Task) -> bool:
    """Whether both readings are signed, disagree, and nobody was asked to decide yet."""
    if not task.needs_second or task.is_blinded:
        return False
    by_role = {one.role: one for one in task.reads}
    return ReadRole.ARBITER not in by_role and not agrees(
        by_role[ReadRole.FIRST], by_role[ReadRole.SECOND]
    )


def outcome(task: Task) -> Read | None:
    """Return the reading that holds; None: the task is not finished."""
    by_role = {one.role: one for one in task.reads}
    if task.is_blinded or needs_arbiter(task):
        return None
    last = by_role.get(ReadRole.ARBITER, by_role[ReadRole.FIRST])
    return last if last.signed_at else None
