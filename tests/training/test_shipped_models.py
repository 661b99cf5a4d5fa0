"""The two shipped models: figures on cases that training never saw, from files and from DICOM."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dicom_io.nifti import read_nifti
from dicom_io.volume import Volume
from inference.backends.local_torch import LocalPredictor
from inference.pipeline.applicability import applicable
from inference.pipeline.spec import ModelSpec
from tests.builders.dicom import mr_series, write_instances
from training.config import load_config
from training.evaluate import compare, summarise
from training.lung_reference import segment_lungs
from training.phantoms import thorax_phantom
from training.reading import LabelledVolume, read_any, read_reference

MODELS = ("mr_hippocampus_seg", "ct_lung_seg")


@pytest.fixture(scope="module")
def predictor(repository: Path) -> LocalPredictor:
    return LocalPredictor(repository / "model_repo")


def hippocampus_case(shared_data: Path, name: str) -> LabelledVolume:
    folder = shared_data / "nifti-seg" / "msd-hippocampus"
    volume = read_nifti(folder / "images" / f"{name}.nii.gz")
    labels = read_reference(folder / "labels" / f"{name}.nii.gz", name, volume, None)
    return LabelledVolume(volume=volume, labels=labels.astype(np.uint8))


def dices(
    predictor: LocalPredictor, spec: ModelSpec, volume: Volume, reference: np.ndarray
) -> list[float | None]:
    labels = predictor.predict(spec.name, volume).labels
    found = compare("case", labels, reference, volume.affine_lps, spec)
    return [each.dice for each in found.labels.values()]


@pytest.mark.parametrize("name", MODELS)
def test_no_unseen_case_was_trained_on(predictor: LocalPredictor, name: str) -> None:
    training = predictor.load(name).spec.training
    unseen = {case.id for case in training.unseen_cases}
    assert unseen
    assert not unseen & {case.id for case in training.cases}
    assert all(case.licence for case in training.cases)
    assert not any("NC" in case.licence.replace("-", " ").split() for case in training.cases)


@pytest.mark.parametrize("name", MODELS)
def test_the_model_is_what_its_configuration_says(
    predictor: LocalPredictor, repository: Path, name: str
) -> None:
    spec = predictor.load(name).spec
    wanted = load_config(repository / "training" / "configs" / f"{name}.toml").spec()
    filled = ("weights", "training", "metrics")
    assert spec.model_dump(exclude=set(filled)) == wanted.model_dump(exclude=set(filled))
    size = (repository / "model_repo" / name / spec.weights.file).stat().st_size
    assert size < 20 * 2**20


def test_hippocampus_on_unseen_cases_from_files_and_as_dicom(
    predictor: LocalPredictor, shared_data: Path, tmp_path: Path
) -> None:
    spec = predictor.load("mr_hippocampus_seg").spec
    names = [case.id for case in spec.training.unseen_cases]
    assert len(names) >= 30
    from_files, from_dicom = [], []
    beyond_16_bits = 0
    for name in names:
        case = hippocampus_case(shared_data, name)
        beyond_16_bits += bool(case.volume.array.max() > 32767)
        from_files.append(
            compare(
                name,
                predictor.predict(spec.name, case.volume).labels,
                case.labels,
                case.volume.affine_lps,
                spec,
            )
        )
        series = mr_series(case.volume.array, case.volume.affine_lps)
        write_instances(tmp_path / name, series)
        volume = read_any(tmp_path / name)
        reference = read_reference(
            shared_data / "nifti-seg" / "msd-hippocampus" / "labels" / f"{name}.nii.gz",
            name,
            volume,
            None,
        )
        labels = predictor.predict(spec.name, volume).labels
        from_dicom.append(compare(name, labels, reference, volume.affine_lps, spec))
    assert beyond_16_bits > 0  # those that need a rescale are among them
    for label in spec.labels:
        mean_files = summarise(from_files, spec)["labels"][label.name]["dice"]
        mean_dicom = summarise(from_dicom, spec)["labels"][label.name]["dice"]
        assert mean_dicom == pytest.approx(mean_files, abs=0.002)
    for first, second in zip(from_files, from_dicom, strict=True):
        for name, found in first.labels.items():
            assert second.labels[name].dice == pytest.approx(found.dice, abs=0.002)
    assert summarise(from_files, spec)["all_labels"]["dice"] >= 0.87


def test_lungs_of_lidc_0001(predictor: LocalPredictor, shared_data: Path) -> None:
    spec = predictor.load("ct_lung_seg").spec
    volume = read_any(shared_data / "ct-dicom" / "lidc-idri-0001-partial")
    reference = segment_lungs(volume.array, volume.affine_lps)
    assert min(d or 0 for d in dices(predictor, spec, volume, reference)) >= 0.95


def test_lung_bases_of_the_totalsegmentator_example(
    predictor: LocalPredictor, shared_data: Path
) -> None:
    spec = predictor.load("ct_lung_seg").spec
    folder = shared_data / "nifti-seg" / "totalseg-example"
    volume = read_nifti(folder / "example_ct_sm.nii.gz")
    reference = read_reference(
        folder / "example_seg.nii.gz", "example", volume, {1: (10, 11), 2: (12, 13, 14)}
    )
    left, right = dices(predictor, spec, volume, reference)
    assert (left or 0) >= 0.90
    assert (right or 0) >= 0.90


@pytest.mark.parametrize("seed", [1001, 1002])
def test_lungs_of_unseen_phantoms(predictor: LocalPredictor, seed: int) -> None:
    spec = predictor.load("ct_lung_seg").spec
    array, reference, affine_lps = thorax_phantom(seed, (60, 170, 220), (5.0, 2.0, 2.0))
    volume = Volume(array=array, affine_lps=affine_lps, modality="CT", unit="[hnsf'U]")
    assert min(d or 0 for d in dices(predictor, spec, volume, reference)) >= 0.97


@pytest.mark.parametrize(
    ("model", "series", "reason"),
    [
        ("mr_hippocampus_seg", "mr-dicom/pgbm-003/11_HCropVolume", None),
        ("mr_hippocampus_seg", "mr-dicom/pgbm-003/11-T1post-18670", "spacing"),
        ("mr_hippocampus_seg", "mr-dicom/prostatex-0000/4.000000-t2tsetra-00702", "PROSTATE"),
        ("mr_hippocampus_seg", "mr-dicom/studyforrest-t1w", "extent"),
        ("mr_hippocampus_seg", "ct-mr-pet-dicom/STS_001/MR_T1/image", "EXTREMITY"),
        ("mr_hippocampus_seg", "ct-mr-pet-dicom/STS_002/CT/image", "modality"),
        ("ct_lung_seg", "ct-dicom/lidc-idri-0001-partial", None),
        ("ct_lung_seg", "ct-dicom/totalseg-example-j2k", None),
        ("ct_lung_seg", "ct-mr-pet-dicom/STS_001/CT/image", "EXTREMITY"),
        ("ct_lung_seg", "mr-dicom/pgbm-003/11_HCropVolume", "modality"),
    ],
)
def test_scope(
    predictor: LocalPredictor, shared_data: Path, model: str, series: str, reason: str | None
) -> None:
    folder = shared_data / series
    archives = sorted(folder.glob("*.tar.xz"))
    volume = read_any(archives[0] if archives else folder)
    found = applicable(predictor.load(model).spec, volume)
    if reason is None:
        assert found is None
    else:
        assert reason in (found or "")
