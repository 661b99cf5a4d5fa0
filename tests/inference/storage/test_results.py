from __future__ import annotations

import pytest
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError

from inference.domain.job import RetryPolicy
from inference.domain.result import ResultState, ReusedResult
from inference.storage import jobs, results, studies
from inference.storage.database import Database
from inference.storage.errors import NotFoundError
from inference.storage.results import ResultKeyError
from inference.storage.tables import result
from tests.builders.clock import SetClock
from tests.builders.instances import study_uid
from tests.builders.rows import filed, receive


def claimed(database: Database, clock: SetClock, *, slice_number: int = 1, study: int = 1):
    with database.write() as connection:
        receive(connection, clock.now(), slice_number=slice_number, study=study)
        return jobs.claim(connection, now=clock.now(), owner="a", policy=RetryPolicy())


def current(database: Database) -> dict[str, ResultState]:
    with database.read() as connection:
        return {row.key: row.state for row in results.list_results(connection)}


def test_a_later_version_supersedes_what_it_does_not_repeat(
    database: Database, clock: SetClock
) -> None:
    first = claimed(database, clock)
    with database.write() as connection:
        results.store(
            connection, first, filed=[filed("a1", series="1"), filed("b1", series="2")],
            now=clock.now(),
        )  # fmt: skip
    second = claimed(database, clock, slice_number=2)
    with database.write() as connection:
        stored = results.store(
            connection, second, filed=[filed("a2", series="1")], reused=[ReusedResult(key="b1")],
            now=clock.now(),
        )  # fmt: skip
    assert (len(stored.new), len(stored.kept), len(stored.superseded)) == (1, 1, 1)
    assert current(database) == {"a2": ResultState.FINDING, "b1": ResultState.FINDING}
    with database.read() as connection:
        (old,) = (
            row for row in results.list_results(connection, current_only=False) if row.key == "a1"
        )
    assert old.state is ResultState.SUPERSEDED
    assert old.outcome is ResultState.FINDING
    assert old.superseded_by == stored.new[0]


def test_the_same_key_is_stored_once(database: Database, clock: SetClock) -> None:
    job = claimed(database, clock)
    with database.write() as connection:
        first = results.store(connection, job, filed=[filed("k", kinds=("seg",))], now=clock.now())
        again = results.store(connection, job, filed=[filed("k", kinds=("seg",))], now=clock.now())
    assert again.kept == first.new
    assert again.new == again.superseded == ()
    assert current(database) == {"k": ResultState.FINDING}


def test_a_job_of_one_model_leaves_the_others_alone(database: Database, clock: SetClock) -> None:
    job = claimed(database, clock)
    with database.write() as connection:
        results.store(
            connection, job, filed=[filed("a", model="m1"), filed("b", model="m2")],
            now=clock.now(),
        )  # fmt: skip
        jobs.finish(connection, job.id, owner="a", now=clock.now(), state=jobs.JobState.DONE)
        jobs.request(connection, study_uid(1), now=clock.now(), priority=job.priority, model="m2")
        again = jobs.claim(connection, now=clock.now(), owner="b", policy=RetryPolicy())
        results.store(connection, again, filed=[filed("b2", model="m2")], now=clock.now())
    assert set(current(database)) == {"a", "b2"}


def test_a_key_of_another_study_or_an_unknown_one_is_refused(
    database: Database, clock: SetClock
) -> None:
    one = claimed(database, clock, study=1)
    other = claimed(database, clock, study=2)
    with database.write() as connection:
        results.store(connection, one, filed=[filed("k")], now=clock.now())
    with pytest.raises(ResultKeyError) as caught, database.write() as connection:
        results.store(connection, other, filed=[filed("k")], now=clock.now())
    assert caught.value.key == "k"
    with pytest.raises(ResultKeyError), database.write() as connection:
        results.store(
            connection, one, filed=[], reused=[ReusedResult(key="nowhere")], now=clock.now()
        )
    assert current(database) == {"k": ResultState.FINDING}


def test_the_database_itself_refuses_two_current_results(
    database: Database, clock: SetClock
) -> None:
    job = claimed(database, clock)
    with database.write() as connection:
        results.store(connection, job, filed=[filed("k")], now=clock.now())
        row = dict(connection.execute(result.select()).one()._mapping)
    del row["id"]
    with pytest.raises(IntegrityError), database.write() as connection:
        connection.execute(insert(result).values(**(row | {"key": "another"})))


def test_failures_are_not_offered_for_use_again(database: Database, clock: SetClock) -> None:
    job = claimed(database, clock)
    with database.write() as connection:
        results.store(
            connection, job,
            filed=[filed("good"), filed("bad", model="m2", state=ResultState.FAILED)],
            now=clock.now(),
        )  # fmt: skip
        assert results.keys_of_study(connection, study_uid(1)) == {"good"}


def test_files_and_summary_come_back(database: Database, clock: SetClock) -> None:
    job = claimed(database, clock)
    one = filed("k", kinds=("seg", "sr"))
    with database.write() as connection:
        stored = results.store(connection, job, filed=[one], now=clock.now())
        found = results.get_result(connection, stored.new[0])
        assert studies.is_own_result(connection, one.files[0].instance_uid)
        assert studies.is_referenced(connection, one.files[1].sha256)
        with pytest.raises(NotFoundError):
            results.get_result(connection, 10**6)
        assert results.count_by_state(connection)[ResultState.FINDING] == 1
    assert found.files == one.files
    assert found.summary == {"volume_ml": 1.5, "status": "released"}
    assert found.created_at == clock.now()
