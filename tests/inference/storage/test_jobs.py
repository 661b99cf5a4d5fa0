from __future__ import annotations

import threading

import pytest

from inference.domain.job import JobState, Priority, RetryPolicy
from inference.domain.study import input_set_hash
from inference.domain.study_state import StudyState
from inference.storage import jobs, studies
from inference.storage.database import Database
from inference.storage.errors import LeaseLostError, NotFoundError
from inference.storage.jobs import NotRequeueableError
from inference.storage.states import state_of
from tests.builders.clock import SetClock
from tests.builders.instances import instance_uid, study_uid
from tests.builders.rows import instance, receive

POLICY = RetryPolicy(max_tries=3, max_losses=4, lease_s=30.0, backoff_s=2.0)


def claim(database: Database, owner: str = "a", **more):
    with database.write() as connection:
        return jobs.claim(
            connection, now=database.now(connection), owner=owner, policy=POLICY, **more
        )


def test_a_quiet_period_starts_again_with_every_instance(
    database: Database, clock: SetClock
) -> None:
    with database.write() as connection:
        first = receive(connection, clock.now(), slice_number=1, wait_s=5)
    clock.advance(4)
    with database.write() as connection:
        second = receive(connection, clock.now(), slice_number=2, wait_s=5)
    assert first == second
    clock.advance(4)
    assert claim(database) is None
    clock.advance(1)
    job = claim(database)
    assert job is not None
    assert job.state is JobState.LEASED
    assert job.study_version == 1
    expected = input_set_hash(
        (instance_uid(1, n), instance(clock.now(), slice_number=n).dataset_sha256) for n in (2, 1)
    )
    assert job.input_hash == expected


def test_an_urgent_job_overtakes_and_equals_run_oldest_first(
    database: Database, clock: SetClock
) -> None:
    with database.write() as connection:
        routine = receive(connection, clock.now(), study=1)
        clock.advance(1)
        later = receive(connection, clock.now(), study=2)
        stat = receive(connection, clock.now(), study=3, priority=Priority.STAT)
        urgent = receive(connection, clock.now(), study=4, priority=Priority.URGENT)
    order = [claim(database, owner).id for owner in "abcd"]
    assert order == [stat, urgent, routine, later]
    assert claim(database) is None


def test_a_reserved_place_takes_stat_only(database: Database, clock: SetClock) -> None:
    with database.write() as connection:
        receive(connection, clock.now(), study=1, priority=Priority.URGENT)
        now = clock.now()
        assert not jobs.has_work(connection, now=now, least_urgent=Priority.STAT)
        assert jobs.has_work(connection, now=now)
    assert claim(database, least_urgent=Priority.STAT) is None
    with database.write() as connection:
        stat = receive(connection, clock.now(), study=2, priority=Priority.STAT)
        assert jobs.has_work(connection, now=clock.now(), least_urgent=Priority.STAT)
    assert claim(database, least_urgent=Priority.STAT).id == stat


def test_a_job_that_waited_long_enough_goes_before_newer_stat_and_keeps_its_priority(
    database: Database, clock: SetClock
) -> None:
    with database.write() as connection:
        routine = receive(connection, clock.now(), study=1)
    clock.advance(60)
    with database.write() as connection:
        stats = [
            receive(connection, clock.now(), study=study, priority=Priority.STAT)
            for study in (2, 3)
        ]
    assert claim(database, "a", max_wait_s=60.5).id == stats[0]
    clock.advance(0.5)
    aged = claim(database, "b", max_wait_s=60.5)
    assert (aged.id, aged.priority) == (routine, Priority.ROUTINE)
    assert claim(database, "c", max_wait_s=60.5).id == stats[1]


def test_one_urgent_slice_makes_the_study_urgent_for_good(
    database: Database, clock: SetClock
) -> None:
    with database.write() as connection:
        receive(connection, clock.now(), slice_number=1, priority=Priority.STAT)
        job_id = receive(connection, clock.now(), slice_number=2, priority=Priority.ROUTINE)
        assert jobs.get_job(connection, job_id).priority is Priority.STAT


def test_a_job_is_claimed_once_by_many_at_once(database: Database, clock: SetClock) -> None:
    with database.write() as connection:
        for study in range(1, 9):
            receive(connection, clock.now(), study=study)
    claimed: list[int] = []

    def work(name: str) -> None:
        while (job := claim(database, name)) is not None:
            claimed.append(job.id)

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted(set(claimed))
    assert len(claimed) == 8


def test_only_the_owner_finishes_and_only_once(database: Database, clock: SetClock) -> None:
    with database.write() as connection:
        receive(connection, clock.now())
    job = claim(database, "a")
    with pytest.raises(LeaseLostError) as caught, database.write() as connection:
        jobs.finish(connection, job.id, owner="b", now=clock.now(), state=JobState.DONE)
    assert (caught.value.what, caught.value.id, caught.value.owner) == ("job", job.id, "b")
    with database.write() as connection:
        jobs.finish(connection, job.id, owner="a", now=clock.now(), state=JobState.DONE)
    with pytest.raises(LeaseLostError), database.write() as connection:
        jobs.finish(connection, job.id, owner="a", now=clock.now(), state=JobState.DONE)


