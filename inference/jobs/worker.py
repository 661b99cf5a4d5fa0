"""Take one job at a time: lease it, run the processor, store its results in one transaction.

A worker may be killed, paused or cut off at any point. Its lease runs out, another takes the job,
and whatever the first one still says is refused, because finishing asks for the lease's owner.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

from sqlalchemy import Connection

from dicom_io.errors import DicomIoError
from inference.domain.dicom_index import IndexedInstance
from inference.domain.errors import (
    BackendUnavailableError,
    ClinferError,
    NoApplicableModelError,
    RefusedError,
)
from inference.domain.job import Job, JobState, Priority, RetryPolicy
from inference.domain.ports import StudyProcessor
from inference.domain.result import (
    Destination,
    ResultDraft,
    ResultFile,
    ResultState,
    ReusedResult,
)
from inference.domain.routing import Routing
from inference.domain.study import StudyInput, input_set_hash
from inference.jobs.errors import JobAbandonedError
from inference.jobs.index_entry import index_result_files
from inference.jobs.lease import Lease
from inference.jobs.owner import new_owner
from inference.jobs.release import offer_result, retract_superseded
from inference.jobs.routing import routing_of
from inference.jobs.structure import read_file_meta
from inference.storage import audit, deliveries, dicom_index, jobs, results, studies
from inference.storage.database import Database
from inference.storage.errors import LeaseLostError, StorageFullError, StorageUnavailableError
from inference.storage.objects import FULL_ERRORS, ObjectStore
from inference.storage.results import FiledResult
from inference.telemetry import get_logger

logger = get_logger(__name__)

MEDIA_TYPES = {
    ".dcm": "application/dicom",
    ".gz": "application/gzip",
    ".json": "application/json",
    ".nii": "application/octet-stream",
    ".png": "image/png",
}
MAX_REASON_LENGTH = 2000


class Worker:
    """Runs jobs; several may run side by side, in one process or many.

    As many studies are in flight as there are workers: that bounds memory. ``least_urgent`` keeps
    one free for what is as urgent as that; ``max_wait_s``: see `inference.storage.jobs.claim`.
    """

    def __init__(
        self,
        *,
        database: Database,
        objects: ObjectStore,
        processor: StudyProcessor,
        destinations: Sequence[Destination] = (),
        policy: RetryPolicy | None = None,
        name: str = "worker",
        least_urgent: Priority = Priority.ROUTINE,
        max_wait_s: float | None = None,
        model: str | None = None,
    ) -> None:
        self.database = database
        self.objects = objects
        self.processor = processor
        self.destinations = tuple(destinations)
        self.policy = policy or RetryPolicy()
        self.name = name
        self.least_urgent = least_urgent
        self.max_wait_s = max_wait_s
        self.model = model
        """Take only jobs that ask for this model; None takes every job."""

    def run(self, stop: threading.Event, *, poll_s: float = 1.0) -> None:
        """Run jobs until told to stop; the job in hand is finished first."""
        while not stop.is_set():
            try:
                if not self.run_once():
                    self.database.wait(poll_s)
            except Exception:  # a thread's end: the database may be back next time
                logger.exception("worker could not go on; trying again", worker=self.name)
                stop.wait(poll_s)

    def run_once(self) -> bool:
        """Run one job if there is one; False: nothing was due."""
        with self.database.read() as connection:
            now = self.database.now(connection)
            if not jobs.has_work(
                connection, now=now, least_urgent=self.least_urgent, model=self.model
            ):
                return False
        claimed = self._claim()
        if claimed is None:
            return False
        job, study = claimed
        assert job.lease_owner is not None, "a claimed job has an owner"
        with self._folder(job) as out, Lease(self.database, job, self.policy) as lease:
            self._run(job, study, out, lease)
        self.database.notify()
        return True

    def _claim(self) -> tuple[Job, StudyInput] | None:
        with self.database.write() as connection:
            now = self.database.now(connection)
            for lost in jobs.expired(connection, now=now):
                record_loss(connection, lost, now=now, policy=self.policy)
            job = jobs.claim(
                connection,
                now=now,
                owner=new_owner(self.name),
                policy=self.policy,
                least_urgent=self.least_urgent,
                max_wait_s=self.max_wait_s,
                model=self.model,
            )
            if job is None:
                return None
            images = studies.list_instances(connection, job.study_uid, images_only=True)
            received_at = studies.get_study(connection, job.study_uid).last_received_at
            study = StudyInput(
                job_id=job.id,
                study_uid=job.study_uid,
                version=job.study_version,
                input_hash=input_set_hash(
                    (image.instance_uid, image.dataset_sha256) for image in images
                ),
                instance_paths=tuple(self.objects.path(image.sha256) for image in images),
                priority=job.priority,
                model=job.model,
                stored_keys=results.keys_of_study(connection, job.study_uid),
                receive_s=max(0.0, (received_at - job.created_at).total_seconds()),
                queue_s=max(0.0, (now - max(received_at, job.created_at)).total_seconds()),
                routing=routing_of(connection, self.objects, job.study_uid),
            )
            return job, study

    def _run(self, job: Job, study: StudyInput, out: Path, lease: Lease) -> None:
        log = logger.bind(job_id=job.id, study_uid=job.study_uid, version=job.study_version)
        log.info("job started", tries=job.tries, losses=job.losses)
        try:
            made = self.processor.process(study, out=out, progress=lease.progress)
            self._finish(job, made, lease, study.routing)
            log.info("job finished", n_results=len(made))
        except (JobAbandonedError, LeaseLostError) as error:
            self._abandon(job, lease)
            log.info("job abandoned", reason=str(error))
        except (RefusedError, DicomIoError) as error:
            self._refuse(job, lease, ResultState.REFUSED, error)
            log.warning("job refused", code=error.code, reason=str(error))
        except NoApplicableModelError as error:
            self._refuse(job, lease, ResultState.NOT_APPLICABLE, error)
            log.info("no model applies", reason=str(error))
        except Exception as error:  # one job's fault must not end the worker
            log.exception("job failed", tries=job.tries + 1)
            self._fail(job, lease, error)

    def _finish(
        self,
        job: Job,
        made: Sequence[ResultDraft | ReusedResult],
        lease: Lease,
        routing: Routing,
    ) -> None:
        filed = [self._file(one) for one in made if isinstance(one, ResultDraft)]
        indexed = index_result_files([file for one in filed for file in one.files], self.objects)
        reused = [one for one in made if isinstance(one, ReusedResult)]
        with self.database.write() as connection:
            now = self.database.now(connection)
            if not jobs.is_newest(connection, job.id):
                raise JobAbandonedError("a later version of the study took over")
            jobs.finish(connection, job.id, owner=lease.owner, now=now, state=JobState.DONE)
            self._store(connection, job, filed, reused, now, routing, indexed)

    def _store(
        self,
        connection: Connection,
        job: Job,
        filed: Sequence[FiledResult],
        reused: Sequence[ReusedResult],
        now: datetime,
        routing: Routing | None = None,
        indexed: Mapping[str, IndexedInstance] = MappingProxyType({}),
    ) -> None:
        routing = routing or Routing()
        stored = results.store(connection, job, filed=filed, reused=reused, now=now)
        deliveries.cancel(connection, stored.superseded)
        retract_superseded(
            connection,
            stored.superseded,
            by=self.name,
            now=now,
            is_replaced=bool(reused) or any(one.draft.files for one in filed),
        )
        for result_id in stored.new:
            found = results.get_result(connection, result_id)
            for file in found.files:
                if file.sha256 in indexed:
                    dicom_index.add_to_index(
                        connection, replace(indexed[file.sha256], result_id=result_id)
                    )
            routed = [
                one
                for one in self.destinations
                if routing.delivers(found.series_uid, found.model, one.name)
            ]
            offer_result(connection, result_id, destinations=routed, now=now)
        audit.append(
            connection,
            at=now,
            actor=self.name,
            action="job.finished",
            subject=job.study_uid,
            detail={
                "job_id": job.id,
                "version": job.study_version,
                "input_hash": job.input_hash,
                "results": list(stored.new),
                "reused": list(stored.kept),
                "superseded": list(stored.superseded),
            },
        )

    def _file(self, draft: ResultDraft) -> FiledResult:
        return file_draft(self.objects, draft)

    def _abandon(self, job: Job, lease: Lease) -> None:
        """Let go of a job that a later version overtook; one whose lease is lost is not ours."""
        try:
            with self.database.write() as connection:
                jobs.finish(
                    connection,
                    job.id,
                    owner=lease.owner,
                    now=self.database.now(connection),
                    state=JobState.SUPERSEDED,
                )
        except LeaseLostError as error:
            logger.info("lease was lost", job_id=job.id, reason=str(error))

    def _refuse(
        self, job: Job, lease: Lease, state: ResultState, error: ClinferError | DicomIoError
    ) -> None:
        reason = str(error)[:MAX_REASON_LENGTH]
        try:
            with self.database.write() as connection:
                now = self.database.now(connection)
                if not jobs.is_newest(connection, job.id):
                    final = JobState.SUPERSEDED
                else:
                    final = JobState.FAILED
                jobs.finish(
                    connection,
                    job.id,
                    owner=lease.owner,
                    now=now,
                    state=final,
                    reason_code=error.code,
                    reason=reason,
                )
                if final is JobState.FAILED:
                    draft = study_result(job, state, error.code, reason, now)
                    self._store(connection, job, [FiledResult(draft=draft, files=())], (), now)
        except LeaseLostError as lost:
            logger.info("lease was lost", job_id=job.id, reason=str(lost))

    def _fail(self, job: Job, lease: Lease, error: Exception) -> None:
        code = getattr(error, "code", None)
        reason_code = code if isinstance(code, str) else "unexpected"
        try:
            with self.database.write() as connection:
                now = self.database.now(connection)
                ended = jobs.record_failure(
                    connection,
                    job.id,
                    owner=lease.owner,
                    now=now,
                    policy=self.policy,
                    reason_code=reason_code,
                    reason=f"{type(error).__name__}: {error}"[:MAX_REASON_LENGTH],
                    is_our_fault=_is_our_fault(error),
                )
                bury_if_dead(connection, ended, now=now)
        except LeaseLostError as lost:
            logger.info("lease was lost", job_id=job.id, reason=str(lost))

    @contextmanager
    def _folder(self, job: Job) -> Iterator[Path]:
        out = self.objects.new_temporary(f"-job-{job.id}")
        out.mkdir()
        try:
            yield out
        finally:
            shutil.rmtree(out, ignore_errors=True)


def file_draft(objects: ObjectStore, draft: ResultDraft) -> FiledResult:
    """Move a draft's files into the object store; a crash before the commit leaves orphans."""
    files = tuple(stored_file(objects, kind, path) for kind, path in draft.files.items())
    return FiledResult(draft=draft, files=files)


