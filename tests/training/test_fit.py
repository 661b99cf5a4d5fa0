"""Training end to end on built cases: resuming, exporting, serving."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from inference.backends.local_torch import LocalPredictor
from inference.backends.triton_config import render_config
from inference.pipeline.network import load_network
from inference.pipeline.spec import load_spec
from tests.training.conftest import Recorder
from training.cases import list_cases
from training.checkpoint import FOLDER
from training.config import TrainConfig
from training.errors import CheckpointError
from training.export import as_served
from training.fit import learning_rate
from training.metrics import dice
from training.session import train_model

MakeConfig = Callable[..., TrainConfig]


def weights(run: Path, name: str = "weights") -> dict[str, torch.Tensor]:
    return load_file(run / FOLDER / f"{name}.safetensors")


def train(config: TrainConfig, tmp_path: Path, name: str, *, resume: bool = False) -> Path:
    train_model(
        config,
        tmp_path / name,
        tmp_path / f"repo-{name}",
        Recorder(),
        render_config=render_config,
        resume=resume,
    )
    return tmp_path / name


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tiny_config(), tmp_path, "whole")

    class Interrupted(Recorder):
        def step(self, done: int, total: int, loss: float) -> None:
            if done == 5:  # one step after the checkpoint of step 4
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_model(
            tiny_config(),
            tmp_path / "parts",
            tmp_path / "repo-parts",
            Interrupted(),
            render_config=render_config,
        )
    assert not (tmp_path / "repo-parts").exists()
    parts = train(tiny_config(), tmp_path, "parts", resume=True)
    for name in ("weights", "averaged", "optimizer"):
        expected, found = weights(whole, name), weights(parts, name)
        assert expected.keys() == found.keys()
        for key, tensor in expected.items():
            torch.testing.assert_close(found[key], tensor, rtol=0, atol=0)


def test_fine_tuning_begins_with_the_weights_of_the_model_it_starts_from(
    tiny_config: MakeConfig, tmp_path: Path
) -> None:
    train(tiny_config(), tmp_path, "base")
    (folder,) = (tmp_path / "repo-base").iterdir()
    # One step that hardly moves anything: what it ends with is what it began with.
    standing_still = tiny_config(steps=1, learning_rate=1e-12, weight_decay=0.0)
    train_model(
        standing_still,
        tmp_path / "tuned",
        tmp_path / "repo-tuned",
        Recorder(),
        render_config=render_config,
        start_from=folder,
    )
    tuned = weights(tmp_path / "tuned")
    served = load_network(folder, load_spec(folder)).state_dict()
    for name, tensor in served.items():
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(tuned[name], tensor, rtol=0, atol=1e-6)


def test_training_makes_the_loss_fall_and_reports_dice_and_hd95(
    tiny_config: MakeConfig, tmp_path: Path, recorder: Recorder
) -> None:
    config = tiny_config(steps=60, validate_every=60, learning_rate=1e-2, ema_decay=0.5)
    result = train_model(
        config, tmp_path / "run", tmp_path / "repo", recorder, render_config=render_config
    )
    assert recorder.losses[-1] < 0.75 * recorder.losses[0]
    assert [step for step, _ in recorder.validations] == [60]
    assert set(recorder.validations[0][1]["front blob"]) == {"dice", "hd95_mm"}
    assert ("reading", 5, 5) in recorder.stages
    assert list((tmp_path / "run" / "tensorboard").glob("events.out.tfevents.*"))
    assert result.metrics["unseen"]["n_cases"] == 2
    assert result.metrics["unseen"]["mean"]["all_labels"]["dice"] > 0.2  # untrained: below 0.05


def test_the_exported_model_is_served_and_gives_the_figures_it_states(
    tiny_config: MakeConfig, tmp_path: Path
) -> None:
    config = tiny_config(steps=40, learning_rate=1e-2, ema_decay=0.5)
    train(config, tmp_path, "served")
    folder = tmp_path / "repo-served" / "mr_tiny_seg"
    spec = load_spec(folder)
    assert (folder / "config.pbtxt").read_text() == render_config(spec)
    unseen = {case.id for case in spec.training.unseen_cases}
    seen = {case.id for case in spec.training.cases}
    assert len(unseen) == 2
    assert len(seen) == 6
    assert not unseen & seen
    predictor = LocalPredictor(tmp_path / "repo-served")
    stated = {case["id"]: case for case in spec.metrics["unseen"]["cases"]}
    for case in list_cases(config).test:
        found = case.read()
        labels = predictor.predict(spec.name, dataclasses.replace(found.volume)).labels
        for label in spec.labels:
            figure = dice(labels == label.value, found.labels == label.value)
            assert stated[case.id][label.name]["dice"] == pytest.approx(figure, abs=1e-5)


def test_a_time_limit_pauses_the_run_and_resume_finishes_it(
    tiny_config: MakeConfig, tmp_path: Path
) -> None:
    paused = train_model(
        tiny_config(max_minutes=1e-6),
        tmp_path / "run",
        tmp_path / "repo",
        Recorder(),
        render_config=render_config,
    )
    assert (paused.folder, paused.fitted.is_finished) == (None, False)
    finished = train_model(
        tiny_config(),
        tmp_path / "run",
        tmp_path / "repo",
        Recorder(),
        render_config=render_config,
        resume=True,
    )
    assert finished.folder == tmp_path / "repo" / "mr_tiny_seg"


def test_a_run_of_another_configuration_is_not_resumed(
    tiny_config: MakeConfig, tmp_path: Path
) -> None:
    train(tiny_config(), tmp_path, "run")
    with pytest.raises(CheckpointError, match="another configuration"):
        train(tiny_config(learning_rate=1e-4), tmp_path, "run", resume=True)


def test_nothing_to_resume_is_said(tiny_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        train(tiny_config(), tmp_path, "empty", resume=True)


def test_a_damaged_checkpoint_is_said(tiny_config: MakeConfig, tmp_path: Path) -> None:
    run = train(tiny_config(), tmp_path, "run")
    path = run / FOLDER / "optimizer.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="cannot be resumed"):
        train(tiny_config(), tmp_path, "run", resume=True)


def test_no_file_of_a_run_needs_unpickling(tiny_config: MakeConfig, tmp_path: Path) -> None:
    run = train(tiny_config(), tmp_path, "run")
    suffixes = {path.suffix for path in run.rglob("*") if path.is_file()}
    assert {s for s in suffixes if s in (".pt", ".pth", ".pkl", ".bin", ".npy")} == set()
    assert {path.suffix for path in (run / FOLDER).iterdir()} == {".safetensors", ".json"}


def test_the_learning_rate_warms_up_and_falls(tiny_config: MakeConfig) -> None:
    config = tiny_config(steps=100, warmup_steps=10, learning_rate=0.5)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.05)
    assert np.argmax(rates) in (9, 10)
    assert rates[-1] < 0.01


def test_weights_lose_less_than_half_precision_by_being_stored() -> None:
    network = torch.nn.Conv3d(2, 3, 3)
    served = as_served(network)
    torch.testing.assert_close(served.weight, network.weight.detach(), rtol=2**-11, atol=1e-7)
