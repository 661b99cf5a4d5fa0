"""`clinfer run`: one study, no server needed: its objects, NIfTI labels and a contact sheet."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from inference.imports import without_collection

if TYPE_CHECKING:
    from dicom_io.volume import Volume
    from inference.domain.ports import Predictor

DEFAULT_REPO = Path(__file__).resolve().parents[2] / "model_repo"


def run(
    study: Annotated[
        Path, typer.Argument(help="A folder, zip, tar or file with the DICOM instances.")
    ],
    out: Annotated[
        Path, typer.Option("--output", "-o", help="The folder to make; it must not exist yet.")
    ],
    model: Annotated[
        str | None, typer.Option("--model", help="Only this model (default: every one in scope).")
    ] = None,
    model_repo: Annotated[
        Path, typer.Option(envvar="CLINFER_MODEL_REPO", help="The folder of models.")
    ] = DEFAULT_REPO,
    encodings: Annotated[
        str,
        typer.Option(help="Kinds of object, by commas: seg,sr,gsps,sc,rtstruct,pdf,ko,pmap, ..."),
    ] = "seg,sr",
    triton: Annotated[
        str | None,
        typer.Option(help="HOST:PORT of a running Triton (default: compute in this process)."),
    ] = None,
    engine_cache: Annotated[
        Path | None,
        typer.Option(envvar="CLINFER_ENGINE_CACHE_DIR", help="Where converted networks are kept."),
    ] = None,
    memory_budget_mib: Annotated[
        int | None,
        typer.Option(
            envvar="CLINFER_MEMORY_BUDGET_MIB",
            min=256,
            help="Most memory to use (default: 80 % of the machine's).",
        ),
    ] = None,
) -> None:
    """Analyse one study and write OUT/result.json with the files that it names.

    OUT appears only when it is complete. Exit codes: 0 done, 2 usage, 3 refused, 4 no applicable
    model, 5 failed.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise typer.BadParameter(f"{out} is there already; name a new folder", param_hint="-o")
    kinds = _kinds(encodings)
    if not study.exists():
        raise typer.BadParameter(f"{study} is not there", param_hint="STUDY")
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    from inference.backends.one_run import one_run_predictor

    unfinished = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.absolute().parent))
    try:
        # The predictor's process starts first: it loads while this one imports and reads.
        with one_run_predictor(
            model_repo,
            triton_address=triton,
            engine_cache_dir=engine_cache,
            memory_budget_mib=memory_budget_mib,
            meanwhile=_get_ready_to_write,
        ) as predictor:
            result = _analyse(study, unfinished, model, model_repo, predictor, engine_cache, kinds)
        (unfinished / "result.json").write_text(json.dumps(result, indent=2) + "\n")
        unfinished.chmod(0o755)
        if out.exists():
            out.rmdir()
        unfinished.replace(out)
    except KeyboardInterrupt as error:
        sys.stderr.write("error[interrupted]: stopped by Ctrl-C; nothing was written\n")
        raise typer.Exit(130) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    _say_results(result, out)


def _kinds(encodings: str) -> tuple[str, ...]:
    """Return the names of ``--encodings``; SEG and SR are written in any case."""
    from inference.domain.encoding import ENCODINGS

    kinds = tuple(name.strip() for name in encodings.split(",") if name.strip())
    unknown = [kind for kind in kinds if kind not in ENCODINGS]
    if unknown:
        raise typer.BadParameter(
            f"no encoding {', '.join(unknown)}; there are: {', '.join(ENCODINGS)}",
            param_hint="--encodings",
        )
    return kinds


def _get_ready_to_write(volume: Volume) -> None:
    from inference.jobs.analysis import get_ready_to_write

    get_ready_to_write(volume)


