"""Receive a batch's files into the store: what is known by its content is not stored again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dicom_io.errors import DicomIoError
from dicom_io.series import read_header, sha256_of_file
from inference.domain.study import Channel, Instance, Sender
from inference.jobs.completion import CompletionRule
from inference.jobs.errors import IntakeError
from inference.jobs.intake import Intake, IntakeSettings
from inference.storage import studies
from inference.storage.database import Database
from inference.storage.errors import NotFoundError, StorageError
from inference.storage.objects import ObjectStore

ONE_WRITE_S = 3600.0
"""Quiet period of a study that a batch receives: the batch itself says when it is complete. Only
where it dies in between, and a service goes on in its place, does the period run out."""


@dataclass(frozen=True, kw_only=True)
class StorePlace:
    """Where received files go; enough for any process of this machine to open it.

    ``database_url`` is "" for the SQLite file in the folder, whose name is ``sqlite_name``.
    """

    data_dir: Path
    database_url: str = field(default="", repr=False)
    sqlite_name: str = "clinfer.sqlite3"
    reserve_bytes: int = 0
    model: str
    source: str

    def open(self) -> tuple[Database, ObjectStore]:
        """Open the database and the objects."""
        database = Database.open(self.database_url or self.data_dir / self.sqlite_name)
        return database, ObjectStore(self.data_dir, reserve_bytes=self.reserve_bytes)


@dataclass(frozen=True, kw_only=True)
class Received:
    """What became of some files.

    Attributes
    ----------
    refused : how many, by error code
    storage_problem : why it stopped before the end; what was received before stays
    """

    study_uids: tuple[str, ...] = ()
    n_new: int = 0
    n_known: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    storage_problem: str = ""


def receive_files(paths: Sequence[Path], place: StorePlace) -> Received:
    """Receive files as durably as any door does; a refused one does not hold back the others."""
    try:
        database, objects = place.open()
    except StorageError as error:
        return Received(storage_problem=str(error))
    try:
        return _receive(paths, _intake(database, objects, place.model), place)
    finally:
        database.close()


def _receive(paths: Sequence[Path], intake: Intake, place: StorePlace) -> Received:
    sender = Sender(channel=Channel.FOLDER, name="batch", address=place.source[:200])
    study_uids: set[str] = set()
    refused: dict[str, int] = {}
    n_new = n_known = 0
    problem = ""
    for path in paths:
        known = _known(intake.database, path)
        if known is not None:
            study_uids.add(known.study_uid)
            n_known += 1
            continue
        try:
            receipt = intake.receive_file(path, sender=sender)
        except IntakeError as error:
            refused[error.code] = refused.get(error.code, 0) + 1
            continue
        except StorageError as error:
            problem = str(error)
            break
        study_uids.add(receipt.study_uid)
        n_new += receipt.is_new
        n_known += not receipt.is_new
    return Received(
        study_uids=tuple(sorted(study_uids)),
        n_new=n_new,
        n_known=n_known,
        refused=refused,
        storage_problem=problem,
    )


def _known(database: Database, path: Path) -> Instance | None:
    """Return the stored instance with this file's UID and bytes."""
    try:
        uid = read_header(path).instance_uid
    except (DicomIoError, OSError):
        return None  # the intake says what is wrong with it, on record
    with database.read() as connection:
        try:
            found = studies.get_instance(connection, uid)
        except NotFoundError:
            return None
    return found if found.original_sha256 == sha256_of_file(path) else None


def _intake(database: Database, objects: ObjectStore, model: str) -> Intake:
    return Intake(
        database=database,
        objects=objects,
        settings=IntakeSettings(
            completion=CompletionRule(quiet_period_s=ONE_WRITE_S, incomplete_wait_s=ONE_WRITE_S),
            model=model,
        ),
    )
