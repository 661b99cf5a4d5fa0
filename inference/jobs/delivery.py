"""Send results to other systems until they acknowledge; the outbox table is the only memory.

A crash between sending and noting the acknowledgement sends the same bytes once more. They carry
the same SOP Instance UID, so the receiver ends with one copy.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from inference.domain.ports import CommitmentAsker, ObjectSender
from inference.domain.result import Commitment, Delivery, Destination, ResultFile
from inference.jobs.commitment import CommitmentDesk
from inference.jobs.errors import DeliveryError
from inference.jobs.owner import new_owner
from inference.storage import audit, deliveries
from inference.storage.database import Database
from inference.storage.errors import LeaseLostError, ObjectDamagedError
from inference.storage.objects import ObjectStore
from inference.telemetry import get_logger

logger = get_logger(__name__)

MAX_ERROR_LENGTH = 1000


@dataclass(frozen=True, kw_only=True)
class DeliveryPolicy:
    """How long to insist.

    Attributes
    ----------
    max_tries : attempts before the delivery is dead; a button starts it again
    backoff_s, backoff_cap_s : wait before try 2; it doubles up to the cap. 20 tries with these
        figures insist for about 14 hours: a night without the PACS
    jitter : each wait is lengthened by up to this fraction, so that a receiver that comes back
        is not met by everything at once
    """

    max_tries: int = 20
    backoff_s: float = 5.0
    backoff_cap_s: float = 3600.0
    jitter: float = 0.2

    def wait(self, tries: int) -> timedelta:
        """Time to wait after this many attempts (1 or more)."""
        seconds = min(self.backoff_cap_s, self.backoff_s * 2 ** (tries - 1))
        return timedelta(seconds=seconds * (1 + self.jitter * random.random()))  # noqa: S311 - no secret


class DeliveryWorker:
    """Sends what is due to one destination, so that a slow one does not hold up the others."""

    def __init__(
        self,
        *,
        database: Database,
        objects: ObjectStore,
        destination: Destination,
        sender: ObjectSender,
        policy: DeliveryPolicy | None = None,
        delivered: Callable[[Delivery, float], None] = lambda due, seconds: None,
        asker: CommitmentAsker | None = None,
    ) -> None:
        self.database = database
        self.objects = objects
        self.destination = destination
        self.sender = sender
        self.policy = policy or DeliveryPolicy()
        self.delivered = delivered
        """Told each acknowledged object, and the seconds since its result was stored."""

        self.asker = asker
        """Asks whether what was sent is kept; needed where the destination is to commit."""

        self.name = f"deliver-to-{destination.name}"
        self._desk = CommitmentDesk(database=database, wait=self.policy.wait)
        if asker is None and destination.commitment is not Commitment.NONE:
            raise ValueError(f"destination {destination.name} is to commit; give an asker")

    def run(self, stop: threading.Event, *, poll_s: float = 1.0) -> None:
        """Send until told to stop; the object in hand is finished first."""
        while not stop.is_set():
            try:
                if not self.run_once():
                    self.database.wait(poll_s)
            except Exception:  # a thread's end: the database may be back next time
                logger.exception("delivery could not go on; trying again", worker=self.name)
                stop.wait(poll_s)

    def run_once(self) -> bool:
        """Send one object if one is due, else ask about one that was sent; False: neither was."""
        return self._send_once() or self._ask_once()

    def _send_once(self) -> bool:
        with self.database.read() as connection:
            if not deliveries.has_work(
                connection,
                now=self.database.now(connection),
                destination=self.destination.name,
            ):
                return False
        owner = new_owner(self.name)
        with self.database.write() as connection:
            due = deliveries.claim(
                connection,
                now=self.database.now(connection),
                destination=self.destination.name,
                owner=owner,
                lease_s=3 * self.destination.timeout_s,
            )
        if due is None:
            return False
        self._send(due, owner)
        return True

    def _ask_once(self) -> bool:
        if self.asker is None:
            return False
        opened = self._desk.open(self.destination)
        if opened is None:
            return False
        due, transaction_uid = opened
        log = logger.bind(delivery_id=due.id, destination=due.destination, kind=due.kind)
        try:
            answer = self.asker.ask(self.objects.path(due.sha256), _file_of(due), transaction_uid)
        except (DeliveryError, OSError) as error:
            log.warning("commitment could not be asked for", reason=str(error))
            self._desk.not_asked(due, str(error))
            return True
        if answer is not None and self._desk.settle(due, answer):
            log.info("committed" if answer.is_kept else "not committed", reason=answer.problem)
            if answer.is_kept:
                self._tell_delivered(due)
        return True

    def _tell_delivered(self, due: Delivery) -> None:
        with self.database.read() as connection:
            now = self.database.now(connection)
        self.delivered(due, (now - due.created_at).total_seconds())

    def _send(self, due: Delivery, owner: str) -> None:
        log = logger.bind(delivery_id=due.id, destination=due.destination, kind=due.kind)
        try:
            try:
                self.objects.verify(due.sha256)
                self.sender.send(self.objects.path(due.sha256), _file_of(due))
            except (DeliveryError, ObjectDamagedError, OSError) as error:
                is_permanent = isinstance(error, DeliveryError) and error.is_permanent
                self._record_failure(due, owner, str(error), is_permanent=is_permanent)
                log.warning("not delivered", tries=due.tries + 1, reason=str(error))
            except Exception as error:  # a sender's own fault must not stop the others
                problem = f"{type(error).__name__}: {error}"
                self._record_failure(due, owner, problem, is_permanent=False)
                log.exception("not delivered", tries=due.tries + 1)
            else:
                if self.destination.commitment is not Commitment.NONE:
                    self._mark_sent(due, owner)
                    log.info("sent; to be committed", tries=due.tries + 1)
                    return
                self._acknowledge(due, owner)
                log.info("delivered", tries=due.tries + 1)
        except LeaseLostError as error:
            log.info("somebody else sends it now", reason=str(error))

    def _mark_sent(self, due: Delivery, owner: str) -> None:
        with self.database.write() as connection:
            now = self.database.now(connection)
            deliveries.mark_sent(connection, due.id, owner=owner, now=now)

    def _acknowledge(self, due: Delivery, owner: str) -> None:
        with self.database.write() as connection:
            now = self.database.now(connection)
            deliveries.acknowledge(connection, due.id, owner=owner, now=now)
            audit.append(
                connection,
                at=now,
                actor=self.name,
                action="result.delivered",
                subject=due.study_uid,
                detail={
                    "delivery_id": due.id,
                    "result_id": due.result_id,
                    "kind": due.kind,
                    "instance_uid": due.instance_uid,
                    "sha256": due.sha256,
                    "destination": due.destination,
                },
            )
        self.delivered(due, (now - due.created_at).total_seconds())

    def _record_failure(
        self, due: Delivery, owner: str, problem: str, *, is_permanent: bool
    ) -> None:
        tries = due.tries + 1
        is_dead = is_permanent or tries >= self.policy.max_tries
        with self.database.write() as connection:
            now = self.database.now(connection)
            deliveries.record_failure(
                connection,
                due.id,
                owner=owner,
                error=problem[:MAX_ERROR_LENGTH],
                next_at=None if is_dead else now + self.policy.wait(tries),
            )
            if is_dead:
                audit.append(
                    connection,
                    at=now,
                    actor=self.name,
                    action="result.undeliverable",
                    subject=due.study_uid,
                    detail={"delivery_id": due.id, "tries": tries, "problem": problem[:200]},
                )


def _file_of(due: Delivery) -> ResultFile:
    return ResultFile(
        kind=due.kind,
        sha256=due.sha256,
        size_bytes=0,
        media_type="application/dicom",
        sop_class_uid=due.sop_class_uid,
        instance_uid=due.instance_uid,
    )
