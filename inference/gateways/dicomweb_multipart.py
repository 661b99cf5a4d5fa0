"""Multipart answers, part by part: nothing is gathered before it is sent."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from fastapi.responses import StreamingResponse


@dataclass(frozen=True, kw_only=True)
class OutPart:
    """One part: its headers and its bytes, which are made when they are sent."""

    headers: dict[str, str]
    pieces: Iterable[bytes] = field(repr=False)


def multipart_response(inner_type: str, parts: Iterable[OutPart]) -> StreamingResponse:
    """Return ``multipart/related`` with parts of one type.

    A fault while a part is made cuts the answer off before its last boundary: the client sees
    that it is not whole.
    """
    boundary = secrets.token_hex(16)
    return StreamingResponse(
        _pieces(boundary, parts),
        media_type=f'multipart/related; type="{inner_type}"; boundary={boundary}',
    )


def _pieces(boundary: str, parts: Iterable[OutPart]) -> Iterator[bytes]:
    lead = ""
    for part in parts:
        head = "".join(f"{name}: {value}\r\n" for name, value in part.headers.items())
        yield f"{lead}--{boundary}\r\n{head}\r\n".encode("ascii")
        yield from part.pieces
        lead = "\r\n"
    yield f"\r\n--{boundary}--\r\n".encode("ascii")
