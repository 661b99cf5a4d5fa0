"""One DICOM file seen through its elements: only what is asked for is ever read."""

from __future__ import annotations

import mmap
import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from struct import unpack_from

from dicom_io.element_stream import DEFAULT_FILE_LIMITS, ElementStream, Encoding
from dicom_io.elements import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    dataset_start,
)
from dicom_io.errors import FileLimitError, MalformedFileError, NotDicomError, TruncatedFileError
from dicom_io.raw_elements import RawElement, raw_elements

PIXEL_TAGS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
CHUNK_BYTES = 256 * 1024
_META_BYTES = 64 * 1024
_EXPLICIT = Encoding(False, True)
_TRANSFER_SYNTAX, _PIXEL_REPRESENTATION = 0x00020010, 0x00280103


@dataclass(frozen=True, kw_only=True)
class InstanceFile:
    """An open file.

    Attributes
    ----------
    path : of the file that is read: a deflated data set lies inflated in a temporary one
    elements : top-level elements of the data set by tag, in the file's order
    dataset_begin : where the data set begins; before it stands the file meta information
    """

    path: Path
    descriptor: int
    stream: ElementStream
    transfer_syntax_uid: str
    encoding: Encoding
    dataset_begin: int
    elements: dict[int, RawElement]

    @property
    def size_bytes(self) -> int:
        """Bytes of the file that is read."""
        return self.stream.size

    @property
    def pixels(self) -> RawElement | None:
        """Where the pixels are, of whatever kind; None: it has none."""
        return next((self.elements[tag] for tag in PIXEL_TAGS if tag in self.elements), None)

    @property
    def is_signed(self) -> bool:
        """Pixel Representation says that pixels have a sign."""
        return self.number(_PIXEL_REPRESENTATION, 0) == 1

    def read(self, begin: int, end: int) -> bytes:
        """Return bytes of the file; not by the map, whose pages would stay in memory."""
        parts = []
        while begin < end:
            part = os.pread(self.descriptor, end - begin, begin)
            if not part:
                raise TruncatedFileError(
                    path=self.path, tag="the file", needed=end - begin, present=0
                )
            parts.append(part)
            begin += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def pieces(self, begin: int, end: int) -> Iterator[bytes]:
        """Yield the same bytes a piece at a time."""
        for position in range(begin, end, CHUNK_BYTES):
            yield self.read(position, min(position + CHUNK_BYTES, end))

    def raw(self, tag: int) -> bytes:
        """Return the value of a top-level element as stored; b"" where it is absent."""
        element = self.elements.get(tag)
        return b"" if element is None else self.read(element.begin, element.end)

    def text(self, tag: int) -> str:
        """Return a value of plain characters, stripped; several stay joined by a backslash."""
        return self.raw(tag).decode("latin-1").strip(" \0")

    def number(self, tag: int, default: int) -> int:
        """Return an unsigned 16-bit number, or an integer string.

        Raises
        ------
        MalformedFileError
        """
        raw = self.raw(tag)
        if not raw:
            return default
        if self.elements[tag].vr in ("US", "SS") and len(raw) >= 2:
            return int(unpack_from("<H" if self.encoding.little else ">H", raw)[0])
        digits = raw.decode("latin-1").strip(" \0")
        if not digits:
            return default
        if not (digits.isascii() and digits.isdigit()):
            raise MalformedFileError(path=self.path, problem=f"{tag:08X} is no whole number")
        return int(digits)


@contextmanager
def open_instance(path: Path, *, scratch: Path | None = None) -> Iterator[InstanceFile]:
    """Open a stored file; ``scratch`` is the folder for what a deflated one inflates to.

    Raises
    ------
    FileError
        It is no DICOM file, cut off, or over a limit.
    """
    with path.open("rb", buffering=0) as file:
        head = file.read(_META_BYTES)
        if head[128:132] != b"DICM":
            raise NotDicomError(path=path, problem="not a DICOM file")
        begin = dataset_start(head)
        meta = ElementStream(path, head, len(head), DEFAULT_FILE_LIMITS)
        syntax = ""
        for element in raw_elements(meta, 132, begin, _EXPLICIT):
            if element.tag == _TRANSFER_SYNTAX:
                syntax = head[element.begin : element.end].decode("latin-1").strip(" \0")
        if syntax != DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
            yield from _opened(path, file.fileno(), begin, syntax)
            return
        with tempfile.TemporaryFile(dir=scratch) as plain:
            for piece in inflated_pieces(path, begin):
                plain.write(piece)
            plain.flush()
            yield from _opened(path, plain.fileno(), 0, syntax)


def inflated_pieces(path: Path, begin: int) -> Iterator[bytes]:
    """Yield the bytes of a deflated data set, within the limits of a file.

    Raises
    ------
    MalformedFileError, FileLimitError, TruncatedFileError
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    total = 0
    with path.open("rb") as file:
        file.seek(begin)
        while not inflater.eof:
            raw = inflater.unconsumed_tail or file.read(CHUNK_BYTES)
            if not raw:
                raise TruncatedFileError(
                    path=path, tag="deflated data", needed=total + 1, present=total
                )
            try:
                piece = inflater.decompress(raw, CHUNK_BYTES)
            except zlib.error as error:
                raise MalformedFileError(path=path, problem=f"deflated data: {error}") from error
            total += len(piece)
            if total > DEFAULT_FILE_LIMITS.max_inflated_bytes:
                raise FileLimitError(
                    path=path,
                    limit="max_inflated_bytes",
                    allowed=DEFAULT_FILE_LIMITS.max_inflated_bytes,
                )
            yield piece


def _opened(path: Path, descriptor: int, begin: int, syntax: str) -> Iterator[InstanceFile]:
    size = os.fstat(descriptor).st_size
    if size <= begin:
        raise TruncatedFileError(path=path, tag="the data set", needed=1, present=0)
    encoding = Encoding(syntax == IMPLICIT_VR_LITTLE_ENDIAN, syntax != EXPLICIT_VR_BIG_ENDIAN)
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as data:
        # The map answers to all that is done with bytes here; the type says bytes for the rest.
        stream = ElementStream(path, data, size, DEFAULT_FILE_LIMITS)  # type: ignore[arg-type]
        elements = {element.tag: element for element in raw_elements(stream, begin, size, encoding)}
        yield InstanceFile(
            path=path,
            descriptor=descriptor,
            stream=stream,
            transfer_syntax_uid=syntax,
            encoding=encoding,
            dataset_begin=begin,
            elements=elements,
        )
