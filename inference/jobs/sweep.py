"""What a start does before any door opens: one service per folder, and no trace of a crash left."""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from inference.domain.errors import ClinferError
from inference.domain.job import RetryPolicy
from inference.jobs.owner import is_gone
from inference.jobs.worker import record_loss
from inference.storage import audit, deliveries, jobs, report_deliveries, studies
from inference.storage.database import Database
from inference.storage.errors import ObjectDamagedError
from inference.storage.objects import ObjectStore
from inference.telemetry import get_logger

logger = get_logger(__name__)


class DataFolderInUseError(ClinferError):
    """Another service works on this data folder."""

    code = "data_folder_in_use"

    def __init__(self, *, folder: Path) -> None:
        self.folder = folder
        super().__init__(f"another process serves {folder}; stop it, or choose another data folder")


@dataclass(frozen=True, kw_only=True)
class SweepReport:
    """What the sweep found."""

    n_temporary: int
    n_unreferenced: int
    n_leases_released: int
    n_rehashed: int
    damaged: tuple[str, ...]


@contextmanager
def data_folder_lock(folder: Path) -> Iterator[None]:
    """Hold a data folder for this process alone; the kernel lets go when the process dies.

    A POSIX record lock, because a child made by fork does not inherit it: an orphan cannot keep
    the next start out.

    Raises
    ------
    DataFolderInUseError
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataFolderInUseError(folder=folder) from error
        yield


def sweep(
    database: Database,
    objects: ObjectStore,
    *,
    policy: RetryPolicy | None = None,
    orphan_age_s: float = 3600.0,
    rehash_window_s: float = 3600.0,
    rehash_budget_bytes: int = 512 * 1024 * 1024,
) -> SweepReport:
    """Put a data folder in order; call it with the folder's lock held, before any door opens.

    Unfinished files go. Leases of processes that are gone are released at once, so nothing waits
    for them to run out. Objects that no row names go when they are older than ``orphan_age_s``
    (a younger one may belong to a transaction elsewhere). What was received last, before a crash,
    is read back and compared with its hash, newest first up to the budget.

    Raises
    ------
    StorageError
        The database file is damaged.
    """
    database.check_integrity()
    n_temporary = _remove_temporary(objects)
    n_leases = _release_leases(database, policy or RetryPolicy())
    n_unreferenced = _remove_unreferenced(database, objects, orphan_age_s)
    n_rehashed, damaged = _rehash(database, objects, rehash_window_s, rehash_budget_bytes)
    report = SweepReport(
        n_temporary=n_temporary,
        n_unreferenced=n_unreferenced,
        n_leases_released=n_leases,
        n_rehashed=n_rehashed,
        damaged=damaged,
    )
    with database.write() as connection:
        audit.append(
            connection,
            at=database.now(connection),
            actor="sweep",
            action="service.started",
            detail={
                "temporary": n_temporary,
                "unreferenced": n_unreferenced,
                "leases_released": n_leases,
                "rehashed": n_rehashed,
                "damaged": list(damaged),
            },
        )
    logger.info("swept", **report.__dict__)
    return report


def _remove_temporary(objects: ObjectStore) -> int:
    n_removed = 0
    for path in objects.tmp.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        n_removed += 1
    return n_removed


def _release_leases(database: Database, policy: RetryPolicy) -> int:
    with database.write() as connection:
        now = database.now(connection)
        lost = [
            job
            for job in jobs.leased(connection)
            if job.lease_owner is not None and is_gone(job.lease_owner)
        ]
        for job in lost:
            record_loss(connection, job, now=now, policy=policy)
        gone = [owner for owner in deliveries.owners(connection) if is_gone(owner)]
        gone_too = [owner for owner in report_deliveries.owners(connection) if is_gone(owner)]
        return (
            len(lost)
            + deliveries.release(connection, gone, now=now)
            + report_deliveries.release(connection, gone_too, now=now)
        )


def _remove_unreferenced(database: Database, objects: ObjectStore, orphan_age_s: float) -> int:
    oldest_kept = time.time() - orphan_age_s
    n_removed = 0
    with database.write() as connection:  # as the writer: nobody can name an object meanwhile
        for path in objects.all_objects():
            if path.stat().st_mtime < oldest_kept and not studies.is_referenced(
                connection, path.name
            ):
                path.unlink()
                n_removed += 1
    return n_removed


def _rehash(
    database: Database, objects: ObjectStore, window_s: float, budget_bytes: int
) -> tuple[int, tuple[str, ...]]:
    with database.read() as connection:
        since = database.now(connection) - timedelta(seconds=window_s)
        recent = studies.received_since(connection, since)
    damaged: list[str] = []
    n_rehashed = 0
    for sha256 in recent:
        path = objects.path(sha256)
        budget_bytes -= path.stat().st_size if path.is_file() else 0
        if budget_bytes < 0:
            break
        n_rehashed += 1
        try:
            objects.verify(sha256)
        except ObjectDamagedError as error:
            damaged.append(sha256)
            logger.error("stored object is damaged", sha256=sha256, reason=str(error))
    return n_rehashed, tuple(damaged)
