"""`clinfer train`: one configuration in, one model of the repository out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from inference.commands.run import DEFAULT_REPO

if TYPE_CHECKING:
    from training.config import TrainConfig

NOT_PROMOTED = 1
"""Exit code of a training from reviews whose model is worse than the one before."""


def train(
    config: Annotated[Path, typer.Argument(help="TOML file; docs/training.md says what it holds.")],
    run: Annotated[
        Path | None,
        typer.Option(help="Folder for checkpoints and TensorBoard (default: runs/<model>)."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")
    ] = False,
    start_from: Annotated[
        Path | None, typer.Option(help="Fine-tune: a model folder to begin with its weights.")
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="Folder that the data paths start from.")
    ] = None,
    model_repo: Annotated[
        Path, typer.Option(envvar="CLINFER_MODEL_REPO", help="Where the model is written.")
    ] = DEFAULT_REPO,
    from_review: Annotated[
        bool, typer.Option("--from-review", help="Fine-tune on what people reviewed.")
    ] = False,
    data: Annotated[
        Path | None, typer.Option("--data", help="The service's data folder, for --from-review.")
    ] = None,
    set_version: Annotated[
        int | None, typer.Option(help="Version of the training set (default: the newest).")
    ] = None,
) -> None:
    """Train a network by CONFIG, try it on unseen cases, and write it into the model repository.

    Stops early where CONFIG sets max_minutes; --resume goes on from there. The model is written
    when the last step is made. With --from-review the cases are those that people accepted or
    corrected, --start-from is the model of before, and the new one is written only where it is not
    worse on the locked test set.
    """
    if not config.is_file():
        raise typer.BadParameter(f"{config} is not a file", param_hint="CONFIG")
    # Heavy libraries load here, so that a wrong option answers at once.
    from inference.backends.triton_config import render_config
    from training.config import load_config
    from training.session import train_model

    settings = load_config(config)
    if data_root is not None:
        settings = settings.model_copy(update={"data_root": str(data_root.resolve())})
    name = settings.spec().name
    folder = run if run is not None else Path("runs") / name
    console = Console(stderr=True)
    if from_review:
        _from_review(
            settings,
            folder,
            start_from or model_repo / name,
            model_repo,
            data,
            set_version,
            console,
            resume=resume,
        )
        return
    with TrainingProgress(console) as progress:
        result = train_model(
            settings,
            folder,
            model_repo,
            progress,
            render_config=render_config,
            resume=resume,
            start_from=start_from,
        )
    fitted = result.fitted
    if result.folder is None:
        console.print(
            f"{name}: stopped after {fitted.step} of {settings.fit.steps} steps,"
            f" {fitted.seconds / 60:.1f} min; go on with --resume"
        )
        return
    console.print(
        f"{name}: {fitted.step} steps in {fitted.seconds / 60:.1f} min -> {result.folder}"
    )
    if result.metrics:
        mean = result.metrics["unseen"]["mean"]["all_labels"]
        console.print(
            f"{result.metrics['unseen']['n_cases']} unseen cases: mean Dice {mean['dice']:.4f},"
            f" lowest {mean['dice_lowest']:.4f}, mean HD95 {mean['hd95_mm']:.2f} mm"
        )


def _from_review(
    config: TrainConfig,
    run: Path,
    start_from: Path,
    model_repo: Path,
    data: Path | None,
    set_version: int | None,
    console: Console,
    *,
    resume: bool,
) -> None:
    """Fine-tune on reviewed cases and say whether the model was promoted; exit code 1 where not."""
    from inference.backends.triton_config import render_config
    from inference.commands.review_rows import reviewed_series
    from training.review_set import train_from_review

    if not start_from.is_dir():
        raise typer.BadParameter(f"{start_from} is not a model folder", param_hint="--start-from")
    name = config.spec().name
    rows, version = reviewed_series(name, data=data, version=set_version)
    with TrainingProgress(console) as progress:
        done = train_from_review(
            config,
            rows,
            start_from,
            run,
            model_repo,
            progress,
            render_config=render_config,
            set_version=version,
            resume=resume,
        )
    if not done.fitted.is_finished:
        console.print(f"{name}: stopped after {done.fitted.step} steps; go on with --resume")
        return
    console.print((run / "review-report.md").read_text(encoding="utf-8"))
    if not done.is_promoted:
        raise typer.Exit(NOT_PROMOTED)


class TrainingProgress:
    """A progress bar with the live loss, and one line for each validation."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def stage(self, name: str, done: int, total: int) -> None:
        """Show how many cases of a stage are done."""
        self._update(name, done, total, "")

    def step(self, done: int, total: int, loss: float) -> None:
        """Show the step and the smoothed loss."""
        self._update("training", done, total, f"loss {loss:.4f}")

    def validated(self, step: int, figures: dict[str, Any]) -> None:
        """Print a line with each label's Dice and HD95."""
        shown = (
            f"{label} Dice {_shown(found['dice'])} HD95 {_shown(found['hd95_mm'])} mm"
            for label, found in figures.items()
        )
        self._console.print(f"step {step}: " + ", ".join(shown))

    def _update(self, name: str, done: int, total: int, note: str) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bar.add_task(name, total=total, note=note)
        self._bar.update(self._tasks[name], completed=done, total=total, note=note)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
