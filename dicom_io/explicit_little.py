"""Write an instance anew as Explicit VR Little Endian, a piece at a time (PS3.5 A.2).

Only the encoding changes: every value stays, compressed pixels become plain ones.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from dicom_io.codec_pool import CodecPool
from dicom_io.dicom_json import BINARY_WIDTH, NUMBERS
from dicom_io.element_stream import DEFAULT_FILE_LIMITS, LONG_VRS, ElementStream, Encoding
from dicom_io.elements import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
)
from dicom_io.instance_file import PIXEL_TAGS, InstanceFile
from dicom_io.instance_frames import Frames
from dicom_io.raw_elements import RawElement, raw_elements, raw_items

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = (
    struct.pack("<HHI", 0xFFFE, element, length)
    for element, length in ((0xE000, _UNDEFINED), (0xE00D, 0), (0xE0DD, 0))
)
_OFFSET_TABLES = frozenset({0x7FE00001, 0x7FE00002})
_ALREADY = frozenset({EXPLICIT_VR_LITTLE_ENDIAN, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN})


def explicit_little_pieces(
    file: InstanceFile, meta: bytes, frames: Frames | None, pool: CodecPool
) -> Iterator[bytes]:
    """Yield the whole file: preamble, file meta information, data set.

    Parameters
    ----------
    meta : preamble and file meta information as stored (`file_meta_bytes`)
    frames : of the same file; None where it has no pixels
    """
    yield with_transfer_syntax(meta, EXPLICIT_VR_LITTLE_ENDIAN)
    pixels = file.pixels
    is_encoded_so = file.encoding == Encoding(False, True)
    if is_encoded_so and (pixels is None or not pixels.is_encapsulated):
        yield from file.pieces(file.dataset_begin, file.size_bytes)
        return
    is_signed = file.is_signed
    for element in file.elements.values():
        if element.tag in PIXEL_TAGS and frames is not None:
            yield from _pixel_pieces(element, frames, pool)
        elif element.tag in _OFFSET_TABLES or element.tag & 0xFFFF == 0:
            continue  # tables of fragments that are gone; lengths of groups that have changed
        elif is_encoded_so:
            yield from file.pieces(element.at, element.next)
        else:
            yield from _element_pieces(file.stream, element, is_signed)


def with_transfer_syntax(meta: bytes, transfer_syntax_uid: str) -> bytes:
    """Return preamble and file meta information that name another transfer syntax."""
    stream = ElementStream(Path(), meta, len(meta), DEFAULT_FILE_LIMITS)
    parts = []
    for element in raw_elements(stream, 132, len(meta), Encoding(False, True)):
        if element.tag == 0x00020000:
            continue
        if element.tag == 0x00020010:
            value = transfer_syntax_uid.encode("ascii")
            parts.append(_head(element.tag, "UI", len(value) + len(value) % 2))
            parts.append(value + b"\0" * (len(value) % 2))
        else:
            parts.append(meta[element.at : element.next])
    body = b"".join(parts)
    length = _head(0x00020000, "UL", 4) + struct.pack("<I", len(body))
    return meta[:128] + b"DICM" + length + body


def _pixel_pieces(element: RawElement, frames: Frames, pool: CodecPool) -> Iterator[bytes]:
    vr = element.vr
    if vr in ("OB", "OW"):
        vr = "OB" if vr == "OB" and frames.layout.bits <= 8 else "OW"
    yield _head(element.tag, vr, frames.plain_bytes)
    yield from frames.all_plain(pool)


def _element_pieces(stream: ElementStream, element: RawElement, is_signed: bool) -> Iterator[bytes]:
    if element.is_sequence:
        yield _head(element.tag, "SQ", _UNDEFINED)
        places = raw_items(stream, element.begin, element.end, element.encoding)
        for begin, end in places:
            yield _ITEM
            for inner in raw_elements(stream, begin, end, element.encoding, is_signed=is_signed):
                if inner.tag & 0xFFFF:
                    yield from _element_pieces(stream, inner, is_signed)
            yield _ITEM_END
        yield _SEQUENCE_END
        return
    raw = bytes(stream.data[element.begin : element.end])
    if not element.encoding.little:
        raw = _swapped(element.vr, raw)
    vr = element.vr
    if len(raw) > 0xFFFF and vr.encode() not in LONG_VRS:
        vr = "UN"  # implicit VR has no limit of 64 KiB for it (PS3.5 6.2.2)
    yield _head(element.tag, vr, len(raw)) + raw


def _head(tag: int, vr: str, length: int) -> bytes:
    if vr.encode() in LONG_VRS:
        return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr.encode(), 0, length)
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), length)


def _swapped(vr: str, raw: bytes) -> bytes:
    width = 2 if vr == "AT" else BINARY_WIDTH.get(vr, 1)
    if vr in NUMBERS:
        width = struct.calcsize(NUMBERS[vr])
    if width == 1:
        return raw
    usable = len(raw) // width * width
    return b"".join(raw[i : i + width][::-1] for i in range(0, usable, width)) + raw[usable:]
