"""Decisions about results: one for each result, kept as it was made."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from inference.domain.result import Result, ResultState
from inference.domain.review import (
    AlreadyDecidedError,
    Decision,
    Effort,
    Review,
    Scanner,
    Shown,
)
from inference.storage.review_tables import review
from inference.storage.tables import delivery, result

DECIDABLE = (ResultState.FINDING.value, ResultState.NO_FINDING.value)


def record(
    connection: Connection,
    about: Result,
    *,
    decision: Decision,
    person: str,
    shown: Shown,
    scanner: Scanner,
    now: datetime,
    reason_code: str = "",
    comment: str = "",
    effort: Effort | None = None,
    lowest_dice: float | None = None,
    changed_ml: float | None = None,
    new_result_id: int | None = None,
) -> Review:
    """Store a decision, in the caller's write transaction (writers are serialised).

    Raises
    ------
    AlreadyDecidedError
        Somebody else was first.
    """
    earlier = review_of(connection, about.id)
    if earlier is not None:
        raise AlreadyDecidedError(earlier)
    connection.execute(
        insert(review).values(
            result_id=about.id,
            study_uid=about.study_uid,
            model=about.model,
            model_version=about.model_version,
            decision=decision.value,
            reason_code=reason_code,
            comment=comment,
            person=person,
            result_sha256=shown.result_sha256,
            overlay_sha256=shown.overlay_sha256,
            view=dict(shown.view),
            page_version=shown.page_version,
            manufacturer=scanner.manufacturer,
            scanner_model=scanner.model,
            site=scanner.site,
            effort=None if effort is None else effort.value,
            lowest_dice=lowest_dice,
            changed_ml=changed_ml,
            new_result_id=new_result_id,
            decided_at=now,
        )
    )
    stored = review_of(connection, about.id)
    assert stored is not None, "it was just inserted"
    return stored


def review_of(connection: Connection, result_id: int) -> Review | None:
    """Return the decision about a result, or None."""
    row = connection.execute(select(review).where(review.c.result_id == result_id)).one_or_none()
    return None if row is None else _as_review(row)


def review_behind(connection: Connection, result_id: int) -> Review | None:
    """Return the correction that made this result, or None where a machine made it."""
    row = connection.execute(
        select(review).where(review.c.new_result_id == result_id)
    ).one_or_none()
    return None if row is None else _as_review(row)


def list_reviews(
    connection: Connection,
    *,
    study_uid: str | None = None,
    model: str | None = None,
    since: datetime | None = None,
    limit: int = 100,
    before_id: int | None = None,
) -> tuple[Review, ...]:
    """Decisions, newest first."""
    query = select(review).order_by(review.c.id.desc()).limit(limit)
    if study_uid is not None:
        query = query.where(review.c.study_uid == study_uid)
    if model is not None:
        query = query.where(review.c.model == model)
    if since is not None:
        query = query.where(review.c.decided_at >= since)
    if before_id is not None:
        query = query.where(review.c.id < before_id)
    return tuple(_as_review(row) for row in connection.execute(query))


def successors(connection: Connection, result_ids: Sequence[int]) -> dict[int, int]:
    """Return for each result its newest correction, where a person made one.

    So that a machine's result, computed again, does not push a person's work aside.
    """
    found = {row_id: row_id for row_id in result_ids}
    while True:
        query = select(review.c.result_id, review.c.new_result_id).where(
            review.c.result_id.in_(list(found.values())), review.c.new_result_id.is_not(None)
        )
        next_of = {row.result_id: row.new_result_id for row in connection.execute(query)}
        if not next_of:
            return {old: new for old, new in found.items() if old != new}
        found = {old: next_of.get(new, new) for old, new in found.items()}


def next_undecided(connection: Connection, *, not_study_uid: str = "") -> tuple[str, int] | None:
    """Return the study and result that wait longest for a decision; findings go first."""
    query = (
        select(result.c.study_uid, result.c.id)
        .outerjoin(review, review.c.result_id == result.c.id)
        .where(
            result.c.is_current,
            result.c.outcome.in_(DECIDABLE),
            review.c.id.is_(None),
            result.c.study_uid != not_study_uid,
            # What a person corrected is decided by that.
            result.c.id.not_in(
                select(review.c.new_result_id).where(review.c.new_result_id.is_not(None))
            ),
        )
        .order_by(result.c.outcome, result.c.id)  # "finding" sorts before "no_finding"
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else (row.study_uid, row.id)


def succeed(connection: Connection, old_id: int, new_id: int) -> None:
    """Let a corrected result take the machine's place as the current one.

    The machine's files stay; what of it still waits to be sent is not sent.
    """
    connection.execute(update(result).where(result.c.id == old_id).values(superseded_by=new_id))
    connection.execute(
        update(delivery)
        .where(delivery.c.result_id == old_id, delivery.c.state == "waiting")
        .values(state="cancelled")
    )


def _as_review(row: Row[Any]) -> Review:
    return Review(
        id=row.id,
        result_id=row.result_id,
        study_uid=row.study_uid,
        model=row.model,
        model_version=row.model_version,
        decision=Decision(row.decision),
        reason_code=row.reason_code,
        comment=row.comment,
        person=row.person,
        shown=Shown(
            result_sha256=row.result_sha256,
            overlay_sha256=row.overlay_sha256,
            view=row.view,
            page_version=row.page_version,
        ),
        scanner=Scanner(manufacturer=row.manufacturer, model=row.scanner_model, site=row.site),
        effort=None if row.effort is None else Effort(row.effort),
        lowest_dice=row.lowest_dice,
        changed_ml=row.changed_ml,
        new_result_id=row.new_result_id,
        decided_at=row.decided_at,
    )
