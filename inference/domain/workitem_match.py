"""Attribute matching of workitems (PS3.4 C.2.2.2), on documents in the DICOM JSON model.

A document maps an eight-digit tag to ``{"vr": ..., "Value": [...]}``. A key without a value matches
anything; text takes ``*`` and ``?``, dates and times take ranges, UIDs take lists, sequences match
where one item does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

Document = Mapping[str, Any]

RANGE_VRS = frozenset({"DA", "TM", "DT"})
EXACT_VRS = frozenset({"UI", "IS", "DS", "US", "UL", "SS", "SL", "FL", "FD", "SV", "UV"})


def matches(document: Document, keys: Document) -> bool:
    """Whether a document has what every key asks for."""
    return all(_element_matches(document.get(tag, {}), key) for tag, key in keys.items())


def first_value(document: Document, *path: str) -> str:
    """Return the first value at a path of tags as text; "" where there is none."""
    element: Any = document
    for number, tag in enumerate(path):
        values = element.get(tag, {}).get("Value") or [""]
        element = values[0]
        if number + 1 < len(path) and not isinstance(element, Mapping):
            return ""
    if isinstance(element, Mapping):
        return str(element.get("Alphabetic", ""))
    return "" if element is None else str(element)


def _element_matches(element: Document, key: Document) -> bool:
    wanted = [value for value in key.get("Value") or () if value not in ("", None, {})]
    if not wanted:
        return True
    present = element.get("Value") or ()
    vr = str(key.get("vr") or element.get("vr") or "LO")
    if vr == "SQ":
        return all(any(matches(item, one) for item in present) for one in wanted)
    return any(_value_matches(vr, value, one) for value in present for one in wanted)


def _value_matches(vr: str, value: Any, wanted: Any) -> bool:
    value, wanted = _text(value), _text(wanted)
    if vr in RANGE_VRS and "-" in wanted:
        return _is_in_range(value, wanted)
    if vr in EXACT_VRS or vr in RANGE_VRS:
        return any(value == one for one in wanted.split("\\"))
    if vr == "PN":
        value, wanted = value.casefold(), wanted.casefold()
    pattern = re.escape(wanted).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(pattern, value, re.DOTALL) is not None


def _is_in_range(value: str, wanted: str) -> bool:
    """Compare as text, each end to its own precision: 2026-2027 takes all of 2027."""
    low, _, high = wanted.partition("-")
    return bool(value) and (not low or value >= low) and (not high or value[: len(high)] <= high)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return str(value.get("Alphabetic", ""))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
