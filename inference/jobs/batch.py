"""Run one model over an archive: receive, analyse and account for every study of a source.

The job table is the memory of a batch. A study is received as at any door, its job is claimed
under a lease, and its results are stored by the same transaction as the service's; so a batch that
dies is gone on with by running it again, and what has a result is skipped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from dicom_io.errors import DicomIoError
from inference.domain.errors import BackendUnavailableError, ClinferError
from inference.domain.job import JobState, Priority
from inference.jobs.batch_outcome import (
    BatchReport,
    StudyLine,
    line_of,
    results_of,
    running_job,
    settled,
)
from inference.jobs.batch_processor import TaskPool
from inference.jobs.batch_receive import Received, StorePlace, receive_files
from inference.jobs.batch_sources import BatchItem, BatchSource
from inference.jobs.worker import Worker
from inference.pipeline.spec import ModelSpec
from inference.storage import audit, jobs, studies
from inference.storage.database import Database
from inference.storage.errors import StorageError
from inference.storage.objects import ObjectStore
from inference.telemetry import get_logger

WATCH_S = 0.1
STOP_S = 20.0
"""How long what is in hand may take to end; its lease is taken back by the next start."""

ACTOR = "batch"

logger = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class BatchParts:
    """What a batch works with; ``workers`` hold as many studies at one time as they are."""

    database: Database
    objects: ObjectStore
    place: StorePlace
    pool: TaskPool
    workers: tuple[Worker, ...]
    spec: ModelSpec


class Batch:
    """One run over one source; `run` may be called once."""

    def __init__(self, source: BatchSource, parts: BatchParts) -> None:
        self._source, self._parts = source, parts
        self.report = BatchReport()
        self._stop = threading.Event()
        self._open: dict[int, list[BatchItem]] = {}
        """Jobs that are not ended, each with the items that hold something of its study."""
        self._left: dict[str, int] = {}
        self._seen: set[str] = set()
        self._changed = threading.Condition()
        self._failures: list[BaseException] = []

    def run(self, told: Callable[[BatchReport], None] = lambda report: None) -> BatchReport:
        """Return when every study has an outcome; ``told`` is called as often as that changes.

        Raises
        ------
        BatchSourceError
            The source could not be listed; nothing was begun.
        ClinferError
            The database or the pool is gone. What was begun is gone on with by the next run.
        """
        started = time.monotonic()
        listing = self._source.listing(self._parts.pool)
        self.report.n_items = len(listing.items)
        self.report.left_alone = dict(listing.left_alone)
        told(self.report)
        threads = [
            threading.Thread(target=worker.run, args=(self._stop,), name=worker.name, daemon=True)
            for worker in self._parts.workers
        ]
        feeder = threading.Thread(
            target=self._feed, args=(listing.items,), name="batch-feeder", daemon=True
        )
        for thread in (*threads, feeder):
            thread.start()
        try:
            while feeder.is_alive() or self._open:
                if self._failures:
                    raise self._failures[0]
                self._collect()
                self.report.seconds = time.monotonic() - started
                told(self.report)
                self._parts.database.wait(WATCH_S)
            if self._failures:
                raise self._failures[0]
        except BaseException:
            self._parts.pool.release()
            raise
        finally:
            self.stop()
            until_s = time.monotonic() + STOP_S
            for thread in (*threads, feeder):
                thread.join(max(0.0, until_s - time.monotonic()))
        self.report.seconds = time.monotonic() - started
        told(self.report)
        return self.report

    def stop(self) -> None:
        """Begin nothing more."""
        self._stop.set()
        self._parts.database.notify()
        with self._changed:
            self._changed.notify_all()

    def _feed(self, items: tuple[BatchItem, ...]) -> None:
        """Receive item after item, as long as not too many studies wait."""
        most_open = 2 * len(self._parts.workers)
        try:
            for item in items:
                with self._changed:
                    while len(self._open) >= most_open and not self._stop.is_set():
                        self._changed.wait(1.0)
                if self._stop.is_set():
                    return
                self._take(item)
        except BaseException as error:  # noqa: BLE001 - a thread's end: `run` raises it
            self._failures.append(error)

    def _take(self, item: BatchItem) -> None:
        try:
            received = self._receive(item)
        except (StorageError, BackendUnavailableError):
            raise  # no room, no database or no pool: not this study's fault
        except (ClinferError, DicomIoError, OSError) as error:
            self._not_fetched(item, error)
            return
        for code, count in received.refused.items():
            self.report.refused_files[code] = self.report.refused_files.get(code, 0) + count
        if not received.study_uids:
            self._not_fetched(item, None, received.refused)
            return
        with self._changed:
            self._left[item.name] = len(received.study_uids)
        for study_uid in received.study_uids:
            self._begin(item, study_uid)

    def _receive(self, item: BatchItem) -> Received:
        there = self._source.instance_uids(item)
        if there is not None and there <= self._stored_uids(item.study_uid):
            return Received(study_uids=(item.study_uid,), n_known=len(there))
        with self._source.files(item) as paths:
            if self._parts.pool.sees_our_disk:
                task = self._parts.pool.submit(receive_files, paths, self._parts.place)
                received: Received = self._parts.pool.answer(task)
            else:
                received = receive_files(paths, self._parts.place)
        if received.storage_problem:
            raise StorageError(received.storage_problem)
        return received

    def _stored_uids(self, study_uid: str) -> frozenset[str]:
        with self._parts.database.read() as connection:
            found = studies.list_instances(connection, study_uid)
        return frozenset(one.instance_uid for one in found)

    def _begin(self, item: BatchItem, study_uid: str) -> None:
        """Have a study analysed, unless what this run would make of it is there."""
        spec, database = self._parts.spec, self._parts.database
        with database.write() as connection:
            there = settled(connection, study_uid, spec)
            job_id = None
            if there is None:
                running = running_job(connection, study_uid, spec.name)
                job_id = running or jobs.request(
                    connection,
                    study_uid,
                    now=database.now(connection),
                    priority=Priority.ROUTINE,
                    model=spec.name,
                )
        if there is not None:
            self._done([item], line_of(study_uid, there, was_there=True))
            return
        assert job_id is not None
        with self._changed:
            self._open.setdefault(job_id, []).append(item)
        database.notify()

    def _collect(self) -> None:
        """Take the outcome of every job that ended."""
        for job_id, of_job in list(self._open.items()):
            with self._parts.database.read() as connection:
                job = jobs.get_job(connection, job_id)
                if not job.state.is_final:
                    continue
                newest = jobs.list_jobs(connection, study_uid=job.study_uid, limit=1)[0]
                if job.state is JobState.SUPERSEDED and newest.id != job_id:
                    with self._changed:  # more of the study came: that job's outcome counts
                        self._open.setdefault(newest.id, []).extend(self._open.pop(job_id))
                    continue
                made = results_of(connection, job)
            self._done(of_job, line_of(job.study_uid, made, job=job), job_id=job_id)

    def _done(self, items: list[BatchItem], line: StudyLine, *, job_id: int = 0) -> None:
        with self._changed:
            self._open.pop(job_id, None)
            if not (line.was_there and line.study_uid in self._seen):
                self.report.lines.append(line)
            self._seen.add(line.study_uid)
            for item in items:
                self._left[item.name] = self._left.get(item.name, 1) - 1
                self.report.n_items_done += self._left[item.name] == 0
            self._changed.notify_all()

    def _not_fetched(
        self, item: BatchItem, error: Exception | None, refused: dict[str, int] | None = None
    ) -> None:
        """Put on record that nothing of an item could be had."""
        code = getattr(error, "code", type(error).__name__) if error else "refused_files"
        reason = str(error) if error else f"every file was refused: {refused}"
        database = self._parts.database
        with database.write() as connection:
            audit.append(
                connection,
                at=database.now(connection),
                actor=ACTOR,
                action="study.not_fetched",
                subject=item.study_uid or item.name,
                detail={"source": self._source.name, "code": code, "reason": reason[:500]},
            )
        logger.warning("study not fetched", item=item.name, code=code, reason=reason)
        self._done(
            [item],
            StudyLine(
                study_uid=item.study_uid or item.name,
                outcome="not_fetched",
                code=code,
                reason=reason,
            ),
        )
