"""What was sent is delivered only once it is kept: answers early, late, bad, and none at all."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from inference.domain.job import JobState, RetryPolicy
from inference.domain.ports import CommitmentAnswer
from inference.domain.result import Commitment, DeliveryState, DicomwebDestination, ResultFile
from inference.jobs.commitment import ANSWER_S, MAX_ASKS, MAX_RESENDS, CommitmentDesk
from inference.jobs.delivery import DeliveryPolicy, DeliveryWorker
from inference.jobs.errors import DeliveryError
from inference.jobs.release import release_result, retract_result
from inference.storage import audit, deliveries, jobs, results
from inference.storage.database import Database
from inference.storage.objects import ObjectStore
from tests.builders.clock import SetClock
from tests.builders.rows import filed, receive

PACS = DicomwebDestination(
    name="pacs", url="http://127.0.0.1:1", kinds=("seg",), commitment=Commitment.READ_BACK
)
KEPT = CommitmentAnswer(is_kept=True)
LOST = CommitmentAnswer(is_kept=False, problem="no such object instance")


@dataclass
class Archive:
    """Takes everything; answers what it was told to, one answer for each question."""

    answers: list[CommitmentAnswer | Exception | None] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def send(self, path: Path, file: ResultFile) -> None:
        self.sent.append(file.instance_uid)

    def ask(self, path: Path, file: ResultFile, transaction_uid: str) -> CommitmentAnswer | None:
        self.asked.append(transaction_uid)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def archive() -> Archive:
    return Archive()


@pytest.fixture
def worker(
    database: Database, objects: ObjectStore, clock: SetClock, archive: Archive, tmp_path: Path
) -> DeliveryWorker:
    """An outbox with one object in it."""
    path = tmp_path / "object"
    path.write_bytes(b"the bytes of a segmentation")
    stored = objects.put(path)
    one = filed("k", kinds=("seg",))
    one = replace(one, files=(replace(one.files[0], sha256=stored.sha256),))
    with database.write() as connection:
        receive(connection, clock.now())
        taken = jobs.claim(connection, now=clock.now(), owner="a", policy=RetryPolicy())
        assert taken is not None
        jobs.finish(connection, taken.id, owner="a", now=clock.now(), state=JobState.DONE)
        (row_id,) = results.store(connection, taken, filed=[one], now=clock.now()).new
        deliveries.enqueue(connection, row_id, destinations=[PACS], now=clock.now())
    policy = DeliveryPolicy(backoff_s=1, backoff_cap_s=1, jitter=0)
    return DeliveryWorker(
        database=database, objects=objects, destination=PACS, sender=archive, policy=policy,
        asker=archive,
    )  # fmt: skip


def state(database: Database) -> tuple[DeliveryState, str]:
    with database.read() as connection:
        (one,) = deliveries.list_deliveries(connection)
    assert (one.delivered_at is not None) == (one.state is DeliveryState.COMMITTED)
    return one.state, one.last_error


def test_sent_is_not_delivered_until_it_is_committed(
    worker: DeliveryWorker, archive: Archive, database: Database
) -> None:
    archive.answers = [KEPT]
    assert worker.run_once()
    assert state(database) == (DeliveryState.SENT, "")
    with database.read() as connection:
        assert results.get_result(connection, 1).deliver_s is None
    assert worker.run_once()
    assert state(database) == (DeliveryState.COMMITTED, "")
    assert not worker.run_once()
    with database.read() as connection:
        actions = [event.action for event in audit.events(connection)]
        assert results.get_result(connection, 1).deliver_s == 0.0
    assert actions.count("result.delivered") == 1


def test_an_answer_may_come_later_by_another_door(
    worker: DeliveryWorker, archive: Archive, database: Database
) -> None:
    archive.answers = [None]
    assert worker.run_once()
    assert worker.run_once()
    desk = CommitmentDesk(database=database)
    (uid,), (transaction,) = set(archive.sent), archive.asked
    assert not desk.answer("2.25.1", frozenset({uid}), {})
    assert desk.answer(transaction, frozenset({"1.2.3"}), {})
    assert state(database)[0] is DeliveryState.SENT, "a report about something else"
    assert desk.answer(transaction, frozenset({uid}), {})
    assert state(database)[0] is DeliveryState.COMMITTED
    assert desk.answer(transaction, frozenset(), {uid: "too late"})
    assert state(database)[0] is DeliveryState.COMMITTED


def test_what_is_not_kept_is_sent_again_but_not_for_ever(
    worker: DeliveryWorker, archive: Archive, database: Database, clock: SetClock
) -> None:
    archive.answers = [LOST] * (MAX_RESENDS + 1)
    for _ in range(MAX_RESENDS + 1):
        clock.advance(2)
        assert worker.run_once()
        assert worker.run_once()
    assert len(archive.sent) == MAX_RESENDS + 1
    last, error = state(database)
    assert last is DeliveryState.DEAD
    assert "not kept after 3 re-sends: no such object instance" in error


def test_an_archive_that_never_answers_is_asked_so_often_and_no_more(
    worker: DeliveryWorker, archive: Archive, database: Database, clock: SetClock
) -> None:
    archive.answers = [None] * MAX_ASKS
    assert worker.run_once()
    for _ in range(MAX_ASKS):
        assert worker.run_once()
        assert not worker.run_once(), "it waits for the answer first"
        clock.advance(ANSWER_S + 1)
    worker.run_once()
    assert state(database)[0] is DeliveryState.DEAD
    assert len(set(archive.asked)) == MAX_ASKS
    assert len(archive.sent) == 1


def test_an_archive_that_is_away_is_asked_again(
    worker: DeliveryWorker, archive: Archive, database: Database, clock: SetClock
) -> None:
    archive.answers = [DeliveryError(destination="pacs", problem="nobody there"), KEPT]
    assert worker.run_once()
    assert worker.run_once()
    assert state(database) == (DeliveryState.SENT, "pacs: nobody there")
    clock.advance(2)
    assert worker.run_once()
    assert state(database)[0] is DeliveryState.COMMITTED


def test_what_was_taken_back_is_not_sent_again(
    worker: DeliveryWorker, archive: Archive, database: Database, clock: SetClock
) -> None:
    archive.answers = [LOST]
    assert worker.run_once()
    with database.write() as connection:
        retract_result(connection, 1, reason="wrong", by="dr.lin", now=clock.now())
    assert worker.run_once()
    assert state(database)[0] is DeliveryState.CANCELLED
    assert len(archive.sent) == 1


def test_a_worker_without_an_asker_is_refused(database: Database, objects: ObjectStore) -> None:
    with pytest.raises(ValueError, match="to commit"):
        DeliveryWorker(database=database, objects=objects, destination=PACS, sender=Archive())


def test_a_result_that_was_taken_back_cannot_be_released(
    worker: DeliveryWorker, database: Database, clock: SetClock
) -> None:
    with database.write() as connection:
        assert retract_result(connection, 1, reason="wrong", by="dr.lin", now=clock.now())
        assert not retract_result(connection, 1, reason="again", by="dr.lin", now=clock.now())
        with pytest.raises(Exception, match="superseded, not current"):
            release_result(connection, 1, by="dr.lin", now=clock.now())
        with pytest.raises(Exception, match="reason"):
            retract_result(connection, 1, reason=" ", by="dr.lin", now=clock.now())
