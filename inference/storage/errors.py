"""What can go wrong with the database and the object store.

::

    ClinferError
    └── StorageError
        ├── StorageFullError        no space, or below the reserve
        ├── StorageUnavailableError the database does not answer, or is held by another process
        ├── ObjectDamagedError      stored bytes do not have their hash any more
        ├── DatabaseSettingsError   the database does not promise what we promise
        ├── LeaseLostError          the job or delivery belongs to somebody else now
        └── NotFoundError           no such row
"""

from __future__ import annotations

from inference.domain.errors import ClinferError


class StorageError(ClinferError):
    """Root of the storage errors."""

    code = "storage"


class StorageFullError(StorageError):
    """The disk has no room; nothing was stored and the sender may try again later."""

    code = "storage_full"

    def __init__(self, *, free_bytes: int, needed_bytes: int) -> None:
        self.free_bytes, self.needed_bytes = free_bytes, needed_bytes
        super().__init__(f"out of space: {free_bytes} bytes free, {needed_bytes} wanted")


class StorageUnavailableError(StorageError):
    """The database does not answer; nothing was committed, try again later."""

    code = "storage_unavailable"

    def __init__(self, *, problem: str) -> None:
        self.problem = problem
        super().__init__(f"the database cannot be used now: {problem}")


class ObjectDamagedError(StorageError):
    """A stored object is missing or does not have its hash any more."""

    code = "object_damaged"

    def __init__(self, *, sha256: str, found_sha256: str | None) -> None:
        self.sha256, self.found_sha256 = sha256, found_sha256
        found = "is missing" if found_sha256 is None else f"has hash {found_sha256}"
        super().__init__(f"stored object {sha256} {found}")


class DatabaseSettingsError(StorageError):
    """The database is set up so that an acknowledged row could be lost."""

    code = "database_settings"

    def __init__(self, *, setting: str, found: str, wanted: str) -> None:
        self.setting, self.found, self.wanted = setting, found, wanted
        super().__init__(f"database setting {setting} is {found!r}; it must be {wanted!r}")


class LeaseLostError(StorageError):
    """The lease ran out and somebody else may have the work; this answer is dropped."""

    code = "lease_lost"

    def __init__(self, *, what: str, id: int, owner: str) -> None:
        self.what, self.id, self.owner = what, id, owner
        super().__init__(f"{what} {id} is no longer leased by {owner}")


class NotFoundError(StorageError):
    """No such row."""

    code = "not_found"

    def __init__(self, *, what: str, key: str | int) -> None:
        self.what, self.key = what, key
        super().__init__(f"no {what} {key}")
