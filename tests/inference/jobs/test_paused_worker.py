"""A worker process that stands still loses its job; what it says later is refused (AC-13)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from inference.domain.job import JobState, RetryPolicy
from inference.domain.study import Sender
from inference.jobs.intake import Intake
from inference.jobs.worker import Worker
from inference.storage import audit, jobs, results
from inference.storage.database import Database
from inference.storage.objects import ObjectStore
from tests.builders.instances import ct_file
from tests.inference.jobs.conftest import CountingProcessor

LEASE_S = 1.0


def test_the_late_answer_of_a_stopped_process_is_refused(
    tmp_path: Path, repository: Path, sender: Sender
) -> None:
    data = tmp_path / "shared"
    database = Database.open(data / "clinfer.sqlite")
    objects = ObjectStore(data, reserve_bytes=0)
    intake = Intake(database=database, objects=objects)
    receipt = intake.receive([ct_file()], sender=sender)
    intake.close_study(receipt.study_uid)
    command = [sys.executable, "-m", "tests.inference.jobs.paused_worker", str(data), str(LEASE_S)]
    with subprocess.Popen(command, cwd=repository, stdout=subprocess.PIPE, text=True) as paused:
        assert paused.stdout is not None
        _, status = os.waitpid(paused.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), "the worker ended before it took the job"
        try:
            other = Worker(
                database=database, objects=objects, processor=CountingProcessor(),
                policy=RetryPolicy(lease_s=LEASE_S), name="other",
            )  # fmt: skip
            deadline = time.monotonic() + 90
            while not other.run_once():
                assert time.monotonic() < deadline, "the lease never ran out"
                time.sleep(0.05)
        finally:
            os.kill(paused.pid, signal.SIGCONT)
        assert paused.stdout.readline() == "ended\n"
        assert paused.wait(20) == 0
    with database.read() as connection:
        (job,) = jobs.list_jobs(connection)
        (result,) = results.list_results(connection, current_only=False)
        finished = [event for event in audit.events(connection) if event.action == "job.finished"]
    database.close()
    assert (job.state, job.losses) == (JobState.DONE, 1)
    assert result.key.endswith("/counter")
    assert [event.actor for event in finished] == ["other"]
