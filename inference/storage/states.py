"""The one state of each study, computed in SQL from its jobs and results; nothing else decides it.

The rule
--------
A study has *parts*: each current result, each result that was taken back and has no successor yet,
and each job that waits or runs. A part has a state of its own:

- a current result: its outcome; but ``superseded`` where a job that will replace it is to read
  instances that the result has not seen, and nothing where it is a failure or a refusal that a
  job is about to try again (the job is the part then)
- a result that was recalled or rejected and has no successor: ``superseded``
- a job that waits or runs: ``waiting`` or ``running``
- a study without any of these: ``not_applicable`` where it holds no image, else ``failed``

The study's state is that of its first part in the order of `STRONGEST_FIRST`. So a finding is
never hidden; a failure, a refusal or an analysis that is still owed is never hidden by
``no_finding``; and every part that did not decide stays visible in `Standing.parts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    case,
    exists,
    literal,
    not_,
    null,
    or_,
    select,
    union_all,
)
from sqlalchemy.sql import FromClause

from inference.domain.job import JobState
from inference.domain.result import ResultState
from inference.domain.study_state import StudyState
from inference.storage.errors import NotFoundError
from inference.storage.tables import instance, job, result, study

STRONGEST_FIRST = (
    StudyState.FINDING,
    StudyState.FAILED,
    StudyState.REFUSED,
    StudyState.SUPERSEDED,
    StudyState.RUNNING,
    StudyState.WAITING,
    StudyState.NO_FINDING,
    StudyState.NOT_APPLICABLE,
)
"""Which part speaks for the study. ``no_finding`` comes after all that is missing: it is said only
where every model that was for the study ran to its end."""

NO_IMAGE = "no_image"
NEVER_ANALYSED = "never_analysed"
PENDING = (JobState.COLLECTING.value, JobState.QUEUED.value, JobState.LEASED.value)
FINAL = (JobState.DONE.value, JobState.FAILED.value, JobState.DEAD.value)
TO_TRY_AGAIN = (ResultState.FAILED.value, ResultState.REFUSED.value)
HELD = (ResultState.FINDING.value, ResultState.NO_FINDING.value)
"""Outcomes that say something of the images, which later images make out of date."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One thing that a study's state is made of; ``result_id`` or ``job_id`` says which.

    ``series_uid`` and ``model`` are "" where it is about the whole study or every model.
    """

    state: StudyState
    result_id: int | None
    job_id: int | None
    series_uid: str
    model: str
    reason_code: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A study's state and every part of it, the part that decided first."""

    study_uid: str
    state: StudyState
    parts: tuple[Part, ...]

    @property
    def reason(self) -> str:
        """Why the state is what it is; "" where there is nothing to explain."""
        return self.parts[0].reason

    @property
    def reason_code(self) -> str:
        """The stable word of `reason`."""
        return self.parts[0].reason_code

    @property
    def is_pending(self) -> bool:
        """Whether an analysis waits or runs, whatever the state is."""
        return any(part.state in (StudyState.WAITING, StudyState.RUNNING) for part in self.parts)

    @property
    def is_partial(self) -> bool:
        """Whether some part failed or was refused beside one that says something."""
        states = {part.state for part in self.parts}
        bad = states & {StudyState.FAILED, StudyState.REFUSED}
        return bool(bad) and len(states) > 1


def state_of(connection: Connection, study_uid: str) -> StudyState:
    """Return the state of one study.

    Raises
    ------
    NotFoundError
    """
    found = states_of(connection, [study_uid])
    if study_uid not in found:
        raise NotFoundError(what="study", key=study_uid)
    return found[study_uid]


def states_of(connection: Connection, study_uids: Sequence[str]) -> dict[str, StudyState]:
    """Return the state of each study; one that is not stored is absent."""
    query = select(study.c.study_uid, state_column().label("state")).where(
        study.c.study_uid.in_(study_uids)
    )
    return {row.study_uid: StudyState(row.state) for row in connection.execute(query)}


def standing_of(connection: Connection, study_uid: str) -> Standing:
    """Return the state of one study with its parts.

    Raises
    ------
    NotFoundError
    """
    found = standings_of(connection, [study_uid])
    if study_uid not in found:
        raise NotFoundError(what="study", key=study_uid)
    return found[study_uid]


