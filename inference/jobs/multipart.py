"""The parts of a multipart body (form-data and related) to temporary files, as they arrive.

Nothing is held in memory but one piece. Limits hold for the number of parts, the bytes of a part's
headers and of the preamble, so a hostile body ends early.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from inference.domain.errors import ClinferError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_HEADER_BYTES = 8 * 1024
MAX_HEADERS = 16
WRITE_BYTES = 1024 * 1024
_BOUNDARY = re.compile(rb"[0-9a-zA-Z'()+_,./:=? -]{0,69}[0-9a-zA-Z'()+_,./:=?-]")
_PARAMETER = re.compile(r';\s*([a-zA-Z0-9-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s]+))')


class MultipartError(ClinferError):
    """The body is no multipart body, or passes a limit."""

    code = "multipart_refused"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part: its headers (lower-case names) and the file that holds its content."""

    headers: dict[str, str] = field(repr=False)
    path: Path
    size_bytes: int

    @property
    def media_type(self) -> str:
        """The part's Content-Type without parameters, lower case; "" where it has none."""
        return media_type_of(self.headers.get("content-type", ""))

    @property
    def is_file(self) -> bool:
        """Whether a form-data part is a file, not a plain field."""
        return "filename=" in self.headers.get("content-disposition", "").lower()


def media_type_of(content_type: str) -> str:
    """Return a Content-Type without its parameters, lower case."""
    return content_type.partition(";")[0].strip().lower()


def parameters_of(content_type: str) -> dict[str, str]:
    """Return a Content-Type's parameters; names in lower case."""
    return {
        match[1].lower(): re.sub(r"\\(.)", r"\1", match[2]) if match[2] is not None else match[3]
        for match in _PARAMETER.finditer(content_type)
    }


async def save_parts(
    stream: AsyncIterator[bytes],
    content_type: str,
    new_file: Callable[[], Path],
    *,
    max_parts: int,
) -> list[Part]:
    """Write each part's content to its own new file, in order.

    The caller removes the files. When this raises, those made so far are removed here.

    Raises
    ------
    MultipartError
        No boundary, malformed, cut off, or over a limit.
    """
    boundary = parameters_of(content_type).get("boundary", "").encode("latin-1", "replace")
    if not _BOUNDARY.fullmatch(boundary):
        raise MultipartError("Content-Type: the boundary is missing or malformed")
    saver = _PartSaver(new_file, max_parts)
    parser = MultipartParser(boundary, saver.callbacks())
    try:
        async for piece in stream:
            # Parsing writes to disk, so it does not run on the event loop's thread.
            for start in range(0, len(piece), WRITE_BYTES):
                await asyncio.to_thread(parser.write, piece[start : start + WRITE_BYTES])
        if not saver.has_ended:
            raise MultipartError("the body ends before its last boundary")
    except FormParserError as error:
        saver.remove()
        raise MultipartError("the body is no well-formed multipart body") from error
    except BaseException:
        saver.remove()
        raise
    return saver.parts


class _PartSaver:
    """Receives the parser's events."""

    def __init__(self, new_file: Callable[[], Path], max_parts: int) -> None:
        self._new_file, self._max_parts = new_file, max_parts
        self.parts: list[Part] = []
        self.has_ended = False
        self._headers: dict[str, str] = {}
        self._name, self._value = b"", b""
        self._header_bytes = 0
        self._file: BinaryIO | None = None
        self._path: Path | None = None
        self._size = 0

    def callbacks(self) -> MultipartCallbacks:
        """Return what the parser calls."""
        return {
            "on_part_begin": self._part_begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def remove(self) -> None:
        """Remove every file made so far."""
        if self._file is not None:
            self._file.close()
        paths = [part.path for part in self.parts] + ([self._path] if self._path else [])
        for path in paths:
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def _part_begin(self) -> None:
        if len(self.parts) >= self._max_parts:
            raise MultipartError(f"more than {self._max_parts} parts")
        self._headers, self._name, self._value, self._header_bytes = {}, b"", b"", 0

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._value += data[start:end]

    def _header_end(self) -> None:
        if len(self._headers) >= MAX_HEADERS:
            raise MultipartError(f"a part has more than {MAX_HEADERS} headers")
        name = self._name.decode("latin-1").strip().lower()
        self._headers[name] = self._value.decode("latin-1").strip()
        self._name = self._value = b""

    def _count_header(self, n_bytes: int) -> None:
        self._header_bytes += n_bytes
        if self._header_bytes > MAX_HEADER_BYTES:
            raise MultipartError(f"a part's headers have more than {MAX_HEADER_BYTES} bytes")

    def _headers_finished(self) -> None:
        encoding = self._headers.get("content-transfer-encoding", "binary").lower()
        if encoding not in {"binary", "8bit", "7bit"}:
            raise MultipartError("a part has a Content-Transfer-Encoding that is not taken")
        self._path = self._new_file()
        self._file = self._path.open("xb")
        self._size = 0

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is None:
            raise MultipartError("a part has content before its headers")
        self._file.write(memoryview(data)[start:end])
        self._size += end - start

    def _part_end(self) -> None:
        if self._file is None or self._path is None:
            raise MultipartError("a part ends before its headers")
        self._file.close()
        self.parts.append(Part(headers=self._headers, path=self._path, size_bytes=self._size))
        self._file = self._path = None

    def _end(self) -> None:
        self.has_ended = True
