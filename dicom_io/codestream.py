"""What a compressed frame says about itself: size, samples and precision, before it is decoded.

The decoders allocate by these numbers, so they are compared with the DICOM header first.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import unpack_from

_J2K_START = b"\xff\x4f\xff\x51"
_JPEG_START = b"\xff\xd8"
_END = b"\xff\xd9"
_MOST_PADDING_BYTES = 64
_JPEG_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # SOF0..15 and JPEG-LS SOF55
_JPEG_ALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a length


@dataclass(frozen=True, kw_only=True)
class CodestreamSize:
    """Size and precision of one compressed frame."""

    rows: int
    columns: int
    components: int
    precision: int
    is_signed: bool

    @property
    def bytes_per_sample(self) -> int:
        """Bytes that a decoder uses for one sample."""
        return 1 if self.precision <= 8 else 2


class UnreadableCodestreamError(ValueError):
    """The bytes do not begin like a JPEG, JPEG-LS or JPEG 2000 stream."""


def codestream_size(data: bytes) -> CodestreamSize:
    """Read the frame header of a whole JPEG, JPEG-LS or JPEG 2000 stream.

    All three end with the same marker. A stream without it was cut off; CharLS (pyjpegls 1.4)
    searches for it for seconds before it says so.
    """
    if not data[-_MOST_PADDING_BYTES:].rstrip(b"\0").endswith(_END):
        raise UnreadableCodestreamError("the stream has no end marker; it was cut off")
    if data[:4] == _J2K_START and len(data) >= 43:
        return _j2k_size(data)
    if data[:2] == _JPEG_START:
        return _jpeg_size(data)
    raise UnreadableCodestreamError("not a JPEG, JPEG-LS or JPEG 2000 stream")


def _j2k_size(data: bytes) -> CodestreamSize:
    """SIZ marker: ISO/IEC 15444-1, A.5.1; offsets are from the start of the stream."""
    right, bottom, left, top = unpack_from(">4I", data, 8)
    components, depth = unpack_from(">HB", data, 40)
    return CodestreamSize(
        rows=bottom - top,
        columns=right - left,
        components=components,
        precision=(depth & 0x7F) + 1,
        is_signed=bool(depth & 0x80),
    )


def _jpeg_size(data: bytes) -> CodestreamSize:
    """First frame header: ISO/IEC 10918-1, B.2.2, and 14495-1, C.2.2."""
    position = 2
    while position + 10 <= len(data):
        if data[position] != 0xFF:
            break
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker in _JPEG_ALONE:
            position += 2
            continue
        if marker in _JPEG_FRAMES:
            precision, rows, columns, components = unpack_from(">BHHB", data, position + 4)
            return CodestreamSize(
                rows=rows,
                columns=columns,
                components=components,
                precision=precision,
                is_signed=False,
            )
        position += 2 + int(unpack_from(">H", data, position + 2)[0])
    raise UnreadableCodestreamError("no frame header in the JPEG stream")