def standings_of(connection: Connection, study_uids: Sequence[str]) -> dict[str, Standing]:
    """Return the state of each study with its parts; one that is not stored is absent."""
    parts: dict[str, list[Part]] = {}
    for row in connection.execute(_parts(study_uids)):
        fields = {name: value for name, value in row._mapping.items() if name != "study_uid"}
        fields["state"] = StudyState(row.state)
        parts.setdefault(row.study_uid, []).append(Part(**fields))
    return {
        study_uid: Standing(
            study_uid=study_uid,
            state=state,
            parts=tuple(
                sorted(parts[study_uid], key=lambda part: STRONGEST_FIRST.index(part.state))
            ),
        )
        for study_uid, state in states_of(connection, study_uids).items()
    }


def state_column() -> ColumnElement[str]:
    """Return the state as a column beside a row of ``study``, to select, filter or order by."""
    of_study = result.c.study_uid == study.c.study_uid
    conditions = {
        state: exists().where(of_study, _result_state() == state.value)
        for state in (
            StudyState.FINDING,
            StudyState.FAILED,
            StudyState.REFUSED,
            StudyState.SUPERSEDED,
            StudyState.NO_FINDING,
            StudyState.NOT_APPLICABLE,
        )
    }
    conditions[StudyState.RUNNING] = exists().where(
        job.c.study_uid == study.c.study_uid, job.c.state == JobState.LEASED.value
    )
    conditions[StudyState.WAITING] = exists().where(
        job.c.study_uid == study.c.study_uid, job.c.state.in_(PENDING)
    )
    return case(
        *((conditions[state], state.value) for state in STRONGEST_FIRST),
        (_has_image(), StudyState.FAILED.value),
        else_=StudyState.NOT_APPLICABLE.value,
    )


def _parts(study_uids: Sequence[str]) -> Any:
    of_results = select(
        result.c.study_uid,
        _result_state().label("state"),
        result.c.id.label("result_id"),
        null().label("job_id"),
        result.c.series_uid,
        result.c.model,
        result.c.reason_code,
        result.c.reason,
    ).where(result.c.study_uid.in_(study_uids), _result_state().is_not(None))
    of_jobs = select(
        job.c.study_uid,
        case(
            (job.c.state == JobState.LEASED.value, StudyState.RUNNING.value),
            else_=StudyState.WAITING.value,
        ),
        null(),
        job.c.id,
        literal(""),
        job.c.model,
        job.c.reason_code,
        job.c.reason,
    ).where(job.c.study_uid.in_(study_uids), job.c.state.in_(PENDING))
    has_image = _has_image()
    of_neither = select(
        study.c.study_uid,
        case((has_image, StudyState.FAILED.value), else_=StudyState.NOT_APPLICABLE.value),
        null(),
        null(),
        literal(""),
        literal(""),
        case((has_image, NEVER_ANALYSED), else_=NO_IMAGE),
        case(
            (has_image, "images are stored, but no analysis of them is on record"),
            else_="it holds no image, so there is nothing to analyse",
        ),
    ).where(
        study.c.study_uid.in_(study_uids),
        not_(exists().where(result.c.study_uid == study.c.study_uid, _result_state().is_not(None))),
        not_(exists().where(job.c.study_uid == study.c.study_uid, job.c.state.in_(PENDING))),
    )
    return union_all(of_results, of_jobs, of_neither)


def _result_state() -> ColumnElement[str | None]:
    """Return what a row of ``result`` makes its study, as one part; NULL: it is no part."""
    pending, newer, done = job.alias("pending"), job.alias("newer"), job.alias("done")
    is_retried = exists().where(_covers(pending), pending.c.state.in_(PENDING))
    was_read_since = exists().where(
        _covers(done), done.c.state.in_(FINAL), done.c.study_version >= newer.c.study_version
    )
    is_outdated = exists().where(
        _covers(newer),
        newer.c.state.in_(PENDING),
        newer.c.study_version > result.c.study_version,
        not_(was_read_since),  # a result that was kept has an older version and still holds
    )
    has_no_successor = and_(
        result.c.state == ResultState.SUPERSEDED.value, result.c.superseded_by.is_(None)
    )
    return case(
        (
            not_(result.c.is_current),
            case((has_no_successor, StudyState.SUPERSEDED.value), else_=null()),
        ),
        (and_(result.c.outcome.in_(TO_TRY_AGAIN), is_retried), null()),
        (and_(result.c.outcome.in_(HELD), is_outdated), StudyState.SUPERSEDED.value),
        else_=result.c.outcome,
    )


def _covers(other: FromClause) -> ColumnElement[bool]:
    """Whether a job replaces a result when it ends: it is for every model, or for the same."""
    return and_(
        other.c.study_uid == result.c.study_uid,
        or_(other.c.model == "", other.c.model == result.c.model),
    )


def _has_image() -> ColumnElement[bool]:
    return exists().where(instance.c.study_uid == study.c.study_uid, instance.c.is_image)
