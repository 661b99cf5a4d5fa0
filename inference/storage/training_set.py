"""The training set that reviews make: rows come and go by version, patients never change role.

Version v is every row with ``added_in <= v`` that was not removed by then, so a training can name
the version it saw and anybody can list the same rows again. A patient's role (train, validation,
test) is drawn once, by a hash under this installation's own key, and then kept in a row: later
fractions change nothing for patients that are known.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, or_, select, update

from inference.domain.review import Effort, Review, SplitRole
from inference.storage.review_tables import patient_split, split_key, training_row

TEST_SHARE = 0.2
VALIDATION_SHARE = 0.1
"""Shares of patients, not of cases: a patient with ten studies is in one role with all of them."""


@dataclass(frozen=True, kw_only=True)
class TrainingRow:
    """One reviewed series: labels that a person stands for, and the machine's they came from."""

    id: int
    review_id: int
    result_id: int
    study_uid: str
    series_uid: str
    model: str
    patient_key: str
    role: SplitRole
    effort: Effort
    dice: dict[str, float]
    labels_sha256: str
    machine_sha256: str
    added_in: int
    removed_in: int | None
    added_at: datetime


def patient_key(connection: Connection, patient_id: str, authority: str, *, now: datetime) -> str:
    """Return the hash that stands for a patient here, under this installation's own key.

    A patient is identifier plus assigning authority; both go into the hash, lengths first.
    """
    row = connection.execute(select(split_key.c.key)).scalar_one_or_none()
    if row is None:
        row = secrets.token_hex(32)
        connection.execute(insert(split_key).values(id=1, key=row, made_at=now))
    text = f"{len(authority)}:{authority}|{len(patient_id)}:{patient_id}"
    return hmac.new(bytes.fromhex(row), text.encode(), hashlib.sha256).hexdigest()


def role_by_hash(key: str) -> SplitRole:
    """Return the role that a patient's hash falls into: its first 52 bits as a fraction."""
    fraction = int(key[:13], 16) / 16**13
    if fraction < TEST_SHARE:
        return SplitRole.TEST
    if fraction < TEST_SHARE + VALIDATION_SHARE:
        return SplitRole.VALIDATION
    return SplitRole.TRAIN


def role_of(connection: Connection, key: str, *, now: datetime) -> SplitRole:
    """Return a patient's role, deciding it at the first sight of the patient."""
    found = connection.execute(
        select(patient_split.c.role).where(patient_split.c.patient_key == key)
    ).scalar_one_or_none()
    if found is not None:
        return SplitRole(found)
    role = role_by_hash(key)
    connection.execute(
        insert(patient_split).values(patient_key=key, role=role.value, decided_at=now)
    )
    return role


def current_version(connection: Connection) -> int:
    """Return the newest version; 0 while the set is empty."""
    query = select(func.max(training_row.c.added_in), func.max(training_row.c.removed_in))
    added, removed = connection.execute(query).one()
    return max(added or 0, removed or 0)


def add(
    connection: Connection,
    review: Review,
    *,
    result_id: int,
    series_uid: str,
    key: str,
    effort: Effort,
    dice: Mapping[str, float],
    labels_sha256: str,
    machine_sha256: str,
    now: datetime,
) -> TrainingRow:
    """Add the row of an accepted or corrected result as a new version of the set.

    An earlier row of the same series and model leaves the set in that version.
    """
    role_of(connection, key, now=now)
    version = current_version(connection) + 1
    _remove(connection, series_uid, review.model, version)
    row_id = connection.execute(
        insert(training_row)
        .values(
            review_id=review.id,
            result_id=result_id,
            study_uid=review.study_uid,
            series_uid=series_uid,
            model=review.model,
            patient_key=key,
            effort=effort.value,
            dice=dict(dice),
            labels_sha256=labels_sha256,
            machine_sha256=machine_sha256,
            added_in=version,
            added_at=now,
        )
        .returning(training_row.c.id)
    ).scalar_one()
    return _as_row(connection.execute(_rows().where(training_row.c.id == row_id)).one())


def remove(connection: Connection, *, series_uid: str, model: str) -> bool:
    """Take a series out of the set (its result was rejected); False: it was not in."""
    return _remove(connection, series_uid, model, current_version(connection) + 1)


def list_rows(
    connection: Connection,
    *,
    model: str | None = None,
    version: int | None = None,
    study_uid: str | None = None,
) -> tuple[TrainingRow, ...]:
    """Rows of a version (default: the newest), in the order in which they came."""
    at = current_version(connection) if version is None else version
    query = _rows().where(
        training_row.c.added_in <= at,
        or_(training_row.c.removed_in.is_(None), training_row.c.removed_in > at),
    )
    if model is not None:
        query = query.where(training_row.c.model == model)
    if study_uid is not None:
        query = query.where(training_row.c.study_uid == study_uid)
    found = connection.execute(query.order_by(training_row.c.id))
    return tuple(_as_row(row) for row in found)


def _remove(connection: Connection, series_uid: str, model: str, version: int) -> bool:
    changed = connection.execute(
        update(training_row)
        .where(
            training_row.c.series_uid == series_uid,
            training_row.c.model == model,
            training_row.c.removed_in.is_(None),
        )
        .values(removed_in=version)
    )
    return bool(changed.rowcount)


def _rows() -> Any:
    return select(training_row, patient_split.c.role).join(
        patient_split, patient_split.c.patient_key == training_row.c.patient_key
    )


def _as_row(row: Row[Any]) -> TrainingRow:
    fields = dict(row._mapping)
    fields["role"] = SplitRole(row.role)
    fields["effort"] = Effort(row.effort)
    return TrainingRow(**fields)
