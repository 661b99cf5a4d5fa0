"""Which results have the object that is made after them: a statement, or a report of change."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, exists, insert, literal, not_, select

from inference.domain.result import ResultState
from inference.storage.release_tables import state_object
from inference.storage.tables import result

WITHOUT_OBJECTS = (
    ResultState.REFUSED.value,
    ResultState.FAILED.value,
    ResultState.NOT_APPLICABLE.value,
)


def next_without(connection: Connection) -> int | None:
    """Return the oldest current result that needs a statement; None: every one has it."""
    return _next(connection, WITHOUT_OBJECTS)


def next_finding(connection: Connection) -> int | None:
    """Return the oldest current result whose priors were not looked at; None: there is none."""
    return _next(connection, (ResultState.FINDING.value,))


def _next(connection: Connection, states: tuple[str, ...]) -> int | None:
    query = (
        select(result.c.id)
        .where(
            result.c.is_current,
            result.c.state.in_(states),
            not_(exists().where(state_object.c.result_id == result.c.id)),
        )
        .order_by(result.c.id)
        .limit(1)
    )
    found = connection.execute(query).scalar_one_or_none()
    return None if found is None else int(found)


def record(connection: Connection, result_id: int, *, now: datetime, problem: str = "") -> bool:
    """Record that it was made, or the ``problem`` that there was; False: it was before."""
    known = connection.execute(
        select(literal(1)).where(state_object.c.result_id == result_id)
    ).one_or_none()
    if known is not None:
        return False
    connection.execute(
        insert(state_object).values(result_id=result_id, made_at=now, problem=problem)
    )
    return True


def problem_of(connection: Connection, result_id: int) -> str:
    """Return why a statement could not be made; "" where there is none to tell."""
    found = connection.execute(
        select(state_object.c.problem).where(state_object.c.result_id == result_id)
    ).scalar_one_or_none()
    return found or ""
