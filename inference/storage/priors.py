"""Earlier results of the same patient, and what readers said of which lesion is which.

A patient is a number together with who issued it: equal numbers of two issuers are two people. A
number without an issuer is the site's own, and joins only with others that name none. A study
without a patient's number has no priors.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, insert, select, update

from inference.domain.change import Acquisition, Match, Measured, TimePoint
from inference.domain.result import ResultState
from inference.storage.errors import NotFoundError
from inference.storage.release_tables import lesion_match
from inference.storage.tables import result, study

SAYING_SOMETHING = (ResultState.FINDING.value, ResultState.NO_FINDING.value)
MOST_PRIORS = 20


def time_point(connection: Connection, result_id: int) -> TimePoint:
    """Return a result as one time point of its patient.

    Raises
    ------
    NotFoundError
    """
    row = connection.execute(_points().where(result.c.id == result_id)).one_or_none()
    if row is None:
        raise NotFoundError(what="result", key=result_id)
    return _as_point(row)


def priors_of(connection: Connection, result_id: int) -> tuple[TimePoint, ...]:
    """Return earlier current results of the same patient and model, the latest first.

    Earlier is by study date; a study without a date has no place in time, so it is no prior and
    has none. Those of other versions are among them: it is for `compare` to say so.

    Raises
    ------
    NotFoundError
    """
    own = connection.execute(_points().where(result.c.id == result_id)).one_or_none()
    if own is None:
        raise NotFoundError(what="result", key=result_id)
    if not own.patient_id or not own.study_date:
        return ()
    query = (
        _points()
        .where(
            study.c.patient_id == own.patient_id,
            study.c.issuer_of_patient_id == own.issuer_of_patient_id,
            study.c.study_uid != own.study_uid,
            study.c.study_date != "",
            study.c.study_date < own.study_date,
            result.c.model == own.model,
            result.c.is_current,
            result.c.outcome.in_(SAYING_SOMETHING),
        )
        .order_by(study.c.study_date.desc(), result.c.id.desc())
        .limit(MOST_PRIORS)
    )
    return tuple(_as_point(row) for row in connection.execute(query))


def decide_match(
    connection: Connection,
    *,
    result_id: int,
    label: int,
    prior_result_id: int,
    prior_label: int,
    is_confirmed: bool,
    by: str,
    now: datetime,
) -> None:
    """Keep what a reader says of two segments; a later word replaces an earlier one."""
    key = {
        "result_id": result_id,
        "label": label,
        "prior_result_id": prior_result_id,
        "prior_label": prior_label,
    }
    values = {"is_confirmed": int(is_confirmed), "decided_by": by, "decided_at": now}
    where = [lesion_match.c[name] == value for name, value in key.items()]
    changed = connection.execute(update(lesion_match).where(*where).values(**values))
    if changed.rowcount == 0:
        connection.execute(insert(lesion_match).values(**key, **values))
    if is_confirmed:  # a segment is one structure: another partner of the same prior is none
        connection.execute(
            update(lesion_match)
            .where(
                lesion_match.c.result_id == result_id,
                lesion_match.c.label == label,
                lesion_match.c.prior_result_id == prior_result_id,
                lesion_match.c.prior_label != prior_label,
            )
            .values(is_confirmed=0)
        )


def matches_between(
    connection: Connection, result_id: int, prior_result_id: int
) -> dict[tuple[int, int], Match]:
    """Return what readers decided, by (label, label of the prior)."""
    query = select(lesion_match).where(
        lesion_match.c.result_id == result_id, lesion_match.c.prior_result_id == prior_result_id
    )
    return {
        (row.label, row.prior_label): Match.CONFIRMED if row.is_confirmed else Match.REJECTED
        for row in connection.execute(query)
    }


def _points() -> Select[Any]:
    return select(
        result.c.id,
        result.c.study_uid,
        result.c.model,
        result.c.model_version,
        result.c.weights_sha256,
        result.c.summary,
        study.c.study_date,
        study.c.patient_id,
        study.c.issuer_of_patient_id,
    ).join(study, study.c.study_uid == result.c.study_uid)


def _as_point(row: Row[Any]) -> TimePoint:
    acquisition = row.summary.get("acquisition") or None
    return TimePoint(
        result_id=row.id,
        study_uid=row.study_uid,
        study_date=row.study_date,
        model=row.model,
        model_version=row.model_version,
        weights_sha256=row.weights_sha256,
        acquisition=None if acquisition is None else Acquisition(**acquisition),
        segments=tuple(
            Measured(
                label=one["label"],
                name=one["name"],
                volume_ml=one["volume_ml"],
                long_axis_mm=one.get("long_axis_mm"),
            )
            for one in row.summary.get("segments", ())
        ),
    )