def stored_file(objects: ObjectStore, kind: str, path: Path) -> ResultFile:
    """Copy one file of a result into the object store."""
    stored = objects.put(path)
    sop_class_uid = instance_uid = ""
    if path.suffix == ".dcm":
        meta = read_file_meta(path)
        sop_class_uid, instance_uid = meta.sop_class_uid, meta.instance_uid
    return ResultFile(
        kind=kind,
        sha256=stored.sha256,
        size_bytes=stored.size_bytes,
        media_type=MEDIA_TYPES.get(path.suffix, "application/octet-stream"),
        sop_class_uid=sop_class_uid,
        instance_uid=instance_uid,
    )


def _is_our_fault(error: Exception) -> bool:
    """Whether what the job needs was not there: the backend, or room on the disk."""
    if isinstance(error, OSError):
        return error.errno in FULL_ERRORS
    return isinstance(error, BackendUnavailableError | StorageFullError | StorageUnavailableError)


def study_result(
    job: Job, state: ResultState, reason_code: str, reason: str, now: datetime
) -> ResultDraft:
    """Make a result about the whole study, which says why there is no other."""
    return ResultDraft(
        key=f"study/{job.study_uid}/{job.study_version}/{job.id}/{now.isoformat()}",
        series_uid="",
        model=job.model,
        model_version="",
        weights_sha256="",
        state=state,
        reason_code=reason_code,
        reason=reason,
    )


