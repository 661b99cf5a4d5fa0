"""What is told of a study: why it waits, runs, was refused, or failed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from inference.domain.errors import BackendUnavailableError, InferenceError, RefusedError
from inference.domain.job import Priority, RetryPolicy
from inference.domain.ports import Progress
from inference.domain.result import DimseDestination
from inference.domain.study import Sender, StudyInput
from inference.jobs.history import holder, what_happened, why
from inference.jobs.intake import Intake
from inference.jobs.worker import Worker
from inference.storage import audit, deliveries, jobs
from inference.storage.database import Database
from inference.storage.errors import NotFoundError
from inference.storage.objects import ObjectStore
from tests.builders.clock import SetClock
from tests.builders.instances import ct_file, study_uid
from tests.builders.rows import filed, receive
from tests.inference.jobs.conftest import CountingProcessor

PACS = DimseDestination(name="pacs", host="127.0.0.1", port=1, called_aet="PACS")
STUDY = study_uid(1)


def sentence(database: Database, study: str = STUDY) -> str:
    with database.read() as connection:
        return why(what_happened(connection, study), now=database.now(connection))


def raising(error: Exception) -> CountingProcessor:
    def before(study: StudyInput, progress: Progress) -> None:
        raise error

    return CountingProcessor(before=before)


def worker(
    database: Database, objects: ObjectStore, processor: CountingProcessor, **policy: int
) -> Worker:
    return Worker(
        database=database, objects=objects, processor=processor, policy=RetryPolicy(**policy)
    )


def test_a_study_that_still_comes_in_is_waited_for(
    intake: Intake, database: Database, sender: Sender, clock: SetClock
) -> None:
    intake.receive([ct_file(slice_number=1)], sender=sender)
    assert sentence(database) == "waits 5 s more for further instances"
    clock.advance(2)
    assert sentence(database) == "waits 3 s more for further instances"
    with database.read() as connection:
        history = what_happened(connection, STUDY)
    assert history.n_counted == {"instance.received": 1}
    assert history.events == ()


def test_a_queued_study_says_how_many_are_before_it(database: Database, clock: SetClock) -> None:
    with database.write() as connection:
        receive(connection, clock.now(), study=1)
        receive(connection, clock.now() + timedelta(seconds=1), study=2)
        receive(connection, clock.now(), study=3)
        receive(connection, clock.now() + timedelta(seconds=1), study=4, priority=Priority.STAT)
    clock.advance(2)
    with database.read() as connection:
        ahead = {
            number: what_happened(connection, study_uid(number)).n_before for number in (1, 2, 3, 4)
        }
    assert ahead == {4: 0, 1: 1, 3: 2, 2: 3}
    assert sentence(database, study_uid(3)) == "waits for a worker; 2 jobs are before it"


def test_a_running_study_names_its_step_and_who_holds_it(
    database: Database, clock: SetClock
) -> None:
    with database.write() as connection:
        receive(connection, clock.now())
        policy = RetryPolicy(lease_s=30)
        claimed = jobs.claim(
            connection, now=clock.now(), owner="ct-box|4711|1.0|worker-2|ab", policy=policy
        )
        assert claimed is not None
        jobs.renew(
            connection, claimed.id, owner="ct-box|4711|1.0|worker-2|ab", now=clock.now(),
            lease_s=30, progress=0.4, step="CT: network",
        )  # fmt: skip
    assert sentence(database) == ("running: CT: network (40%), by worker-2 on ct-box, process 4711")
    clock.advance(42)
    assert sentence(database) == (
        "worker-2 on ct-box, process 4711 went silent 12 s ago; the next worker takes it over"
    )
    assert holder(claimed) == "worker-2 on ct-box, process 4711"


def test_a_study_between_attempts_says_what_went_wrong(
    intake: Intake, database: Database, objects: ObjectStore, sender: Sender, clock: SetClock
) -> None:
    intake.receive([ct_file()], sender=sender)
    clock.advance(5)
    worker(database, objects, raising(BackendUnavailableError("no server"))).run_once()
    assert sentence(database) == (
        "waits 5 s for its next attempt, after 0 tries and 1 losses: backend_unavailable:"
        " BackendUnavailableError: no server"
    )


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RefusedError("slices: too few"), "refused: refused: slices: too few"),
        (
            InferenceError("the network is ill"),
            "failed for good after 1 tries and 0 losses: inference: InferenceError: the network"
            " is ill; a person may start it again",
        ),
    ],
)
def test_a_study_without_a_result_says_why(
    intake: Intake, database: Database, objects: ObjectStore, sender: Sender, clock: SetClock,
    error: Exception, told: str,
) -> None:  # fmt: skip
    intake.receive([ct_file()], sender=sender)
    clock.advance(5)
    worker(database, objects, raising(error), max_tries=1).run_once()
    assert sentence(database) == told


def test_a_finished_study_tells_its_waits_and_what_is_owed(
    intake: Intake, database: Database, objects: ObjectStore, sender: Sender, clock: SetClock
) -> None:
    seen: list[StudyInput] = []
    processor = CountingProcessor(before=lambda study, progress: seen.append(study))
    intake.receive([ct_file(slice_number=1)], sender=sender)
    clock.advance(3)
    intake.receive([ct_file(slice_number=2)], sender=sender)
    clock.advance(7)
    worker(database, objects, processor).run_once()
    assert (seen[0].receive_s, seen[0].queue_s) == (3.0, 7.0)
    assert sentence(database) == "done: counter: finding"


def test_the_time_of_delivery_is_a_stage_once_everything_arrived(
    database: Database, clock: SetClock
) -> None:
    from inference.storage import results

    with database.write() as connection:
        job_id = receive(connection, clock.now())
        made = results.store(
            connection, jobs.get_job(connection, job_id), filed=[filed("key", kinds=("seg", "sr"))],
            now=clock.now(),
        )  # fmt: skip
        deliveries.enqueue(connection, made.new[0], destinations=[PACS], now=clock.now())
    for kind, wait_s in (("seg", 4), ("sr", 9)):
        with database.read() as connection:
            assert "deliver" not in results.get_result(connection, made.new[0]).stages_s
        clock.advance(wait_s)
        with database.write() as connection:
            due = deliveries.claim(
                connection, now=clock.now(), destination="pacs", owner=kind, lease_s=60
            )
            assert due is not None
            assert (due.kind, due.model) == (kind, "ct_lung_seg")
            deliveries.acknowledge(connection, due.id, owner=kind, now=clock.now())
    with database.read() as connection:
        assert results.get_result(connection, made.new[0]).stages_s["deliver"] == 13.0


def test_a_study_of_which_nothing_came_tells_the_refusal(database: Database) -> None:
    with database.write() as connection:
        audit.append(
            connection, at=database.now(connection), actor="batch", action="study.not_fetched",
            subject="1.2.3", detail={"code": "batch_source", "reason": "answered 404"},
        )  # fmt: skip
    assert sentence(database, "1.2.3") == ("nothing of it is stored: batch_source: answered 404")


def test_a_study_nobody_has_heard_of_is_not_found(database: Database, tmp_path: Path) -> None:
    with database.read() as connection, pytest.raises(NotFoundError):
        what_happened(connection, "9.9.9")
