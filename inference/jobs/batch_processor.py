"""A `StudyProcessor` that has its reading and writing done elsewhere and its network here.

The worker that holds the job waits in this process: it sends the series away to be decoded, asks
the model server, and sends the labels away to be measured and encoded. So as many volumes exist at
one time as there are workers, whatever the length of the queue.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dicom_io.volume import Volume
from inference.domain.errors import NoApplicableModelError
from inference.domain.ports import Predictor, Progress
from inference.domain.result import ResultDraft, ReusedResult
from inference.domain.study import StudyInput
from inference.jobs import batch_tasks
from inference.jobs.analysis import StageClock
from inference.jobs.batch_tasks import SeriesFiles, SeriesRead, Survey, Written
from inference.jobs.study_processor import draft_of_summary, refused_draft
from inference.pipeline.spec import ModelSpec

Handle = Any
"""What stands for a task's answer before it is there; may be given to another task as it is."""


class TaskPool(Protocol):
    """Runs functions of `batch_tasks` on other cores or machines."""

    sees_our_disk: bool

    def submit(self, task: Callable[..., Any], *arguments: Any, n_answers: int = 1) -> Handle:
        """Start a task; of several answers the handle is a tuple of as many handles."""
        ...

    def answer(self, handle: Handle) -> Any:
        """Wait for one answer.

        Raises
        ------
        BackendUnavailableError
            The pool is gone or is being stopped; the task may be given again.
        """
        ...

    def release(self) -> None:
        """Let every waiting thread go, with that error; no task is taken any more."""
        ...


class BatchProcessor:
    """Runs one model on studies; decoding and encoding happen in a pool."""

    def __init__(
        self,
        *,
        spec: ModelSpec,
        predictor: Predictor,
        pool: TaskPool,
        encodings: tuple[str, ...] = (),
    ) -> None:
        self._spec, self._predictor, self._pool = spec, predictor, pool
        self._encodings = encodings

    def process(
        self, study: StudyInput, *, out: Path, progress: Progress
    ) -> tuple[ResultDraft | ReusedResult, ...]:
        """Return one result per series that the model fits; see `StudyProcessor`.

        Raises
        ------
        NoApplicableModelError
        ModelError, BackendError
            The network could not be run, or the pool is gone.
        """
        progress(0.0, "reading headers")
        files = self._files(study.instance_paths)
        survey: Survey = self._ask(batch_tasks.survey, files, self._spec)
        made: list[ResultDraft | ReusedResult] = []
        reasons = list(survey.reasons)
        for number, series in enumerate(survey.series):
            folder = out / f"series-{number + 1}"
            fraction = number / len(survey.series)
            one = self._series(study, series, folder, _steps(progress, fraction, series))
            if isinstance(one, str):
                reasons.append(one)
            else:
                made.append(one)
        if not made:
            why = "; ".join(sorted(set(reasons))) or "the study has no image series"
            raise NoApplicableModelError(f"no model applies: {self._spec.name}: {why}")
        progress(1.0, "storing results")
        return tuple(made)

    def _series(
        self, study: StudyInput, series: SeriesFiles, out: Path, step: Callable[[str], None]
    ) -> ResultDraft | ReusedResult | str:
        """Return the result of one series, or why the model does not apply to it."""
        clock = StageClock(step)
        files = self._files(tuple(study.instance_paths[index] for index in series.indices))
        step("read")
        started = time.monotonic()
        reading, source = self._pool.submit(
            batch_tasks.read_series, files, self._spec, study.stored_keys, n_answers=2
        )
        read: SeriesRead = self._pool.answer(reading)
        clock.seconds["read"] = read.seconds
        clock.seconds["wait for a core"] = max(0.0, time.monotonic() - started - read.seconds)
        if read.reused_key:
            return ReusedResult(key=read.reused_key)
        if read.reason:
            return read.reason
        if read.refused_code:
            return self._refused(study, series, read.refused_code, read.refused)
        step("network")
        started = time.monotonic()
        prediction = self._predictor.predict(
            self._spec.name, _volume(read), priority=study.priority
        )
        clock.add_model_report(prediction.report, time.monotonic() - started)
        step("encode")
        written: Written = self._ask(
            batch_tasks.write_results,
            reading,
            source,
            self._spec,
            np.ascontiguousarray(prediction.labels),
            prediction.report,
            clock.seconds,
            self._encodings,
        )
        if written.refused_code:
            return self._refused(study, series, written.refused_code, written.refused)
        out.mkdir(parents=True)
        paths = {kind: out / name for kind, (name, _) in written.files.items()}
        for kind, (_, content) in written.files.items():
            paths[kind].write_bytes(content)
        return draft_of_summary(written.summary, self._spec, study, paths, out)

    def _refused(
        self, study: StudyInput, series: SeriesFiles, code: str, reason: str
    ) -> ResultDraft:
        return refused_draft(
            study, self._spec, series_uid=series.series_uid, code=code, reason=reason
        )

    def _ask(self, task: Callable[..., Any], *arguments: Any) -> Any:
        return self._pool.answer(self._pool.submit(task, *arguments))

    def _files(self, paths: tuple[Path, ...]) -> batch_tasks.Files:
        if self._pool.sees_our_disk:
            return paths
        return tuple(path.read_bytes() for path in paths)


def _steps(progress: Progress, fraction: float, series: SeriesFiles) -> Callable[[str], None]:
    return lambda stage: progress(fraction, f"{series.modality or 'series'}: {stage}")


def _volume(read: SeriesRead) -> Volume:
    assert read.array is not None
    assert read.affine_lps is not None
    return Volume(
        array=read.array, affine_lps=read.affine_lps, modality=read.modality, unit=read.unit
    )
