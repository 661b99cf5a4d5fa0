from __future__ import annotations

from datetime import timedelta

import pytest

from inference.domain.job import RetryPolicy
from inference.domain.result import DeliveryState, DicomwebDestination, DimseDestination
from inference.storage import deliveries, jobs, results
from inference.storage.database import Database
from inference.storage.errors import LeaseLostError, NotFoundError
from tests.builders.clock import SetClock
from tests.builders.rows import filed, receive

PACS = DimseDestination(name="pacs", host="127.0.0.1", port=1, called_aet="PACS")
ARCHIVE = DicomwebDestination(name="archive", url="http://127.0.0.1:1", kinds=("seg",))


@pytest.fixture
def result_id(database: Database, clock: SetClock) -> int:
    with database.write() as connection:
        receive(connection, clock.now())
        job = jobs.claim(connection, now=clock.now(), owner="a", policy=RetryPolicy())
        stored = results.store(
            connection, job, filed=[filed("k", kinds=("sr", "seg"))], now=clock.now()
        )
        deliveries.enqueue(connection, stored.new[0], destinations=[PACS, ARCHIVE], now=clock.now())
        return stored.new[0]


def claim(database: Database, clock: SetClock, destination: str = "pacs", owner: str = "a"):
    with database.write() as connection:
        return deliveries.claim(
            connection, now=clock.now(), destination=destination, owner=owner, lease_s=30
        )


def test_each_destination_gets_its_kinds_and_the_segmentation_first(
    database: Database, clock: SetClock, result_id: int
) -> None:
    with database.write() as connection:
        again = deliveries.enqueue(
            connection, result_id, destinations=[PACS, ARCHIVE], now=clock.now()
        )
        rows = deliveries.list_deliveries(connection, result_id=result_id)
    assert again == 0
    assert {(row.destination, row.kind) for row in rows} == {
        ("pacs", "seg"), ("pacs", "sr"), ("archive", "seg"),
    }  # fmt: skip
    assert [claim(database, clock).kind for _ in range(2)] == ["seg", "sr"]
    assert claim(database, clock) is None
    assert claim(database, clock, "archive").kind == "seg"


def test_only_the_one_who_sends_it_acknowledges(
    database: Database, clock: SetClock, result_id: int
) -> None:
    due = claim(database, clock, owner="a")
    with pytest.raises(LeaseLostError), database.write() as connection:
        deliveries.acknowledge(connection, due.id, owner="b", now=clock.now())
    with database.write() as connection:
        deliveries.acknowledge(connection, due.id, owner="a", now=clock.now())
        found = deliveries.get_delivery(connection, due.id)
    assert (found.state, found.tries) == (DeliveryState.DELIVERED, 1)
    assert found.delivered_at == clock.now()


def test_a_failure_waits_and_a_last_one_is_dead_until_started_again(
    database: Database, clock: SetClock, result_id: int
) -> None:
    due = claim(database, clock, "archive")
    with database.write() as connection:
        deliveries.record_failure(
            connection, due.id, owner="a", error="closed",
            next_at=clock.now() + timedelta(seconds=5),
        )  # fmt: skip
    assert claim(database, clock, "archive") is None
    clock.advance(5)
    assert claim(database, clock, "archive", owner="b").tries == 1
    with database.write() as connection:
        deliveries.record_failure(connection, due.id, owner="b", error="refused", next_at=None)
        assert deliveries.count_by_state(connection)[DeliveryState.DEAD] == 1
        started = deliveries.requeue(connection, due.id, now=clock.now())
        assert (started.state, started.tries) == (DeliveryState.WAITING, 0)
        with pytest.raises(NotFoundError):
            deliveries.requeue(connection, due.id, now=clock.now())


def test_what_a_dead_process_was_sending_is_sent_again(
    database: Database, clock: SetClock, result_id: int
) -> None:
    due = claim(database, clock, "archive", owner="gone")
    with database.write() as connection:
        assert "gone" in deliveries.owners(connection)
        assert deliveries.release(connection, ["gone"], now=clock.now()) == 1
    again = claim(database, clock, "archive", owner="b")
    assert (again.id, again.sha256, again.instance_uid) == (due.id, due.sha256, due.instance_uid)


def test_a_superseded_result_is_not_sent_any_more(
    database: Database, clock: SetClock, result_id: int
) -> None:
    with database.write() as connection:
        deliveries.cancel(connection, [result_id])
        states = {row.state for row in deliveries.list_deliveries(connection)}
    assert states == {DeliveryState.CANCELLED}
    assert claim(database, clock) is None
