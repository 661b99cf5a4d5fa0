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

    again = clinfer(tmp_path, "people", "add", "root", "--role", "admin", typed=GOOD_PASSWORD)
    assert "error[person]: name: there is a person named root already" in again.stderr
    alone = clinfer(tmp_path, "people", "disable", "root")
    assert "error[person]: roles: root is the only admin" in alone.stderr


def test_a_password_that_is_tried_first_is_refused(tmp_path: Path) -> None:
    refused = clinfer(tmp_path, "people", "add", "ada", typed="password1234\n")
    assert refused.returncode == 5
    assert "error[password_rule]" in refused.stderr
    patient = clinfer(
        tmp_path, "people", "add", "pat", "--role", "patient", "--patient", "P-1",
        typed=GOOD_PASSWORD,
    )  # fmt: skip
    assert "patient: is written IDENTIFIER@AUTHORITY" in patient.stderr


def test_a_key_says_its_roles(tmp_path: Path) -> None:
    made = clinfer(tmp_path, "keys", "create", "ris", "--role", "integration")
    assert made.stdout.startswith("clf_")
    listed = clinfer(tmp_path, "keys", "list").stdout
    assert "integration" in listed
    assert "reader" not in listed
    wrong = clinfer(tmp_path, "keys", "create", "b", "--role", "patient")
    assert "error[api_key]" in wrong.stderr
