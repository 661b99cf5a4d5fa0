"""The thread that does what time alone does: reading tasks, claims, deadlines, job events."""

from __future__ import annotations

import threading

from sqlalchemy.exc import SQLAlchemyError

from inference.services.telemedicine import timers
from inference.storage import workitem_events, workitems_jobs
from inference.storage.database import Database
from inference.storage.errors import StorageError
from inference.storage.readings import BATCH
from inference.telemetry import get_logger

INTERVAL_S = 1.0
TIDY_EVERY = 600
log = get_logger(__name__)


class WorklistClock:
    """Looks once a second; what is due is in the database, so nothing is lost while it stands."""

    name = "worklist-clock"

    def __init__(self, database: Database) -> None:
        self._database = database

    def run(self, stop: threading.Event) -> None:
        """Tick until told to stop."""
        number = 0
        while not stop.wait(INTERVAL_S):
            number += 1
            try:
                n_done = self.tick(is_tidying=number % TIDY_EVERY == 0)
                while n_done >= BATCH and not stop.is_set():  # more than one transaction's worth
                    n_done = self.tick()
            except (StorageError, SQLAlchemyError) as error:  # tried again in a second
                log.warning("worklist clock", error=str(error))

    def tick(self, *, is_tidying: bool = False) -> int:
        """Do what is due now; return how much was."""
        with self._database.read() as connection:
            now = self._database.now(connection)
            is_due = timers.is_due(connection, now=now)
            has_watchers = workitem_events.has_watchers(connection)
        if not (is_due or has_watchers or is_tidying):
            return 0
        with self._database.write() as connection:
            now = self._database.now(connection)
            n_done = timers.run(connection, now=now) if is_due else 0
            n_done += workitems_jobs.report_changes(connection, now=now)
            if is_tidying:
                workitem_events.tidy(connection, now=now)
        return n_done
