"""Go through the elements of a data set's bytes, one after the other, without decoding them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.datadict import dictionary_VR

from dicom_io.element_stream import (
    LENGTH,
    UNDEFINED_LENGTH,
    ElementStream,
    Encoding,
    element_head,
    end_of_items,
    is_item,
)
from dicom_io.errors import MalformedFileError

PIXEL_REPRESENTATION = 0x00280103
ITEM_END = 0xFFFEE00D
SEQUENCE_END = 0xFFFEE0DD


@dataclass(frozen=True, slots=True)
class RawElement:
    """One element: where its value begins and ends, and how what it holds is encoded.

    Attributes
    ----------
    at : where the element itself begins; ``next`` : where the one behind it does
    is_sequence : the value is items, in ``encoding``
    is_encapsulated : the value is fragments of compressed pixels, an offset table first
    """

    tag: int
    vr: str
    at: int
    begin: int
    end: int
    next: int
    encoding: Encoding
    is_sequence: bool = False
    is_encapsulated: bool = False


def raw_elements(
    stream: ElementStream, begin: int, end: int, encoding: Encoding, *, is_signed: bool = False
) -> Iterator[RawElement]:
    """Yield the elements between two positions; an item delimiter ends them too.

    ``is_signed``: Pixel Representation around them, by which a VR "US or SS" is decided where the
    file leaves VRs out; one of their own goes before it.
    """
    position = begin
    while position < end:
        stream.need("a data element", position, 8)
        tag, vr, length, value = element_head(stream, position, encoding.implicit, encoding.little)
        if tag in (ITEM_END, SEQUENCE_END):
            return
        items = Encoding(vr is None or vr == "UN", encoding.little if vr != "UN" else True)
        if length == UNDEFINED_LENGTH:
            is_pixels = vr in ("OB", "OW")
            find_end = end_of_fragments if is_pixels else end_of_items
            value_end, behind = find_end(stream, value, items, 1)
            yield RawElement(
                tag,
                vr if is_pixels and vr else "SQ",
                position,
                value,
                value_end,
                behind,
                items,
                is_sequence=not is_pixels,
                is_encapsulated=is_pixels,
            )
            position = behind
            continue
        stream.need(f"{tag:08X}", value, length)
        # A standard attribute written as UN by somebody who did not know it yet is known here.
        known = implied_vr(tag, is_signed) if vr in (None, "UN") else vr
        if tag == PIXEL_REPRESENTATION and length == 2:
            is_signed = stream.data[value + (0 if encoding.little else 1)] == 1
        is_sequence = known == "SQ" or (
            known == "UN" and vr is None and is_item(stream.data, value, encoding.little)
        )
        behind = value + length
        yield RawElement(
            tag,
            "SQ" if is_sequence else known,
            position,
            value,
            behind,
            behind,
            items if vr == "UN" else Encoding(vr is None, encoding.little),
            is_sequence=is_sequence,
        )
        position = behind


def end_of_fragments(
    stream: ElementStream, begin: int, encoding: Encoding, depth: int
) -> tuple[int, int]:
    """Find where the fragments of compressed pixels end, and where their delimiter does."""
    del depth
    position = begin
    while not is_end(stream.data, position, encoding.little):
        stream.need("a fragment", position, 8)
        if not is_item(stream.data, position, encoding.little):
            raise MalformedFileError(path=stream.path, problem="compressed pixels hold no item")
        position += 8 + LENGTH[encoding.little](stream.data, position + 4)[0]
    return position, position + 8


def raw_items(
    stream: ElementStream, begin: int, end: int, encoding: Encoding
) -> Iterator[tuple[int, int]]:
    """Yield where the content of each item of a sequence begins and ends."""
    position = begin
    while position + 8 <= end:
        if not is_item(stream.data, position, encoding.little):
            if is_end(stream.data, position, encoding.little):
                return
            raise MalformedFileError(path=stream.path, problem="a sequence holds no item")
        length = LENGTH[encoding.little](stream.data, position + 4)[0]
        content = position + 8
        if length == UNDEFINED_LENGTH:
            position = _end_of_content(stream, content, encoding)
            yield content, position - 8
        else:
            position = content + length
            yield content, position


def is_end(data: bytes, position: int, little: bool) -> bool:
    """Whether a sequence delimiter stands at ``position``."""
    return data[position : position + 4] == (b"\xfe\xff\xdd\xe0" if little else b"\xff\xfe\xe0\xdd")


def implied_vr(tag: int, is_signed: bool) -> str:
    """VR of an element whose VR is left out; "UN" where nobody but its writer knows it."""
    if tag & 0xFFFF == 0:
        return "UL"
    if tag >> 16 & 1:
        return "LO" if 0x10 <= tag & 0xFFFF <= 0xFF else "UN"
    try:
        vr = dictionary_VR(tag)
    except KeyError:
        return "UN"
    if " or " not in vr:
        return vr
    if "OW" in vr:
        return "OW"
    return "SS" if is_signed else "US"


def _end_of_content(stream: ElementStream, begin: int, encoding: Encoding) -> int:
    """Return the position behind the delimiter of an item of undefined length."""
    position = begin
    while True:
        stream.need("a sequence item", position, 8)
        tag, vr, length, value = element_head(stream, position, encoding.implicit, encoding.little)
        if tag == ITEM_END:
            return position + 8
        if length == UNDEFINED_LENGTH:
            items = Encoding(vr is None or vr == "UN", encoding.little)
            _, position = end_of_items(stream, value, items, 1)
        else:
            stream.need(f"{tag:08X}", value, length)
            position = value + length
