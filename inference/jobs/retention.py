"""Remove what is due, some at a time: rows first, in one transaction with its audit row."""

from __future__ import annotations

import time
from dataclasses import dataclass

from inference.storage import audit, retention, studies
from inference.storage.database import Database
from inference.storage.objects import ObjectStore
from inference.storage.retention import RetentionKind

YOUNGEST_S = 3600.0
"""A younger file may belong to a transaction elsewhere that has not named it yet."""


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What one removal did; ``n_left`` files were younger than an hour and go with the sweep."""

    n_rows: int
    n_files: int
    n_bytes: int
    n_left: int


def remove_due(
    database: Database, objects: ObjectStore, kind: RetentionKind, *, by: str
) -> Removed:
    """Remove at most `inference.storage.retention.BATCH` items of a kind that are due.

    A crash after the rows are gone leaves files that no row names; the next sweep takes them.
    """
    with database.write() as connection:
        now = database.now(connection)
        hashes = retention.remove_due(connection, kind, now=now)
        audit.append(
            connection,
            at=now,
            actor=by,
            action="retention.removed",
            subject=kind,
            detail={"n": len(hashes)},
        )
    n_files = n_bytes = n_left = 0
    oldest_kept = time.time() - YOUNGEST_S
    with database.write() as connection:  # as the writer: nobody can name an object meanwhile
        for sha256 in sorted(set(hashes)):
            path = objects.path(sha256)
            if not path.is_file() or studies.is_referenced(connection, sha256):
                continue
            status = path.stat()
            if status.st_mtime >= oldest_kept:
                n_left += 1
                continue
            path.unlink()
            n_files, n_bytes = n_files + 1, n_bytes + status.st_size
    return Removed(n_rows=len(hashes), n_files=n_files, n_bytes=n_bytes, n_left=n_left)
