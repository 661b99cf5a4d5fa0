"""Delivered means kept: ask each receiver, take its answer from whichever door it comes by.

The answer may come on the association that asked, later on one of the receiver's own, or not at
all. Each question has its transaction on record before it is asked, so that no answer is lost; one
that does not come is asked for again, and an object that is not kept is sent again, both with a
limit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta

from sqlalchemy import Connection

from inference.domain.ports import CommitmentAnswer
from inference.domain.result import Delivery, Destination
from inference.storage import audit, commitments, deliveries
from inference.storage.database import Database

MAX_ASKS = 10
"""Questions without an answer before a delivery is dead; the waits double up to an hour."""

MAX_RESENDS = 3
"""An archive that takes an object so often and does not keep it has a fault of its own."""

ANSWER_S = 60.0
"""How long to wait for an answer that comes later, before asking again."""


def _wait(tries: int) -> timedelta:
    return timedelta(seconds=min(3600.0, ANSWER_S * 2 ** (tries - 1)))


class CommitmentDesk:
    """Opens transactions and settles them."""

    def __init__(self, *, database: Database, wait: Callable[[int], timedelta] = _wait) -> None:
        self.database = database
        self.wait = wait

    def open(self, destination: Destination) -> tuple[Delivery, str] | None:
        """Take what has to be asked about at this destination, with a transaction of its own."""
        with self.database.read() as connection:
            now = self.database.now(connection)
            if not deliveries.has_sent(connection, now=now, destination=destination.name):
                return None
        with self.database.write() as connection:
            now = self.database.now(connection)
            due = deliveries.claim_sent(
                connection,
                now=now,
                destination=destination.name,
                ask_again_at=now + timedelta(seconds=ANSWER_S),
            )
            if due is None:
                return None
            transaction_uid, asks = commitments.begin(connection, due.id, now=now)
            if asks > MAX_ASKS:
                self._bury(connection, due, f"no answer on commitment after {MAX_ASKS} questions")
                return None
            return due, transaction_uid

    def not_asked(self, due: Delivery, problem: str) -> None:
        """Ask again soon: the receiver could not be reached."""
        with self.database.write() as connection:
            now = self.database.now(connection)
            deliveries.ask_again(connection, due.id, error=problem[:1000], at=now + self.wait(1))

    def answer(self, transaction_uid: str, kept: frozenset[str], failed: Mapping[str, str]) -> bool:
        """Take a report that came by itself; False: the transaction is none of ours.

        A report that names neither outcome for our object settles nothing.
        """
        with self.database.read() as connection:
            delivery_id = commitments.delivery_of(connection, transaction_uid)
            if delivery_id is None:
                return False
            due = deliveries.get_delivery(connection, delivery_id)
        if due.instance_uid in failed:
            self.settle(due, CommitmentAnswer(is_kept=False, problem=failed[due.instance_uid]))
        elif due.instance_uid in kept:
            self.settle(due, CommitmentAnswer(is_kept=True))
        return True

    def settle(self, due: Delivery, answer: CommitmentAnswer) -> bool:
        """Record an answer and what follows from it; False: it was settled before."""
        with self.database.write() as connection:
            now = self.database.now(connection)
            if deliveries.get_delivery(connection, due.id).state.value != "sent":
                return False
            resends = commitments.record(
                connection, due.id, is_kept=answer.is_kept, problem=answer.problem, now=now
            )
            if answer.is_kept:
                deliveries.commit(connection, due.id, now=now)
                self._note(connection, due, "result.delivered", {"sha256": due.sha256})
            elif resends > MAX_RESENDS:
                self._bury(
                    connection, due, f"not kept after {MAX_RESENDS} re-sends: {answer.problem}"
                )
            else:
                deliveries.not_committed(
                    connection,
                    due.id,
                    error=f"not committed: {answer.problem}"[:1000],
                    next_at=now + self.wait(resends),
                )
                self._note(connection, due, "result.not_committed", {"problem": answer.problem})
        self.database.notify()
        return True

    def _bury(self, connection: Connection, due: Delivery, problem: str) -> None:
        deliveries.not_committed(connection, due.id, error=problem[:1000], next_at=None)
        self._note(connection, due, "result.undeliverable", {"problem": problem[:200]})

    def _note(
        self, connection: Connection, due: Delivery, action: str, detail: dict[str, str]
    ) -> None:
        audit.append(
            connection,
            at=self.database.now(connection),
            actor=f"deliver-to-{due.destination}",
            action=action,
            subject=due.study_uid,
            detail={
                "delivery_id": due.id,
                "result_id": due.result_id,
                "kind": due.kind,
                "instance_uid": due.instance_uid,
                "destination": due.destination,
                **detail,
            },
        )
