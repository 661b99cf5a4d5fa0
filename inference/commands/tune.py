"""`clinfer models tune`: measure this machine's engines on a model, and write the choice."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from inference.commands.run import DEFAULT_REPO

if TYPE_CHECKING:
    from inference.pipeline.engines.candidates import Candidate
    from inference.pipeline.engines.choice import TunedChoice
    from inference.pipeline.engines.tuning import TuningCase
    from inference.pipeline.spec import ModelSpec

PHANTOM_SEED = 90_001
"""First seed of the built thoraxes; training draws its own from 0 on."""
PHANTOM_SHAPE, PHANTOM_SPACING_MM = (100, 224, 224), (3.0, 1.7, 1.7)


def tune(
    model: Annotated[str, typer.Argument(help="The model's name.")],
    data: Annotated[
        list[Path] | None,
        typer.Option(help="A study to measure on: DICOM folder, archive or NIfTI; repeatable."),
    ] = None,
    cases: Annotated[
        int, typer.Option(min=1, max=50, help="How many phantoms where no data is given.")
    ] = 2,
    images: Annotated[
        Path | None, typer.Option(help="Held-out images with reference labels, by name.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Their NIfTI label maps.")] = None,
    label_map: Annotated[
        Path | None,
        typer.Option(help="TOML or JSON: which reference labels make up each of the model's."),
    ] = None,
    engine: Annotated[
        list[str] | None, typer.Option(help="Only this engine, by its name; repeatable.")
    ] = None,
    model_repo: Annotated[
        Path, typer.Option(envvar="CLINFER_MODEL_REPO", help="The folder of models.")
    ] = DEFAULT_REPO,
    engine_cache: Annotated[
        Path | None,
        typer.Option(envvar="CLINFER_ENGINE_CACHE_DIR", help="Where converted networks are kept."),
    ] = None,
) -> None:
    """Time every engine on real windows, gate it on agreement with fp32, and write the choice.

    The file MODEL/engine.<machine>.toml holds the choice and all evidence; serving follows it.
    """
    if (images is None) != (labels is None):
        raise typer.BadParameter("--images and --labels belong together", param_hint="--images")
    # Heavy libraries load here, so that a wrong option answers at once.
    import torch

    from inference.pipeline.engines.cache import EngineCache, default_cache_dir
    from inference.pipeline.engines.candidates import candidates
    from inference.pipeline.engines.choice import this_machine, write_choice
    from inference.pipeline.engines.tuning import Bench
    from inference.pipeline.engines.tuning import tune as tune_engines
    from inference.pipeline.network import load_network
    from inference.pipeline.spec import list_models, load_spec

    if model not in list_models(model_repo):
        known = ", ".join(list_models(model_repo)) or "none"
        raise typer.BadParameter(f"no model {model} in {model_repo}; there are: {known}")
    folder = model_repo / model
    spec, device = load_spec(folder), torch.device("cpu")
    found = _chosen(candidates(device), engine)
    console = Console(stderr=True)
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as bar:
        task = bar.add_task("reading cases", total=len(found) + 1)
        measured, said = _cases(spec, data or [], cases, images, labels, label_map)
        console.print(f"Measured on {said}.")

        def progress(what: str) -> None:
            bar.update(task, description=what, advance=1 if what.endswith("preparing") else 0)

        bench = Bench(
            spec=spec,
            network=load_network(folder, spec),
            cases=measured,
            device=device,
            cache=EngineCache(engine_cache or default_cache_dir()),
            progress=progress,
        )
        choice = tune_engines(bench, found, this_machine(), data=said)
    path = write_choice(folder, choice)
    _say(choice)
    Console().print(f"{choice.why}.\nWritten to {path}. Running services follow it when restarted.")


def _chosen(found: tuple[Candidate, ...], names: list[str] | None) -> tuple[Candidate, ...]:
    known = {candidate.engine.label: candidate for candidate in found}
    unknown = sorted(set(names or ()) - set(known))
    if unknown:
        raise typer.BadParameter(
            f"no engine {', '.join(unknown)}; there are: {', '.join(known)}", param_hint="--engine"
        )
    return tuple(candidate for name, candidate in known.items() if not names or name in names)


def _cases(
    spec: ModelSpec,
    data: list[Path],
    n_phantoms: int,
    images: Path | None,
    labels: Path | None,
    label_map: Path | None,
) -> tuple[list[TuningCase], str]:
    """Return the cases, and in words what they are."""
    from training.evaluate import load_label_map, pair_cases
    from training.reading import read_any, read_reference

    found = [_case(spec, path.name, read_any(path)) for path in data]
    said = [f"{len(found)} given studies"] if found else []
    if images is not None and labels is not None:
        join = None if label_map is None else load_label_map(label_map, spec)
        pairs = pair_cases(images, labels)
        for pair in pairs:
            volume = read_any(pair.image)
            reference = read_reference(pair.labels, pair.id, volume, join)
            found.append(_case(spec, pair.id, volume, reference))
        said.append(f"{len(pairs)} held-out cases with reference labels")
    if not found:
        found = _phantoms(spec, n_phantoms)
        said = [f"{len(found)} built phantoms of the thorax, because no data was given"]
    return found, " and ".join(said)


def _case(spec: ModelSpec, name: str, volume: Any, reference: Any = None) -> TuningCase:
    """Return a volume as a case.

    Raises
    ------
    RefusedError
        The model's grid or extent does not admit it.
    """
    from inference.pipeline.engines.tuning import TuningCase

    return TuningCase(
        id=name, array=volume.array, affine_lps=volume.affine_lps, reference=reference
    )


def _phantoms(spec: ModelSpec, n: int) -> list[TuningCase]:
    from inference.domain.errors import RefusedError
    from inference.pipeline.engines.tuning import TuningCase
    from training.phantoms import thorax_phantom

    if "CT" not in spec.scope.modalities:
        raise RefusedError(
            f"tune: there is no built phantom for {', '.join(spec.scope.modalities)}; name studies"
            " with --data"
        )
    found = []
    for seed in range(PHANTOM_SEED, PHANTOM_SEED + n):
        array, _, affine_lps = thorax_phantom(seed, PHANTOM_SHAPE, PHANTOM_SPACING_MM)
        found.append(TuningCase(id=f"thorax_phantom_{seed}", array=array, affine_lps=affine_lps))
    return found


def _say(choice: TunedChoice) -> None:
    """Print the table of engines, fastest first, those that may not serve last."""
    table = Table(title=f"{choice.model} on {choice.machine.cpu}, {choice.machine.cores} cores")
    for name in ("engine", "ms a window", "p95", "lowest Dice", "serves", "why"):
        table.add_column(name, justify="right" if name in ("ms a window", "p95") else "left")
    for one in sorted(choice.evidence, key=lambda e: (not e.passed, e.median_ms or 0.0)):
        table.add_row(
            one.engine.label,
            "-" if one.median_ms is None else f"{one.median_ms:.1f}",
            "-" if one.p95_ms is None else f"{one.p95_ms:.1f}",
            f"{min(one.dice.values()):.5f}" if one.dice else "-",
            "chosen" if one.engine == choice.engine else "may" if one.passed else "no",
            one.reason,
        )
    Console().print(table)
