"""`clinfer fetch`: priors and series that were never sent, from a PACS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

if TYPE_CHECKING:
    from inference.gateways.archive_user import Archive
    from inference.gateways.retrieve import Fetched, Fetcher, RemoteSeries
    from inference.settings import Settings

EXIT_INCOMPLETE = 5


def fetch(
    archive: Annotated[str, typer.Option("--archive", help="Its name in the setting archives.")],
    study: Annotated[str, typer.Option("--study", help="A StudyInstanceUID.")] = "",
    accession: Annotated[str, typer.Option("--accession", help="An accession number.")] = "",
    patient: Annotated[
        str, typer.Option("--patient", help="A patient id; goes with --authority.")
    ] = "",
    authority: Annotated[
        str, typer.Option("--authority", help="Who gave the patient id (issuer).")
    ] = "",
    first_date: Annotated[
        str, typer.Option("--from", help="Studies of this day (YYYYMMDD) and later.")
    ] = "",
    last_date: Annotated[
        str, typer.Option("--to", help="Studies of this day (YYYYMMDD) and earlier.")
    ] = "",
    is_dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be fetched, and fetch nothing.")
    ] = False,
    data: Annotated[
        Path | None, typer.Option("--data", help="Data folder (setting data_dir).")
    ] = None,
    settings_file: Annotated[
        Path | None, typer.Option("--settings", help="A TOML file; see docs/settings.md.")
    ] = None,
) -> None:
    """List what a PACS has of a study or patient, and fetch the series that are not all here.

    With C-MOVE the running service receives; where none runs, the receiver is opened for as long
    as this takes. Everything goes through the same intake as what is sent unasked.
    """
    from inference.gateways.retrieve import Question
    from inference.settings import load_settings

    settings = load_settings({"data_dir": data}, settings_file=settings_file)
    question = Question(
        study_uid=study,
        accession_number=accession,
        patient_id=patient,
        authority=authority,
        first_date=first_date,
        last_date=last_date,
    )
    to = archive_named(settings, archive)
    question.check(to.name)
    with _fetcher(settings, to, is_dry_run=is_dry_run) as fetcher:
        series = fetcher.list_series(question)
        console = Console(highlight=False)
        console.print(_listing(series))
        wanted = [one for one in series if one.missing]
        if is_dry_run or not wanted:
            n_missing = sum(len(one.missing) for one in wanted)
            console.print(f"{n_missing} instances in {len(wanted)} series are not here")
            return
        fetched = _fetch_all(fetcher, wanted)
    _report(console, fetched)
    if not all(one.is_complete for one in fetched):
        raise typer.Exit(EXIT_INCOMPLETE)


def archive_named(settings: Settings, name: str) -> Archive:
    """Return an archive of the settings.

    Raises
    ------
    FetchError
        There is none of this name.
    """
    from inference.gateways.archive_user import Archive, FetchError

    for one in settings.archives:
        if one.name == name:
            return Archive(
                name=one.name,
                host=one.host,
                port=one.port,
                called_aet=one.ae_title,
                calling_aet=settings.dicom_ae_title,
                retrieve=one.retrieve,
                issuer_of_patient_id=one.issuer_of_patient_id,
                timeout_s=one.timeout_s,
            )
    known = ", ".join(one.name for one in settings.archives) or "none"
    raise FetchError(
        archive=name, operation="settings", problem=f"is not among the setting archives ({known})"
    )


@contextmanager
def _fetcher(settings: Settings, to: Archive, *, is_dry_run: bool) -> Iterator[Fetcher]:
    """Open storage; where no service runs, also the receiver that C-MOVE sends to."""
    from inference.bootstrap import MIB, dimse_settings, intake_settings
    from inference.gateways.archive_user import ArchiveUser
    from inference.gateways.dimse import DimseServer
    from inference.gateways.retrieve import Fetcher
    from inference.jobs.intake import Intake
    from inference.jobs.sweep import DataFolderInUseError, data_folder_lock
    from inference.start_checks import prepare_data_folder
    from inference.storage.database import Database
    from inference.storage.objects import ObjectStore

    prepare_data_folder(settings.data_dir)
    with ExitStack() as stack:
        is_alone = True
        try:
            stack.enter_context(data_folder_lock(settings.data_dir))
        except DataFolderInUseError:
            is_alone = False
        url = settings.database_url
        database = Database.open(
            url.get_secret_value() if url else settings.data_dir / "clinfer.sqlite3"
        )
        stack.callback(database.close)
        objects = ObjectStore(settings.data_dir, reserve_bytes=settings.min_free_disk_mib * MIB)
        intake = Intake(database=database, objects=objects, settings=intake_settings(settings))
        if is_alone and to.retrieve == "move" and not is_dry_run:
            stack.enter_context(DimseServer(intake, dimse_settings(settings)))
        yield Fetcher(ArchiveUser(to), database, intake)


def _fetch_all(fetcher: Fetcher, wanted: list[RemoteSeries]) -> list[Fetched]:
    fetched = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        for one in wanted:
            label = f"{one.modality} {one.series_uid[-12:]}"
            task = progress.add_task(label, total=one.n_instances)

            def on_progress(n_done: int, task: object = task) -> None:
                progress.update(task, completed=n_done)  # type: ignore[arg-type]

            fetched.append(fetcher.fetch(one, on_progress))
    return fetched


def _listing(series: tuple[RemoteSeries, ...]) -> Table:
    table = Table(title="in the archive")
    for name in ("date", "study", "series", "modality", "description", "instances", "missing"):
        table.add_column(name, overflow="fold")
    for one in series:
        table.add_row(
            one.study_date,
            one.study_uid,
            one.series_uid,
            one.modality,
            one.description,
            str(one.n_instances),
            str(len(one.missing)),
        )
    return table


def _report(console: Console, fetched: list[Fetched]) -> None:
    for one in fetched:
        line = f"{one.series.series_uid}: {one.n_arrived} of {len(one.series.missing)} came"
        if one.sent.n_failed or one.sent.problem:
            line += f"; the archive says: {one.sent.n_failed} failed {one.sent.problem}".rstrip()
        console.print(line, soft_wrap=True)
        for reason in one.refused[:10]:
            console.print(f"  refused: {reason}", soft_wrap=True)
