"""`clinfer evaluate`: how well a model agrees with reference labels."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from inference.commands.run import DEFAULT_REPO


def evaluate(
    model: Annotated[str, typer.Argument(help="The model's name.")],
    images: Annotated[
        Path, typer.Option(help="Folder of images: NIfTI, DICOM folders or archives.")
    ],
    labels: Annotated[Path, typer.Option(help="Folder of NIfTI label maps of the same names.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="The report's folder.")],
    label_map: Annotated[
        Path | None,
        typer.Option(help="TOML or JSON: which reference labels make up each of the model's."),
    ] = None,
    model_repo: Annotated[
        Path, typer.Option(envvar="CLINFER_MODEL_REPO", help="The folder of models.")
    ] = DEFAULT_REPO,
) -> None:
    """Run MODEL on every image and write OUTPUT/metrics.json and OUTPUT/metrics.md.

    Per case and label: Dice, 95th percentile Hausdorff distance in mm, both volumes in ml; then
    the means.
    """
    for name, folder in (("--images", images), ("--labels", labels)):
        if not folder.is_dir():
            raise typer.BadParameter(f"{folder} is not a folder", param_hint=name)
    # Heavy libraries load here, so that a wrong option answers at once.
    from inference.backends.local_torch import LocalPredictor
    from training.evaluate import (
        CaseFigures,
        evaluate_model,
        load_label_map,
        pair_cases,
        report_json,
        report_markdown,
    )

    predictor = LocalPredictor(model_repo)
    spec = predictor.load(model).spec
    joined = None if label_map is None else load_label_map(label_map, spec)
    cases = pair_cases(images, labels)
    out.mkdir(parents=True, exist_ok=True)
    with Progress(
        TextColumn("evaluating"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    ) as bar:
        task = bar.add_task("", total=len(cases))

        def done(figures: CaseFigures) -> None:
            bar.update(task, advance=1, description=figures.case_id)

        figures = evaluate_model(spec, predictor, cases, label_map=joined, done=done)
    report = report_json(spec, figures, joined)
    (out / "metrics.md").write_text(report_markdown(report), encoding="utf-8")
    (out / "metrics.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")

    table = Table(title=f"{spec.name} {spec.version} on {len(cases)} cases")
    for name in ("label", "mean Dice", "lowest Dice", "mean HD95 mm"):
        table.add_column(name, justify="left" if name == "label" else "right")
    means = {**report["mean"]["labels"], "all labels": report["mean"]["all_labels"]}
    for name, found in means.items():
        figures_of = (found["dice"], found["dice_lowest"], found["hd95_mm"])
        table.add_row(name, *("-" if value is None else f"{value:.4f}" for value in figures_of))
    console = Console()
    console.print(table)
    console.print(f"Written to {out}.")