def test_a_lease_that_ran_out_goes_to_another_and_the_first_owner_is_refused(
    database: Database, clock: SetClock
) -> None:
    with database.write() as connection:
        receive(connection, clock.now())
    job = claim(database, "a")
    clock.advance(31)
    with database.write() as connection:
        (lost,) = jobs.expired(connection, now=clock.now())
        jobs.record_loss(connection, lost, now=clock.now(), policy=POLICY)
    again = claim(database, "b")
    assert again.id == job.id
    assert (again.tries, again.losses) == (0, 1)
    with pytest.raises(LeaseLostError), database.write() as connection:
        jobs.renew(
            connection, job.id, owner="a", now=clock.now(), lease_s=30, progress=0.5, step="late"
        )


def test_renewing_keeps_the_lease_and_the_progress(database: Database, clock: SetClock) -> None:
    with database.write() as connection:
        receive(connection, clock.now())
    job = claim(database, "a")
    clock.advance(20)
    with database.write() as connection:
        assert jobs.renew(
            connection, job.id, owner="a", now=clock.now(), lease_s=30, progress=0.5, step="windows"
        )
    clock.advance(20)
    with database.read() as connection:
        assert jobs.expired(connection, now=clock.now()) == ()
        found = jobs.get_job(connection, job.id)
    assert (found.progress, found.step) == (0.5, "windows")


def test_failures_wait_longer_each_time_and_then_the_job_is_dead(
    database: Database, clock: SetClock
) -> None:
    with database.write() as connection:
        job_id = receive(connection, clock.now())
    for wait_s in (2.0, 4.0):
        claim(database, "a")
        with database.write() as connection:
            ended = jobs.record_failure(
                connection, job_id, owner="a", now=clock.now(), policy=POLICY,
                reason_code="inference", reason="the network said no",
            )  # fmt: skip
        assert ended.state is JobState.QUEUED
        assert (ended.run_after - clock.now()).total_seconds() == wait_s
        assert claim(database) is None
        clock.advance(wait_s)
    claim(database, "a")
    with database.write() as connection:
        ended = jobs.record_failure(
            connection, job_id, owner="a", now=clock.now(), policy=POLICY,
            reason_code="inference", reason="the network said no",
        )  # fmt: skip
        state = state_of(connection, study_uid(1))
    assert (ended.state, ended.tries, ended.reason_code) == (JobState.DEAD, 3, "inference")
    assert state is StudyState.FAILED
    with database.write() as connection:
        started = jobs.requeue(connection, job_id, now=clock.now())
    assert (started.state, started.tries) == (JobState.QUEUED, 0)


def test_an_absent_backend_is_not_counted_as_a_try(database: Database, clock: SetClock) -> None:
    with database.write() as connection:
        job_id = receive(connection, clock.now())
    claim(database, "a")
    with database.write() as connection:
        ended = jobs.record_failure(
            connection, job_id, owner="a", now=clock.now(), policy=POLICY,
            reason_code="backend_unavailable", reason="nobody there", is_our_fault=True,
        )  # fmt: skip
    assert (ended.tries, ended.losses) == (0, 1)
    assert (ended.run_after - clock.now()).total_seconds() == POLICY.outage_s


def test_a_late_instance_opens_a_new_version_and_the_running_job_is_not_newest(
    database: Database, clock: SetClock
) -> None:
    with database.write() as connection:
        first = receive(connection, clock.now(), slice_number=1)
    claim(database, "a")
    with database.write() as connection:
        second = receive(connection, clock.now(), slice_number=2)
        assert second != first
        assert not jobs.renew(
            connection, first, owner="a", now=clock.now(), lease_s=30, progress=0, step=""
        )
        ended = jobs.record_failure(
            connection, first, owner="a", now=clock.now(), policy=POLICY,
            reason_code="x", reason="x",
        )  # fmt: skip
        assert ended.state is JobState.SUPERSEDED
        assert studies.get_study(connection, study_uid(1)).version == 2
        with pytest.raises(NotRequeueableError) as caught:
            jobs.requeue(connection, first, now=clock.now())
    assert caught.value.state is JobState.SUPERSEDED


def test_a_request_runs_a_collecting_study_at_once_and_a_finished_one_again(
    database: Database, clock: SetClock
) -> None:
    with database.write() as connection:
        opened = receive(connection, clock.now(), wait_s=60)
        same = jobs.request(connection, study_uid(1), now=clock.now(), priority=Priority.STAT)
    assert same == opened
    job = claim(database, "a")
    assert job.priority is Priority.STAT
    with database.write() as connection:
        jobs.finish(connection, job.id, owner="a", now=clock.now(), state=JobState.DONE)
        again = jobs.request(
            connection, study_uid(1), now=clock.now(), priority=Priority.ROUTINE, model="m"
        )
        assert jobs.get_job(connection, again).model == "m"
        assert jobs.get_job(connection, again).study_version == 1
        with pytest.raises(NotFoundError):
            jobs.request(connection, "1.2.3", now=clock.now(), priority=Priority.ROUTINE)


def test_counts_name_every_state(database: Database, clock: SetClock) -> None:
    with database.write() as connection:
        receive(connection, clock.now(), study=1)
        receive(connection, clock.now(), study=2, wait_s=5)
        counts = jobs.count_by_state(connection)
        oldest = jobs.oldest_waiting_at(connection)
    assert counts[JobState.QUEUED] == 1
    assert counts[JobState.COLLECTING] == 1
    assert set(counts) == set(JobState)
    assert oldest == clock.now()
