"""`clinfer people`: who may sign in; the first admin is made here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from inference.domain.roles import Role

if TYPE_CHECKING:
    from inference.storage.database import Database

app = typer.Typer(help="People who sign in, and their roles.", no_args_is_help=True)
Data = Annotated[Path | None, typer.Option("--data", help="Data folder (setting data_dir).")]
Name = Annotated[str, typer.Argument(help="The name that is typed to sign in.")]
Roles = Annotated[
    list[Role] | None, typer.Option("--role", help="What the person may do; may be given again.")
]
Patients = Annotated[
    list[str] | None,
    typer.Option(
        "--patient", help="IDENTIFIER@AUTHORITY of a patient that a patient or caregiver may see."
    ),
]
ACTOR = "command line"


@app.command()
def add(
    name: Name,
    role: Roles = None,
    patient: Patients = None,
    display_name: Annotated[str, typer.Option(help="The full name, for the pages.")] = "",
    must_change: Annotated[
        bool, typer.Option(help="Ask for another password at the first sign-in.")
    ] = False,
    data: Data = None,
) -> None:
    """Add a person; the password is asked for on the terminal, or read from standard input."""
    from inference.api.passwords import Passwords, check_password
    from inference.storage import audit, people

    password = _asked_password()
    check_password(password, name=name)
    with _database(data) as database:
        password_hash = Passwords().hash(password)
        with database.write() as connection:
            now = database.now(connection)
            made = people.add(
                connection,
                name=name,
                roles=role or (),
                display_name=display_name,
                password_hash=password_hash,
                must_change_password=must_change,
                compartment=_patients(patient),
                now=now,
            )
            audit.append(
                connection,
                at=now,
                actor=ACTOR,
                action="person.added",
                subject=made.name,
                detail={"roles": sorted(made.roles)},
            )
    typer.echo(f"{made.name} may sign in as {', '.join(sorted(made.roles)) or 'nothing yet'}")


@app.command("list")
def list_(data: Data = None) -> None:
    """List everybody with their roles."""
    from inference.storage import people

    table = Table()
    for column in ("name", "full name", "roles", "signs in", "state", "last"):
        table.add_column(column)
    with _database(data) as database, database.read() as connection:
        for one in people.list_people(connection):
            table.add_row(
                one.name,
                one.display_name,
                ", ".join(sorted(one.roles)),
                "here" if one.is_local else one.issuer,
                "shut out" if one.is_disabled else "active",
                one.signed_in_at.isoformat(timespec="minutes") if one.signed_in_at else "never",
            )
    Console().print(table)


@app.command()
def roles(name: Name, role: Roles = None, patient: Patients = None, data: Data = None) -> None:
    """Replace a person's roles; effective at the next request."""
    from inference.storage import audit, people

    with _database(data) as database, database.write() as connection:
        changed = people.set_roles(
            connection,
            name,
            role or (),
            compartment=None if patient is None else _patients(patient),
        )
        audit.append(
            connection,
            at=database.now(connection),
            actor=ACTOR,
            action="person.roles_changed",
            subject=changed.name,
            detail={"roles": sorted(changed.roles)},
        )
    typer.echo(f"{changed.name}: {', '.join(sorted(changed.roles)) or 'no role'}")


@app.command()
def password(
    name: Name,
    must_change: Annotated[
        bool, typer.Option(help="Ask for another password at the next sign-in.")
    ] = True,
    data: Data = None,
) -> None:
    """Give a person another password; every session of theirs ends."""
    from inference.api.passwords import Passwords, check_password
    from inference.storage import audit, people

    given = _asked_password()
    check_password(given, name=name)
    with _database(data) as database:
        password_hash = Passwords().hash(given)
        with database.write() as connection:
            now = database.now(connection)
            people.set_password(connection, name, password_hash, now=now, must_change=must_change)
            audit.append(
                connection,
                at=now,
                actor=ACTOR,
                action="person.password_changed",
                subject=name.lower(),
            )
    typer.echo(f"{name} has another password; every session has ended")


@app.command()
def disable(name: Name, data: Data = None) -> None:
    """Shut a person out; every session of theirs ends at once."""
    _set_disabled(name, data, is_disabled=True)
    typer.echo(f"{name} is shut out")


@app.command()
def enable(name: Name, data: Data = None) -> None:
    """Let a person in again."""
    _set_disabled(name, data, is_disabled=False)
    typer.echo(f"{name} may sign in again")


def _set_disabled(name: str, data: Path | None, *, is_disabled: bool) -> None:
    from inference.storage import audit, people

    with _database(data) as database, database.write() as connection:
        people.set_disabled(connection, name, is_disabled)
        audit.append(
            connection,
            at=database.now(connection),
            actor=ACTOR,
            action="person.disabled" if is_disabled else "person.enabled",
            subject=name.lower(),
        )


def _asked_password() -> str:
    if sys.stdin.isatty():
        asked: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
        return asked
    return sys.stdin.readline().rstrip("\r\n")


def _patients(given: list[str] | None) -> list[tuple[str, str]]:
    from inference.storage.people import PersonError

    found = []
    for one in given or ():
        identifier, _, authority = one.rpartition("@")
        if not identifier or not authority:
            raise PersonError(field="patient", problem="is written IDENTIFIER@AUTHORITY")
        found.append((identifier, authority))
    return found


@contextmanager
def _database(data: Path | None) -> Iterator[Database]:
    from inference.settings import load_settings
    from inference.storage.database import Database

    settings = load_settings({"data_dir": data})
    url = settings.database_url
    opened = Database.open(url.get_secret_value() if url else settings.data_dir / "clinfer.sqlite3")
    try:
        yield opened
    finally:
        opened.close()
