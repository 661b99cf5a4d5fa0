"""From the input set of one job to its results: every series through every model that fits it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from dicom_io.series import Series, scan
from inference.domain.errors import ModelSpecError, NoApplicableModelError
from inference.domain.ports import Predictor, Progress
from inference.domain.result import ResultDraft, ResultState, ReusedResult
from inference.domain.study import StudyInput
from inference.jobs.analysis import (
    Analysis,
    Refusal,
    SeriesOutcome,
    analyse_series,
)
from inference.pipeline.spec import ModelSpec, list_models, load_spec


class ModelStudyProcessor:
    """The service's `StudyProcessor`: reads the stored files, runs the models, writes results."""

    def __init__(
        self,
        *,
        model_repo: Path,
        predictor: Predictor,
        encodings: tuple[str, ...] = (),
    ) -> None:
        self._model_repo = model_repo
        self._predictor = predictor
        self._encodings = encodings

    def process(
        self, study: StudyInput, *, out: Path, progress: Progress
    ) -> tuple[ResultDraft | ReusedResult, ...]:
        """Return one result per (series, model) that fits; see `StudyProcessor`.

        Raises
        ------
        NoApplicableModelError
            No model's scope fits any series; the message gives each reason.
        ModelError, BackendError
            A model folder is wrong, or the network could not be run.
        """
        specs = self._specs(study)
        progress(0.0, "reading headers")
        found = scan(study.instance_paths)
        all_series = [series for series in found.series if series.is_image]
        outcomes = [
            analyse_series(
                series,
                specs,
                self._predictor,
                out / f"series-{number + 1}",
                progress=_stage_progress(progress, number / len(all_series), series),
                priority=study.priority,
                stored_keys=study.stored_keys,
                encodings=self._encodings,
            )
            for number, series in enumerate(all_series)
        ]
        progress(1.0, "storing results")
        drafts = [draft for outcome in outcomes for draft in self._drafts(outcome, study, out)]
        if not drafts:
            raise NoApplicableModelError(why_no_model_applies(outcomes))
        return tuple(drafts)

    def _specs(self, study: StudyInput) -> tuple[ModelSpec, ...]:
        known = list_models(self._model_repo)
        if study.model and study.model not in known:
            raise ModelSpecError(
                path=str(self._model_repo),
                field="model",
                problem=f"no model {study.model!r}; there are {', '.join(known)}",
            )
        names = (study.model,) if study.model else known
        return tuple(load_spec(self._model_repo / name) for name in names)

    def _drafts(
        self, outcome: SeriesOutcome, study: StudyInput, out: Path
    ) -> list[ResultDraft | ReusedResult]:
        return [
            *(_finished_draft(analysis, out) for analysis in outcome.analyses),
            *(ReusedResult(key=key) for key in outcome.reused_keys),
            *(_refused_draft(refusal, study) for refusal in outcome.refusals),
        ]


def why_no_model_applies(outcomes: list[SeriesOutcome]) -> str:
    """One line with each distinct reason, for a person who expected a result."""
    if not outcomes:
        return "no model applies: the study has no image series"
    reasons = {
        f"{name}: {reason}"
        for outcome in outcomes
        for name, reason in outcome.not_applicable.items()
    }
    return "no model applies: " + "; ".join(sorted(reasons))


def _stage_progress(progress: Progress, fraction: float, series: Series) -> Callable[[str], None]:
    step = series.modality or "series"
    return lambda stage: progress(fraction, f"{step}: {stage}")


def _finished_draft(analysis: Analysis, out: Path) -> ResultDraft:
    summary = analysis.as_json(out)
    result_file = out / f"{analysis.key}.json"
    result_file.write_text(json.dumps(summary, indent=2) + "\n")
    return ResultDraft(
        key=analysis.key,
        series_uid=analysis.series_uid,
        model=analysis.spec.name,
        model_version=analysis.spec.version,
        weights_sha256=analysis.spec.weights.sha256,
        state=ResultState.FINDING if analysis.has_finding else ResultState.NO_FINDING,
        files={**analysis.files, "result": result_file},
        summary=summary,
    )


def _refused_draft(refusal: Refusal, study: StudyInput) -> ResultDraft:
    spec = refusal.spec
    parts = [study.input_hash, refusal.series_uid, spec.name, spec.version, spec.weights.sha256]
    return ResultDraft(
        key=hashlib.sha256("\n".join([*parts, "refused"]).encode()).hexdigest(),
        series_uid=refusal.series_uid,
        model=spec.name,
        model_version=spec.version,
        weights_sha256=spec.weights.sha256,
        state=ResultState.REFUSED,
        reason_code=refusal.error.code,
        reason=str(refusal.error),
    )
