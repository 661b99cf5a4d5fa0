"""`clinfer check`: whether what is installed still gives the published answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from inference.domain.errors import ClinferError

app = typer.Typer(help="Check what is installed against published answers.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Keep `vectors` a word of its own while it is the only check."""


class VectorsMissedError(ClinferError):
    """At least one vector was not reproduced; the lines above name each."""

    code = "vectors_missed"

    def __init__(self, *, n_missed: int, n_vectors: int) -> None:
        self.n_missed, self.n_vectors = n_missed, n_vectors
        super().__init__(f"{n_missed} of {n_vectors} vectors were not reproduced")


@app.command()
def vectors(
    file: Annotated[Path, typer.Argument(help="A file of schema clinical-vectors/1.")],
    markdown: Annotated[
        Path | None, typer.Option(help="Also write the table to this Markdown file.")
    ] = None,
) -> None:
    """Evaluate every vector of FILE: a table per module, and a line for each one missed.

    A module, kind of vector or field that is not known here counts as missed, by name.

    Raises
    ------
    VectorFileError
        FILE cannot be read or is of another schema.
    VectorsMissedError
    """
    from inference.vectors.document import load_suite
    from inference.vectors.report import markdown_table
    from inference.vectors.run import run_suite, summarise

    verdicts = run_suite(load_suite(file))
    table = Table()
    for name in ("module", "vectors", "passed", "worst error", "of its tolerance", "in"):
        is_text = name in ("module", "in")
        table.add_column(name, justify="left" if is_text else "right", overflow="fold")
    for row in summarise(verdicts):
        table.add_row(
            row.module,
            str(row.n_vectors),
            str(row.n_passed),
            f"{row.worst_error:.2g}",
            f"{row.worst_share:.0%}" if row.worst_share < 1e6 else "-",
            row.worst_id,
        )
    console = Console()
    console.print(table)
    missed = [one for one in verdicts if one.problem]
    for one in missed:
        console.print(
            f"missed {one.id} ({one.module}): {one.problem}", markup=False, highlight=False
        )
    if markdown is not None:
        markdown.write_text(markdown_table(verdicts), encoding="utf-8")
    if missed:
        raise VectorsMissedError(n_missed=len(missed), n_vectors=len(verdicts))
    console.print(f"all {len(verdicts)} vectors reproduced")
