"""`clinfer recall`: take back all that one version of a model made; first say whom it hits."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from inference.storage.recalls import Affected

MODEL_AND_VERSION = 2
MOST_ROWS = 50


def recall(
    model: Annotated[str, typer.Argument(metavar="MODEL@VERSION", help="As in model.toml.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it goes with every copy.")],
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Do it; without, only list what it would do.")
    ] = False,
    out: Annotated[Path, typer.Option("--csv", help="Where the list of patients goes.")] = Path(
        "recall.csv"
    ),
    data: Annotated[
        Path | None, typer.Option("--data", help="Data folder (setting data_dir).")
    ] = None,
    settings_file: Annotated[
        Path | None, typer.Option("--settings", help="A TOML file; see docs/settings.md.")
    ] = None,
) -> None:
    """Take back every result of a model's version, wherever a copy went.

    A running service (or the next start) tells each destination. Giving the command again goes on
    where it stopped, and changes nothing once all is done.
    """
    from inference.commands.why import open_database
    from inference.jobs.recall import find_affected, write_csv
    from inference.jobs.recall import recall as take_back
    from inference.settings import load_settings

    parts = model.split("@")
    if len(parts) != MODEL_AND_VERSION or not all(parts):
        raise typer.BadParameter(f"{model!r} is not MODEL@VERSION, as in ct_lung_seg@1.1.0")
    settings = load_settings({"data_dir": data}, settings_file=settings_file)
    database = open_database(settings)
    console = Console(highlight=False)
    try:
        if confirm:
            n_taken_back = take_back(
                database, *parts, reason=reason, by=f"recall:{getpass.getuser()}"
            )
        found = find_affected(database, *parts)
    finally:
        database.close()
    write_csv(out, found)
    _print(console, found)
    if confirm:
        console.print(f"{n_taken_back} results taken back now; the list of patients is in {out}")
    else:
        open_ones = sum(not one.is_retracted for one in found)
        console.print(
            f"{open_ones} results would be taken back; the list of patients is in {out}."
            " Nothing was changed: give --confirm to do it."
        )


def _print(console: Console, found: tuple[Affected, ...]) -> None:
    patients = {(one.patient_id, one.issuer_of_patient_id) for one in found}
    studies = {one.study_uid for one in found}
    destinations = {name for one in found for name in one.destinations}
    table = Table()
    for name in ("patient", "issuer", "study", "result", "outcome", "destinations", "retracted"):
        table.add_column(name, overflow="fold")
    for one in found[:MOST_ROWS]:
        table.add_row(
            one.patient_id,
            one.issuer_of_patient_id,
            one.study_uid,
            str(one.result_id),
            one.outcome,
            " ".join(one.destinations) or "none",
            "yes" if one.is_retracted else "no",
        )
    console.print(table)
    if len(found) > MOST_ROWS:
        console.print(f"and {len(found) - MOST_ROWS} more; the CSV has them all")
    console.print(
        f"{len(patients)} patients, {len(studies)} studies, {len(found)} results,"
        f" {len(destinations)} destinations"
    )
