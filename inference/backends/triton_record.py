"""What the service notes about the Triton server it starts, so that a later start can end it.

A killed service cannot stop its server. The note holds a random token that the server and its
models' processes carry in their environment: only a process with that token is ever killed.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from inference.backends.processes import kill_all, with_variable
from inference.backends.shared_memory import SERVER_PREFIX, SHARED_MEMORY_FOLDER
from inference.domain.errors import BackendError
from inference.telemetry import get_logger

TOKEN_VARIABLE = "CLINFER_TRITON_TOKEN"  # noqa: S105 - the variable's name

_log = get_logger(__name__)


class DataFolderInUseError(BackendError):
    """Another running service keeps its Triton server in the same data folder."""

    def __init__(self, *, folder: Path) -> None:
        self.folder = folder
        super().__init__(f"{folder}: another clinfer runs a Triton server from this folder")


class OrphanSurvivesError(BackendError):
    """A server that an earlier service left behind could not be ended."""

    def __init__(self, *, pids: tuple[int, ...]) -> None:
        self.pids = pids
        super().__init__(f"processes {pids} of an earlier Triton server do not end; end them")


@dataclass(frozen=True, kw_only=True)
class ServerRecord:
    """The note about one server.

    Attributes
    ----------
    address, secret : how it is reached
    token : what its processes carry; tells whom we may kill, so nobody else is told
    server_id : what it calls itself when asked
    """

    address: str
    secret: str = field(repr=False, default_factory=lambda: secrets.token_urlsafe(32))
    token: str = field(repr=False, default_factory=lambda: secrets.token_hex(16))
    server_id: str = field(default_factory=lambda: f"{os.getpid()}-{secrets.token_hex(8)}")

    @property
    def region_prefix(self) -> str:
        """How the names of the server's own shared memory begin."""
        return f"{SERVER_PREFIX}{self.server_id}-"

    def write(self, path: Path) -> None:
        """Write the note, readable by the owner only, whole or not at all."""
        temporary = path.with_suffix(".tmp")
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(self), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Return the note, or None where there is none (or a torn one)."""
        try:
            found = json.loads(path.read_text())
            return cls(
                address=str(found["address"]),
                secret=str(found["secret"]),
                token=str(found["token"]),
                server_id=str(found["server_id"]),
            )
        except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError):
            return None

    def processes(self) -> frozenset[int]:
        """Ids of the running processes that carry this note's token."""
        return with_variable(TOKEN_VARIABLE, self.token)

    def make_regions_private(self) -> None:
        """Let only the owner read the server's shared memory; it is made readable by all."""
        for path in self.regions():
            path.chmod(0o600)

    def regions(self) -> tuple[Path, ...]:
        """Return the shared memory of the server's models, one file each."""
        return tuple(SHARED_MEMORY_FOLDER.glob(f"{self.region_prefix}*"))

    def end_processes(self) -> frozenset[int]:
        """Kill what carries the token and free its shared memory; return what was running.

        Raises
        ------
        OrphanSurvivesError
        """
        found = self.processes()
        left = kill_all(found)
        if left:
            raise OrphanSurvivesError(pids=tuple(sorted(left)))
        for path in self.regions():
            path.unlink(missing_ok=True)
        return found


def end_orphan(path: Path) -> frozenset[int]:
    """End the server that the note at ``path`` names, if it still runs; remove the note.

    The caller holds the folder's lock, so no living service owns that server.
    """
    record = ServerRecord.read(path)
    if record is None:
        return frozenset()
    ended = record.end_processes()
    path.unlink(missing_ok=True)
    if ended:
        _log.warning("ended an orphaned Triton server", pids=sorted(ended), address=record.address)
    return ended


class FolderLock:
    """Held while a service keeps its server in a folder; the kernel frees it when we die.

    A record lock on purpose: unlike `flock`, forked children do not keep it alive.
    """

    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise DataFolderInUseError(folder=folder) from error

    def release(self) -> None:
        """Give the folder back."""
        os.close(self._descriptor)
