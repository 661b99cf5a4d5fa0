"""From the input set of one job to its results: every series through every model that fits it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from dicom_io.series import Series, scan
from inference.domain.errors import ModelSpecError, NoApplicableModelError
from inference.domain.ports import Predictor, Progress
from inference.domain.result import ResultDraft, ResultState, ReusedResult
from inference.domain.stages import stages_of
from inference.domain.study import StudyInput
from inference.jobs.analysis import (
    Analysis,
    SeriesOutcome,
    analyse_series,
)
from inference.pipeline.engines.cache import EngineCache, default_cache_dir
from inference.pipeline.engines.choice import served_spec
from inference.pipeline.spec import ModelSpec, list_models


class ModelStudyProcessor:
    """The service's `StudyProcessor`: reads the stored files, runs the models, writes results."""

    def __init__(
        self,
        *,
        model_repo: Path,
        predictor: Predictor,
        encodings: tuple[str, ...] = (),
        engine_cache_dir: Path | None = None,
    ) -> None:
        self._engine_cache = EngineCache(engine_cache_dir or default_cache_dir())
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
                tuple(one for one in specs if study.routing.takes(series.series_uid, one.name)),
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
        routed_away = {
            series.series_uid
            for series in all_series
            if not any(study.routing.takes(series.series_uid, one.name) for one in specs)
        }
        drafts = [draft for outcome in outcomes for draft in self._drafts(outcome, study, out)]
        if not drafts:
            raise NoApplicableModelError(why_no_model_applies(outcomes, routed_away))
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
        # The engine is part of a result's key, so it must be the one that will serve.
        return tuple(
            served_spec(self._model_repo / name, cache=self._engine_cache).spec for name in names
        )

    def _drafts(
        self, outcome: SeriesOutcome, study: StudyInput, out: Path
    ) -> list[ResultDraft | ReusedResult]:
        return [
            *(finished_draft(analysis, study, out) for analysis in outcome.analyses),
            *(ReusedResult(key=key) for key in outcome.reused_keys),
            *(
                refused_draft(
                    study,
                    refusal.spec,
                    series_uid=refusal.series_uid,
                    code=refusal.error.code,
                    reason=str(refusal.error),
                )
                for refusal in outcome.refusals
            ),
        ]


def why_no_model_applies(outcomes: list[SeriesOutcome], routed_away: Collection[str] = ()) -> str:
    """One line with each distinct reason, for a person who expected a result."""
    if not outcomes:
        return "no model applies: the study has no image series"
    reasons = {
        f"{name}: {reason}"
        for outcome in outcomes
        for name, reason in outcome.not_applicable.items()
    }
    if routed_away:
        reasons.add("no rule of the routing table sends the series to a model")
    return "no model applies: " + "; ".join(sorted(reasons))


def _stage_progress(progress: Progress, fraction: float, series: Series) -> Callable[[str], None]:
    step = series.modality or "series"
    return lambda stage: progress(fraction, f"{step}: {stage}")


def finished_draft(analysis: Analysis, study: StudyInput, out: Path) -> ResultDraft:
    """Return the draft of a finished analysis whose files lie under ``out``."""
    return draft_of_summary(analysis.as_json(out), analysis.spec, study, analysis.files, out)


def draft_of_summary(
    summary: dict[str, Any],
    spec: ModelSpec,
    study: StudyInput,
    files: Mapping[str, Path],
    out: Path,
) -> ResultDraft:
    """Return a draft from what `Analysis.as_json` says, and write that as one more file.

    What passed before the analysis began is added to its stage times.
    """
    summary["stages_s"] = stages_of(
        summary["timings_s"], receive_s=study.receive_s, queue_s=study.queue_s
    )
    result_file = out / f"{summary['key']}.json"
    result_file.write_text(json.dumps(summary, indent=2) + "\n")
    return ResultDraft(
        key=summary["key"],
        series_uid=summary["series_uid"],
        model=spec.name,
        model_version=spec.version,
        weights_sha256=spec.weights.sha256,
        state=ResultState(summary["state"]),
        files={**files, "result": result_file},
        summary=summary,
    )


def refused_key(input_hash: str, series_uid: str, spec: ModelSpec) -> str:
    """Return the key of a refusal: the input set, the series, and the model that was meant."""
    parts = [input_hash, series_uid, spec.name, spec.version, spec.weights.sha256]
    return hashlib.sha256("\n".join([*parts, "refused"]).encode()).hexdigest()


def refused_draft(
    study: StudyInput, spec: ModelSpec, *, series_uid: str, code: str, reason: str
) -> ResultDraft:
    """Return the draft that says why a series has no result of a model."""
    return ResultDraft(
        key=refused_key(study.input_hash, series_uid, spec),
        series_uid=series_uid,
        model=spec.name,
        model_version=spec.version,
        weights_sha256=spec.weights.sha256,
        state=ResultState.REFUSED,
        reason_code=code,
        reason=reason,
        summary={"stages_s": stages_of({}, receive_s=study.receive_s, queue_s=study.queue_s)},
    )
