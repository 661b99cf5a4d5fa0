"""`clinfer people` and `clinfer keys`: the first admin, and no password where others can see it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from inference.api.passwords import Passwords
from inference.domain.roles import Role
from inference.storage import audit, people
from inference.storage.database import Database
from tests.builders.app import GOOD_PASSWORD


def clinfer(folder: Path, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "inference", *words, "--data", str(folder)],
        input=typed,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def in_process(folder: Path, *words: str, typed: str = "") -> tuple[str, str]:
    """Run a command here, which saves the start; returns its output and its error."""
    from typer.testing import CliRunner

    from inference.__main__ import app

    done = CliRunner().invoke(app, [*words, "--data", str(folder)], input=typed)
    return done.stdout, str(done.exception or "")


def test_the_first_admin_is_made_from_standard_input(tmp_path: Path) -> None:
    made = clinfer(tmp_path, "people", "add", "Root", "--role", "admin", typed=GOOD_PASSWORD)
    assert made.returncode == 0, made.stderr
    assert GOOD_PASSWORD not in made.stdout + made.stderr
    database = Database.open(tmp_path / "clinfer.sqlite3")
    with database.read() as connection:
        root = people.get(connection, "root")
        (event,) = audit.events(connection)
    database.close()
    assert root.roles == {Role.ADMIN}
    assert Passwords().verify(GOOD_PASSWORD, root.password_hash)
    assert (event.actor, event.action, event.subject) == ("command line", "person.added", "root")

    again = in_process(tmp_path, "people", "add", "root", "--role", "admin", typed=GOOD_PASSWORD)
    assert "name: there is a person named root already" in again[1]
    assert "roles: root is the only admin" in in_process(tmp_path, "people", "disable", "root")[1]
    in_process(tmp_path, "people", "add", "ada", "--role", "reader", typed=GOOD_PASSWORD)
    in_process(tmp_path, "people", "roles", "ada", "--role", "surgeon")
    in_process(tmp_path, "people", "password", "ada", typed="another quiet harbour\n")
    in_process(tmp_path, "people", "disable", "ada")
    database = Database.open(tmp_path / "clinfer.sqlite3")
    with database.read() as connection:
        ada = people.get(connection, "ada")
    database.close()
    assert (ada.roles, ada.is_disabled) == ({Role.SURGEON}, True)
    assert ada.must_change_password
    assert Passwords().verify("another quiet harbour", ada.password_hash)
    assert "shut out" in in_process(tmp_path, "people", "list")[0]


def test_a_password_that_is_tried_first_is_refused(tmp_path: Path) -> None:
    refused = in_process(tmp_path, "people", "add", "ada", typed="password1234\n")
    assert "tried first" in refused[1]
    patient = in_process(
        tmp_path, "people", "add", "pat", "--role", "patient", "--patient", "P-1",
        typed=GOOD_PASSWORD,
    )  # fmt: skip
    assert "patient: is written IDENTIFIER@AUTHORITY" in patient[1]


def test_a_key_says_its_roles(tmp_path: Path) -> None:
    made, _ = in_process(tmp_path, "keys", "create", "ris", "--role", "integration")
    assert made.splitlines()[-1].startswith("clf_")
    listed, _ = in_process(tmp_path, "keys", "list")
    assert "integration" in listed
    assert "reader" not in listed
    assert (
        "none of a patient" in in_process(tmp_path, "keys", "create", "b", "--role", "patient")[1]
    )
