"""`clinfer why`: what happened to a study, where its time went, and what it waits for."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from inference.domain.result import Result
    from inference.jobs.history import History
    from inference.settings import Settings
    from inference.storage.database import Database

PRIVATE = frozenset({"patient_id", "patient_name", "accession_number"})
"""Fields of a study that are never printed: this output is made to be passed on."""


def why(
    job: Annotated[str, typer.Argument(help="A job's number, or a StudyInstanceUID.")],
    data: Annotated[
        Path | None, typer.Option("--data", help="Data folder (setting data_dir).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, for programs.")] = False,
    settings_file: Annotated[
        Path | None, typer.Option("--settings", help="A TOML file; see docs/settings.md.")
    ] = None,
) -> None:
    """Tell what happened to a study: attempts, leases, results, stage times, deliveries.

    Reads only, so it may be asked while the service runs.
    """
    from inference.jobs.history import what_happened
    from inference.jobs.history import why as why_sentence
    from inference.settings import load_settings
    from inference.storage import jobs

    settings = load_settings({"data_dir": data}, settings_file=settings_file)
    database = open_database(settings)
    try:
        with database.read() as connection:
            is_number = job.isascii() and job.isdigit()
            study_uid = jobs.get_job(connection, int(job)).study_uid if is_number else job
            history = what_happened(connection, study_uid)
            sentence = why_sentence(history, now=database.now(connection))
    finally:
        database.close()
    if as_json:
        typer.echo(json.dumps({"why": sentence} | _plain(dataclasses.asdict(history)), indent=2))
    else:
        _print(history, sentence)


def open_database(settings: Settings) -> Database:
    """Open the database, and make none where there is none."""
    from inference.start_checks import DataFolderError
    from inference.storage.database import Database

    if settings.database_url is not None:
        return Database.open(settings.database_url.get_secret_value())
    file = settings.data_dir / "clinfer.sqlite3"
    if not file.is_file():
        raise DataFolderError(folder=settings.data_dir, problem="holds no database; see --data")
    return Database.open(file)


def _print(history: History, sentence: str) -> None:
    console = Console(highlight=False)
    console.print(f"study {history.study_uid}", soft_wrap=True)
    if history.study is not None:
        study = history.study
        console.print(
            f"{study.n_instances} instances in {study.n_series} series, version {study.version},"
            f" received {_at(study.first_received_at)} to {_at(study.last_received_at)}",
            soft_wrap=True,
        )
    console.print(f"why: {sentence}", soft_wrap=True)
    _print_jobs(console, history)
    for result in history.results:
        if result.is_current and result.stages_s:
            console.print(stage_table(result))
    _print_deliveries(console, history)
    _print_events(console, history)


def stage_table(result: Result) -> Table:
    """Return the eight stages of a result with their seconds and share."""
    from inference.domain.stages import OTHER, STAGE_MEANING, STAGES

    stages = result.stages_s
    total = sum(stages.values())
    peak = result.peak_memory_mib
    table = Table(
        title=f"result {result.id}: {result.model} {result.model_version}, {result.state.value}",
        caption="" if peak is None else f"peak memory {peak:.0f} MiB",
    )
    table.add_column("stage")
    table.add_column("seconds", justify="right")
    table.add_column("share", justify="right")
    table.add_column("what it is", overflow="fold")
    for name in (*STAGES, OTHER):
        if name in stages:
            share = f"{stages[name] / total:.0%}" if total else ""
            table.add_row(name, f"{stages[name]:.2f}", share, STAGE_MEANING[name])
        elif name != OTHER:
            table.add_row(name, "-", "", STAGE_MEANING[name])
    table.add_row("total", f"{total:.2f}", "", "")
    return table


def _print_jobs(console: Console, history: History) -> None:
    from inference.jobs.history import holder

    table = Table(title="jobs")
    for name in ("job", "model", "state", "priority", "tries", "losses", "started", "reason"):
        table.add_column(name, overflow="fold")
    for job in history.jobs:
        reason = f"{job.reason_code}: {job.reason}" if job.reason_code else holder(job)
        table.add_row(
            str(job.id),
            job.model or "every",
            job.state.value,
            job.priority.name.lower(),
            str(job.tries),
            str(job.losses),
            _at(job.started_at),
            reason,
        )
    if history.jobs:
        console.print(table)


def _print_deliveries(console: Console, history: History) -> None:
    table = Table(title="deliveries")
    for name in ("result", "kind", "to", "state", "tries", "delivered", "last error"):
        table.add_column(name, overflow="fold")
    for one in history.deliveries:
        table.add_row(
            str(one.result_id),
            one.kind,
            one.destination,
            one.state.value,
            str(one.tries),
            _at(one.delivered_at),
            one.last_error,
        )
    if history.deliveries:
        console.print(table)


def _print_events(console: Console, history: History) -> None:
    for action, count in sorted(history.n_counted.items()):
        console.print(f"{count} x {action}")
    table = Table(title="on record")
    for name in ("at", "who", "what", "detail"):
        table.add_column(name, overflow="fold")
    for event in history.events:
        detail = ", ".join(f"{key} {value}" for key, value in event.detail.items() if value)
        table.add_row(_at(event.at), event.actor, event.action, detail)
    if history.events:
        console.print(table)


def _at(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"


def _plain(value: Any) -> Any:
    """Return a value that JSON takes, without what names a patient."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items() if key not in PRIVATE}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Enum):
        return value.name.lower() if isinstance(value.value, int) else value.value
    return value
