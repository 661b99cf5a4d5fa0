"""`clinfer train`: what a user sees, and which words are usage errors."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import tomli_w
import typer
from rich.console import Console
from typer.testing import CliRunner

from inference.commands.train import TrainingProgress, train
from inference.pipeline.spec import list_models
from training.config import TrainConfig

app = typer.Typer()
app.command()(train)


def test_it_trains_from_a_file_pauses_and_resumes(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    table = tiny_config(max_minutes=1e-6).model_dump(mode="json", exclude_none=True)
    path = tmp_path / "tiny.toml"
    path.write_text(tomli_w.dumps(table))
    arguments = [str(path), "--run", str(tmp_path / "run"), "--model-repo", str(tmp_path / "repo")]
    paused = CliRunner().invoke(app, arguments)
    assert paused.exit_code == 0, paused.output
    assert "stopped after 0 of 6 steps" in " ".join(paused.output.split())
    table["fit"].pop("max_minutes")
    path.write_text(tomli_w.dumps(table))
    finished = CliRunner().invoke(app, [*arguments, "--resume"])
    assert finished.exit_code == 0, finished.output
    assert "2 unseen cases: mean Dice" in " ".join(finished.output.split())
    assert list_models(tmp_path / "repo") == ("mr_tiny_seg",)


def test_a_missing_configuration_is_a_usage_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(tmp_path / "nothing.toml")])
    assert result.exit_code == 2


def test_the_bar_shows_the_live_loss_and_each_validation() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=160)
    with TrainingProgress(console) as progress:
        progress.stage("reading", 1, 3)
        progress.step(7, 20, 0.4321)
        progress.validated(7, {"left lung": {"dice": 0.97, "hd95_mm": None}})
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", console.file.getvalue())  # type: ignore[attr-defined]
    assert "loss 0.4321" in text
    assert "7/20" in text
    assert "step 7: left lung Dice 0.970 HD95 - mm" in text
