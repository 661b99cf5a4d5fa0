"""Tell other systems what became of results until they acknowledge, in order for each patient.

The same as `inference.jobs.delivery`, but what is sent is written at the moment of sending and
carries an identifier that stays the same at each try, so that a receiver ends with one copy.
"""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Protocol

from inference.domain.report import ReportDelivery, ReportDestination
from inference.jobs.delivery import MAX_ERROR_LENGTH, DeliveryPolicy
from inference.jobs.errors import DeliveryError
from inference.jobs.owner import new_owner
from inference.storage import audit, report_deliveries
from inference.storage.database import Database
from inference.storage.errors import LeaseLostError
from inference.telemetry import get_logger

logger = get_logger(__name__)


class NotNowError(DeliveryError):
    """The receiver said when to come again; ``wait_s`` is that, within reason."""

    def __init__(self, *, destination: str, problem: str, wait_s: float) -> None:
        self.wait_s = wait_s
        super().__init__(destination=destination, problem=problem)


class ReportSender(Protocol):
    """Tells one destination of one event."""

    def send(self, due: ReportDelivery) -> None:
        """Return when the receiver has acknowledged it.

        Raises
        ------
        DeliveryError
        """
        ...


class ReportWorker:
    """Tells one destination what is due, one thing after another."""

    def __init__(
        self,
        *,
        database: Database,
        destination: ReportDestination,
        sender: ReportSender,
        policy: DeliveryPolicy | None = None,
    ) -> None:
        self._database = database
        self._destination = destination
        self._sender = sender
        self._policy = policy or DeliveryPolicy()
        self.name = f"report-to-{destination.name}"
        with database.write() as connection:
            report_deliveries.begin(connection, destination.name)

    def run(self, stop: threading.Event, *, poll_s: float = 1.0) -> None:
        """Send until told to stop; the report in hand is finished first."""
        while not stop.is_set():
            try:
                if not self.run_once():
                    self._database.wait(poll_s)
            except Exception:  # a thread's end: the database may be back next time
                logger.exception("reporting could not go on; trying again", worker=self.name)
                stop.wait(poll_s)

    def run_once(self) -> bool:
        """Send one report if one is due; False: nothing was."""
        name = self._destination.name
        with self._database.read() as connection:
            now = self._database.now(connection)
            if not report_deliveries.has_work(connection, now=now, destination=name):
                return False
        owner = new_owner(self.name)
        with self._database.write() as connection:
            now = self._database.now(connection)
            n_new = report_deliveries.fan_out(connection, self._destination, now=now)
            due = report_deliveries.claim(
                connection,
                now=now,
                destination=name,
                owner=owner,
                lease_s=3 * self._destination.timeout_s,
            )
        if due is None:
            return n_new > 0
        self._send(due, owner)
        return True

    def _send(self, due: ReportDelivery, owner: str) -> None:
        log = logger.bind(report_id=due.id, destination=due.destination, step=due.event.step.value)
        try:
            try:
                self._sender.send(due)
            except DeliveryError as error:
                self._record_failure(due, owner, error)
                log.warning("not reported", tries=due.tries + 1, reason=str(error))
            except Exception as error:  # a sender's own fault must not stop the others
                problem = f"{type(error).__name__}: {error}"
                self._record_failure(
                    due, owner, DeliveryError(destination=due.destination, problem=problem)
                )
                log.exception("not reported", tries=due.tries + 1)
            else:
                self._acknowledge(due, owner)
                log.info("reported", tries=due.tries + 1)
        except LeaseLostError as error:
            log.info("somebody else sends it now", reason=str(error))

    def _acknowledge(self, due: ReportDelivery, owner: str) -> None:
        with self._database.write() as connection:
            now = self._database.now(connection)
            report_deliveries.acknowledge(connection, due.id, owner=owner, now=now)
            audit.append(
                connection,
                at=now,
                actor=self.name,
                action="report.delivered",
                subject=f"result {due.event.result_id}",
                detail={"report_id": due.id, "step": due.event.step.value},
            )

    def _record_failure(self, due: ReportDelivery, owner: str, error: DeliveryError) -> None:
        tries = due.tries + 1
        is_dead = error.is_permanent or tries >= self._policy.max_tries
        wait = self._policy.wait(tries)
        if isinstance(error, NotNowError):
            wait = max(wait, timedelta(seconds=error.wait_s))
        with self._database.write() as connection:
            now = self._database.now(connection)
            report_deliveries.record_failure(
                connection,
                due.id,
                owner=owner,
                error=str(error)[:MAX_ERROR_LENGTH],
                next_at=None if is_dead else now + wait,
            )
            if is_dead:
                audit.append(
                    connection,
                    at=now,
                    actor=self.name,
                    action="report.undeliverable",
                    subject=f"result {due.event.result_id}",
                    detail={"report_id": due.id, "tries": tries, "problem": str(error)[:200]},
                )
