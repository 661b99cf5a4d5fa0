"""A worker in a process of its own, to be paused; arguments: data folder, lease in seconds."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from inference.domain.job import RetryPolicy
from inference.domain.ports import Progress
from inference.domain.result import ResultDraft, ResultState
from inference.domain.study import StudyInput
from inference.jobs.worker import Worker
from inference.storage.database import Database
from inference.storage.objects import ObjectStore
from inference.telemetry import configure_logging


class SlowProcessor:
    """Says that it works, and works for half a second."""

    def process(
        self, study: StudyInput, *, out: Path, progress: Progress
    ) -> tuple[ResultDraft, ...]:
        sys.stdout.write("working\n")
        sys.stdout.flush()
        time.sleep(0.5)
        return (
            ResultDraft(
                key=f"{study.input_hash}/paused", series_uid="", model="counter",
                model_version="1", weights_sha256="", state=ResultState.FINDING,
            ),
        )  # fmt: skip


if __name__ == "__main__":
    configure_logging("error", "json")
    folder, lease_s = Path(sys.argv[1]), float(sys.argv[2])
    worker = Worker(
        database=Database.open(folder / "clinfer.sqlite"),
        objects=ObjectStore(folder, reserve_bytes=0),
        processor=SlowProcessor(),
        policy=RetryPolicy(lease_s=lease_s),
        name="paused",
    )
    worker.run_once()
    sys.stdout.write("ended\n")
