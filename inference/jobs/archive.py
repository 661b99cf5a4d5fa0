"""Read the files of a zip one by one without unpacking it: names are never used as paths."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from inference.jobs.errors import DamagedFileError, TooLargeError

CHUNK_BYTES = 256 * 1024
RATIO_FREE_BYTES = 64 * 1024 * 1024
"""Black slices honestly compress 1000:1, and so much does no harm."""

IGNORED_NAMES = frozenset({"DICOMDIR", "Thumbs.db", ".DS_Store"})


@dataclass(frozen=True, kw_only=True)
class ArchiveLimits:
    """What one archive may ask of us; the ratio counts for large entries."""

    max_entries: int = 20_000
    max_unpacked_bytes: int = 8 * 1024**3
    max_ratio: int = 200


@dataclass(frozen=True, kw_only=True)
class Member:
    """One file of the archive; ``name`` is for messages only."""

    name: str
    size_bytes: int
    archive: zipfile.ZipFile
    info: zipfile.ZipInfo

    def chunks(self) -> Iterator[bytes]:
        """Give the file's bytes; never more than the archive's index says.

        Raises
        ------
        DamagedFileError
            The entry is cut off, or its checksum is wrong.
        """
        try:
            with self.archive.open(self.info) as file:
                yield from _read(file, self.size_bytes)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise DamagedFileError(
                field=f"archive entry {self.name}", problem=str(error)
            ) from error


def members(path: Path, limits: ArchiveLimits) -> Iterator[Member]:
    """Check the whole index first, then give every file in it.

    Raises
    ------
    DamagedFileError
        It is no zip, or an entry is encrypted.
    TooLargeError
        Too many entries, too many bytes, or compressed too well to be true.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError) as error:
        raise DamagedFileError(field="archive", problem="is no readable zip") from error
    with archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
        _check(infos, limits)
        for info in infos:
            name = info.filename.encode("ascii", "backslashreplace").decode("ascii")
            if Path(name).name not in IGNORED_NAMES and "__MACOSX" not in name:
                yield Member(name=name[:256], size_bytes=info.file_size, archive=archive, info=info)


def _check(infos: list[zipfile.ZipInfo], limits: ArchiveLimits) -> None:
    if len(infos) > limits.max_entries:
        raise TooLargeError(
            field="archive", problem=f"{len(infos)} entries, {limits.max_entries} are allowed"
        )
    unpacked_bytes = sum(info.file_size for info in infos)
    if unpacked_bytes > limits.max_unpacked_bytes:
        raise TooLargeError(field="archive", problem=f"unpacks to {unpacked_bytes} bytes")
    for info in infos:
        if info.flag_bits & 0x1:
            raise DamagedFileError(field="archive", problem="an entry is encrypted")
        if (
            info.file_size > RATIO_FREE_BYTES
            and info.file_size > limits.max_ratio * info.compress_size
        ):
            raise TooLargeError(
                field="archive",
                problem=f"an entry inflates {info.compress_size} to {info.file_size} bytes",
            )


def _read(file: IO[bytes], size_bytes: int) -> Iterator[bytes]:
    n_read = 0
    while chunk := file.read(CHUNK_BYTES):
        n_read += len(chunk)
        if n_read > size_bytes:
            raise zipfile.BadZipFile("is longer than the index says")
        yield chunk
