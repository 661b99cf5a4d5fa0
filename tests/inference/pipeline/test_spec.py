"""model.toml: what is accepted, and that each refusal names the field."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from inference.domain.errors import ModelSpecError
from inference.pipeline.spec import list_models, load_spec, parse_spec, write_spec
from tests.inference.pipeline.built import TABLE, spec_of, spec_table


def test_a_written_spec_reads_back_equal(tmp_path: Path) -> None:
    spec = spec_of(
        training={
            "data": "three cases",
            "cases": [{"id": "a", "source": "here", "licence": "CC BY 4.0"}],
            "unseen_cases": [{"id": "b", "source": "there"}],
        },
        metrics={"unseen": {"dice": {"box 1": 0.93}}},
        postprocessing={"keep_largest_component": [1, 3], "min_volume_ml": 0.5},
    )
    folder = tmp_path / "ct_box_seg"
    folder.mkdir()
    (folder / "model.toml").write_text(write_spec(spec), encoding="utf-8")
    assert load_spec(folder) == spec


def test_a_dict_is_written_as_the_spec_it_describes() -> None:
    assert parse_spec(tomllib.loads(write_spec(spec_table()))) == spec_of()


def test_labels_become_segments_with_their_codes() -> None:
    spec = spec_of()
    assert [segment.label for segment in spec.segments] == [1, 2, 3]
    assert spec.segments[0].type.value == "39607008"
    assert spec.segments[0].modifier is None
    assert spec.n_classes == 4


def _intensity(**values: Any) -> dict[str, Any]:
    return {"preprocessing": {"intensity": values}}


@pytest.mark.parametrize(
    ("tables", "field"),
    [
        ({"nme": "x"}, "nme"),
        ({"name": "../up"}, "name"),
        ({"version": "1"}, "version"),
        ({"status": "clinical"}, "status"),
        ({"scope": {"modalities": []}}, "scope.modalities"),
        ({"scope": {"slice_spacing_mm": [5.0, 1.0]}}, "scope.slice_spacing_mm"),
        ({"scope": {"in_plane_spacing_mm": [0.0, 1.0]}}, "scope.in_plane_spacing_mm.0"),
        ({"scope": {"max_extent_mm": [0.5, 9.0, 9.0]}}, "scope.max_extent_mm"),
        ({"preprocessing": {"spacing_mm": [1.0, 1.0]}}, "preprocessing.spacing_mm.2"),
        ({"preprocessing": {"spacing_mm": [1.0, -1.0, 1.0]}}, "preprocessing.spacing_mm.1"),
        (_intensity(kind="window"), "preprocessing.intensity"),
        (
            _intensity(kind="clip_scale", lower=1.0, upper=1.0),
            "preprocessing.intensity.clip_scale.upper",
        ),
        (
            _intensity(kind="zscore", percentiles=[99.0, 1.0]),
            "preprocessing.intensity.zscore.percentiles",
        ),
        ({"window": {"roi_size": [16, 25, 20]}}, "window.roi_size"),
        ({"window": {"overlap": 1.0}}, "window.overlap"),
        ({"window": {"merge": "constant"}}, "window.merge"),
        ({"network": {"class": "os.system"}}, "network.class"),
        ({"network": {"args": {"channels": [4, 8], "strides": [2, 2]}}}, "network.args.strides"),
        ({"network": {"args": {"channels": [4, 8], "strides": [2], "x": 1}}}, "network.args.x"),
        ({"network": {"output": "sigmoid"}}, "network.output"),
        ({"engine": {"precision": "int8"}}, "engine.precision"),
        ({"weights": {"sha256": "abc"}}, "weights.sha256"),
        ({"weights": {"file": "../w.safetensors"}}, "weights.file"),
        ({"weights": {"file": "1/w.pt"}}, "weights.file"),
        ({"labels": []}, "labels"),
        ({"labels": [TABLE["labels"][1]]}, "labels"),
        ({"labels": [TABLE["labels"][0], {**TABLE["labels"][0], "value": 2}]}, "labels"),
        (
            {"postprocessing": {"keep_largest_component": [4]}},
            "postprocessing.keep_largest_component",
        ),
    ],
)
def test_a_wrong_field_is_refused_by_name(tables: dict[str, Any], field: str) -> None:
    with pytest.raises(ModelSpecError) as caught:
        parse_spec(spec_table(**tables), path="here/model.toml")
    assert caught.value.field == field
    assert caught.value.path == "here/model.toml"


def test_a_missing_table_is_refused_by_name() -> None:
    table = spec_table()
    del table["scope"]
    with pytest.raises(ModelSpecError) as caught:
        parse_spec(table)
    assert caught.value.field == "scope"


def test_a_folder_must_carry_the_models_name(tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "model.toml").write_text(write_spec(spec_of()), encoding="utf-8")
    with pytest.raises(ModelSpecError) as caught:
        load_spec(folder)
    assert caught.value.field == "name"


@pytest.mark.parametrize("text", [None, "name = ", "\x00"])
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "model.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ModelSpecError) as caught:
        load_spec(tmp_path)
    assert caught.value.field == "(file)"


def test_models_are_the_folders_with_a_spec_even_a_wrong_one(tmp_path: Path) -> None:
    for name in ("b_seg", "a_seg"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.toml").write_text("wrong", encoding="utf-8")
    (tmp_path / "notes").mkdir()
    assert list_models(tmp_path) == ("a_seg", "b_seg")
    assert list_models(tmp_path / "nowhere") == ()