def record_loss(connection: Connection, lost: Job, *, now: datetime, policy: RetryPolicy) -> None:
    """Take a job from a holder that is gone, in the caller's transaction."""
    ended = jobs.record_loss(connection, lost, now=now, policy=policy)
    audit.append(
        connection,
        at=now,
        actor="queue",
        action="job.lease_lost",
        subject=lost.study_uid,
        detail={"job_id": lost.id, "losses": ended.losses, "state": ended.state.value},
    )
    bury_if_dead(connection, ended, now=now)


def bury_if_dead(connection: Connection, ended: Job, *, now: datetime) -> None:
    """Give a dead job's study a result that says so, and put it on record."""
    if ended.state is not JobState.DEAD:
        return
    draft = study_result(ended, ResultState.FAILED, ended.reason_code, ended.reason, now)
    stored = results.store(connection, ended, filed=[FiledResult(draft=draft, files=())], now=now)
    deliveries.cancel(connection, stored.superseded)
    retract_superseded(connection, stored.superseded, by="queue", now=now, is_replaced=False)
    for result_id in stored.new:
        offer_result(connection, result_id, destinations=(), now=now)
    audit.append(
        connection,
        at=now,
        actor="queue",
        action="job.dead",
        subject=ended.study_uid,
        detail={"job_id": ended.id, "code": ended.reason_code, "tries": ended.tries},
    )
