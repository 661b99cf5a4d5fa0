"""Training from reviews: a locked set by patient, a report, and no promotion of a worse model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from dicom_io.nifti import write_nifti
from dicom_io.read import read_volume
from dicom_io.series import scan
from inference.backends.triton_config import render_config
from inference.pipeline.spec import load_spec
from tests.builders.dicom import affine_from, write_series
from tests.training.conftest import Recorder, blob_case
from training.config import TrainConfig
from training.errors import CaseError
from training.review_set import ReviewedSeries, review_cases, train_from_review, why_worse
from training.session import train_model

Role = Literal["train", "validation", "test"]


def reviewed(folder: Path, seed: int, role: Role, *, patient: str = "") -> ReviewedSeries:
    """A stored MR series of two blobs and the labels that a person stands for."""
    image, labels = blob_case(seed)
    affine = affine_from((1.5, 1.0, 1.25))
    paths = write_series(folder / f"s{seed}", np.rint(image).astype(np.int16), affine, "MR")
    (series,) = scan(paths).series
    volume = read_volume(series)
    if volume.affine_lps[2, 0] * affine[2, 0] < 0:
        labels = labels[::-1]
    write_nifti(folder / f"l{seed}.nii.gz", labels, volume.affine_lps)
    return ReviewedSeries(
        id=f"review_{seed}",
        patient_key=patient or f"patient-{seed}",
        role=role,
        is_corrected=seed % 2 == 0,
        series_uid=series.series_uid,
        images=tuple(paths),
        labels=folder / f"l{seed}.nii.gz",
    )


@pytest.fixture
def rows(tmp_path: Path) -> tuple[ReviewedSeries, ...]:
    roles: tuple[Role, ...] = ("train", "train", "train", "validation", "test", "test")
    return tuple(reviewed(tmp_path, 20 + k, role) for k, role in enumerate(roles))


def from_review(
    config: TrainConfig, rows: tuple[ReviewedSeries, ...], tmp_path: Path, **fit: Any
) -> Any:
    table = config.model_dump(mode="json", exclude_none=True)
    table["model"]["version"] = "0.2.0"
    table["data"] = []
    table["fit"] |= fit
    return train_from_review(
        TrainConfig.model_validate(table),
        rows,
        tmp_path / "repo" / "mr_tiny_seg",
        tmp_path / "run",
        tmp_path / "repo",
        Recorder(),
        render_config=render_config,
        set_version=7,
    )


def test_a_model_that_got_worse_is_reported_and_not_promoted(
    tiny_config: Callable[..., TrainConfig], rows: tuple[ReviewedSeries, ...], tmp_path: Path
) -> None:
    config = tiny_config(steps=40, validate_every=40, warmup_steps=2, learning_rate=1e-2)
    train_model(
        config, tmp_path / "first", tmp_path / "repo", Recorder(), render_config=render_config
    )
    better = from_review(config, rows, tmp_path, steps=4, learning_rate=1e-6)
    report = better.report
    assert (report["n_locked_cases"], report["n_locked_patients"], report["n_train"]) == (2, 2, 3)
    assert report["training_set_version"] == 7
    before = report["before"]["mean"]["all_labels"]["dice"]
    assert before > 0.3  # else "worse" means nothing below
    assert better.is_promoted == (report["why_not"] == [])
    table = load_spec(tmp_path / "repo" / "mr_tiny_seg")
    version = table.version
    broken = from_review(config, rows, tmp_path, steps=12, learning_rate=5.0, warmup_steps=0)
    assert not broken.is_promoted
    assert "mean Dice of all labels fell" in broken.report["why_not"][0]
    assert load_spec(tmp_path / "repo" / "mr_tiny_seg") == table
    assert load_spec(tmp_path / "repo" / "mr_tiny_seg").version == version
    written = json.loads((tmp_path / "run" / "review-report.json").read_text())
    assert written["is_promoted"] is False
    text = (tmp_path / "run" / "review-report.md").read_text()
    assert "Not promoted: mean Dice" in text
    assert "| front blob |" in text


def test_a_patient_in_two_roles_is_refused(tmp_path: Path) -> None:
    pair = (
        reviewed(tmp_path, 1, "train", patient="same"),
        reviewed(tmp_path, 2, "test", patient="same"),
    )
    with pytest.raises(CaseError) as caught:
        review_cases(pair)
    assert caught.value.case_id == "review_2"


def test_without_a_locked_case_nothing_is_trained(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="locked test set"):
        review_cases((reviewed(tmp_path, 1, "train"),))


@pytest.mark.parametrize(
    ("after", "n_reasons"),
    [(0.90, 0), (0.95, 0), (0.895, 1), (0.80, 2)],
)
def test_worse_is_a_fall_of_the_mean_or_of_one_label(after: float, n_reasons: int) -> None:
    def means(dice: float) -> dict[str, Any]:
        return {"all_labels": {"dice": dice}, "labels": {"lung": {"dice": dice}}}

    assert len(why_worse(means(0.90), means(after))) == n_reasons


def test_one_label_may_not_pay_for_another() -> None:
    before = {"all_labels": {"dice": 0.8}, "labels": {"a": {"dice": 0.8}, "b": {"dice": 0.8}}}
    after = {"all_labels": {"dice": 0.82}, "labels": {"a": {"dice": 0.94}, "b": {"dice": 0.7}}}
    assert why_worse(before, after) == ["b: Dice fell from 0.8000 to 0.7000, more than 0.01"]
