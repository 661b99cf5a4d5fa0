"""Hold a job while it runs: renew its lease from a thread of its own, and carry its progress."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from inference.domain.job import Job, RetryPolicy
from inference.jobs.errors import JobAbandonedError
from inference.storage import jobs
from inference.storage.database import Database
from inference.storage.errors import LeaseLostError
from inference.telemetry import get_logger

logger = get_logger(__name__)


class Lease:
    """Keeps a job's lease alive from a thread of its own, and carries its progress."""

    def __init__(self, database: Database, job: Job, policy: RetryPolicy) -> None:
        assert job.lease_owner is not None, "a claimed job has an owner"
        self.owner = job.lease_owner
        self._database, self._job, self._policy = database, job, policy
        self._fraction, self._step = 0.0, ""
        self._abandoned = ""
        self._written_at = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(
            target=self._keep, name=f"lease-of-job-{job.id}", daemon=True
        )

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def progress(self, fraction: float, step: str) -> None:
        """Record progress; see `inference.domain.ports.Progress`."""
        changed = step != self._step
        self._fraction, self._step = fraction, step
        if changed or time.monotonic() - self._written_at > 1.0:
            self._renew()
        if self._abandoned:
            raise JobAbandonedError(self._abandoned)

    def _keep(self) -> None:
        while not self._done.wait(self._policy.lease_s / 3):
            try:
                self._renew()
            except Exception:  # a thread's end: renewing is tried again in time
                logger.exception("lease could not be renewed", job_id=self._job.id)

    def _renew(self) -> None:
        self._written_at = time.monotonic()
        try:
            with self._database.write() as connection:
                is_newest = jobs.renew(
                    connection,
                    self._job.id,
                    owner=self.owner,
                    now=self._database.now(connection),
                    lease_s=self._policy.lease_s,
                    progress=self._fraction,
                    step=self._step,
                )
        except LeaseLostError as error:
            self._abandoned = str(error)
            return
        if not is_newest:
            self._abandoned = "a later version of the study took over"
