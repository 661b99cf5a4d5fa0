"""System shared memory for volumes on their way to a server on the same machine.

A region's name exists only until the server has mapped it; from then on the memory lives as long
as a mapping does, and a process that is killed leaves nothing behind. What a kill inside that
moment leaves is removed by :func:`remove_dead_regions`. Linux only (`/dev/shm`).
"""

from __future__ import annotations

import errno
import mmap
import os
import re
import secrets
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from inference.domain.errors import BackendUnavailableError
from inference.telemetry import get_logger

SHARED_MEMORY_FOLDER = Path("/dev/shm")  # noqa: S108 - it is shared memory, not a temporary file
SERVER_PREFIX = "clinfer-server-"
"""How the shared memory begins that an embedded server makes; our process id follows."""

_PREFIX = "clinfer-volume-"
_NAME = re.compile(
    rf"{_PREFIX}(?P<pid>\d+)-[0-9a-f]{{16}}|{SERVER_PREFIX}(?P<parent>\d+)-[0-9a-f]{{16}}-.*"
)
_YOUNG_S = 10.0
"""A volume is named for milliseconds; one younger than this may belong to another PID namespace."""

_log = get_logger(__name__)


class SharedMemoryFullError(BackendUnavailableError):
    """Shared memory has no room for a volume now; other studies may give theirs back."""

    def __init__(self, *, needed_bytes: int, free_bytes: int) -> None:
        self.needed_bytes, self.free_bytes = needed_bytes, free_bytes
        super().__init__(
            f"{SHARED_MEMORY_FOLDER}: {needed_bytes} bytes needed, {free_bytes} free; enlarge it"
            " (in a container: --shm-size) or reach the server without shared memory"
        )


class SharedRegion:
    """A block of shared memory that a server can open by name, readable by its owner only."""

    def __init__(self, n_bytes: int, *, folder: Path = SHARED_MEMORY_FOLDER) -> None:
        self.n_bytes = n_bytes
        self.name = f"{_PREFIX}{os.getpid()}-{secrets.token_hex(8)}"
        self._path = folder / self.name
        self._is_named = False
        descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        self._is_named = True
        try:
            # Without this, a full /dev/shm would kill the writer with SIGBUS instead of an error.
            os.posix_fallocate(descriptor, 0, n_bytes)
            self._memory = mmap.mmap(descriptor, n_bytes)
        except OSError as error:
            self.unlink()
            if error.errno == errno.ENOSPC:
                raise _full(n_bytes, folder) from error
            raise
        finally:
            os.close(descriptor)

    @property
    def key(self) -> str:
        """The name as `shm_open` takes it."""
        return f"/{self.name}"

    def array(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return the region's memory as an array; the memory lives as long as the array."""
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(self._memory, dtype, count).reshape(shape)

    def unlink(self) -> None:
        """Remove the name; mappings that exist go on."""
        if self._is_named:
            self._is_named = False
            self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.unlink()


def remove_dead_regions(*, folder: Path = SHARED_MEMORY_FOLDER) -> tuple[str, ...]:
    """Remove what killed processes of ours, or their servers, left behind; return the names.

    Only names are removed: whoever has mapped the memory keeps it.
    """
    removed = []
    for path in folder.iterdir():
        found = _NAME.fullmatch(path.name)
        if found is None or Path(f"/proc/{found['pid'] or found['parent']}").exists():
            continue
        try:
            if time.time() - path.stat().st_mtime < _YOUNG_S:
                continue
            path.unlink()
        except (FileNotFoundError, PermissionError):
            continue  # another start was faster, or it is another user's
        removed.append(path.name)
    if removed:
        _log.info("removed shared memory of dead processes", regions=removed)
    return tuple(removed)


def _full(n_bytes: int, folder: Path) -> SharedMemoryFullError:
    room = os.statvfs(folder)
    return SharedMemoryFullError(needed_bytes=n_bytes, free_bytes=room.f_bavail * room.f_frsize)
