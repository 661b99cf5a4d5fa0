"""`clinfer batch`: one model over a whole archive, on every core or a cluster."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

if TYPE_CHECKING:
    from inference.jobs.batch import Batch
    from inference.jobs.batch_outcome import BatchReport
    from inference.jobs.batch_sources import BatchSource
    from inference.settings import Settings

MIB = 2**20
MORE_IN_FLIGHT = 2
"""Studies held beyond the number of cores, so that the model server is never without one."""

OUTCOMES = ("finding", "no_finding", "not_applicable", "refused", "failed", "not_fetched")
MOST_LISTED = 20
EXIT_INTERRUPTED = 130


def batch(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder tree or archive, a DICOMweb root (http...), or a CSV of"
            " StudyInstanceUIDs (with --from)."
        ),
    ],
    model: Annotated[str, typer.Option("--model", help="The model to run.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Copy the results' files there as well.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, max=256, help="Cores to use (default: all).")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--filter", help="QIDO filter, as in ModalitiesInStudy=CT; may be repeated."),
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="DICOMweb root of the studies that a CSV lists.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Data folder (setting data_dir).")
    ] = None,
    settings_file: Annotated[
        Path | None, typer.Option("--settings", help="A TOML file; see docs/settings.md.")
    ] = None,
) -> None:
    """Analyse every study of an archive; what has its result already is skipped.

    Exit codes: 0 every study has an outcome, 3 some were refused, 4 the model fits none, 5 some
    failed or could not be fetched. Run it again to go on.
    """
    from dicom_io.assemble import available_workers
    from inference.settings import load_settings
    from inference.telemetry import configure_logging

    settings = load_settings({"data_dir": data}, settings_file=settings_file)
    is_quiet = sys.stderr.isatty() and settings.log_level == "info"  # lines would tear the bar
    configure_logging("error" if is_quiet else settings.log_level, settings.log_format)
    chosen = _source(source, settings, filters=where or [], listed_at=from_)
    try:
        with _sigterm_as_ctrl_c(), ExitStack() as stack:
            prepared, export = _prepare(
                stack, settings, chosen, model, workers or available_workers()
            )
            report = prepared.run(_told(stack))
            n_exported = export(report, out) if out is not None else 0
    except KeyboardInterrupt as error:
        sys.stderr.write("error[interrupted]: stopped; the same command goes on from here\n")
        raise typer.Exit(EXIT_INTERRUPTED) from error
    _say(report, out, n_exported)
    _end(report, model)


def _source(
    source: str, settings: Settings, *, filters: list[str], listed_at: str | None
) -> BatchSource:
    from inference.gateways.archive_query import DicomwebOptions, DicomwebSource, parse_filters
    from inference.jobs.batch_sources import FolderSource, read_study_uids

    is_url = source.startswith(("http://", "https://"))
    is_list = not is_url and source.lower().endswith(".csv")
    if filters and not is_url:
        raise typer.BadParameter("belongs to a DICOMweb source", param_hint="--filter")
    if is_list != (listed_at is not None):
        raise typer.BadParameter("goes with a CSV, and a CSV with it", param_hint="--from")
    if not is_url and not is_list:
        return FolderSource(Path(source))
    password, token = settings.batch_source_password, settings.batch_source_token
    options = DicomwebOptions(
        url=listed_at or source,
        user=settings.batch_source_user or "",
        password=password.get_secret_value() if password else "",
        token=token.get_secret_value() if token else "",
    )
    if is_list:
        return DicomwebSource(options, study_uids=read_study_uids(Path(source)))
    return DicomwebSource(options, filters=parse_filters(filters))


def _prepare(
    stack: ExitStack, settings: Settings, source: BatchSource, model: str, workers: int
) -> tuple[Batch, Callable[[BatchReport, Path], int]]:
    """Open what a batch works with; all of it is closed with the stack."""
    from inference.bootstrap import DEFAULT_MODEL_REPO, encodings_for, make_engine
    from inference.domain.job import RetryPolicy
    from inference.jobs.batch import Batch, BatchParts
    from inference.jobs.batch_export import export
    from inference.jobs.batch_processor import BatchProcessor
    from inference.jobs.batch_receive import StorePlace
    from inference.jobs.ray_batch import RayOptions, RayPool
    from inference.jobs.sweep import data_folder_lock, sweep
    from inference.jobs.worker import Worker
    from inference.pipeline.spec import list_models, load_spec
    from inference.start_checks import prepare_data_folder, refuse_shadowed_package

    refuse_shadowed_package()
    repo = (settings.model_repo or DEFAULT_MODEL_REPO).resolve()
    known = list_models(repo)
    if model not in known:
        raise typer.BadParameter(
            f"no model {model} in {repo}; there are: {', '.join(known) or 'none'}",
            param_hint="--model",
        )
    spec = load_spec(repo / model)
    prepare_data_folder(settings.data_dir)
    stack.enter_context(data_folder_lock(settings.data_dir))
    url = settings.database_url
    place = StorePlace(
        data_dir=settings.data_dir.resolve(),
        database_url=url.get_secret_value() if url else "",
        reserve_bytes=settings.min_free_disk_mib * MIB,
        model=model,
        source=source.name,
    )
    database, objects = place.open()
    stack.callback(database.close)
    policy = RetryPolicy(max_tries=settings.job_max_tries)
    sweep(database, objects, policy=policy)
    engine = make_engine(settings, (model,), repo)
    stack.callback(engine.stop)
    engine.start()
    token = settings.ray_token
    pool = stack.enter_context(
        RayPool(
            RayOptions(
                workers=workers,
                object_store_mib=settings.ray_object_store_mib,
                address=settings.ray_address or "",
                token=token.get_secret_value() if token else "",
            )
        )
    )
    processor = BatchProcessor(
        spec=spec, predictor=engine, pool=pool, encodings=encodings_for(settings)
    )
    holders = tuple(
        Worker(
            database=database,
            objects=objects,
            processor=processor,
            policy=policy,
            name=f"batch-{number + 1}",
            model=model,
        )
        for number in range(workers + MORE_IN_FLIGHT)
    )
    parts = BatchParts(
        database=database, objects=objects, place=place, pool=pool, workers=holders, spec=spec
    )
    return Batch(source, parts), lambda report, out: export(report, parts, out)


def _told(stack: ExitStack) -> Callable[[BatchReport], None]:
    """Return what shows progress: items done of all, studies an hour, time left."""
    bar = stack.enter_context(
        Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
    )
    task = bar.add_task("studies", total=None, rate="")

    def told(report: BatchReport) -> None:
        bar.update(task, total=report.n_items, completed=report.n_items_done, rate=_rate(report))

    return told


def _rate(report: BatchReport) -> str:
    n_made = len(report.lines) - report.n_skipped
    if not n_made or not report.seconds:
        return ""
    return f"{n_made / report.seconds * 3600:.0f} studies/h"


def _say(report: BatchReport, out: Path | None, n_exported: int) -> None:
    """Print the table of outcomes, and each study that has no result."""
    console = Console()
    table = Table(title=f"{len(report.lines)} studies in {report.seconds:.1f} s {_rate(report)}")
    table.add_column("outcome")
    table.add_column("studies", justify="right")
    for outcome in OUTCOMES:
        table.add_row(outcome.replace("_", " "), str(report.count(outcome)))
    table.add_row("skipped: had a result", str(report.n_skipped))
    console.print(table)
    wrong = [
        line
        for line in report.lines
        if line.outcome in ("refused", "failed", "not_fetched") and not line.was_there
    ]
    for line in wrong[:MOST_LISTED]:
        console.print(
            f"{line.outcome}: {line.study_uid}: {line.code}: {line.reason}", soft_wrap=True
        )
    if len(wrong) > MOST_LISTED:
        console.print(f"... and {len(wrong) - MOST_LISTED} more; `clinfer why STUDY` tells each")
    for code, count in sorted(report.refused_files.items()):
        console.print(f"{count} files refused: {code}")
    for code, count in sorted(report.left_alone.items()):
        console.print(f"{count} files left alone: {code}")
    if out is not None:
        console.print(f"Files of {n_exported} results are in {out}.")
    console.print("AI results, not verified: decision support, a person decides.")


def _end(report: BatchReport, model: str) -> None:
    """Raise what gives the exit code, unless every study has an outcome."""
    from inference.domain.errors import NoApplicableModelError
    from inference.jobs.batch_outcome import BatchIncompleteError, BatchRefusedError

    n_wrong = report.count("failed") + report.count("not_fetched")
    if n_wrong:
        raise BatchIncompleteError(
            f"{n_wrong} of {len(report.lines)} studies failed or could not be fetched;"
            " run it again to try them again"
        )
    if report.count("refused"):
        raise BatchRefusedError(
            f"{report.count('refused')} of {len(report.lines)} studies were refused"
        )
    if report.lines and report.count("not_applicable") == len(report.lines):
        raise NoApplicableModelError(f"{model} fits none of {len(report.lines)} studies")


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM end the batch as Ctrl-C does, with everything closed that was opened."""
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)
