"""Where a batch's studies come from: a folder tree or an archive here; DICOMweb is a gateway.

A source first lists its items. An item is mostly one study; an archive is one item whatever it
holds, and files that no study can be told of are one item too, so that each is refused by name.
"""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from dicom_io.errors import SourceError
from dicom_io.sources import open_source
from inference.domain.errors import ClinferError
from inference.jobs import batch_tasks
from inference.jobs.batch_processor import TaskPool
from inference.jobs.batch_tasks import HeaderFact
from inference.jobs.errors import IntakeError
from inference.jobs.identify import check_uid

HEADERS_PER_TASK = 256
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
NOT_INSTANCES = frozenset({"not_dicom", "dicomdir", "copy"})
"""Files that lie beside instances and are none; they are counted and left alone."""

UID_COLUMN = "StudyInstanceUID"


class BatchSourceError(ClinferError):
    """The source, or one study of it, cannot be read; the message says what is wrong with it."""

    code = "batch_source"

    def __init__(self, *, source: str, problem: str) -> None:
        self.source, self.problem = source, problem
        super().__init__(f"{source}: {problem}")


@dataclass(frozen=True, kw_only=True)
class BatchItem:
    """Something to fetch: files here, or a study elsewhere.

    ``study_uid`` is "" where it is not known before the files are read.
    """

    name: str
    study_uid: str = ""
    paths: tuple[Path, ...] = field(default=(), repr=False)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Every item of a source, and how many files are none, by why."""

    items: tuple[BatchItem, ...]
    left_alone: dict[str, int] = field(default_factory=dict)


class BatchSource(Protocol):
    """Lists what there is, then gives the files of one item at a time."""

    name: str

    def listing(self, pool: TaskPool) -> Listing:
        """Return every item.

        Raises
        ------
        BatchSourceError
        """
        ...

    def files(self, item: BatchItem) -> AbstractContextManager[tuple[Path, ...]]:
        """Give an item's files; temporary ones live as long as the context.

        Raises
        ------
        BatchSourceError, DicomIoError
            This item cannot be had; others may.
        """
        ...

    def instance_uids(self, item: BatchItem) -> frozenset[str] | None:
        """Return the item's instances where the source tells them without giving the files.

        Raises
        ------
        BatchSourceError
        """
        ...


class FolderSource:
    """A folder tree with instances and archives in any arrangement, or a single archive."""

    def __init__(self, root: Path) -> None:
        if not root.exists():
            raise BatchSourceError(source=str(root), problem="is not there")
        self.name = str(root)
        self._root = root

    def listing(self, pool: TaskPool) -> Listing:
        """Read every header, in the pool where it sees our disk, and group by study."""
        files, archives = _walk(self._root)
        by_study: dict[str, list[Path]] = defaultdict(list)
        left_alone: dict[str, int] = {}
        for fact in _facts(files, pool):
            if fact.code in NOT_INSTANCES:
                left_alone[fact.code] = left_alone.get(fact.code, 0) + 1
            else:
                by_study[fact.study_uid].append(fact.path)
        items = [
            BatchItem(name=uid or "files without a study", study_uid=uid, paths=tuple(paths))
            for uid, paths in sorted(by_study.items())
        ]
        items += [BatchItem(name=path.name, paths=(path,)) for path in archives]
        if not items:
            raise BatchSourceError(source=self.name, problem="holds no DICOM instance, no archive")
        return Listing(items=tuple(items), left_alone=left_alone)

    @contextmanager
    def files(self, item: BatchItem) -> Iterator[tuple[Path, ...]]:
        """Give the files; an archive is unpacked for as long as the context lasts."""
        is_archive = not item.study_uid and len(item.paths) == 1 and _is_archive(item.paths[0])
        opened = open_source(item.paths[0]) if is_archive else nullcontext(item.paths)
        with opened as paths:
            yield tuple(paths)

    def instance_uids(self, item: BatchItem) -> frozenset[str] | None:
        """Return None: files are told apart by content."""
        return None


def read_study_uids(path: Path) -> tuple[str, ...]:
    """Return the studies that a CSV lists: the column StudyInstanceUID, or the only column.

    Raises
    ------
    BatchSourceError
        No such column, a line that is no UID, or no line at all.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BatchSourceError(source=str(path), problem=f"no readable CSV: {error}") from error
    header = [cell.strip() for cell in rows[0]] if rows else []
    if UID_COLUMN in header:
        column, rows = header.index(UID_COLUMN), rows[1:]
    elif len(header) == 1:
        column = 0
    else:
        raise BatchSourceError(source=str(path), problem=f"has no column {UID_COLUMN}")
    uids: dict[str, None] = {}
    for number, row in enumerate(rows, 1):
        try:
            uids[check_uid(row[column].strip() if column < len(row) else "", UID_COLUMN)] = None
        except IntakeError as error:
            raise BatchSourceError(source=str(path), problem=f"row {number}: {error}") from error
    if not uids:
        raise BatchSourceError(source=str(path), problem="lists no study")
    return tuple(uids)


def _facts(files: list[Path], pool: TaskPool) -> Iterator[HeaderFact]:
    chunks = [
        tuple(files[start : start + HEADERS_PER_TASK])
        for start in range(0, len(files), HEADERS_PER_TASK)
    ]
    if not pool.sees_our_disk:
        for chunk in chunks:
            yield from batch_tasks.read_headers(chunk)
        return
    handles = [pool.submit(batch_tasks.read_headers, chunk) for chunk in chunks]
    for handle in handles:
        yield from pool.answer(handle)


def _walk(root: Path) -> tuple[list[Path], list[Path]]:
    """Return plain files and archives below a folder, in a stable order."""
    if root.is_file():
        return ([], [root]) if _is_archive(root) else ([root], [])
    files: list[Path] = []
    archives: list[Path] = []
    try:
        for parent, folders, names in os.walk(root, onerror=_raise):
            folders.sort()
            for name in sorted(names):
                path = Path(parent) / name
                if path.is_file():
                    (archives if _is_archive(path) else files).append(path)
    except OSError as error:
        raise SourceError(path=root, problem=f"cannot be read: {error}") from error
    return files, archives


def _raise(error: OSError) -> None:
    raise error


def _is_archive(path: Path) -> bool:
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)
