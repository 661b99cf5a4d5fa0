"""What the retrieving addresses share: the store's files, the decoders, who read which study."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from starlette.requests import Request

from dicom_io.codec_pool import CodecPool
from dicom_io.instance_file import InstanceFile, open_instance
from inference.gateways.dicomweb_request import asker_of
from inference.storage import audit
from inference.storage.database import Database
from inference.storage.dicom_lookup import StoredInstance, stored_instances
from inference.storage.errors import ObjectDamagedError
from inference.storage.objects import ObjectStore

SAME_READING_S = 600.0
"""A viewer fetches a study in hundreds of requests: within this time they are one reading."""

MAX_READINGS = 10_000


class DicomwebStore:
    """The retrieving end's access to the store; one for the service."""

    def __init__(self, database: Database, objects: ObjectStore, pool: CodecPool) -> None:
        self.database, self.objects, self.pool = database, objects, pool
        self._read_s: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()

    def find(
        self,
        request: Request,
        study_uid: str,
        series_uid: str | None = None,
        instance_uid: str | None = None,
    ) -> tuple[StoredInstance, ...]:
        """Return what is stored there, and put the reading on record.

        Raises
        ------
        NotFoundError
        ObjectDamagedError
            A file is gone; nothing was sent yet.
        """
        with self.database.read() as connection:
            found = stored_instances(connection, study_uid, series_uid, instance_uid)
        for one in found:
            if not self.path(one).is_file():
                raise ObjectDamagedError(sha256=one.sha256, found_sha256=None)
        self._note(request, study_uid)
        return found

    def path(self, stored: StoredInstance) -> Path:
        """Where the file is."""
        return self.objects.path(stored.sha256)

    @contextmanager
    def open(self, stored: StoredInstance) -> Iterator[InstanceFile]:
        """Open the file."""
        with open_instance(self.path(stored), scratch=self.objects.tmp) as file:
            yield file

    def _note(self, request: Request, study_uid: str) -> None:
        asker = asker_of(request)
        if asker is None:
            return
        now_s = time.monotonic()
        with self._lock:
            before_s = self._read_s.get((asker, study_uid))
            if before_s is not None and now_s - before_s < SAME_READING_S:
                return
            if len(self._read_s) >= MAX_READINGS:
                self._read_s.clear()
            self._read_s[asker, study_uid] = now_s
        with self.database.write() as connection:
            audit.append(
                connection,
                at=self.database.now(connection),
                actor=f"http:{asker}",
                action="study.read",
                subject=study_uid,
                detail={"door": "dicomweb"},
            )
