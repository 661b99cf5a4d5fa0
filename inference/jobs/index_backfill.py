"""Index what was stored before there was an index: in batches, while the doors are open."""

from __future__ import annotations

import threading

from inference.domain.dicom_index import IndexedInstance
from inference.jobs.errors import IntakeError
from inference.jobs.index_entry import index_file
from inference.jobs.receipts import IntakeSettings
from inference.storage import dicom_index
from inference.storage.database import Database
from inference.storage.objects import ObjectStore
from inference.telemetry import get_logger

logger = get_logger(__name__)

BATCH = 100
"""Files read for one transaction: some 0.1 s of reading, some ms of holding the writer's lock."""


class IndexBackfill:
    """Runs once at each start; ``is_done`` at once where every instance is indexed already."""

    def __init__(
        self, database: Database, objects: ObjectStore, settings: IntakeSettings | None = None
    ) -> None:
        self._database, self._objects = database, objects
        self._settings = settings or IntakeSettings()
        self._done = threading.Event()
        self.n_indexed = 0
        self.n_unreadable = 0

    @property
    def is_done(self) -> bool:
        """Whether a search finds everything that is stored."""
        return self._done.is_set()

    def run(self, stop: threading.Event) -> None:
        """Index whatever is missing; a next start goes on where this one was stopped."""
        while not stop.is_set() and self._received_batch():
            pass
        while not stop.is_set() and self._made_batch():
            pass
        if not stop.is_set():
            self._done.set()
            if self.n_indexed or self.n_unreadable:
                logger.info(
                    "older instances are indexed",
                    n_indexed=self.n_indexed,
                    n_unreadable=self.n_unreadable,
                )

    _after_received = ""
    _after_made = ""

    def _received_batch(self) -> bool:
        with self._database.read() as connection:
            rows = dicom_index.received_but_not_indexed(
                connection, after=self._after_received, limit=BATCH
            )
        self._add([(sha256, None) for _, sha256 in rows])
        if rows:
            self._after_received = rows[-1][0]
        return bool(rows)

    def _made_batch(self) -> bool:
        with self._database.read() as connection:
            rows = dicom_index.made_but_not_indexed(connection, after=self._after_made, limit=BATCH)
        self._add([(sha256, result_id) for _, sha256, result_id in rows])
        if rows:
            self._after_made = rows[-1][0]
        return bool(rows)

    def _add(self, files: list[tuple[str, int | None]]) -> None:
        read = [one for sha256, result_id in files if (one := self._read(sha256, result_id))]
        if not read:
            return
        with self._database.write() as connection:
            for one in read:
                dicom_index.add_to_index(connection, one)
        self.n_indexed += len(read)

    def _read(self, sha256: str, result_id: int | None) -> IndexedInstance | None:
        try:
            return index_file(
                self._objects.path(sha256),
                self._objects,
                self._settings,
                sha256=sha256,
                result_id=result_id,
            )
        except (IntakeError, OSError) as error:
            self.n_unreadable += 1
            logger.error("a stored file cannot be indexed", sha256=sha256, reason=str(error))
            return None
