"""Tell each destination that a result does not hold any more, until it knows.

A destination that honours IHE IOCM gets a rejection note through its outbox, like a result. For
one that does not, its own REST interface deletes the copies, each after it was seen to be ours.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_io.errors import DicomIoError
from dicom_io.key_objects import RejectedObject, Rejection, make_rejection_note_beside
from dicom_io.results import ResultIdentity
from dicom_io.write import write_dicom
from inference.domain.ports import ObjectRemover
from inference.domain.release import Cause, EventKind, RetractionEvent
from inference.domain.result import DeliveryState, Destination, Result, ResultFile, Retract
from inference.jobs.delivery import DeliveryPolicy
from inference.jobs.errors import DeliveryError
from inference.jobs.statements import algorithm_of, filed
from inference.storage import audit, deliveries, results, retractions
from inference.storage.database import Database
from inference.storage.objects import ObjectStore
from inference.telemetry import get_logger

logger = get_logger(__name__)

REASONS = {
    Cause.SUPERSEDED: Rejection.QUALITY,
    Cause.REJECTED: Rejection.PATIENT_SAFETY,
    Cause.RECALLED: Rejection.PATIENT_SAFETY,
}
"""Title of the note: what a person or a recall took back could harm if it were shown again."""

STILL_SENDING = timedelta(seconds=2)
MAX_ERROR_LENGTH = 1000


class RetractionWorker:
    """Empties the outbox of retractions for DICOM destinations."""

    def __init__(
        self,
        *,
        database: Database,
        objects: ObjectStore,
        destinations: Sequence[Destination],
        remover: ObjectRemover,
        policy: DeliveryPolicy | None = None,
    ) -> None:
        self.database = database
        self.objects = objects
        self.destinations = {one.name: one for one in destinations}
        self.remover = remover
        self.policy = policy or DeliveryPolicy()
        self.name = "retractions"

    def run(self, stop: threading.Event, *, poll_s: float = 1.0) -> None:
        """Tell of retractions until told to stop."""
        while not stop.is_set():
            try:
                if not self.run_once():
                    self.database.wait(poll_s)
            except Exception:  # a thread's end: the disk or database may be back next time
                logger.exception("retractions could not go on; trying again")
                stop.wait(poll_s)

    def run_once(self) -> bool:
        """Deal with one event if one is due; False: none was."""
        with self.database.read() as connection:
            events = retractions.due(
                connection, [EventKind.DICOM], now=self.database.now(connection), limit=1
            )
        if not events:
            return False
        (event,) = events
        try:
            self._tell(event)
        except (DeliveryError, DicomIoError, OSError) as error:
            self._failed(event, error)
        self.database.notify()
        return True

    def _tell(self, event: RetractionEvent) -> None:
        destination = self.destinations.get(event.destination)
        if destination is None:
            raise DeliveryError(
                destination=event.destination,
                problem="is no destination any more; take the copies back there by hand",
                is_permanent=True,
            )
        with self.database.read() as connection:
            found = results.get_result(connection, event.result_id)
            sent = [
                one
                for one in deliveries.list_deliveries(
                    connection, result_id=event.result_id, limit=1000
                )
                if one.kind != deliveries.NOTE_KIND
                and (one.tries > 0 or one.state is DeliveryState.LEASED)
            ]
        here = [one for one in sent if one.destination == destination.name]
        if any(one.state is DeliveryState.LEASED for one in here):
            self._later(event)
            return
        kinds = {one.kind for one in (here if destination.retract is not Retract.NOTE else sent)}
        files = [file for file in found.files if file.kind in kinds]
        if destination.retract is Retract.ARCHIVE_API:
            for file in files:
                self.remover.remove(destination, self.objects.path(file.sha256), file)
            self._done(event, found)
        else:
            self._note(event, found, files)

    def _note(self, event: RetractionEvent, found: Result, files: list[ResultFile]) -> None:
        note = [file for file in found.files if file.kind == deliveries.NOTE_KIND]
        if not note and files:
            note = [self._make_note(found, files)]
        with self.database.write() as connection:
            now = self.database.now(connection)
            if note:
                results.add_files(connection, found.id, note)
                deliveries.enqueue_note(
                    connection, found.id, destination=event.destination, now=now
                )
        self._done(event, found)

    def _make_note(self, found: Result, files: Sequence[ResultFile]) -> ResultFile:
        with self.database.read() as connection:
            taken_back = retractions.get_of_result(connection, found.id)
        assert taken_back is not None, "an event has its retraction"
        origin = self._header(files[0])
        rejected = [
            RejectedObject(
                sop_class_uid=file.sop_class_uid,
                instance_uid=file.instance_uid,
                series_uid=str(self._header(file).SeriesInstanceUID),
            )
            for file in files
        ]
        note = make_rejection_note_beside(
            origin,
            rejected,
            REASONS[taken_back.cause],
            taken_back.reason,
            algorithm=algorithm_of(
                found, is_research=str(origin.get("ContentQualification", "")) == "RESEARCH"
            ),
            identity=ResultIdentity(key=found.key, created_at=taken_back.created_at),
        )
        path = Path(f"{self.objects.new_temporary('-note')}.dcm")
        try:
            write_dicom(note, path)
            return filed(self.objects, deliveries.NOTE_KIND, path)
        finally:
            path.unlink(missing_ok=True)

    def _header(self, file: ResultFile) -> Dataset:
        with self.objects.path(file.sha256).open("rb") as stream:
            return dcmread(stream, stop_before_pixels=True)

    def _done(self, event: RetractionEvent, found: Result) -> None:
        with self.database.write() as connection:
            now = self.database.now(connection)
            retractions.finish(connection, event.id, now=now)
            audit.append(
                connection,
                at=now,
                actor=self.name,
                action="result.retraction_told",
                subject=found.study_uid,
                detail={"result_id": found.id, "destination": event.destination},
            )

    def _later(self, event: RetractionEvent) -> None:
        """Wait until an object that is being sent right now has arrived or not."""
        with self.database.write() as connection:
            now = self.database.now(connection)
            retractions.postpone(connection, event.id, until=now + STILL_SENDING)

    def _failed(self, event: RetractionEvent, error: Exception) -> None:
        tries = event.tries + 1
        is_permanent = isinstance(error, DeliveryError) and error.is_permanent
        is_dead = is_permanent or tries >= self.policy.max_tries
        logger.warning("retraction not told", event_id=event.id, tries=tries, reason=str(error))
        with self.database.write() as connection:
            now = self.database.now(connection)
            retractions.record_failure(
                connection,
                event.id,
                error=str(error)[:MAX_ERROR_LENGTH],
                next_at=None if is_dead else now + self.policy.wait(tries),
            )
