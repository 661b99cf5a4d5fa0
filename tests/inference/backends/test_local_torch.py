"""The in-process backend: models from a repository, from any thread, with the pipeline's labels."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dicom_io.volume import Volume
from inference.backends.fake import FakePredictor
from inference.backends.local_torch import LocalPredictor
from inference.domain.errors import (
    BackendUnavailableError,
    InferenceError,
    ModelSpecError,
    ModelWeightsError,
)
from inference.domain.job import Priority
from inference.domain.ports import Predictor, ProbabilityPredictor
from inference.pipeline.network import build_network, load_network
from inference.pipeline.segment import segment_volume
from inference.pipeline.spec import load_spec, write_spec
from tests.inference.pipeline.built import all_orientations, grid, spec_of, spec_table


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    folder = tmp_path / "ct_box_seg"
    (folder / "1").mkdir(parents=True)
    torch.manual_seed(2)
    weights = folder / "1" / "weights.safetensors"
    save_file(build_network(spec_of()).state_dict(), weights)
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    text = write_spec(spec_table(weights={"sha256": sha256}))
    (folder / "model.toml").write_text(text, encoding="utf-8")
    return tmp_path


def _volume(seed: int = 0) -> Volume:
    rng = np.random.default_rng(seed)
    shape = (21, 33, 27)
    return Volume(
        array=rng.integers(-100, 300, shape).astype(np.int16),
        affine_lps=grid(all_orientations()[29], (1.7, 1.1, 0.9), shape),
        modality="CT",
    )


@pytest.fixture(params=["local", "fake"])
def predictor(request: pytest.FixtureRequest, repo: Path) -> Predictor:
    return LocalPredictor(repo) if request.param == "local" else FakePredictor((150.0,))


class TestEveryPredictor:
    """What `Predictor` promises, of the real one and of the one that ships for tests."""

    def test_labels_lie_on_the_volumes_grid(self, predictor: Predictor) -> None:
        volume = _volume()
        labels = predictor.predict("ct_box_seg", volume).labels
        assert labels.shape == volume.array.shape
        assert labels.dtype in (np.uint8, np.uint16)

    def test_the_report_is_json_and_says_what_the_port_names(self, predictor: Predictor) -> None:
        report = predictor.predict(
            "ct_box_seg", _volume(), priority=Priority.ROUTINE, deadline_s=60.0
        ).report
        named = {"timings_s", "engine", "precision", "device", "peak_memory_mib", "n_windows"}
        assert named | {"backend"} <= set(report)
        assert json.loads(json.dumps(report)) == report

    def test_the_same_volume_gives_the_same_labels(self, predictor: Predictor) -> None:
        first, second = (predictor.predict("ct_box_seg", _volume()).labels for _ in range(2))
        np.testing.assert_array_equal(first, second)


def test_the_fake_thresholds_and_fails_when_told() -> None:
    fake = FakePredictor((100.0, 200.0), failures=(BackendUnavailableError("gone"),))
    volume = _volume()
    with pytest.raises(BackendUnavailableError, match="gone"):
        fake.predict("ct_box_seg", volume)
    labels = fake.predict("ct_box_seg", volume).labels
    np.testing.assert_array_equal(labels, np.digitize(volume.array, (100, 200)))
    assert fake.calls == ["ct_box_seg", "ct_box_seg"]


def test_labels_are_those_of_the_pipeline(repo: Path) -> None:
    predictor: Predictor = LocalPredictor(repo)
    volume = _volume()
    found = predictor.predict("ct_box_seg", volume)
    folder = repo / "ct_box_seg"
    spec = load_spec(folder)
    expected = segment_volume(volume.array, volume.affine_lps, spec, load_network(folder, spec))
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert len(np.unique(found.labels)) > 1
    assert found.report["backend"] == "local"
    assert found.report["weights_sha256"] == spec.weights.sha256


def test_the_labels_are_the_most_probable_of_the_probabilities(repo: Path) -> None:
    predictor = LocalPredictor(repo)
    assert isinstance(predictor, ProbabilityPredictor)
    assert not isinstance(FakePredictor((150.0,)), ProbabilityPredictor)
    volume = _volume()
    labels = predictor.predict("ct_box_seg", volume).labels
    n_classes = load_spec(repo / "ct_box_seg").n_classes
    each = [predictor.probability("ct_box_seg", volume, label) for label in range(n_classes)]
    stacked = np.stack(each)
    assert stacked.shape[1:] == volume.array.shape
    np.testing.assert_allclose(stacked.sum(axis=0), 1.0, atol=1e-4)
    top = np.sort(stacked, axis=0)
    clear = top[-1] - top[-2] > 1e-3
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(labels[clear], stacked.argmax(axis=0)[clear])


def test_threads_share_one_model_and_get_their_own_labels(repo: Path) -> None:
    predictor = LocalPredictor(repo)
    alone = [predictor.predict("ct_box_seg", _volume(seed)).labels for seed in range(3)]
    with ThreadPoolExecutor(6) as pool:
        together = list(
            pool.map(lambda seed: predictor.predict("ct_box_seg", _volume(seed % 3)), range(6))
        )
    for seed, prediction in enumerate(together):
        np.testing.assert_array_equal(prediction.labels, alone[seed % 3])
    assert predictor.load("ct_box_seg").network is predictor.load("ct_box_seg").network


def test_an_unknown_model_is_refused_naming_those_there_are(repo: Path) -> None:
    with pytest.raises(ModelSpecError, match="there are ct_box_seg"):
        LocalPredictor(repo).predict("../ct_box_seg", _volume())


def test_changed_weights_are_refused(repo: Path) -> None:
    path = repo / "ct_box_seg" / "1" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    with pytest.raises(ModelWeightsError, match="SHA-256"):
        LocalPredictor(repo).predict("ct_box_seg", _volume())


def test_a_passed_deadline_stops_between_windows(repo: Path) -> None:
    with pytest.raises(InferenceError, match=r"stopped|deadline"):
        LocalPredictor(repo).predict("ct_box_seg", _volume(), deadline_s=0.0)
