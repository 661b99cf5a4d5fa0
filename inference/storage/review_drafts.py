"""Corrections in work: the changed slices of one person on one result, kept until decided.

A slice is the raw label map of one native slice, zlib-compressed: a few kilobytes, replaced whole.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select

from inference.domain.review import DecisionFieldError
from inference.storage.review_tables import review_draft


def save(
    connection: Connection,
    result_id: int,
    person: str,
    slices: Mapping[int, bytes],
    *,
    now: datetime,
) -> None:
    """Keep these slices' labels in place of what was kept of them."""
    for index, labels in slices.items():
        connection.execute(
            delete(review_draft).where(
                _of(result_id, person) & (review_draft.c.slice_index == index)
            )
        )
        connection.execute(
            insert(review_draft).values(
                result_id=result_id,
                person=person,
                slice_index=index,
                labels=zlib.compress(labels, 1),
                saved_at=now,
            )
        )


def load(
    connection: Connection, result_id: int, person: str, *, slice_bytes: int
) -> dict[int, bytes]:
    """Return the kept slices by native index, each of ``slice_bytes``.

    Raises
    ------
    DecisionFieldError
        A kept slice has another size: it was drawn on other labels.
    """
    query = select(review_draft).where(_of(result_id, person)).order_by(review_draft.c.slice_index)
    found: dict[int, bytes] = {}
    for row in connection.execute(query):
        labels = zlib.decompress(row.labels)
        if len(labels) != slice_bytes:
            raise DecisionFieldError(
                field=f"draft slice {row.slice_index}",
                problem=f"holds {len(labels)} bytes, a slice of this result has {slice_bytes};"
                " discard the draft and draw again",
            )
        found[row.slice_index] = labels
    return found


def count(connection: Connection, result_id: int, person: str) -> int:
    """Return how many slices are kept."""
    query = select(func.count()).select_from(review_draft).where(_of(result_id, person))
    return int(connection.execute(query).scalar_one())


def discard(connection: Connection, result_id: int, person: str | None = None) -> int:
    """Forget a person's draft, or everybody's; returns the number of slices."""
    where = review_draft.c.result_id == result_id if person is None else _of(result_id, person)
    return int(connection.execute(delete(review_draft).where(where)).rowcount)


def _of(result_id: int, person: str) -> ColumnElement[bool]:
    return (review_draft.c.result_id == result_id) & (review_draft.c.person == person)