def _analyse(
    study: Path,
    out: Path,
    model: str | None,
    model_repo: Path,
    predictor: Predictor,
    engine_cache_dir: Path | None,
    kinds: tuple[str, ...],
) -> dict[str, Any]:
    """Analyse every image series; return the content of ``result.json``."""
    # Heavy libraries load here, so that a wrong option answers at once.
    with without_collection():
        from dicom_io.series import scan
        from dicom_io.sources import open_source
        from inference.domain.errors import NoApplicableModelError, RefusedError
        from inference.jobs.analysis import SeriesOutcome, analyse_series
        from inference.jobs.study_processor import why_no_model_applies
        from inference.pipeline.engines.cache import EngineCache, default_cache_dir
        from inference.pipeline.engines.choice import served_spec
        from inference.pipeline.spec import list_models

    known = list_models(model_repo)
    chosen = [name for name in known if model is None or name == model]
    if not chosen:
        raise typer.BadParameter(
            f"no model {model or ''} in {model_repo}; there are: {', '.join(known) or 'none'}",
            param_hint="--model",
        )
    cache = EngineCache(engine_cache_dir or default_cache_dir())
    specs = tuple(served_spec(model_repo / name, cache=cache).spec for name in chosen)
    outcomes: list[SeriesOutcome] = []
    with open_source(study) as files, _progress() as bar:
        task = bar.add_task("reading headers", total=None)
        found = scan(files)
        all_series = [series for series in found.series if series.is_image]
        bar.update(task, total=max(len(all_series), 1))
        for number, series in enumerate(all_series):
            folder = out if len(all_series) == 1 else out / f"series-{number + 1}"
            outcomes.append(
                analyse_series(
                    series,
                    specs,
                    predictor,
                    folder,
                    progress=lambda stage: bar.update(task, description=stage),
                    encodings=kinds,
                )
            )
            bar.advance(task)

    analyses = [analysis for outcome in outcomes for analysis in outcome.analyses]
    refusals = [refusal for outcome in outcomes for refusal in outcome.refusals]
    if not analyses:
        if refusals:
            raise refusals[0].error
        if not found.series and found.skipped:
            first = found.skipped[0]
            raise RefusedError(
                f"none of {len(found.skipped)} files can be read; {first.path.name}: {first.reason}"
            )
        raise NoApplicableModelError(why_no_model_applies(outcomes))
    return {
        "results": [analysis.as_json(out) for analysis in analyses],
        "refused": [refusal.as_json() for refusal in refusals],
        "not_applicable": [
            {"series_uid": outcome.series.series_uid, "model": name, "reason": reason}
            for outcome in outcomes
            for name, reason in outcome.not_applicable.items()
        ],
        "skipped_files": [
            {"file": skipped.path.name, "reason": skipped.reason} for skipped in found.skipped
        ],
    }


def _progress() -> Progress:
    """Return the progress bar on standard error; silent where that is not a terminal."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def _say_results(result: dict[str, Any], out: Path) -> None:
    """Print the table of segments and what was refused."""
    console = Console()
    for entry in result["results"]:
        table = Table(title=f"{entry['model']} {entry['model_version']} ({entry['status']})")
        for name in ("segment", "volume ml", "mean", "SD", "unit"):
            table.add_column(name, justify="left" if name in ("segment", "unit") else "right")
        for segment in entry["segments"]:
            table.add_row(
                segment["name"],
                f"{segment['volume_ml']:.1f}",
                f"{segment['mean']:.1f}",
                f"{segment['sd']:.1f}",
                {"[hnsf'U]": "HU", "1": "none"}.get(segment["unit"], segment["unit"]),
            )
        console.print(table if entry["segments"] else f"{entry['model']}: nothing found")
        timings = entry["timings_s"]
        console.print(
            f"{timings['total']:.1f} s ("
            + ", ".join(f"{k} {v:.1f}" for k, v in timings.items() if k != "total" and v >= 0.05)
            + f"), peak memory {entry['peak_memory_mib']:.0f} MiB"
        )
    for refusal in result["refused"]:
        Console(stderr=True).print(
            f"refused: series {refusal['series_uid']} for {refusal['model']}: {refusal['message']}"
        )
    console.print(f"Written to {out}. AI result, not verified: decision support, a person decides.")
