"""Train from what people reviewed: cases from the rows, a locked test set, no promotion if worse.

The rows' roles are the split: a patient's test cases are never trained on, in this run or a later
one. The model of before and the one of after are measured on the same locked cases with the code
that serves; the new one is written into the repository only where it is not worse.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dicom_io.read import read_volume
from dicom_io.series import scan
from inference.pipeline.network import load_network
from inference.pipeline.spec import ModelSpec, load_spec
from training.cases import Case, CaseSplit, list_cases
from training.config import TrainConfig
from training.errors import CaseError
from training.export import as_served, export_model
from training.fit import FitResult, fit
from training.reading import LabelledVolume, read_reference
from training.session import SessionWatcher, measure_unseen, prepare_all

ALLOWED_DROP = 0.01
"""A label's mean Dice may fall by this much while the mean of all labels does not fall: noise of
few cases, well below what a reader sees in an overlay. A convention of this project."""
CORRECTED_WEIGHT = 2.0
"""Corrected cases are drawn twice as often: they show what the model does not know."""


@dataclass(frozen=True, kw_only=True)
class ReviewedSeries:
    """One row of the training set with its files; nothing here names a patient.

    Attributes
    ----------
    patient_key : keyed hash; equal for all cases of a patient
    images : the series' stored instances; labels : NIfTI on the series' grid
    """

    id: str
    patient_key: str
    role: Literal["train", "validation", "test"]
    is_corrected: bool
    series_uid: str
    images: tuple[Path, ...]
    labels: Path


@dataclass(frozen=True, kw_only=True)
class ReviewTraining:
    """How a training from reviews ended; ``folder`` is None where the model was not promoted."""

    fitted: FitResult
    folder: Path | None
    report: dict[str, Any]

    @property
    def is_promoted(self) -> bool:
        """Whether the new model is in the repository."""
        return self.folder is not None


def review_cases(rows: Sequence[ReviewedSeries], earlier: CaseSplit | None = None) -> CaseSplit:
    """Return the cases by role; ``earlier`` ones (not locked) are trained on besides.

    Raises
    ------
    CaseError
        A patient has two roles, nothing is left to train on, or nothing is locked.
    """
    roles: dict[str, str] = {}
    for row in rows:
        if roles.setdefault(row.patient_key, row.role) != row.role:
            raise CaseError(case_id=row.id, problem="its patient is in two roles of the split")
    by_role: dict[str, tuple[Case, ...]] = {
        role: tuple(_case(row) for row in rows if row.role == role)
        for role in ("train", "validation", "test")
    }
    train = (*(earlier.train if earlier else ()), *by_role["train"])
    if not by_role["train"]:
        raise CaseError(case_id="(none)", problem="no reviewed case is for training yet")
    if not by_role["test"]:
        raise CaseError(
            case_id="(none)",
            problem="no reviewed patient is in the locked test set yet, so nothing could tell"
            " whether a new model is better; review more patients",
        )
    return CaseSplit(
        train=train,
        validation=(*(earlier.validation if earlier else ()), *by_role["validation"]),
        test=by_role["test"],
    )


def train_from_review(
    config: TrainConfig,
    rows: Sequence[ReviewedSeries],
    start_from: Path,
    run: Path,
    model_repo: Path,
    watcher: SessionWatcher,
    *,
    render_config: Callable[[ModelSpec], str],
    set_version: int,
    resume: bool = False,
) -> ReviewTraining:
    """Fine-tune ``start_from`` on reviewed cases and write ``run/review-report.{json,md}``.

    Cases that ``config`` lists are trained on besides, so that the old is not forgotten. The model
    is written to ``model_repo`` only when it is not worse on the locked cases.

    Raises
    ------
    CaseError, CheckpointError, DicomIoError, ModelError
    """
    split = review_cases(rows, list_cases(config) if config.data else None)
    spec = config.spec()
    run.mkdir(parents=True, exist_ok=True)
    old_spec = load_spec(start_from)
    before = measure_unseen(old_spec, load_network(start_from, old_spec), split, watcher)
    prepared = prepare_all(split.train, spec, run, watcher, resume=resume)
    fitted = fit(
        config, prepared, split.validation, run, watcher, resume=resume, start_from=start_from
    )
    if not fitted.is_finished:
        return ReviewTraining(fitted=fitted, folder=None, report={})
    after = measure_unseen(spec, as_served(fitted.network), split, watcher)
    worse = why_worse(before["unseen"]["mean"], after["unseen"]["mean"])
    report = {
        "model": spec.name,
        "before": {"version": old_spec.version, **before["unseen"]},
        "after": {"version": spec.version, **after["unseen"]},
        "training_set_version": set_version,
        "n_train": len(split.train),
        "n_validation": len(split.validation),
        "n_locked_cases": len(split.test),
        "n_locked_patients": len({row.patient_key for row in rows if row.role == "test"}),
        "is_promoted": not worse,
        "why_not": worse,
    }
    (run / "review-report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    (run / "review-report.md").write_text(report_text(report), encoding="utf-8")
    folder = None
    if not worse:
        folder = export_model(
            config,
            fitted.network,
            cases=(*split.train, *split.validation),
            unseen=split.test,
            metrics=after,
            model_repo=model_repo,
            render_config=render_config,
        )
    return ReviewTraining(fitted=fitted, folder=folder, report=report)


def why_worse(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return every reason why the new model is worse; empty where it is not."""
    reasons = []
    old, new = before["all_labels"].get("dice"), after["all_labels"].get("dice")
    if old is not None and (new is None or new < old):
        reasons.append(f"mean Dice of all labels fell from {old:.4f} to {_text(new)}")
    for name, found in before["labels"].items():
        old, new = found.get("dice"), after["labels"].get(name, {}).get("dice")
        if old is not None and (new is None or new < old - ALLOWED_DROP):
            reasons.append(
                f"{name}: Dice fell from {old:.4f} to {_text(new)}, more than {ALLOWED_DROP}"
            )
    return reasons


