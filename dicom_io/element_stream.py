"""Single data elements and the nesting of sequences: where each begins and ends, within limits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from struct import Struct

from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, VR

from dicom_io.errors import FileLimitError, MalformedFileError, TruncatedFileError

UNDEFINED_LENGTH = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
KNOWN_VRS = {vr.value.encode(): vr.value for vr in VR}
LONG_VRS = {vr.value.encode() for vr in EXPLICIT_VR_LENGTH_32}


@dataclass(frozen=True, kw_only=True)
class FileLimits:
    """How much one file may ask of us before it is refused."""

    max_file_bytes: int = 2 * 1024**3
    max_inflated_bytes: int = 1024**3
    max_inflate_ratio: int = 100
    max_sequence_depth: int = 64


DEFAULT_FILE_LIMITS = FileLimits()


class NeedMoreError(Exception):
    """The part of the file that was read ends before the pixels."""


@dataclass(frozen=True)
class Encoding:
    """Whether VRs are left out, and the byte order."""

    implicit: bool
    little: bool


class ElementStream:
    """The bytes read so far of a stream of ``size`` bytes, with the struct codecs for them."""

    def __init__(self, path: Path, data: bytes, size: int, limits: FileLimits) -> None:
        self.path, self.data, self.size, self.limits = path, data, size, limits

    def need(self, tag: str, position: int, length: int) -> None:
        """Check that ``length`` bytes follow ``position``, in the file and among those read."""
        if position + length > self.size:
            raise TruncatedFileError(
                path=self.path, tag=tag, needed=length, present=max(self.size - position, 0)
            )
        if position + length > len(self.data):
            raise NeedMoreError


TAG_LENGTH = {True: Struct("<HHI").unpack_from, False: Struct(">HHI").unpack_from}
TAG_VR_LENGTH = {True: Struct("<HH2sH").unpack_from, False: Struct(">HH2sH").unpack_from}
LENGTH = {True: Struct("<I").unpack_from, False: Struct(">I").unpack_from}


def element_head(
    stream: ElementStream, position: int, implicit: bool, little: bool
) -> tuple[int, str | None, int, int]:
    """Return tag, VR (None: implicit), length of the value, and where the value begins."""
    data = stream.data
    if not implicit:
        group, element, raw_vr, length = TAG_VR_LENGTH[little](data, position)
        tag = group << 16 | element
        if raw_vr in LONG_VRS:
            stream.need("a data element", position, 12)
            return tag, KNOWN_VRS[raw_vr], LENGTH[little](data, position + 8)[0], position + 12
        if raw_vr in KNOWN_VRS:
            return tag, KNOWN_VRS[raw_vr], length, position + 8
        if b"AA" <= raw_vr <= b"ZZ":  # a VR that we do not know: short, as pydicom has it
            return tag, raw_vr.decode("ascii", "replace"), length, position + 8
    # Implicit; or a writer that changed to it midway
    group, element, length = TAG_LENGTH[little](data, position)
    return group << 16 | element, None, length, position + 8


def is_item(data: bytes, position: int, little: bool) -> bool:
    """Whether a sequence item begins at ``position``."""
    return data[position : position + 4] == (b"\xfe\xff\x00\xe0" if little else b"\xff\xfe\xe0\x00")


def end_of_items(
    stream: ElementStream, position: int, encoding: Encoding, depth: int
) -> tuple[int, int]:
    """Find where the items of a sequence of undefined length end, and where its delimiter does."""
    _limit_depth(stream, depth)
    while True:
        stream.need("a sequence item", position, 8)
        group, element, length = TAG_LENGTH[encoding.little](stream.data, position)
        tag, begin = group << 16 | element, position + 8
        if tag == _SEQUENCE_END:
            return position, begin
        if tag != _ITEM:
            raise MalformedFileError(
                path=stream.path, problem=f"a sequence holds {tag:08X} where an item belongs"
            )
        position = _end_of_item(stream, begin, length, encoding, depth)


def _end_of_item(
    stream: ElementStream, begin: int, length: int, encoding: Encoding, depth: int
) -> int:
    if length != UNDEFINED_LENGTH:
        stream.need("a sequence item", begin, length)
        _check_item(stream, begin, begin + length, encoding, depth)
        return begin + length
    position = begin
    while True:
        stream.need("a sequence item", position, 8)
        tag, vr, size, value = element_head(stream, position, encoding.implicit, encoding.little)
        if tag == _ITEM_END:
            return position + 8
        inner = Encoding(vr is None, encoding.little)
        if size == UNDEFINED_LENGTH:
            _, position = end_of_items(stream, value, inner, depth + 1)
        else:
            stream.need(f"({tag >> 16:04X},{tag & 0xFFFF:04X})", value, size)
            position = value + size
            if vr == "SQ" or (size > 16 and is_item(stream.data, value, encoding.little)):
                check_depth(stream, value, position, inner, depth + 1)


def check_depth(
    stream: ElementStream, position: int, end: int, encoding: Encoding, depth: int
) -> None:
    """Refuse a sequence of defined length that nests too deep; leave its other faults to pydicom.

    Values are parsed when somebody asks for them, so a fault inside a sequence that nobody needs
    does not cost the image; a nesting that exhausts the stack would.
    """
    _limit_depth(stream, depth)
    try:
        while position + 8 <= end and is_item(stream.data, position, encoding.little):
            length = LENGTH[encoding.little](stream.data, position + 4)[0]
            position = _end_of_item(stream, position + 8, length, encoding, depth)
    except (TruncatedFileError, MalformedFileError):
        return


def _check_item(
    stream: ElementStream, position: int, end: int, encoding: Encoding, depth: int
) -> None:
    """Check the depth of what one item of defined length holds."""
    try:
        while position + 8 <= end:
            _, vr, size, value = element_head(stream, position, encoding.implicit, encoding.little)
            inner = Encoding(vr is None, encoding.little)
            if size == UNDEFINED_LENGTH:
                _, position = end_of_items(stream, value, inner, depth + 1)
                continue
            position = value + size
            if position > end:
                return
            if vr == "SQ" or (size > 16 and is_item(stream.data, value, encoding.little)):
                check_depth(stream, value, position, inner, depth + 1)
    except (TruncatedFileError, MalformedFileError):
        return


def _limit_depth(stream: ElementStream, depth: int) -> None:
    allowed = stream.limits.max_sequence_depth
    if depth > allowed:
        raise FileLimitError(path=stream.path, limit="max_sequence_depth", allowed=allowed)
