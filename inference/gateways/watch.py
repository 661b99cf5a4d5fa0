"""A folder that people and programs copy studies into; what was accepted is moved to ``done``.

A file is taken once its size and time have stood still. It is moved only after it is durably
received, so a crash in between receives it once more, as an exact repetition, and then moves it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from inference.domain.study import Channel, Sender
from inference.jobs.errors import IntakeError
from inference.jobs.intake import Intake
from inference.storage.errors import StorageFullError
from inference.telemetry import get_logger

logger = get_logger(__name__)

DONE, REFUSED = "done", "refused"
UNFINISHED_SUFFIXES = frozenset({".part", ".partial", ".tmp", ".crdownload", ".filepart"})


@dataclass(frozen=True, kw_only=True)
class _Seen:
    size_bytes: int
    modified_ns: int
    since: float


class FolderWatcher:
    """Receives what appears in a folder, its subfolders included; zips are read as archives."""

    def __init__(self, intake: Intake, folder: Path, *, stable_s: float = 2.0) -> None:
        self._intake = intake
        self._folder = folder
        self._stable_s = stable_s
        self._seen: dict[Path, _Seen] = {}
        self._sender = Sender(channel=Channel.FOLDER, name=folder.name)

    def run(self, stop: threading.Event, *, poll_s: float = 1.0) -> None:
        """Look until told to stop."""
        while not stop.is_set():
            try:
                self.look()
            except OSError:  # the folder may be back next time
                logger.exception("watched folder cannot be read")
            stop.wait(poll_s)

    def look(self) -> int:
        """Receive every file that has stood still; return how many were taken or refused."""
        seen, due = {}, []
        for path in self._files():
            status = path.stat()
            known = self._seen.get(path)
            now = time.monotonic()
            if (
                known is None
                or known.size_bytes != status.st_size
                or known.modified_ns != status.st_mtime_ns
            ):
                known = _Seen(size_bytes=status.st_size, modified_ns=status.st_mtime_ns, since=now)
            seen[path] = known
            if now - known.since >= self._stable_s:
                due.append(path)
        self._seen = seen
        return sum(self._take(path) for path in due)

    def _files(self) -> Iterator[Path]:
        self._folder.mkdir(parents=True, exist_ok=True)
        for top, folders, files in os.walk(self._folder):
            if Path(top) == self._folder:
                folders[:] = [name for name in folders if name not in (DONE, REFUSED)]
            for name in files:
                path = Path(top) / name
                hidden = name.startswith(".") or path.suffix.lower() in UNFINISHED_SUFFIXES
                if not hidden and path.is_file() and not path.is_symlink():
                    yield path

    def _take(self, path: Path) -> bool:
        try:
            if path.suffix.lower() == ".zip":
                self._take_archive(path)
            else:
                self._intake.receive_file(path, sender=self._sender)
        except IntakeError as error:
            logger.warning("file refused", code=error.code, field=error.field)
            self._move(path, REFUSED, reason=f"error[{error.code}]: {error}")
        except (StorageFullError, FileNotFoundError) as error:
            logger.warning("file left for later", reason=str(error))
            return False
        else:
            if path.exists():
                self._move(path, DONE)
        return True

    def _take_archive(self, path: Path) -> None:
        receipt = self._intake.receive_archive(path, sender=self._sender)
        if receipt.refused:
            lines = [
                f"{member.name}: error[{member.error.code}]: {member.error}"
                for member in receipt.refused
            ]
            reason = (
                f"{len(receipt.accepted)} files accepted, {len(receipt.refused)} refused\n"
                + "\n".join(lines)
            )
            self._move(path, DONE if receipt.accepted else REFUSED, reason=reason)

    def _move(self, path: Path, where: str, reason: str = "") -> None:
        target = self._folder / where / path.relative_to(self._folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        number = 1
        while target.exists():
            target = target.with_name(f"{path.stem}-{number}{path.suffix}")
            number += 1
        if reason:
            target.with_name(f"{target.name}.reason.txt").write_text(f"{reason}\n", "utf-8")
        path.rename(target)
        self._seen.pop(path, None)
