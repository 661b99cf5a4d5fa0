"""What a user points at (a folder, an archive, a file, a list) becomes a list of plain files.

Archives come from strangers: entries are checked before anything is written, written under the
names they carry inside a fresh folder only, counted and measured while they are unpacked, and
removed afterwards. An archive inside an archive stays a file.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO

from dicom_io.errors import ArchiveEntryError, ArchiveLimitError, SourceError

_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
_RATIO_FROM_BYTES = 256 * 1024**2  # black slices honestly compress 1000:1
_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class SourceLimits:
    """How much an archive may hold before it is refused."""

    max_entries: int = 20_000
    max_entry_bytes: int = 2 * 1024**3
    max_total_bytes: int = 8 * 1024**3
    max_ratio: int = 100


DEFAULT_SOURCE_LIMITS = SourceLimits()


@contextmanager
def open_source(
    path: Path | Sequence[Path], *, limits: SourceLimits = DEFAULT_SOURCE_LIMITS
) -> Iterator[tuple[Path, ...]]:
    """Give the files of a folder, a .zip, a .tar(.gz, .xz, .bz2), one file, or a list of these.

    Archives are unpacked into a temporary folder that lives until the context ends; those in a
    list too, those inside folders not. Links in a folder are followed to files, not to folders.

    Raises
    ------
    SourceError
        The path does not exist, holds no file, or is a damaged archive.
    ArchiveEntryError, ArchiveLimitError
    """
    paths = [path] if isinstance(path, Path) else list(path)
    with tempfile.TemporaryDirectory(prefix="clinfer-source-") as folder:
        files: list[Path] = []
        for index, item in enumerate(paths):
            files += _files_of(item, Path(folder) / str(index), limits)
        yield tuple(files)


def _files_of(path: Path, unpack_to: Path, limits: SourceLimits) -> list[Path]:
    if path.is_dir():
        return _files_below(path)
    if not path.is_file():
        raise SourceError(path=path, problem="is not there, or is no file and no folder")
    try:
        if zipfile.is_zipfile(path) and not _is_dicom(path):
            unpack_to.mkdir()
            _unpack_zip(path, unpack_to, limits)
        elif path.name.lower().endswith(_TAR_SUFFIXES):
            unpack_to.mkdir()
            _unpack_tar(path, unpack_to, limits)
        else:
            return [path]
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        LZMAError,
        EOFError,
        NotImplementedError,
    ) as error:
        raise SourceError(path=path, problem=f"damaged or unknown archive: {error}") from error
    return _files_below(unpack_to)


def _files_below(folder: Path) -> list[Path]:
    """Regular files below a folder, in a stable order."""
    found: list[Path] = []
    for parent, folders, names in os.walk(folder):
        folders.sort()
        found += [item for name in sorted(names) if (item := Path(parent) / name).is_file()]
    if not found:
        raise SourceError(path=folder, problem="holds no file")
    return found


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


class _Unpacker:
    """Writes entries below a folder, and keeps count."""

    def __init__(self, archive: Path, folder: Path, limits: SourceLimits) -> None:
        self.archive, self.folder, self.limits = archive, folder, limits
        self.archive_bytes = archive.stat().st_size
        self.n_entries = 0
        self.total_bytes = 0
        self._written: set[tuple[str, ...]] = set()

    def count(self) -> None:
        self.n_entries += 1
        if self.n_entries > self.limits.max_entries:
            raise self._over("max_entries", self.limits.max_entries)

    def target(self, name: str) -> Path:
        """Where an entry goes; refuses one that would leave the folder."""
        pure = PurePosixPath(name.replace("\\", "/"))
        parts = pure.parts
        is_drive = bool(parts) and parts[0].endswith(":")
        if pure.is_absolute() or is_drive or ".." in parts or not parts or "\0" in name:
            raise self.refused(name, "its path leaves the archive")
        if parts in self._written:
            raise self.refused(name, "is there twice")
        return self.folder.joinpath(*parts)

    def write(self, name: str, source: IO[bytes]) -> None:
        target = self.target(name)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                self._copy(source, file)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise self.refused(name, "is a file and a folder at once") from error
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise  # a full disk is not the archive's fault
            raise self.refused(name, "has too long a name") from error
        self._written.add(target.relative_to(self.folder).parts)

    def _copy(self, source: IO[bytes], file: IO[bytes]) -> None:
        entry_bytes = 0
        while chunk := source.read(_CHUNK_BYTES):
            entry_bytes += len(chunk)
            self.total_bytes += len(chunk)
            if entry_bytes > self.limits.max_entry_bytes:
                raise self._over("max_entry_bytes", self.limits.max_entry_bytes)
            if self.total_bytes > self.limits.max_total_bytes:
                raise self._over("max_total_bytes", self.limits.max_total_bytes)
            allowed = max(_RATIO_FROM_BYTES, self.limits.max_ratio * self.archive_bytes)
            if self.total_bytes > allowed:
                raise self._over("max_ratio", self.limits.max_ratio)
            file.write(chunk)

    def refused(self, entry: str, problem: str) -> ArchiveEntryError:
        return ArchiveEntryError(path=self.archive, entry=entry, problem=problem)

    def _over(self, limit: str, allowed: int) -> ArchiveLimitError:
        return ArchiveLimitError(path=self.archive, limit=limit, allowed=allowed)


def _unpack_zip(path: Path, folder: Path, limits: SourceLimits) -> None:
    unpacker = _Unpacker(path, folder, limits)
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            unpacker.count()
            if entry.is_dir():
                continue
            unpacker.target(entry.filename)
            if stat.S_ISLNK(entry.external_attr >> 16):
                raise unpacker.refused(entry.filename, "is a link")
            if entry.flag_bits & 0x1:
                raise unpacker.refused(entry.filename, "is encrypted")
            with archive.open(entry) as source:
                unpacker.write(entry.filename, source)


def _unpack_tar(path: Path, folder: Path, limits: SourceLimits) -> None:
    unpacker = _Unpacker(path, folder, limits)
    with tarfile.open(path, mode="r:*") as archive:
        for entry in archive:
            unpacker.count()
            if entry.isdir():
                continue
            unpacker.target(entry.name)
            if not entry.isreg():
                raise unpacker.refused(entry.name, "is a link or a device")
            source = archive.extractfile(entry)
            assert source is not None, "a regular entry has content"
            with source:
                unpacker.write(entry.name, source)
