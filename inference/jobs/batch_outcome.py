"""What became of each study of a batch, as the job table and the results tell it."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import Connection

from inference.domain.errors import ClinferError, RefusedError
from inference.domain.job import Job, JobState
from inference.domain.result import Result, ResultState
from inference.jobs.analysis import key_of_instances
from inference.jobs.study_processor import refused_key
from inference.pipeline.spec import ModelSpec
from inference.storage import jobs, results, studies
from inference.storage.errors import NotFoundError


class BatchIncompleteError(ClinferError):
    """Some studies failed or could not be fetched; running the batch again tries them again."""

    code = "batch_incomplete"


class BatchRefusedError(RefusedError):
    """From some studies no result may be made; every other one has its outcome."""

    code = "batch_refused"


@dataclass(frozen=True, kw_only=True)
class StudyLine:
    """What became of one study; ``was_there``: an earlier run had made its result."""

    study_uid: str
    outcome: str
    code: str = ""
    reason: str = ""
    was_there: bool = False
    result_ids: tuple[int, ...] = ()


@dataclass(kw_only=True)
class BatchReport:
    """Where a batch stands, and at the end what it did."""

    n_items: int = 0
    n_items_done: int = 0
    lines: list[StudyLine] = field(default_factory=list)
    refused_files: dict[str, int] = field(default_factory=dict)
    left_alone: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def count(self, outcome: str) -> int:
        """Return how many studies this run brought to an outcome."""
        return sum(1 for line in self.lines if line.outcome == outcome and not line.was_there)

    @property
    def n_skipped(self) -> int:
        """How many had their result from an earlier run."""
        return sum(1 for line in self.lines if line.was_there)


def settled(connection: Connection, study_uid: str, spec: ModelSpec) -> tuple[Result, ...] | None:
    """Return the results that a run of this model would make again; None: it has to run.

    They count only if the study's newest job ended, has seen every instance that is stored, and
    each result has the key that these files and this model give today.
    """
    try:
        study = studies.get_study(connection, study_uid)
    except NotFoundError:
        return None
    ended = [
        job
        for job in jobs.list_jobs(connection, study_uid=study_uid)
        if job.model in ("", spec.name)
    ]
    if not ended or not ended[0].state.is_final or ended[0].study_version != study.version:
        return None
    made = [
        one
        for one in results.list_results(connection, study_uid=study_uid, limit=1000)
        if one.model == spec.name and one.series_uid
    ]
    images = studies.list_instances(connection, study_uid, images_only=True)
    for one in made:
        files = [
            (image.instance_uid, image.sha256)
            for image in images
            if image.series_uid == one.series_uid
        ]
        keys = {
            key_of_instances(files, spec),
            refused_key(ended[0].input_hash, one.series_uid, spec),
        }
        if one.key not in keys:
            return None
    return tuple(made) or None


def running_job(connection: Connection, study_uid: str, model: str) -> int | None:
    """Return the job of an earlier run that a worker has taken up already."""
    for job in jobs.list_jobs(connection, study_uid=study_uid):
        if (
            job.model == model
            and job.state is JobState.LEASED
            and jobs.is_newest(connection, job.id)
        ):
            return job.id
    return None


def results_of(connection: Connection, job: Job) -> tuple[Result, ...]:
    """Return the study's current results of the job's model."""
    return tuple(
        one
        for one in results.list_results(connection, study_uid=job.study_uid, limit=1000)
        if one.model == job.model
    )


_STRONGEST_FIRST = (
    ResultState.FAILED,
    ResultState.REFUSED,
    ResultState.FINDING,
    ResultState.NO_FINDING,
    ResultState.NOT_APPLICABLE,
)
"""Of several series the worst is told, so that nothing that went wrong hides behind a finding."""


def line_of(
    study_uid: str, made: tuple[Result, ...], *, job: Job | None = None, was_there: bool = False
) -> StudyLine:
    """Say in one line what a study's results are; without any, why its job ended."""
    for state in _STRONGEST_FIRST:
        for one in made:
            if one.outcome is state:
                return StudyLine(
                    study_uid=study_uid,
                    outcome=state.value,
                    code=one.reason_code,
                    reason=one.reason,
                    was_there=was_there,
                    result_ids=tuple(sorted(each.id for each in made)),
                )
    assert job is not None, "a study that is settled has results"
    return StudyLine(study_uid=study_uid, outcome="failed", code=job.reason_code, reason=job.reason)
