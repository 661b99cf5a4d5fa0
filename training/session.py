"""A whole training: cases read, network fitted, tried on unseen cases, written for serving."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from inference.pipeline.segment import segment_volume
from inference.pipeline.spec import ModelSpec
from training.cases import (
    Case,
    CaseSplit,
    PreparedCase,
    list_cases,
    load_prepared,
    prepare,
    save_prepared,
)
from training.config import TrainConfig
from training.evaluate import CaseFigures, compare, summarise
from training.export import as_served, export_model
from training.fit import FitResult, FitWatcher, fit
from training.metrics import as_json

PREPARED_FOLDER = "prepared"
"""Inside a run's folder: its training cases on the model's grid, for --resume."""


class SessionWatcher(FitWatcher, Protocol):
    """Told of every stage of a training."""

    def stage(self, name: str, done: int, total: int) -> None:
        """Tell that ``done`` of ``total`` cases of a stage ("reading", "testing") are done."""
        ...


@dataclass(frozen=True, kw_only=True)
class SessionResult:
    """How a training ended; ``folder`` is the model's, None where steps are left to make."""

    fitted: FitResult
    folder: Path | None
    metrics: dict[str, Any]


def train_model(
    config: TrainConfig,
    run: Path,
    model_repo: Path,
    watcher: SessionWatcher,
    *,
    render_config: Callable[[ModelSpec], str],
    resume: bool = False,
    start_from: Path | None = None,
) -> SessionResult:
    """Train by a configuration; export when the last step is made.

    ``start_from`` is a model folder whose weights a new run begins with.
    ``render_config`` gives the text of ``config.pbtxt``; it is handed in because training does not
    know which server runs the model.

    Raises
    ------
    CaseError, CheckpointError, DicomIoError, ModelSpecError
    """
    split = list_cases(config)
    run.mkdir(parents=True, exist_ok=True)
    prepared = prepare_all(split.train, config.spec(), run, watcher, resume=resume)
    fitted = fit(
        config, prepared, split.validation, run, watcher, resume=resume, start_from=start_from
    )
    if not fitted.is_finished:
        return SessionResult(fitted=fitted, folder=None, metrics={})
    metrics = measure_unseen(config.spec(), as_served(fitted.network), split, watcher)
    folder = export_model(
        config,
        fitted.network,
        cases=(*split.train, *split.validation),
        unseen=split.test,
        metrics=metrics,
        model_repo=model_repo,
        render_config=render_config,
    )
    return SessionResult(fitted=fitted, folder=folder, metrics=metrics)


def measure_unseen(
    spec: ModelSpec, network: nn.Module, split: CaseSplit, watcher: SessionWatcher
) -> dict[str, Any]:
    """Return the figures on the unseen cases, as ``model.toml`` keeps them; {} without any."""
    if not split.test:
        return {}
    figures: list[CaseFigures] = []
    for done, case in enumerate(split.test, 1):
        found = case.read()
        volume = found.volume
        labels = segment_volume(volume.array, volume.affine_lps, spec, network).labels
        figures.append(compare(case.id, labels, found.labels, volume.affine_lps, spec))
        watcher.stage("testing", done, len(split.test))
    return {
        "unseen": {
            "case_set": "training.unseen_cases",
            "n_cases": len(figures),
            "mean": _without_nulls(summarise(figures, spec)),
            "cases": [
                {
                    "id": each.case_id,
                    **{name: _without_nulls(as_json(a)) for name, a in each.labels.items()},
                }
                for each in figures
            ],
        }
    }


def _without_nulls(table: dict[str, Any]) -> dict[str, Any]:
    """Leave out what has no figure: TOML has no null."""
    return {
        key: _without_nulls(value) if isinstance(value, dict) else value
        for key, value in table.items()
        if value is not None
    }


def prepare_all(
    cases: Sequence[Case],
    spec: ModelSpec,
    run: Path,
    watcher: SessionWatcher,
    *,
    resume: bool,
) -> tuple[PreparedCase, ...]:
    """Prepare every case; a resumed run takes those that its folder still holds."""
    folder = run / PREPARED_FOLDER
    if not resume:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    prepared = []
    for done, case in enumerate(cases, 1):
        path = folder / f"{case.id}.safetensors"
        found = load_prepared(path, case) if path.is_file() else prepare(case, spec)
        if not path.is_file():
            save_prepared(path, found)
        prepared.append(found)
        watcher.stage("reading", done, len(cases))
    return tuple(prepared)
