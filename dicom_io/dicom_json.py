"""DICOM JSON (PS3.18 annex F) straight from a data set's bytes, a piece at a time.

A segmentation of thousands of frames says some things of each; that is far more as objects than as
bytes, so the bytes are kept and one item at a time becomes text.
"""

from __future__ import annotations

import base64
import json
import math
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydicom.charset import convert_encodings, decode_bytes

from dicom_io.element_stream import ElementStream, Encoding
from dicom_io.raw_elements import RawElement, raw_elements, raw_items

CHARACTER_SET = 0x00080005
PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
NOT_SHOWN = frozenset({0x7FE00001, 0x7FE00002})
"""Extended offset tables: they count bytes of a file that the reader of JSON does not have."""

BULK_FROM_BYTES = 1024
"""Binary values longer than this are fetched by their own address."""

BINARY_WIDTH = {"OB": 1, "UN": 1, "OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
NUMBERS = {
    "US": "H", "SS": "h", "UL": "I", "SL": "i", "UV": "Q", "SV": "q", "FL": "f", "FD": "d",
}  # fmt: skip
_LOCAL_TEXT = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
"""VRs whose bytes are in the data set's character set."""

_ONE_VALUE = frozenset({"LT", "ST", "UT", "UR"})
_KEEP_LEADING = frozenset({"LT", "ST", "UT", "UC"})
_DECIMAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_INTEGER = re.compile(r"[+-]?\d{1,20}")
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_STREAM_FROM_BYTES = 64 * 1024

BulkAddress = Callable[[str], str]
"""From the path of an attribute ("7FE00010", "00409096.0.00283006") to its BulkDataURI."""


@dataclass(frozen=True, kw_only=True)
class JsonContext:
    """What decides how values are written."""

    encodings: Sequence[str] = ("iso8859",)
    is_signed: bool = False
    bulk: BulkAddress | None = None


def python_encodings(character_set: str) -> Sequence[str]:
    """Python's names for a Specific Character Set (0008,0005), values joined by a backslash."""
    terms = [term.strip(" \0") for term in character_set.split("\\")]
    return tuple(convert_encodings(terms if len(terms) > 1 else terms[0]))


def dataset_json(
    stream: ElementStream, begin: int, end: int, encoding: Encoding, context: JsonContext
) -> dict[str, Any]:
    """Return the elements between two positions as one DICOM JSON object.

    Character set, group lengths and file meta information are handled as PS3.18 F.2 has it: the
    text is Unicode, so the set that is named is ISO_IR 192.
    """
    return _dataset(stream, begin, end, encoding, context, "")


def json_pieces(
    stream: ElementStream, elements: Iterable[RawElement], context: JsonContext
) -> Iterator[str]:
    """Yield such an object as text, piece by piece: long sequences one item at a time."""
    separator = "{"
    for element in elements:
        if _is_left_out(element.tag):
            continue
        name = f"{element.tag:08X}"
        if element.is_sequence and element.end - element.begin > _STREAM_FROM_BYTES:
            yield f'{separator}"{name}":{{"vr":"SQ","Value":['
            comma = ""
            places = raw_items(stream, element.begin, element.end, element.encoding)
            for number, (first, last) in enumerate(places):
                path = f"{name}.{number}."
                item = _dataset(stream, first, last, element.encoding, context, path)
                yield comma + _text(item)
                comma = ","
            yield "]}"
        else:
            if element.tag == CHARACTER_SET:
                context = replace(context, encodings=_encodings(stream, element))
            yield f'{separator}"{name}":{_text(_element(stream, element, context, ""))}'
        separator = ","
    yield "{}" if separator == "{" else "}"


def value_json(vr: str, raw: bytes, context: JsonContext, *, little: bool = True) -> dict[str, Any]:
    """Return one element's JSON from the bytes of its value (no sequence)."""
    member: dict[str, Any] = {"vr": vr}
    if not raw:
        return member
    if vr in NUMBERS:
        values = _numbers(vr, raw, little)
    elif vr == "AT":
        pairs = struct.unpack(
            f"{'<' if little else '>'}{len(raw) // 4 * 2}H", raw[: len(raw) // 4 * 4]
        )
        values = [f"{one:04X}{two:04X}" for one, two in zip(pairs[::2], pairs[1::2], strict=True)]
    elif vr in BINARY_WIDTH:
        member["InlineBinary"] = base64.b64encode(in_little_endian(vr, raw, little)).decode("ascii")
        return member
    else:
        values = _texts(vr, raw, context.encodings)
    if values and any(value is not None for value in values):
        member["Value"] = values
    return member


def in_little_endian(vr: str, raw: bytes, little: bool) -> bytes:
    """Return a binary value as Explicit VR Little Endian has it."""
    width = BINARY_WIDTH.get(vr, 1)
    if little or width == 1:
        return raw
    usable = raw[: len(raw) // width * width]
    return b"".join(usable[i : i + width][::-1] for i in range(0, len(usable), width))


def decoded(raw: bytes, encodings: Sequence[str], vr: str) -> str:
    """Decode text; what cannot be decoded is marked by U+FFFD, never dropped."""
    delimiters = {0x5E, 0x3D, 0x5C} if vr == "PN" else {0x0D, 0x0A, 0x09, 0x0C, 0x5C}
    try:
        if len(encodings) > 1:
            return decode_bytes(raw, list(encodings), delimiters)
        return raw.decode(encodings[0])
    except (UnicodeDecodeError, LookupError):
        return raw.decode(encodings[0] if len(encodings) == 1 else "ascii", "replace")


def _dataset(
    stream: ElementStream,
    begin: int,
    end: int,
    encoding: Encoding,
    context: JsonContext,
    path: str,
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for element in raw_elements(stream, begin, end, encoding, is_signed=context.is_signed):
        if _is_left_out(element.tag):
            continue
        if element.tag == CHARACTER_SET:
            context = replace(context, encodings=_encodings(stream, element))
        found[f"{element.tag:08X}"] = _element(stream, element, context, path)
    return found


def _element(
    stream: ElementStream, element: RawElement, context: JsonContext, path: str
) -> dict[str, Any]:
    name = f"{element.tag:08X}"
    if element.is_sequence:
        places = raw_items(stream, element.begin, element.end, element.encoding)
        items = [
            _dataset(stream, first, last, element.encoding, context, f"{path}{name}.{number}.")
            for number, (first, last) in enumerate(places)
        ]
        return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
    if element.tag == CHARACTER_SET:
        return {"vr": "CS", "Value": ["ISO_IR 192"]}
    is_long = element.end - element.begin > BULK_FROM_BYTES or element.tag in PIXEL_TAGS
    if context.bulk is not None and is_long and element.vr in BINARY_WIDTH:
        return {"vr": element.vr, "BulkDataURI": context.bulk(path + name)}
    raw = bytes(stream.data[element.begin : element.end])
    return value_json(element.vr, raw, context, little=element.encoding.little)


def _is_left_out(tag: int) -> bool:
    return tag & 0xFFFF == 0 or tag >> 16 in (0x0002, 0xFFFC) or tag in NOT_SHOWN


def _encodings(stream: ElementStream, element: RawElement) -> Sequence[str]:
    raw = bytes(stream.data[element.begin : element.end])
    return python_encodings(raw.decode("ascii", "replace"))


def _numbers(vr: str, raw: bytes, little: bool) -> list[Any]:
    code = NUMBERS[vr]
    count = len(raw) // struct.calcsize(code)
    values = struct.unpack_from(f"{'<' if little else '>'}{count}{code}", raw)
    if vr not in ("FL", "FD"):
        return list(values)
    return [value if math.isfinite(value) else _not_finite(value) for value in values]


def _not_finite(value: float) -> str:
    """JSON has no such numbers; PS3.18 F.2.3.1 has these words."""
    return "NaN" if math.isnan(value) else "inf" if value > 0 else "-inf"


def _texts(vr: str, raw: bytes, encodings: Sequence[str]) -> list[Any]:
    text = decoded(raw, encodings, vr) if vr in _LOCAL_TEXT else raw.decode("latin-1")
    text = text.rstrip(" \0")
    parts = [text] if vr in _ONE_VALUE else text.split("\\")
    return [_text_value(vr, part) for part in parts]


def _text_value(vr: str, part: str) -> Any:
    text = part.rstrip(" \0") if vr in _KEEP_LEADING else part.strip(" \0")
    if not text:
        return None
    if vr == "PN":
        groups = [group.strip() for group in text.split("=")]
        return {name: group for name, group in zip(_GROUPS, groups, strict=False) if group} or None
    if vr == "IS" and _INTEGER.fullmatch(text):
        return int(text)
    if vr == "DS" and _DECIMAL.fullmatch(text):
        number = float(text)
        if math.isfinite(number):
            return int(text) if _INTEGER.fullmatch(text) else number
    return text


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
