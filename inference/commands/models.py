"""`clinfer models`: list the models of a repository, check that each is whole, tune its engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from inference.commands.run import DEFAULT_REPO
from inference.commands.tune import tune

app = typer.Typer(help="The models of a repository.", no_args_is_help=True)
app.command("tune")(tune)
Repo = Annotated[Path, typer.Option(envvar="CLINFER_MODEL_REPO", help="The folder of models.")]


@app.command("list")
def list_(model_repo: Repo = DEFAULT_REPO) -> None:
    """List each model: what it labels, on what, and its status."""
    from inference.pipeline.spec import list_models, load_spec

    table = Table()
    for name in ("model", "version", "status", "modality", "segments", "intended use"):
        table.add_column(name, overflow="fold")
    for spec in (load_spec(model_repo / name) for name in list_models(model_repo)):
        table.add_row(
            spec.name,
            spec.version,
            spec.status,
            ", ".join(spec.scope.modalities),
            ", ".join(segment.name for segment in spec.segments),
            spec.intended_use,
        )
    Console().print(table)


@app.command()
def check(
    names: Annotated[list[str] | None, typer.Argument(help="Models (default: all).")] = None,
    model_repo: Repo = DEFAULT_REPO,
) -> None:
    """Check each model: model.toml, weights hash, network, Triton configuration, a trial window.

    Raises
    ------
    ModelError
        With the folder, the field and the problem.
    """
    import torch

    from inference.backends.triton_config import check_config
    from inference.domain.errors import ModelWeightsError
    from inference.pipeline.engine import run_network
    from inference.pipeline.engines.factory import ready_engine
    from inference.pipeline.network import load_network
    from inference.pipeline.spec import list_models, load_spec

    console = Console()
    known = list_models(model_repo)
    unknown = set(names or ()) - set(known)
    if unknown:
        raise typer.BadParameter(f"no model {', '.join(sorted(unknown))} in {model_repo}")
    for name in names or known:
        folder = model_repo / name
        spec = load_spec(folder)
        network = ready_engine(load_network(folder, spec), spec, torch.device("cpu"))
        check_config(folder, spec)
        logits = run_network(network, torch.zeros(1, 1, *spec.window.roi_size), spec.engine)
        if logits.shape[1] != spec.n_classes:
            raise ModelWeightsError(
                f"{folder}: the network has {logits.shape[1]} outputs, model.toml says"
                f" {spec.n_classes} (background and {len(spec.labels)} labels)"
            )
        console.print(f"{spec.name} {spec.version}: whole (weights {spec.weights.sha256[:12]})")
