"""A worker in a process of its own that pauses itself; arguments: data folder, lease in seconds."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from inference.domain.job import RetryPolicy
from inference.domain.ports import Progress
from inference.domain.result import ResultDraft, ResultState
from inference.domain.study import StudyInput
from inference.jobs.worker import Worker
from inference.storage.database import Database
from inference.storage.objects import ObjectStore
from inference.telemetry import configure_logging


class StandingStillProcessor:
    """Stops its whole process in the middle of a study, until somebody lets it go on.

    It stops itself, so that the pause comes while the job is held and never before or after; and
    while it keeps this process from writing, so that no transaction is left open by the pause.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def process(
        self, study: StudyInput, *, out: Path, progress: Progress
    ) -> tuple[ResultDraft, ...]:
        with self._database._writer:
            os.kill(os.getpid(), signal.SIGSTOP)
        return (
            ResultDraft(
                key=f"{study.input_hash}/paused", series_uid="", model="counter",
                model_version="1", weights_sha256="", state=ResultState.FINDING,
            ),
        )  # fmt: skip


if __name__ == "__main__":
    configure_logging("error", "json")
    folder, lease_s = Path(sys.argv[1]), float(sys.argv[2])
    database = Database.open(folder / "clinfer.sqlite")
    worker = Worker(
        database=database,
        objects=ObjectStore(folder, reserve_bytes=0),
        processor=StandingStillProcessor(database),
        policy=RetryPolicy(lease_s=lease_s),
        name="paused",
    )
    worker.run_once()
    sys.stdout.write("ended\n")
