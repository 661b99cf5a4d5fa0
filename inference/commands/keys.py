"""`clinfer keys`: make, list and revoke the keys of the HTTP API."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from inference.domain.roles import Role

if TYPE_CHECKING:
    from inference.api.keys import ApiKeys

app = typer.Typer(help="Keys of the HTTP API.", no_args_is_help=True)
Data = Annotated[Path | None, typer.Option("--data", help="Data folder (setting data_dir).")]
Roles = Annotated[
    list[Role] | None, typer.Option("--role", help="What the key may do; may be given again.")
]
Name = Annotated[str, typer.Argument(help="Who or what uses the key.")]


@app.command()
def create(name: Name, role: Roles = None, data: Data = None) -> None:
    """Make a key and print it; it is shown only now, and only its hash is kept.

    Without --role it gets the roles integration and reader.
    """
    keys = _keys(data)
    key = keys.create(name, role) if role else keys.create(name)
    Console(stderr=True).print(
        f"Key of {name}. Keep it now: it cannot be shown again.", highlight=False
    )
    typer.echo(key)


@app.command("list")
def list_(data: Data = None) -> None:
    """List the keys by name; the keys themselves are not known any more."""
    table = Table()
    for column in ("name", "id", "roles", "made"):
        table.add_column(column)
    for key in _keys(data).listed():
        table.add_row(key.name, key.key_id, ", ".join(key.roles), key.created_at)
    Console().print(table)


@app.command()
def revoke(name: Name, data: Data = None) -> None:
    """Revoke a key; a running service refuses it at once."""
    _keys(data).revoke(name)
    typer.echo(f"revoked {name}")


def _keys(data: Path | None) -> ApiKeys:
    from inference.api.keys import ApiKeys
    from inference.settings import load_settings

    return ApiKeys(load_settings({"data_dir": data}).keys_path)
