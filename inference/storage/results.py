"""Results and their files; exactly one result is current for each (study, series, model)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from inference.domain.job import Job
from inference.domain.report import ReportStep
from inference.domain.result import (
    DeliveryState,
    Result,
    ResultDraft,
    ResultFile,
    ResultState,
    ReusedResult,
)
from inference.storage import report_events, reviews
from inference.storage.errors import NotFoundError, StorageError
from inference.storage.release_tables import retraction
from inference.storage.tables import delivery, result, result_file


class ResultKeyError(StorageError):
    """A result key is unknown, or belongs to another study."""

    code = "result_key"

    def __init__(self, *, key: str, problem: str) -> None:
        self.key, self.problem = key, problem
        super().__init__(f"result key {key}: {problem}")


@dataclass(frozen=True, kw_only=True)
class FiledResult:
    """A draft whose files are in the object store."""

    draft: ResultDraft
    files: tuple[ResultFile, ...]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What ``store`` did: result ids."""

    new: tuple[int, ...]
    kept: tuple[int, ...]
    superseded: tuple[int, ...]


def store(
    connection: Connection,
    job: Job,
    *,
    filed: Sequence[FiledResult],
    reused: Sequence[ReusedResult] = (),
    now: datetime,
) -> Stored:
    """Make these the job's results and the study's current ones.

    A key that is already stored is kept as it is, not inserted twice; where a person corrected
    that result, the correction is what is kept. Every other current result of the study is
    superseded; for a job that ran one model, those of that model only. A result that was taken back
    (recalled, rejected) stays so: a study that has nothing but it is superseded until a result with
    another key takes its place.

    Raises
    ------
    ResultKeyError
    """
    known = {
        row.key: row
        for row in connection.execute(
            select(result).where(
                result.c.key.in_([one.draft.key for one in filed] + [one.key for one in reused])
            )
        )
    }
    for one in reused:
        if one.key not in known:
            raise ResultKeyError(key=one.key, problem="is said to be stored, but is not")
    for key, row in known.items():
        if row.study_uid != job.study_uid:
            raise ResultKeyError(key=key, problem=f"belongs to study {row.study_uid}")
    corrected = reviews.successors(connection, [row.id for row in known.values()])
    ids = {corrected.get(row.id, row.id) for row in known.values()}
    taken_back = set(
        connection.execute(
            select(retraction.c.result_id).where(retraction.c.result_id.in_(ids))
        ).scalars()
    )
    kept = tuple(sorted(ids - taken_back))
    superseded = _supersede(connection, job, kept)
    for row_id in kept:
        connection.execute(
            update(result)
            .where(result.c.id == row_id)
            .values(is_current=True, state=result.c.outcome, superseded_by=None)
        )
    new = [
        _insert(connection, job, one_filed, now)
        for one_filed in filed
        if one_filed.draft.key not in known
    ]
    _name_successors(connection, superseded, (*new, *kept))
    _replace_taken_back(connection, job, (*new, *kept))
    stands = [row for row in known.values() if row.id in kept]
    _note_reports(connection, new=new, kept=stands, superseded=superseded, now=now)
    return Stored(
        new=tuple(new), kept=kept, superseded=tuple(row_id for row_id, _, _ in superseded)
    )


def store_correction(
    connection: Connection, machine: Result, filed: FiledResult, *, now: datetime
) -> int:
    """Store a person's correction of a result as the new current one; return its id.

    The machine's result and files stay, superseded. The correction has the job, series and model
    of what it corrects.
    """
    connection.execute(
        update(result)
        .where(result.c.id == machine.id)
        .values(is_current=False, state=ResultState.SUPERSEDED.value)
    )
    new_id = _insert_row(
        connection,
        filed,
        now,
        job_id=machine.job_id,
        study_uid=machine.study_uid,
        study_version=machine.study_version,
    )
    reviews.succeed(connection, machine.id, new_id)
    report_events.note(connection, new_id, ReportStep.PRELIMINARY, now=now)
    report_events.note(
        connection, machine.id, ReportStep.SUPERSEDED, now=now, reason="corrected by a reader"
    )
    return new_id


