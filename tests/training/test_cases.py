"""Listing, splitting and reading cases; every refusal names the case or the field."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from dicom_io.nifti import read_nifti, write_nifti
from inference.pipeline.preprocess import preprocess
from tests.training.conftest import tiny_model
from training.cases import list_cases, prepare
from training.config import TrainConfig, load_config
from training.errors import CaseError, TrainingConfigError
from training.sampling import WindowSampler

MakeConfig = Callable[..., TrainConfig]


def test_the_split_is_decided_by_its_seed_and_no_case_is_in_two_parts(
    tiny_config: MakeConfig,
) -> None:
    first, again = list_cases(tiny_config()), list_cases(tiny_config())
    ids = [[case.id for case in part] for part in (first.train, first.validation, first.test)]
    assert ids == [[c.id for c in part] for part in (again.train, again.validation, again.test)]
    assert sorted(case_id for part in ids for case_id in part) == [f"case_{k}" for k in range(8)]
    assert [len(part) for part in ids] == [5, 1, 2]


def test_test_cases_may_be_named(tiny_config: MakeConfig) -> None:
    config = tiny_config()
    split = config.split.model_copy(update={"test_ids": ("case_3", "case_5")})
    cases = list_cases(config.model_copy(update={"split": split}))
    assert [case.id for case in cases.test] == ["case_3", "case_5"]


def test_an_unknown_named_case_is_said(tiny_config: MakeConfig) -> None:
    config = tiny_config()
    split = config.split.model_copy(update={"test_ids": ("case_99",)})
    with pytest.raises(CaseError) as caught:
        list_cases(config.model_copy(update={"split": split}))
    assert caught.value.case_id == "case_99"


def test_training_sees_what_serving_sees(tiny_config: MakeConfig) -> None:
    config = tiny_config()
    case = list_cases(config).train[0]
    volume = case.read().volume
    served = preprocess(volume.array, volume.affine_lps, config.spec())
    torch.testing.assert_close(
        prepare(case, config.spec()).image, torch.from_numpy(served.array), rtol=0, atol=0
    )


def test_labels_missing_for_an_image_are_said(tiny_config: MakeConfig, blob_data: Path) -> None:
    (blob_data / "labels" / "case_2.nii.gz").unlink()
    with pytest.raises(CaseError) as caught:
        list_cases(tiny_config())
    assert caught.value.case_id == "case_2"


@pytest.mark.parametrize(
    ("change", "problem"),
    [("shift", "mm apart"), ("shape", "shape"), ("value", "not one of")],
)
def test_labels_that_do_not_fit_their_image_are_said(
    tiny_config: MakeConfig, blob_data: Path, change: str, problem: str
) -> None:
    path = blob_data / "labels" / "case_1.nii.gz"
    found = read_nifti(path)
    array, affine = found.array.astype(np.uint8), found.affine_lps.copy()
    if change == "shift":
        affine[0, 3] += 0.5
    elif change == "shape":
        array = array[:-1]
    else:
        array[0, 0, 0] = 9
    write_nifti(path, array, affine)
    config = tiny_config()
    cases = list_cases(config)
    case = next(
        c for part in (cases.train, cases.validation, cases.test) for c in part if c.id == "case_1"
    )
    with pytest.raises(CaseError, match=problem) as caught:
        prepare(case, config.spec())
    assert caught.value.case_id == "case_1"


def test_a_misspelt_field_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("seed = 1\n[fit]\nstepz = 3\n[model]\nname='x'\n[[data]]\nkind='nifti_pairs'\n")
    with pytest.raises(TrainingConfigError) as caught:
        load_config(path)
    assert caught.value.field.startswith(("data.0", "fit"))


def test_windows_of_a_step_do_not_depend_on_the_steps_before(tiny_config: MakeConfig) -> None:
    config = tiny_config()
    spec = config.spec()
    prepared = [prepare(case, spec) for case in list_cases(config).train]

    def sampler() -> WindowSampler:
        return WindowSampler(
            prepared,
            spec.window.roi_size,
            config.augment,
            seed=3,
            batch_size=2,
            foreground=0.5,
            padding_value=0.0,
        )

    first = sampler()
    for step in range(4):
        first.batch(step)
    images, labels = first.batch(4)
    again_images, again_labels = sampler().batch(4)
    assert images.shape == (2, 1, 8, 16, 16)
    assert labels.shape == (2, 1, 8, 16, 16)
    torch.testing.assert_close(images, again_images, rtol=0, atol=0)
    torch.testing.assert_close(labels, again_labels, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["mr_hippocampus_seg", "ct_lung_seg"])
def test_the_shipped_configurations_are_whole(repository: Path, name: str) -> None:
    config = load_config(repository / "training" / "configs" / f"{name}.toml")
    assert config.spec().name == name
    assert config.spec().status == "research"


def test_a_model_table_with_an_error_is_refused() -> None:
    config = {
        "seed": 1,
        "model": {**tiny_model(), "version": "one"},
        "fit": {"steps": 1},
        "data": [
            {"kind": "thorax_phantoms", "count": 1, "shape": [4, 4, 4], "spacing_mm": [9, 9, 9]}
        ],
    }
    with pytest.raises(Exception, match="version"):
        TrainConfig.model_validate(config).spec()
