"""Decode JPEG, JPEG-LS and JPEG 2000 frames in a process of its own; run by `codec_pool`.

The decoders are C and C++ that read bytes from strangers and hold Python's lock while they do.
Here they use a core each, a crash costs one frame, and memory is limited. This file is run as a
script and imports nothing of this project.

Protocol, little-endian, on standard input and output: codec (4 bytes), length (uint32), stream;
answer: status (0 is good, uint32), length (uint32), pixels or an error text.
"""

from __future__ import annotations

import contextlib
import importlib
import resource
import struct
import sys
from collections.abc import Callable
from typing import BinaryIO

MEMORY_BYTES = 6 * 1024**3


def _jpeg_2000(data: bytes) -> bytes:
    decoded = importlib.import_module("openjpeg").decode(data)
    return bytes(decoded.tobytes())


def _jpeg(data: bytes) -> bytes:
    decoded = importlib.import_module("libjpeg").decode(data)
    return bytes(decoded.tobytes())


def _jpeg_ls(data: bytes) -> bytes:
    pixels, _ = importlib.import_module("jpeg_ls").decode_pixel_data(data)
    return bytes(pixels)


CODECS: dict[bytes, Callable[[bytes], bytes]] = {
    b"j2k_": _jpeg_2000,
    b"jpeg": _jpeg,
    b"jls_": _jpeg_ls,
}


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until the other side closes."""
    while len(head := requests.read(8)) == 8:
        codec, length = struct.unpack("<4sI", head)
        try:
            status, answer = 0, CODECS[codec](requests.read(length))
        except Exception as error:  # noqa: BLE001 - a process boundary: the text goes to the caller
            status, answer = 1, f"{type(error).__name__}: {error}"[:500].encode()
        answers.write(struct.pack("<II", status, len(answer)))
        answers.write(answer)
        answers.flush()


if __name__ == "__main__":
    with contextlib.suppress(ValueError, OSError):  # a lower limit is set already
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    serve(sys.stdin.buffer, sys.stdout.buffer)
