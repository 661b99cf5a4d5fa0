"""`clinfer evaluate`: its numbers against an independent computation, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
import typer
from typer.testing import CliRunner

from dicom_io.nifti import write_nifti
from inference.backends.fake import FakePredictor
from inference.commands import evaluate as evaluate_command
from inference.pipeline.spec import ModelSpec, parse_spec
from tests.builders.dicom import mr_series, write_instances
from tests.training.conftest import blob_case, tiny_model
from training.config import UNTRAINED_SHA256
from training.errors import CaseError, TrainingConfigError
from training.evaluate import (
    evaluate_model,
    load_label_map,
    pair_cases,
    report_json,
    report_markdown,
)

AFFINE = np.diag([1.5, 1.0, 1.25, 1.0])[[2, 1, 0, 3]]
THRESHOLDS = (150.0, 230.0)


@pytest.fixture
def spec() -> ModelSpec:
    return parse_spec(
        {**tiny_model(), "weights": {"sha256": UNTRAINED_SHA256}, "training": {"data": "none"}}
    )


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    images, labels = tmp_path / "images", tmp_path / "labels"
    for seed in range(3):
        image, label = blob_case(seed)
        for folder, array in ((images, image), (labels, label)):
            folder.mkdir(exist_ok=True)
            write_nifti(folder / f"case_{seed}.nii.gz", array, AFFINE)
    return images, labels


def simpleitk_dice(predicted: np.ndarray, reference: np.ndarray) -> float:
    overlap = SimpleITK.LabelOverlapMeasuresImageFilter()
    overlap.Execute(
        *(SimpleITK.GetImageFromArray(mask.astype(np.uint8)) for mask in (predicted, reference))
    )
    return float(overlap.GetDiceCoefficient())


def test_figures_equal_an_independent_computation(
    spec: ModelSpec, folders: tuple[Path, Path]
) -> None:
    figures = evaluate_model(spec, FakePredictor(THRESHOLDS), pair_cases(*folders))
    report = report_json(spec, figures, None)
    expected = []
    for seed, case in enumerate(report["cases"]):
        image, labels = blob_case(seed)
        predicted = (image >= 150).astype(int) + (image >= 230)
        for value, name in ((1, "front blob"), (2, "back blob")):
            found = case["labels"][name]
            expected.append(simpleitk_dice(predicted == value, labels == value))
            assert found["dice"] == pytest.approx(expected[-1], abs=1e-5)
            voxel_ml = 1.5 * 1.0 * 1.25 / 1000
            assert found["reference_ml"] == pytest.approx(
                (labels == value).sum() * voxel_ml, abs=1e-4
            )
    assert report["mean"]["all_labels"]["dice"] == pytest.approx(np.mean(expected), abs=1e-5)
    assert report["mean"]["labels"]["back blob"]["n_dice"] == 3
    assert report["n_cases"] == 3


def test_a_reference_in_another_axis_order_is_the_same_reference(
    spec: ModelSpec, folders: tuple[Path, Path]
) -> None:
    images, labels = folders
    straight = evaluate_model(spec, FakePredictor(THRESHOLDS), pair_cases(images, labels))
    for path in sorted(labels.glob("*.nii.gz")):
        image = nibabel.load(path)
        turned = image.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
        nibabel.save(turned, path)
    turned = evaluate_model(spec, FakePredictor(THRESHOLDS), pair_cases(images, labels))
    assert [case.labels for case in turned] == [case.labels for case in straight]


def test_a_dicom_image_is_compared_with_a_nifti_reference(
    spec: ModelSpec, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    dicom = tmp_path / "dicom"
    for seed in range(3):
        image, _ = blob_case(seed)
        write_instances(dicom / f"case_{seed}", mr_series(np.rint(np.maximum(image, 0)), AFFINE))
    from_files = evaluate_model(spec, FakePredictor(THRESHOLDS), pair_cases(*folders))
    from_dicom = evaluate_model(spec, FakePredictor(THRESHOLDS), pair_cases(dicom, folders[1]))
    for first, second in zip(from_files, from_dicom, strict=True):
        for name, found in first.labels.items():
            # Whole numbers were stored, so voxels within 0.5 of a threshold may change sides.
            assert found.dice == pytest.approx(second.labels[name].dice, abs=0.02)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("map.toml", '"front blob" = [10, 11]\nback_blob = 12\n'),
        ("map.toml", "[labels]\n1 = [10, 11]\n2 = [12]\n"),
        ("map.json", '{"labels": {"front_blob": [10, 11], "2": 12}}'),
    ],
)
def test_a_label_map_joins_and_renames_reference_labels(
    spec: ModelSpec, folders: tuple[Path, Path], tmp_path: Path, name: str, text: str
) -> None:
    plain = evaluate_model(spec, FakePredictor(THRESHOLDS), pair_cases(*folders))
    for seed in range(3):
        _, labels = blob_case(seed)
        renamed = np.choose(labels, [7, 10, 12]).astype(np.uint8)  # 7 is not listed: background
        renamed[:6][renamed[:6] == 10] = 11
        write_nifti(folders[1] / f"case_{seed}.nii.gz", renamed, AFFINE)
    (tmp_path / name).write_text(text)
    joined = load_label_map(tmp_path / name, spec)
    assert joined == {1: (10, 11), 2: (12,)}
    mapped = evaluate_model(spec, FakePredictor(THRESHOLDS), pair_cases(*folders), label_map=joined)
    assert [case.labels for case in mapped] == [case.labels for case in plain]


@pytest.mark.parametrize(
    ("table", "field"),
    [
        ({"spleen": 1}, "spleen"),
        ({"1": []}, "1"),
        ({"1": [0]}, "1"),
        ({"1": [4], "2": [4]}, "2"),
        ({"1": "four"}, "1"),
        ({}, "(file)"),
    ],
)
def test_a_wrong_label_map_names_the_field(
    spec: ModelSpec, tmp_path: Path, table: dict[str, Any], field: str
) -> None:
    path = tmp_path / "map.json"
    path.write_text(json.dumps(table))
    with pytest.raises(TrainingConfigError) as caught:
        load_label_map(path, spec)
    assert caught.value.field == field


def test_an_unknown_reference_label_asks_for_a_map(
    spec: ModelSpec, folders: tuple[Path, Path]
) -> None:
    _, labels = blob_case(1)
    labels[0, 0, 0] = 3
    write_nifti(folders[1] / "case_1.nii.gz", labels, AFFINE)
    with pytest.raises(CaseError, match="--label-map") as caught:
        evaluate_model(spec, FakePredictor(THRESHOLDS), pair_cases(*folders))
    assert caught.value.case_id == "case_1"


def test_an_image_without_a_reference_is_named(folders: tuple[Path, Path]) -> None:
    (folders[1] / "case_2.nii.gz").unlink()
    with pytest.raises(CaseError) as caught:
        pair_cases(*folders)
    assert caught.value.case_id == "case_2"


def test_the_table_holds_every_case_and_the_means(
    spec: ModelSpec, folders: tuple[Path, Path]
) -> None:
    figures = evaluate_model(spec, FakePredictor((1e9, 2e9)), pair_cases(*folders))
    text = report_markdown(report_json(spec, figures, None))
    assert text.count("| case_1 |") == 2
    assert "| **mean** | front blob | 0.0000 | - |" in text  # nothing predicted: no distance
    assert "| **mean** | all labels | 0.0000 | - |" in text


def test_the_command_writes_both_files_and_refuses_a_missing_folder(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: ModelSpec
) -> None:
    class Local(FakePredictor):
        def __init__(self, repo: Path) -> None:
            super().__init__(THRESHOLDS)

        def load(self, model: str) -> Any:
            return type("Loaded", (), {"spec": spec})

    monkeypatch.setattr("inference.backends.local_torch.LocalPredictor", Local)
    app = typer.Typer()
    app.command()(evaluate_command.evaluate)
    images, labels = (str(folder) for folder in folders)
    arguments = ["mr_tiny_seg", "--images", images, "--labels", labels]
    result = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "report")])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert set(report["mean"]["labels"]["front blob"]) >= {"dice", "hd95_mm"}
    assert (tmp_path / "report" / "metrics.md").read_text().startswith("# mr_tiny_seg")
    arguments[2] = str(tmp_path / "nowhere")
    assert CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "r2")]).exit_code == 2
