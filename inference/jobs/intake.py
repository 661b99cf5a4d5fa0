"""Receive an instance so that "success" means: on disk, in the index, and in the queue.

The order is the promise: stream to ``tmp`` with a size cap, hash, walk the structure, check the
identifiers, fsync, rename to the content hash, fsync the folder, then one transaction {instance,
study, job, audit}. Only after its commit does a door answer "success". A process killed anywhere
in between leaves at most a file that no row names; ``sweep`` removes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain
from pathlib import Path
from types import TracebackType

from sqlalchemy import Connection

from inference.domain.dicom_index import IndexedInstance
from inference.domain.job import Priority
from inference.domain.study import Instance, Sender
from inference.jobs.archive import members
from inference.jobs.errors import ConflictError, IntakeError, TooLargeError
from inference.jobs.identify import Announced, Identity, check_uid, identify
from inference.jobs.index_entry import index_entry
from inference.jobs.inflate import plain_dataset
from inference.jobs.ordered import cancel_study, ordered
from inference.jobs.patient_identity import note_patient
from inference.jobs.receipts import ArchiveReceipt, IntakeSettings, Receipt, RefusedMember
from inference.jobs.refusals import Refusal, RefusalLog
from inference.jobs.structure import PREAMBLE_BYTES, read_file_meta, walk_dataset
from inference.storage import audit, dicom_index, jobs, studies
from inference.storage.database import Database
from inference.storage.objects import CHUNK_BYTES, ObjectStore, file_sha256
from inference.storage.studies import InstanceConflictError, StudyCount

__all__ = ["ArchiveReceipt", "Intake", "IntakeSettings", "Receipt", "RefusedMember", "Upload"]


class Intake:
    """The one way in, whatever the door."""

    def __init__(
        self, *, database: Database, objects: ObjectStore, settings: IntakeSettings | None = None
    ) -> None:
        self.database = database
        self.objects = objects
        self.settings = settings or IntakeSettings()
        self.refusals = RefusalLog(database=database, objects=objects, settings=self.settings)

    def begin(
        self,
        sender: Sender,
        *,
        priority: Priority = Priority.ROUTINE,
        announced: Announced | None = None,
    ) -> Upload:
        """Start receiving one file piece by piece; use it in a ``with`` block.

        Raises
        ------
        StorageFullError
        """
        self.objects.check_space()
        return Upload(self, sender, priority, announced)

    def receive(
        self,
        chunks: Iterable[bytes],
        *,
        sender: Sender,
        priority: Priority = Priority.ROUTINE,
        announced: Announced | None = None,
    ) -> Receipt:
        """Receive one DICOM file as a stream of bytes.

        Raises
        ------
        IntakeError
            It was refused, with the field and the problem; the refusal is on record.
        StorageFullError
            There is no room; nothing was stored, try again later.
        """
        with self.begin(sender, priority=priority, announced=announced) as upload:
            for chunk in chunks:
                upload.write(chunk)
            return upload.commit()

    def receive_file(
        self, path: Path, *, sender: Sender, priority: Priority = Priority.ROUTINE
    ) -> Receipt:
        """Receive a copy of one file; see `receive`."""
        with path.open("rb") as file:
            return self.receive(
                iter(lambda: file.read(CHUNK_BYTES), b""), sender=sender, priority=priority
            )

    def receive_archive(
        self,
        path: Path,
        *,
        sender: Sender,
        priority: Priority = Priority.ROUTINE,
        is_complete: bool = True,
    ) -> ArchiveReceipt:
        """Receive every file of a zip, each as durably as one sent alone.

        A file that is refused does not hold back the others. ``is_complete``: nothing more of
        these studies will come, so they are analysed at once.

        Raises
        ------
        DamagedFileError, TooLargeError
            Nothing was received: no zip, encrypted, or over a limit.
        StorageFullError
            What was received before stays; sending the archive again adds the rest.
        """
        with self.refusals.on_record(sender, None):
            listed = members(path, self.settings.archive)
            first = next(listed, None)
        accepted: list[Receipt] = []
        refused: list[RefusedMember] = []
        for member in () if first is None else chain([first], listed):
            try:
                accepted.append(self.receive(member.chunks(), sender=sender, priority=priority))
            except IntakeError as error:
                refused.append(RefusedMember(name=member.name, error=error))
        receipt = ArchiveReceipt(accepted=tuple(accepted), refused=tuple(refused))
        if is_complete:
            for study_uid in receipt.study_uids:
                self.close_study(study_uid)
        return receipt

    def receive_spooled(
        self,
        path: Path,
        *,
        sender: Sender,
        priority: Priority = Priority.ROUTINE,
        announced: Announced | None = None,
    ) -> Receipt:
        """Receive a finished file that already lies in ``tmp``; it is moved, not copied.

        Its preamble must be zeros. See `receive` for what is raised.
        """
        with self.refusals.on_record(sender, announced) as refusal:
            refusal.path = path
            refusal.size_bytes = path.stat().st_size
            if refusal.size_bytes > self.settings.max_instance_bytes:
                raise _over_cap(self.settings.max_instance_bytes)
            refusal.sha256 = file_sha256(path)
            return self._accept(refusal, path, refusal.sha256, sender, priority, announced)

    def expect(self, study_uid: str, n_instances: int) -> None:
        """Announce how many instances a known study has; it is analysed once they are here.

        Raises
        ------
        NotFoundError
        """
        with self.database.write() as connection:
            studies.expect_instances(connection, study_uid, n_instances)
            now = self.database.now(connection)
            if studies.get_study(connection, study_uid).n_instances >= n_instances:
                jobs.close_collection(connection, study_uid, now=now)
        self.database.notify()

    def close_study(self, study_uid: str) -> None:
        """Say that nothing more will come: do not wait out the quiet period."""
        with self.database.write() as connection:
            jobs.close_collection(connection, study_uid, now=self.database.now(connection))
        self.database.notify()

    def _accept(
        self,
        refusal: Refusal,
        path: Path,
        original_sha256: str,
        sender: Sender,
        priority: Priority,
        announced: Announced | None,
    ) -> Receipt:
        if announced is not None:
            check_uid(announced.instance_uid, "AffectedSOPInstanceUID (0000,1000)")
        meta = read_file_meta(path)
        with plain_dataset(path, meta, self.objects, self.settings) as (plain, offset):
            structure = walk_dataset(
                plain, offset, meta.transfer_syntax_uid, self.settings.structure
            )
        identity = identify(structure, meta, announced)
        refusal.instance_uid, refusal.study_uid = identity.instance_uid, identity.study_uid
        dataset_sha256 = _sha256_from(path, meta.dataset_offset)
        stored = self.objects.adopt(path, refusal.sha256)
        indexed = index_entry(
            structure,
            meta,
            identity,
            sha256=refusal.sha256,
            size_bytes=stored.size_bytes,
        )
        with self.database.write() as connection:
            receipt = self._record(
                connection,
                identity,
                indexed,
                Instance(
                    instance_uid=identity.instance_uid,
                    series_uid=identity.series_uid,
                    study_uid=identity.study_uid,
                    sop_class_uid=identity.sop_class_uid,
                    transfer_syntax_uid=meta.transfer_syntax_uid,
                    sha256=refusal.sha256,
                    dataset_sha256=dataset_sha256,
                    original_sha256=original_sha256,
                    size_bytes=stored.size_bytes,
                    is_image=identity.is_image,
                    received_at=self.database.now(connection),
                    sender=sender,
                ),
                priority,
            )
        self.database.notify()
        return receipt

    def _record(
        self,
        connection: Connection,
        identity: Identity,
        indexed: IndexedInstance,
        new: Instance,
        priority: Priority,
    ) -> Receipt:
        try:
            count = studies.add_instance(connection, new, identity.description)
        except InstanceConflictError as error:
            raise ConflictError(field=error.field, problem=error.problem) from error
        job_id = None
        is_new = count is not None
        if is_new:
            dicom_index.add_to_index(connection, indexed)
            note_patient(connection, new, identity.description, self.settings.authorities)
        if (
            count is not None
            and new.is_image
            and not studies.is_own_result(connection, new.instance_uid)
        ):
            job_id = self._queue(connection, new, count, priority)
        audit.append(
            connection,
            at=new.received_at,
            actor=f"{new.sender.channel.value}:{new.sender.name}",
            action="instance.received" if is_new else "instance.repeated",
            subject=new.study_uid,
            detail={
                "instance_uid": new.instance_uid,
                "sha256": new.sha256,
                "original_sha256": new.original_sha256,
                "address": new.sender.address,
                "job_id": job_id,
            },
        )
        return Receipt(
            instance_uid=new.instance_uid,
            series_uid=new.series_uid,
            study_uid=new.study_uid,
            sop_class_uid=new.sop_class_uid,
            sha256=new.sha256,
            is_new=is_new,
            job_id=job_id,
        )

    def _queue(
        self, connection: Connection, new: Instance, count: StudyCount, priority: Priority
    ) -> int | None:
        order = ordered(connection, new.study_uid, priority)
        if order.is_on_record:  # the refusal of the first instance stands for the study
            return None
        job_id = jobs.collect(
            connection,
            new.study_uid,
            now=new.received_at,
            run_after=self.settings.completion.run_after(
                now=new.received_at,
                n_instances=count.n_instances,
                expected_instances=count.expected_instances,
            ),
            priority=order.priority,
            model=self.settings.model,
        )
        if order.is_cancelled:
            cancel_study(connection, new.study_uid, now=new.received_at)
        return job_id


class Upload:
    """One file on its way in: write pieces, then commit; leaving without commit discards it."""

    def __init__(
        self, intake: Intake, sender: Sender, priority: Priority, announced: Announced | None
    ) -> None:
        self._intake = intake
        self._sender, self._priority, self._announced = sender, priority, announced
        self._head = bytearray()
        self._sha256, self._original_sha256 = hashlib.sha256(), hashlib.sha256()
        self._n_bytes = 0
        self._path = intake.objects.new_temporary()
        self._file = intake.objects.disk.create(self._path)

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def write(self, chunk: bytes) -> None:
        """Take the next piece.

        Raises
        ------
        TooLargeError, StorageFullError
        """
        self._n_bytes += len(chunk)
        if self._n_bytes > self._intake.settings.max_instance_bytes:
            error = _over_cap(self._intake.settings.max_instance_bytes)
            with self._intake.refusals.on_record(self._sender, self._announced):
                raise error
        if len(self._head) < PREAMBLE_BYTES:
            self._head += chunk
            if len(self._head) < PREAMBLE_BYTES:
                return
            self._write_head()
        else:
            self._original_sha256.update(chunk)
            self._append(chunk)

    def commit(self) -> Receipt:
        """Make it durable; return only when it is on disk, indexed and queued.

        Raises
        ------
        IntakeError, StorageFullError
        """
        intake = self._intake
        with intake.refusals.on_record(self._sender, self._announced) as refusal:
            if self._n_bytes < PREAMBLE_BYTES:
                self._original_sha256.update(self._head)
                self._append(bytes(self._head))
            try:
                self._file.close()
            except OSError as error:
                raise intake.objects.named_error(error) from error
            refusal.path, refusal.size_bytes = self._path, self._n_bytes
            refusal.sha256 = self._sha256.hexdigest()
            return intake._accept(
                refusal,
                self._path,
                self._original_sha256.hexdigest(),
                self._sender,
                self._priority,
                self._announced,
            )

    def _write_head(self) -> None:
        """Zero the preamble: a program hidden there would run as a file of its own type."""
        self._original_sha256.update(self._head)
        self._append(bytes(PREAMBLE_BYTES) + bytes(self._head[PREAMBLE_BYTES:]))

    def _append(self, data: bytes) -> None:
        self._sha256.update(data)
        try:
            self._intake.objects.disk.write(self._file, data)
        except OSError as error:
            raise self._intake.objects.named_error(error) from error


def _over_cap(max_bytes: int) -> TooLargeError:
    return TooLargeError(field="file", problem=f"is larger than {max_bytes} bytes")


def _sha256_from(path: Path, offset: int) -> str:
    with path.open("rb") as file:
        file.seek(offset)
        return hashlib.file_digest(file, "sha256").hexdigest()
