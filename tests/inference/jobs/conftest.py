"""An intake with its database and object store, and processors that do little."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import event

from inference.domain.ports import Progress
from inference.domain.result import ResultDraft, ResultState, ReusedResult
from inference.domain.study import Channel, Sender, StudyInput
from inference.jobs.completion import CompletionRule
from inference.jobs.intake import Intake, IntakeSettings
from inference.storage.database import Database
from inference.storage.objects import Disk, ObjectStore
from tests.builders.clock import SetClock

SENDER = Sender(channel=Channel.UPLOAD, name="tester", address="127.0.0.1")


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


class UnsyncedDisk(Disk):
    """Leaves syncing out: these tests ask what is done, in which order, and by whom.

    That every sync happens is asked in tests/inference/storage and tests/chaos.
    """

    def fsync(self, path: Path) -> None:
        pass


@pytest.fixture
def database(tmp_path: Path, clock: SetClock) -> Iterator[Database]:
    opened = Database.open(tmp_path / "data" / "clinfer.sqlite", clock=clock)
    opened.close()

    @event.listens_for(opened.engine, "connect")
    def _do_not_sync(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA synchronous=OFF")

    yield opened
    opened.close()


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "data", disk=UnsyncedDisk(), reserve_bytes=0)


@pytest.fixture
def intake(database: Database, objects: ObjectStore) -> Intake:
    return Intake(
        database=database,
        objects=objects,
        settings=IntakeSettings(completion=CompletionRule(quiet_period_s=5.0)),
    )


@pytest.fixture
def sender() -> Sender:
    return SENDER


@dataclass
class CountingProcessor:
    """One result about the whole input set; remembers every call, and may be told to fail."""

    calls: list[StudyInput] = field(default_factory=list)
    before: Callable[[StudyInput, Progress], None] = lambda study, progress: None

    def process(
        self, study: StudyInput, *, out: Path, progress: Progress
    ) -> tuple[ResultDraft | ReusedResult, ...]:
        self.calls.append(study)
        self.before(study, progress)
        key = f"{study.input_hash}/counter"
        if key in study.stored_keys:
            return (ReusedResult(key=key),)
        file = out / "result.json"
        file.write_text(json.dumps({"n_instances": len(study.instance_paths)}))
        return (
            ResultDraft(
                key=key,
                series_uid="",
                model="counter",
                model_version="1",
                weights_sha256="",
                state=ResultState.FINDING,
                files={"result": file},
                summary={"n_instances": len(study.instance_paths), "status": "released"},
            ),
        )


@pytest.fixture
def processor() -> CountingProcessor:
    return CountingProcessor()
