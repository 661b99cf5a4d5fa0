"""One job from claim to stored results, and every way in which it may not get there."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from dicom_io.errors import DicomIoError
from inference.domain.errors import (
    BackendUnavailableError,
    InferenceError,
    NoApplicableModelError,
    RefusedError,
)
from inference.domain.job import JobState, Priority, RetryPolicy
from inference.domain.ports import Progress
from inference.domain.result import (
    DeliveryState,
    DimseDestination,
    ResultDraft,
    ResultState,
)
from inference.domain.study import Sender, StudyInput
from inference.domain.study_state import StudyState
from inference.jobs.intake import Intake
from inference.jobs.worker import Worker
from inference.storage import audit, deliveries, jobs, results
from inference.storage.database import Database
from inference.storage.errors import StorageFullError
from inference.storage.objects import ObjectStore
from inference.storage.states import state_of
from tests.builders.clock import SetClock
from tests.builders.instances import ct_file, series_uid, study_uid
from tests.inference.jobs.conftest import CountingProcessor

POLICY = RetryPolicy(max_tries=5, max_losses=4, lease_s=30, backoff_s=1, backoff_cap_s=60)
PACS = DimseDestination(name="pacs", host="127.0.0.1", port=1, called_aet="PACS")

Before = Callable[[StudyInput, Progress], None]


@pytest.fixture
def worker(database: Database, objects: ObjectStore, processor: CountingProcessor) -> Worker:
    return Worker(
        database=database,
        objects=objects,
        processor=processor,
        destinations=[PACS],
        policy=POLICY,
    )


def send(intake: Intake, sender: Sender, clock: SetClock, *slices: int, study: int = 1) -> None:
    for number in slices:
        intake.receive([ct_file(study=study, slice_number=number)], sender=sender)
    clock.advance(5)


def only_job(database: Database) -> jobs.Job:
    with database.read() as connection:
        (job,) = jobs.list_jobs(connection)
        return job


def current(database: Database) -> tuple[results.Result, ...]:
    with database.read() as connection:
        return results.list_results(connection)


def raising(error: Exception) -> Before:
    def before(study: StudyInput, progress: Progress) -> None:
        raise error

    return before


def test_a_study_becomes_a_current_result_with_its_file(
    worker: Worker, intake: Intake, database: Database, objects: ObjectStore, sender: Sender,
    clock: SetClock, processor: CountingProcessor,
) -> None:  # fmt: skip
    assert not worker.run_once()
    send(intake, sender, clock, 2, 1, 3)
    assert worker.run_once()
    assert not worker.run_once()
    (study,) = processor.calls
    assert study.study_uid == study_uid(1)
    assert len(study.instance_paths) == 3
    assert all(path.is_file() for path in study.instance_paths)
    (result,) = current(database)
    assert result.state is ResultState.FINDING
    assert objects.path(result.files[0].sha256).read_text() == '{"n_instances": 3}'
    assert result.files[0].media_type == "application/json"
    job = only_job(database)
    assert (job.state, job.progress, job.input_hash) == (JobState.DONE, 1.0, study.input_hash)
    with database.read() as connection:
        assert state_of(connection, study_uid(1)) is StudyState.FINDING
        assert audit.events(connection)[-1].action == "job.finished"
    assert list(objects.tmp.iterdir()) == []


def test_running_again_finds_the_stored_result_and_adds_nothing(
    worker: Worker, intake: Intake, database: Database, sender: Sender, clock: SetClock
) -> None:
    send(intake, sender, clock, 1)
    worker.run_once()
    (before,) = current(database)
    with database.write() as connection:
        jobs.request(
            connection, study_uid(1), now=clock.now(), priority=only_job(database).priority
        )
    assert worker.run_once()
    assert current(database) == (before,)


def test_a_late_slice_makes_a_new_version_that_supersedes_the_first(
    worker: Worker, intake: Intake, database: Database, sender: Sender, clock: SetClock
) -> None:
    send(intake, sender, clock, 1, 2)
    worker.run_once()
    (first,) = current(database)
    send(intake, sender, clock, 3)
    worker.run_once()
    (second,) = current(database)
    assert (second.study_version, second.summary) == (2, {"n_instances": 3, "status": "released"})
    with database.read() as connection:
        old = results.get_result(connection, first.id)
    assert (old.state, old.superseded_by) == (ResultState.SUPERSEDED, second.id)


def test_a_slice_that_comes_while_the_job_runs_ends_that_job_without_a_result(
    worker: Worker, intake: Intake, database: Database, sender: Sender, clock: SetClock,
    processor: CountingProcessor,
) -> None:  # fmt: skip
    send(intake, sender, clock, 1)

    def before(study: StudyInput, progress: Progress) -> None:
        if study.version == 1:
            intake.receive([ct_file(slice_number=2)], sender=sender)
            progress(0.5, "windows")
            raise AssertionError("progress must have stopped this")

    processor.before = before
    worker.run_once()
    assert current(database) == ()
    clock.advance(5)
    worker.run_once()
    (result,) = current(database)
    assert result.summary == {"n_instances": 2, "status": "released"}
    with database.read() as connection:
        assert [job.state for job in jobs.list_jobs(connection)] == [
            JobState.DONE, JobState.SUPERSEDED,
        ]  # fmt: skip


def test_a_processor_that_does_not_look_is_refused_at_the_end(
    worker: Worker, intake: Intake, database: Database, sender: Sender, clock: SetClock,
    processor: CountingProcessor,
) -> None:  # fmt: skip
    send(intake, sender, clock, 1)

    def before(study: StudyInput, progress: Progress) -> None:
        if study.version == 1:
            intake.receive([ct_file(slice_number=2)], sender=sender)

    processor.before = before
    worker.run_once()
    assert current(database) == ()


@pytest.mark.parametrize(
    ("error", "state", "code"),
    [
        (RefusedError("PixelSpacing (0028,0030): NaN"), ResultState.REFUSED, "refused"),
        (DicomIoError("slice 3 is missing"), ResultState.REFUSED, "dicom_io"),
        (
            NoApplicableModelError("no CT of the chest"),
            ResultState.NOT_APPLICABLE,
            "no_applicable_model",
        ),
    ],
)
def test_a_refused_study_is_final_with_its_reason(
    worker: Worker, intake: Intake, database: Database, sender: Sender, clock: SetClock,
    processor: CountingProcessor, error: Exception, state: ResultState, code: str,
) -> None:  # fmt: skip
    send(intake, sender, clock, 1)
    processor.before = raising(error)
    worker.run_once()
    clock.advance(3600)
    assert not worker.run_once()
    job = only_job(database)
    assert (job.state, job.reason_code, job.reason) == (JobState.FAILED, code, str(error))
    (result,) = current(database)
    assert (result.state, result.reason_code, result.series_uid) == (state, code, "")
    with database.read() as connection:
        assert deliveries.list_deliveries(connection) == ()


def test_a_poison_job_dies_after_five_tries_and_the_others_run(
    worker: Worker, intake: Intake, database: Database, sender: Sender, clock: SetClock,
    processor: CountingProcessor,
) -> None:  # fmt: skip
    send(intake, sender, clock, 1, study=1)
    send(intake, sender, clock, 1, study=2)

    def before(study: StudyInput, progress: Progress) -> None:
        if study.study_uid == study_uid(1):
            raise InferenceError("wrong shape")

    processor.before = before
    started = clock.now()
    while worker.run_once() or (clock.now() - started).total_seconds() < 60:
        clock.advance(1)
    with database.read() as connection:
        poison, other = jobs.list_jobs(connection)[::-1]
    assert (poison.state, poison.tries, poison.reason_code) == (JobState.DEAD, 5, "inference")
    assert poison.finished_at - started <= timedelta(seconds=60)
    assert other.state is JobState.DONE
    by_study = {result.study_uid: result for result in current(database)}
    assert by_study[study_uid(1)].state is ResultState.FAILED
    assert by_study[study_uid(2)].state is ResultState.FINDING
    processor.before = lambda study, progress: None
    with database.write() as connection:
        jobs.requeue(connection, poison.id, now=clock.now())
    worker.run_once()
    by_study = {result.study_uid: result for result in current(database)}
    assert by_study[study_uid(1)].state is ResultState.FINDING


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BackendUnavailableError("not there"), "backend_unavailable"),
        (StorageFullError(free_bytes=0, needed_bytes=1), "storage_full"),
        (OSError(errno.ENOSPC, "No space left on device"), "unexpected"),
    ],
)
def test_what_is_not_there_is_waited_for(
    worker: Worker, intake: Intake, database: Database, sender: Sender, clock: SetClock,
    processor: CountingProcessor, error: Exception, code: str,
) -> None:  # fmt: skip
    send(intake, sender, clock, 1)
    processor.before = raising(error)
    worker.run_once()
    job = only_job(database)
    assert (job.state, job.tries, job.losses) == (JobState.QUEUED, 0, 1)
    assert (job.reason_code, current(database)) == (code, ())
    processor.before = lambda study, progress: None
    clock.advance(5)
    worker.run_once()
    assert only_job(database).state is JobState.DONE


def test_a_worker_that_lost_its_lease_stores_nothing(
    worker: Worker, intake: Intake, database: Database, objects: ObjectStore, sender: Sender,
    clock: SetClock, processor: CountingProcessor,
) -> None:  # fmt: skip
    send(intake, sender, clock, 1)
    other = Worker(
        database=database, objects=objects, processor=CountingProcessor(), policy=POLICY,
        name="other",
    )  # fmt: skip

    def before(study: StudyInput, progress: Progress) -> None:
        clock.advance(31)  # as if this worker had stood still
        assert other.run_once()

    processor.before = before
    worker.run_once()
    assert len(current(database)) == 1
    job = only_job(database)
    assert (job.state, job.losses) == (JobState.DONE, 1)
    with database.read() as connection:
        finished = [event for event in audit.events(connection) if event.action == "job.finished"]
    assert [event.actor for event in finished] == ["other"]


def test_a_job_that_takes_its_holder_down_every_time_is_dead_in_the_end(
    worker: Worker, intake: Intake, database: Database, sender: Sender, clock: SetClock
) -> None:
    send(intake, sender, clock, 1)
    for _ in range(POLICY.max_losses):
        with database.write() as connection:
            jobs.claim(connection, now=clock.now(), owner="killed", policy=POLICY)
        clock.advance(31)
        worker.processor = CountingProcessor(before=raising(AssertionError("must not run")))
        if only_job(database).losses == POLICY.max_losses - 1:
            worker.run_once()
        else:
            with database.write() as connection:
                for lost in jobs.expired(connection, now=clock.now()):
                    jobs.record_loss(connection, lost, now=clock.now(), policy=POLICY)
    assert only_job(database).state is JobState.DEAD
    (result,) = current(database)
    assert (result.state, result.reason_code) == (ResultState.FAILED, "lease_lost")


def test_a_result_with_dicom_files_goes_to_the_outbox_and_does_not_come_back_as_input(
    worker: Worker, intake: Intake, database: Database, sender: Sender, clock: SetClock
) -> None:
    segmentation = ct_file(series=9, slice_number=1, SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4")
    echo = ct_file(series=9, slice_number=2)

    class Processor:
        def process(
            self, study: StudyInput, *, out: Path, progress: Progress
        ) -> tuple[ResultDraft, ...]:
            files = {"seg": out / "seg.dcm", "shot": out / "shot.dcm"}
            files["seg"].write_bytes(segmentation)
            files["shot"].write_bytes(echo)
            return (
                ResultDraft(
                    key=study.input_hash, series_uid=series_uid(1), model="m", model_version="1",
                    weights_sha256="w", state=ResultState.FINDING, files=files,
                    summary={"status": "released"},
                ),
            )  # fmt: skip

    worker.processor = Processor()
    send(intake, sender, clock, 1)
    worker.run_once()
    with database.read() as connection:
        (delivery,) = deliveries.list_deliveries(connection)
    assert (delivery.kind, delivery.destination) == ("seg", "pacs")
    assert delivery.state is DeliveryState.WAITING
    assert delivery.sop_class_uid == "1.2.840.10008.5.1.4.1.1.66.4"
    receipt = intake.receive([echo], sender=sender)  # the PACS forwards our own image to us
    assert receipt.is_new
    assert receipt.job_id is None
    clock.advance(60)
    assert not worker.run_once()


def test_progress_is_seen_by_others_while_the_job_runs(
    worker: Worker, intake: Intake, database: Database, sender: Sender, clock: SetClock,
    processor: CountingProcessor,
) -> None:  # fmt: skip
    send(intake, sender, clock, 1)
    seen: list[tuple[float, str]] = []

    def before(study: StudyInput, progress: Progress) -> None:
        progress(0.25, "reading")
        job = only_job(database)
        seen.append((job.progress, job.step))

    processor.before = before
    worker.run_once()
    assert seen == [(0.25, "reading")]


def test_the_loop_runs_until_told_to_stop(
    worker: Worker, intake: Intake, database: Database, sender: Sender, clock: SetClock
) -> None:
    send(intake, sender, clock, 1)
    stop = threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,), kwargs={"poll_s": 0.02})
    thread.start()
    for _ in range(500):
        if current(database):
            break
        stop.wait(0.01)
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
    assert len(current(database)) == 1


class TestStudiesInFlight:
    """As many as there are workers, and a place that is kept for STAT."""

    def test_a_stat_study_is_taken_up_while_every_other_place_is_busy(
        self,
        database: Database,
        objects: ObjectStore,
        processor: CountingProcessor,
        intake: Intake,
        sender: Sender,
        clock: SetClock,
    ) -> None:
        def make(name: str, least_urgent: Priority) -> Worker:
            return Worker(
                database=database,
                objects=objects,
                processor=processor,
                policy=POLICY,
                name=name,
                least_urgent=least_urgent,
            )

        ordinary, reserved = make("w", Priority.ROUTINE), make("s", Priority.STAT)
        order: list[tuple[str, Priority]] = []

        def while_the_first_runs(study: StudyInput, progress: Progress) -> None:
            order.append((study.study_uid, study.priority))
            if len(order) > 1:
                return
            assert not reserved.run_once(), "another routine study waits, and is not for it"
            data = ct_file(study=3, slice_number=1)
            intake.receive([data], sender=sender, priority=Priority.STAT)
            clock.advance(5)
            assert reserved.run_once()

        processor.before = while_the_first_runs
        send(intake, sender, clock, 1, study=1)
        send(intake, sender, clock, 1, study=2)
        while ordinary.run_once():
            pass
        # The processor is told the priority as it is: it goes on to the server.
        assert order == [
            (study_uid(1), Priority.ROUTINE),
            (study_uid(3), Priority.STAT),
            (study_uid(2), Priority.ROUTINE),
        ]