def report_text(report: Mapping[str, Any]) -> str:
    """Return the report as people read it."""
    before, after = report["before"], report["after"]
    lines = [
        f"# {report['model']} {before['version']} and {after['version']} on the locked set",
        "",
        f"{report['n_locked_cases']} cases of {report['n_locked_patients']} patients that no"
        f" training has seen; training set version {report['training_set_version']}.",
        "",
        "| label | Dice before | Dice after | HD95 before, mm | HD95 after, mm |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    rows = {**before["mean"]["labels"], "all labels": before["mean"]["all_labels"]}
    others = {**after["mean"]["labels"], "all labels": after["mean"]["all_labels"]}
    for name, old in rows.items():
        new = others.get(name, {})
        lines.append(
            f"| {name} | {_text(old.get('dice'))} | {_text(new.get('dice'))} |"
            f" {_text(old.get('hd95_mm'))} | {_text(new.get('hd95_mm'))} |"
        )
    verdict = "Promoted: not worse on any count."
    if not report["is_promoted"]:
        verdict = "Not promoted: " + "; ".join(report["why_not"]) + "."
    return "\n".join([*lines, "", verdict, ""])


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _case(row: ReviewedSeries) -> Case:
    return Case(
        id=row.id,
        source="reviewed at this site",
        licence="site's own data",
        weight=CORRECTED_WEIGHT if row.is_corrected else 1.0,
        read=_Reader(row),
    )


@dataclass(frozen=True)
class _Reader:
    row: ReviewedSeries

    def __call__(self) -> LabelledVolume:
        row = self.row
        found = [one for one in scan(row.images).series if one.series_uid == row.series_uid]
        if not found:
            raise CaseError(case_id=row.id, problem="its images are not stored any more")
        volume = read_volume(found[0])
        if not row.labels.is_file():
            raise CaseError(case_id=row.id, problem="its labels are not stored any more")
        # The store names files by their hash alone; the reader goes by the name's ending.
        labels = read_reference(row.labels, row.id, volume, None)
        if int(labels.max(initial=0)) > 255:
            raise CaseError(case_id=row.id, problem=f"label {int(labels.max())} is above 255")
        return LabelledVolume(volume=volume, labels=labels.astype(np.uint8))
