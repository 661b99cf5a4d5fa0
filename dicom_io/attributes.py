"""Read single attributes strictly: present, finite and well-formed, or an error that names them.

pydicom accepts "NaN", "inf" and "1e400" as decimal strings; a geometry made of those is a wrong
overlay, so numbers are read from the stored text here.
"""

from __future__ import annotations

import math
import re
import struct

from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException

from dicom_io.errors import InvalidAttributeError, MissingAttributeError

_DECIMAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_INTEGER = re.compile(r"[+-]?\d+")
_PARSE_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    TypeError,
    NotImplementedError,
    RecursionError,
    struct.error,
    BytesLengthException,
)
"""What pydicom raises when a value, parsed on demand, turns out to be malformed."""

_TEXT_VRS = {None, "DS", "IS", "UI", "CS", "LO", "SH", "UN"}


def text(dataset: Dataset, keyword: str) -> str:
    """Value as stored, stripped; several values stay joined by a backslash; "" where absent."""
    tag = tag_for_keyword(keyword)
    if tag is None or tag not in dataset:
        return ""
    element = dataset.get_item(tag)
    if isinstance(element, RawDataElement) and element.VR in _TEXT_VRS:
        value = element.value
        return value.decode("latin-1").strip(" \0") if isinstance(value, bytes) else ""
    try:
        value = dataset[tag].value
        values = [value] if isinstance(value, str | int | float) else list(value or [])
    except _PARSE_ERRORS:
        return ""  # of another VR than the standard's, and malformed: as good as absent
    return "\\".join(str(item) for item in values).strip(" \0")


def decimals(dataset: Dataset, keyword: str, *, count: int, instance_uid: str) -> tuple[float, ...]:
    """Exactly ``count`` finite decimal strings."""
    stored = text(dataset, keyword)
    if not stored:
        raise MissingAttributeError(instance_uid=instance_uid, keyword=keyword)
    parts = [part.strip(" \0") for part in stored.split("\\")]
    if len(parts) == count and all(_DECIMAL.fullmatch(part) for part in parts):
        values = tuple(float(part) for part in parts)
        if all(math.isfinite(value) for value in values):
            return values
    raise InvalidAttributeError(
        instance_uid=instance_uid,
        keyword=keyword,
        value=stored,
        allowed=f"{count} finite decimal number(s)",
    )


def decimal(dataset: Dataset, keyword: str, *, instance_uid: str) -> float:
    """One finite decimal string."""
    return decimals(dataset, keyword, count=1, instance_uid=instance_uid)[0]


def integer_string(dataset: Dataset, keyword: str, *, default: int, instance_uid: str) -> int:
    """One integer string (VR IS); ``default`` where it is absent or empty."""
    stored = text(dataset, keyword)
    if not stored:
        return default
    if not _INTEGER.fullmatch(stored):
        raise InvalidAttributeError(
            instance_uid=instance_uid, keyword=keyword, value=stored, allowed="one integer"
        )
    return int(stored)


def unsigned(dataset: Dataset, keyword: str, *, instance_uid: str) -> int:
    """One 16-bit unsigned number (VR US)."""
    value = optional_unsigned(dataset, keyword, instance_uid=instance_uid)
    if value is None:
        raise MissingAttributeError(instance_uid=instance_uid, keyword=keyword)
    return value


def optional_unsigned(dataset: Dataset, keyword: str, *, instance_uid: str) -> int | None:
    """One 16-bit number as its unsigned bit pattern (VR US or SS); None where absent or empty."""
    tag = tag_for_keyword(keyword)
    if tag is None or tag not in dataset:
        return None
    element = dataset.get_item(tag)
    if isinstance(element, RawDataElement):
        if not element.value:
            return None
        if element.VR in {None, "US", "SS", "UN"} and len(element.value) == 2:
            return int.from_bytes(element.value, "little" if element.is_little_endian else "big")
        raise InvalidAttributeError(
            instance_uid=instance_uid,
            keyword=keyword,
            value=repr(element.value[:16]),
            allowed="one 16-bit integer",
        )
    value = element.value if element is not None else None
    if value is None or value == "":
        return None
    if not isinstance(value, int):
        raise InvalidAttributeError(
            instance_uid=instance_uid, keyword=keyword, value=str(value), allowed="one integer"
        )
    return value & 0xFFFF


def items(dataset: Dataset, keyword: str, *, instance_uid: str) -> list[Dataset]:
    """Items of a sequence; none where it is absent or empty."""
    try:
        sequence = dataset.get(keyword)
        found = list(sequence) if sequence else []
        if all(isinstance(item, Dataset) for item in found):
            return found
        problem = "not a sequence"
    except _PARSE_ERRORS as error:
        problem = f"{type(error).__name__}: {error}"
    raise InvalidAttributeError(
        instance_uid=instance_uid,
        keyword=keyword,
        value=problem,
        allowed="a sequence of well-formed items",
    )


def display_text(dataset: Dataset, keyword: str) -> str:
    """Free text in the data set's character set; what cannot be decoded is marked by U+FFFD."""
    tag = tag_for_keyword(keyword)
    element = dataset.get_item(tag) if tag is not None and tag in dataset else None
    if not isinstance(element, RawDataElement):
        return "" if element is None or element.value is None else str(element.value).strip()
    encodings = dataset.original_character_set or "iso8859"
    first = encodings if isinstance(encodings, str) else encodings[-1]
    value = element.value if isinstance(element.value, bytes) else b""
    return value.decode(first, "replace").strip(" \0")


def optional_bytes(dataset: Dataset, keyword: str) -> bytes:
    """Value of a binary attribute; empty where it is absent."""
    value = dataset.get(keyword)
    return value if isinstance(value, bytes) else b""
