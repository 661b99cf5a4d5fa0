"""Files kept under their content hash: ``objects/ab/abcdef...``, durable before they are named.

``Disk`` is every call that touches the disk; tests hand in one that fails at a chosen call.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from inference.storage.errors import ObjectDamagedError, StorageFullError

CHUNK_BYTES = 1024 * 1024
FULL_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Disk:
    """The file-system calls of the durable sequence."""

    def create(self, path: Path) -> BinaryIO:
        """Open a new file for writing; it must not exist."""
        return path.open("xb")

    def write(self, file: BinaryIO, data: bytes | memoryview) -> None:
        """Append."""
        file.write(data)

    def fsync(self, path: Path) -> None:
        """Force a file's or a folder's content to the disk."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file its final name, replacing an equal one."""
        source.replace(target)

    def free_bytes(self, folder: Path) -> int:
        """Return the space left for us."""
        return shutil.disk_usage(folder).free


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """A file in the store."""

    sha256: str
    size_bytes: int
    path: Path


class ObjectStore:
    """A folder with ``tmp`` (unfinished) and ``objects`` (final, by hash)."""

    def __init__(
        self, root: Path, *, disk: Disk | None = None, reserve_bytes: int = 256 * 1024 * 1024
    ) -> None:
        self.root = root
        self.tmp = root / "tmp"
        self.objects = root / "objects"
        self.disk = disk or Disk()
        self.reserve_bytes = reserve_bytes
        self.tmp.mkdir(parents=True, exist_ok=True)
        # All folders at once: a folder made in passing could be lost with what is in it.
        for first_byte in range(256):
            (self.objects / f"{first_byte:02x}").mkdir(parents=True, exist_ok=True)
        for folder in (self.objects, root, root.parent):
            self.disk.fsync(folder)

    def path(self, sha256: str) -> Path:
        """Where an object with this hash is, or would be."""
        return self.objects / sha256[:2] / sha256

    def new_temporary(self, suffix: str = "") -> Path:
        """Return a fresh name under ``tmp``; nothing received from outside is part of it."""
        return self.tmp / f"{secrets.token_hex(16)}{suffix}"

    def check_space(self, needed_bytes: int = 0) -> None:
        """Refuse early, while there is still room to finish what has begun.

        Raises
        ------
        StorageFullError
        """
        free = self.disk.free_bytes(self.root)
        if free < self.reserve_bytes + needed_bytes:
            raise StorageFullError(free_bytes=free, needed_bytes=self.reserve_bytes + needed_bytes)

    def adopt(self, path: Path, sha256: str) -> StoredObject:
        """Make a finished temporary file an object: fsync, rename, fsync the folder.

        Raises
        ------
        StorageFullError
            No space; the temporary file is removed.
        """
        target = self.path(sha256)
        size_bytes = path.stat().st_size
        try:
            self.disk.fsync(path)
            self.disk.rename(path, target)
            os.utime(target)  # the sweep judges by age; a known object that comes again is young
            self.disk.fsync(target.parent)
        except OSError as error:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            raise self.named_error(error) from error
        return StoredObject(sha256=sha256, size_bytes=size_bytes, path=target)

    def put(self, source: Path) -> StoredObject:
        """Copy a file into the store.

        Raises
        ------
        StorageFullError
        """
        temporary = self.new_temporary()
        digest = hashlib.sha256()
        try:
            with source.open("rb") as read, self.disk.create(temporary) as write:
                while chunk := read.read(CHUNK_BYTES):
                    digest.update(chunk)
                    self.disk.write(write, chunk)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise self.named_error(error) from error
        return self.adopt(temporary, digest.hexdigest())

    def verify(self, sha256: str) -> None:
        """Read an object back.

        Raises
        ------
        ObjectDamagedError
        """
        path = self.path(sha256)
        if not path.is_file():
            raise ObjectDamagedError(sha256=sha256, found_sha256=None)
        found = file_sha256(path)
        if found != sha256:
            raise ObjectDamagedError(sha256=sha256, found_sha256=found)

    def all_objects(self) -> Iterator[Path]:
        """Every object's path, in no order."""
        for folder in self.objects.iterdir():
            if folder.is_dir():
                yield from folder.iterdir()

    def named_error(self, error: OSError) -> OSError | StorageFullError:
        """Say "full" for every way in which a disk says so; give other errors back."""
        if error.errno in FULL_ERRORS:
            return StorageFullError(free_bytes=0, needed_bytes=0)
        return error


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