def keys_of_study(connection: Connection, study_uid: str) -> frozenset[str]:
    """Return the keys of results worth using again: all but failures.

    A key that was taken back is among them: it does not come back to life (see `store`), so it
    need not be computed.
    """
    query = select(result.c.key).where(
        result.c.study_uid == study_uid, result.c.outcome != ResultState.FAILED.value
    )
    return frozenset(connection.execute(query).scalars())


def get_result(connection: Connection, result_id: int) -> Result:
    """One result with its files.

    Raises
    ------
    NotFoundError
    """
    row = connection.execute(select(result).where(result.c.id == result_id)).one_or_none()
    if row is None:
        raise NotFoundError(what="result", key=result_id)
    return _with_files(connection, [row])[0]


def list_results(
    connection: Connection,
    *,
    study_uid: str | None = None,
    current_only: bool = True,
    limit: int = 100,
    before_id: int | None = None,
) -> tuple[Result, ...]:
    """Results with their files, newest first."""
    query = select(result).order_by(result.c.id.desc()).limit(limit)
    if study_uid is not None:
        query = query.where(result.c.study_uid == study_uid)
    if current_only:
        query = query.where(result.c.is_current)
    if before_id is not None:
        query = query.where(result.c.id < before_id)
    return _with_files(connection, connection.execute(query).all())


def of_model(connection: Connection, model: str, version: str) -> tuple[tuple[int, str], ...]:
    """Return (result id, study UID) of everything a version of a model made, oldest first."""
    query = (
        select(result.c.id, result.c.study_uid)
        .where(result.c.model == model, result.c.model_version == version)
        .order_by(result.c.id)
    )
    return tuple((int(row.id), str(row.study_uid)) for row in connection.execute(query))


def take_back(connection: Connection, result_id: int, *, reason: str, reason_code: str) -> None:
    """Make a result out of date with nothing in its place; the reason is kept with it."""
    connection.execute(
        update(result)
        .where(result.c.id == result_id, result.c.is_current)
        .values(
            is_current=False,
            state=ResultState.SUPERSEDED.value,
            superseded_by=None,
            reason=reason,
            reason_code=reason_code,
        )
    )


def add_files(connection: Connection, result_id: int, files: Sequence[ResultFile]) -> None:
    """Add files to a result that is stored already; a kind that it has stays as it is."""
    known = set(
        connection.execute(
            select(result_file.c.kind).where(result_file.c.result_id == result_id)
        ).scalars()
    )
    for file in files:
        if file.kind not in known:
            _insert_file(connection, result_id, file)


def count_by_state(connection: Connection) -> dict[ResultState, int]:
    """Return how many results are in each state; every state is there."""
    counts = dict.fromkeys(ResultState, 0)
    query = select(result.c.state, func.count()).group_by(result.c.state)
    for row in connection.execute(query):
        counts[ResultState(row[0])] = int(row[1])
    return counts


def _supersede(
    connection: Connection, job: Job, kept: Sequence[int]
) -> tuple[tuple[int, str, str], ...]:
    query = select(result.c.id, result.c.series_uid, result.c.model).where(
        result.c.study_uid == job.study_uid, result.c.is_current, result.c.id.not_in(kept)
    )
    if job.model:
        query = query.where(result.c.model == job.model)
    old = tuple((row.id, row.series_uid, row.model) for row in connection.execute(query))
    connection.execute(
        update(result)
        .where(result.c.id.in_([row_id for row_id, _, _ in old]))
        .values(is_current=False, state=ResultState.SUPERSEDED.value)
    )
    return old


def _replace_taken_back(connection: Connection, job: Job, successors: Sequence[int]) -> None:
    """Name what takes the place of results that had nothing in theirs: same series and model.

    A result about the whole study takes every place that its job covers.
    """
    mine = (result.c.study_uid == job.study_uid, result.c.superseded_by.is_(None))
    for new in connection.execute(select(result).where(result.c.id.in_(successors))):
        of_place = [result.c.model == new.model] if new.model else []
        of_place += [result.c.series_uid == new.series_uid] if new.series_uid else []
        connection.execute(
            update(result)
            .where(*mine, result.c.state == ResultState.SUPERSEDED.value, *of_place)
            .values(superseded_by=new.id)
        )


