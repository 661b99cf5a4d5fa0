"""Races for one workitem and for one reading: of claims made at once, exactly one wins.

``python -m tests.worklist.races --races 10000`` (`make races`) runs them on SQLite and, where it is
installed, PostgreSQL, and exits 1 where a race had not exactly one winner.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from inference.domain.reading import ReadingRefusedError
from inference.domain.workitem import WorkitemError
from inference.gateways.ups import Ups
from inference.services.telemedicine import service
from inference.storage import readings, workitems
from inference.storage.database import Database
from tests.builders import rows
from tests.builders.postgresql import find_binaries, running_postgresql
from tests.builders.workitems import new_workitem

Attempt = Callable[[], str]


@dataclass
class RaceCount:
    """How the claims ended; ``broken`` names each race that had not exactly one winner."""

    ends: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


def run_races(database: Database, other: Database, n_races: int) -> RaceCount:
    """Let two claim each of ``n_races`` things at once.

    ``other`` is a second handle on the same database, as another process has it: the writer lock of
    one handle does not order the two. SQLite makes such a pair wait for up to 0.1 s, so on it only
    every 41st race is one.
    """
    count = RaceCount()
    with database.write() as connection:
        now = database.now(connection)
        for number in range(1, 11):
            rows.receive(connection, now, study=number)
        service.make_due_tasks(connection, now=now)
        task_ids = [one.id for one in readings.open_tasks(connection)]
    for number in range(n_races):
        is_apart = not database.is_sqlite or number % 41 == 0
        second = other if is_apart else database
        if number % 5 == 4:
            task_id = task_ids[number % len(task_ids)]
            attempts = [_reads(database, task_id, "anna"), _reads(second, task_id, "ben")]
        else:
            uid, _ = Ups(database=database).create(new_workitem(), uid="", by="race")
            attempts = [_claims(database, uid, "1.1"), _claims(second, uid, "2.2")]
        ends = _at_once(attempts)
        count.ends.update(ends)
        if sorted(ends).count("won") != 1 or len(ends) != 2:
            count.broken.append(f"race {number}: {ends}")
        if number % 5 == 4:
            _give_back(database, task_id)
    return count


def _claims(database: Database, uid: str, held: str) -> Attempt:
    def attempt() -> str:
        try:
            Ups(database=database).change_state(uid, "IN PROGRESS", transaction_uid=held, by="race")
        except WorkitemError as error:
            return f"{error.status:04X}"
        with database.read() as connection:  # whoever won holds it with their own UID
            kept = workitems.get(connection, uid).transaction_uid
        return "won" if kept == held else "overwritten"

    return attempt


def _reads(database: Database, task_id: int, name: str) -> Attempt:
    def attempt() -> str:
        try:
            with database.write() as connection:
                now = database.now(connection)
                service.claim(connection, task_id, by=name, now=now)
        except ReadingRefusedError as error:
            return error.reason
        return "won"

    return attempt


def _give_back(database: Database, task_id: int) -> None:
    with database.write() as connection:
        now = database.now(connection)
        task = readings.get_task(connection, task_id)
        for read in task.reads:
            service.give_back(connection, task_id, by=read.reader, now=now)


def _at_once(attempts: list[Attempt]) -> list[str]:
    barrier = threading.Barrier(len(attempts))
    ends: list[str] = []

    def run(attempt: Attempt) -> None:
        barrier.wait()
        ends.append(attempt())

    threads = [threading.Thread(target=run, args=(attempt,)) for attempt in attempts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ends


def main() -> int:
    """Run the races of the command line on each database that is here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--races", type=int, default=10_000)
    parser.add_argument("--only", choices=("sqlite", "postgresql"))
    options = parser.parse_args()
    n_races, broken = options.races, 0
    if options.only != "postgresql":
        broken += _on_sqlite(n_races)
    if options.only != "sqlite":
        broken += _on_postgresql(n_races)
    return 1 if broken else 0


def _on_sqlite(n_races: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        return _report("sqlite", Path(folder) / "races.sqlite", n_races)


def _on_postgresql(n_races: int) -> int:
    binaries = find_binaries()
    if binaries is None:
        print("postgresql: not installed, not run")  # noqa: T201 - this is a command
        return 1
    with running_postgresql(binaries) as url:
        return _report("postgresql", url, n_races)


def _report(name: str, url: str | Path, n_races: int) -> int:
    first, second = Database.open(url), Database.open(url)
    count = run_races(first, second, n_races)
    first.close()
    second.close()
    print(f"{name}: {n_races} races, {dict(count.ends)}, broken: {count.broken[:5]}")  # noqa: T201
    return len(count.broken)


if __name__ == "__main__":
    sys.exit(main())
