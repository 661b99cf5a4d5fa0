"""What the retrieving addresses share: the store's files, the decoders."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dicom_io.codec_pool import CodecPool
from dicom_io.instance_file import InstanceFile, open_instance
from inference.storage.database import Database
from inference.storage.dicom_lookup import StoredInstance, stored_instances
from inference.storage.errors import ObjectDamagedError
from inference.storage.objects import ObjectStore


class DicomwebStore:
    """The retrieving end's access to the store; one for the service."""

    def __init__(self, database: Database, objects: ObjectStore, pool: CodecPool) -> None:
        self.database, self.objects, self.pool = database, objects, pool

    def find(
        self,
        study_uid: str,
        series_uid: str | None = None,
        instance_uid: str | None = None,
    ) -> tuple[StoredInstance, ...]:
        """Return what is stored there.

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
        return found

    def path(self, stored: StoredInstance) -> Path:
        """Where the file is."""
        return self.objects.path(stored.sha256)

    @contextmanager
    def open(self, stored: StoredInstance) -> Iterator[InstanceFile]:
        """Open the file."""
        with open_instance(self.path(stored), scratch=self.objects.tmp) as file:
            yield file