def _name_successors(
    connection: Connection,
    superseded: Sequence[tuple[int, str, str]],
    successors: Sequence[int],
) -> None:
    """Link each old result to the one of its series and model, else to the first new one."""
    by_place = {
        (row.series_uid, row.model): row.id
        for row in connection.execute(select(result).where(result.c.id.in_(successors)))
    }
    for row_id, series_uid, model in superseded:
        successor = by_place.get((series_uid, model), successors[0] if successors else None)
        connection.execute(
            update(result).where(result.c.id == row_id).values(superseded_by=successor)
        )


def _note_reports(
    connection: Connection,
    *,
    new: Sequence[int],
    kept: Iterable[Row[Any]],
    superseded: Sequence[tuple[int, str, str]],
    now: datetime,
) -> None:
    """Say to whoever is told of results what became of them, in the same transaction."""
    again = [row.id for row in kept if not row.is_current]
    for row_id in (*new, *again):
        report_events.note(connection, row_id, ReportStep.PRELIMINARY, now=now)
    for row_id, _, _ in superseded:
        report_events.note(
            connection,
            row_id,
            ReportStep.SUPERSEDED,
            now=now,
            reason="replaced by a later result",
        )


def _insert(connection: Connection, job: Job, filed: FiledResult, now: datetime) -> int:
    return _insert_row(
        connection,
        filed,
        now,
        job_id=job.id,
        study_uid=job.study_uid,
        study_version=job.study_version,
    )


def _insert_row(
    connection: Connection,
    filed: FiledResult,
    now: datetime,
    *,
    job_id: int,
    study_uid: str,
    study_version: int,
) -> int:
    draft = filed.draft
    row_id = connection.execute(
        insert(result)
        .values(
            key=draft.key,
            job_id=job_id,
            study_uid=study_uid,
            study_version=study_version,
            series_uid=draft.series_uid,
            model=draft.model,
            model_version=draft.model_version,
            weights_sha256=draft.weights_sha256,
            state=draft.state.value,
            outcome=draft.state.value,
            is_current=True,
            reason_code=draft.reason_code,
            reason=draft.reason,
            summary=dict(draft.summary),
            created_at=now,
        )
        .returning(result.c.id)
    ).scalar_one()
    for file in filed.files:
        _insert_file(connection, row_id, file)
    return int(row_id)


def _insert_file(connection: Connection, result_id: int, file: ResultFile) -> None:
    connection.execute(
        insert(result_file).values(
            result_id=result_id,
            kind=file.kind,
            sha256=file.sha256,
            size_bytes=file.size_bytes,
            media_type=file.media_type,
            sop_class_uid=file.sop_class_uid,
            instance_uid=file.instance_uid,
        )
    )


def _with_files(connection: Connection, rows: Sequence[Row[Any]]) -> tuple[Result, ...]:
    files: dict[int, list[ResultFile]] = {row.id: [] for row in rows}
    query = (
        select(result_file)
        .where(result_file.c.result_id.in_(list(files)))
        .order_by(result_file.c.result_id, result_file.c.kind)
    )
    for row in connection.execute(query):
        files[row.result_id].append(
            ResultFile(
                kind=row.kind,
                sha256=row.sha256,
                size_bytes=row.size_bytes,
                media_type=row.media_type,
                sop_class_uid=row.sop_class_uid,
                instance_uid=row.instance_uid,
            )
        )
    delivered = _delivered_at(connection, list(files))
    return tuple(_as_result(row, tuple(files[row.id]), delivered.get(row.id)) for row in rows)


def _delivered_at(connection: Connection, result_ids: Sequence[int]) -> dict[int, datetime]:
    """When the last object of each result was acknowledged; absent while any is still owed."""
    last = func.max(delivery.c.delivered_at, type_=delivery.c.delivered_at.type)
    query = (
        select(delivery.c.result_id, last.label("at"))
        .where(
            delivery.c.result_id.in_(result_ids),
            delivery.c.state != DeliveryState.CANCELLED.value,
        )
        .group_by(delivery.c.result_id)
        .having(func.count() == func.count(delivery.c.delivered_at))
    )
    return {row.result_id: row.at for row in connection.execute(query)}


def _as_result(
    row: Row[Any], files: tuple[ResultFile, ...], delivered_at: datetime | None
) -> Result:
    fields = dict(row._mapping)
    fields["state"] = ResultState(row.state)
    fields["outcome"] = ResultState(row.outcome)
    deliver_s = None if delivered_at is None else (delivered_at - row.created_at).total_seconds()
    return Result(**fields, files=files, deliver_s=deliver_s)
