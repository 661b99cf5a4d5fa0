"""From bytes to a resource that may be trusted in form: bounded, valid, no foreign addresses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from fhir.resources.R4B import get_fhir_model_class
from pydantic import ValidationError

from inference.gateways.fhir.outcome import FhirError

MAX_BYTES = 10 * 1024 * 1024
MAX_DEPTH = 64
MAX_ENTRIES = 1000
_STRUCTURE = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]')
_LOCAL = re.compile(r"[A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64}")
_BUNDLE = re.compile(r"urn:uuid:[0-9a-fA-F-]{36}")
ADDRESSES = frozenset({"reference", "fullUrl"})


def read_json(body: bytes) -> dict[str, Any]:
    """Parse a body, without following it deeper or further than it may go.

    Raises
    ------
    FhirError
        413 or 422; the depth is counted before anything is built.
    """
    if len(body) > MAX_BYTES:
        raise FhirError(413, f"is larger than {MAX_BYTES} bytes")
    depth = 0
    for found in _STRUCTURE.finditer(body):
        mark = found[0]
        if mark in (b"{", b"["):
            depth += 1
            if depth > MAX_DEPTH:
                raise FhirError(422, f"is nested deeper than {MAX_DEPTH} levels")
        elif mark in (b"}", b"]"):
            depth -= 1
    try:
        parsed = json.loads(body, parse_constant=_no_constant, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise FhirError(400, "the body is no JSON") from error
    if not isinstance(parsed, dict):
        raise FhirError(400, "the body is no JSON object")
    return parsed


def valid(resource: dict[str, Any], type: str, at: str = "") -> dict[str, Any]:
    """Check a resource against the model of its type, and take its narrative off.

    Narratives (``text``) are not kept: they could carry scripts into a page that shows them, and
    what they say is in the elements. Contained resources are not taken.

    Raises
    ------
    FhirError
    """
    where = at or type
    if resource.get("resourceType") != type:
        raise FhirError(422, f"is no {type}", expression=f"{where}.resourceType")
    for place, reference in addresses(resource, where):
        if not _LOCAL.fullmatch(reference) and not _BUNDLE.fullmatch(reference):
            raise FhirError(
                422,
                "is an address elsewhere, which is never fetched; refer to Type/id, urn:uuid of the"
                " same bundle, or by identifier",
                expression=place,
            )
    if "contained" in resource:
        raise FhirError(422, "contained resources are not taken", expression=f"{where}.contained")
    cleaned = {name: value for name, value in resource.items() if name not in ("text", "meta")}
    model = get_fhir_model_class(type)
    for name, value in cleaned.items():
        known = _codes_of(model, name)
        if known and value not in known:
            raise FhirError(422, f"is none of {', '.join(known)}", expression=f"{where}.{name}")
    try:
        model.model_validate(cleaned)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        raise FhirError(
            422, first["msg"].removeprefix("Value error, "), expression=f"{where}.{path}"
        ) from error
    return cleaned


def _codes_of(model: Any, name: str) -> tuple[str, ...]:
    """Return the codes that an element is bound to; the models know them and do not check them."""
    for field in model.model_fields.values():
        if (field.alias or "") == name:
            said = (field.json_schema_extra or {}).get("enum_values", ())
            return tuple(str(one) for one in said)
    return ()


def addresses(node: Any, place: str) -> Iterator[tuple[str, str]]:
    """Every reference below a node, with where it stands."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name in ADDRESSES and isinstance(value, str):
                yield f"{place}.{name}", value
            elif name == "url" and isinstance(value, str) and ".extension" not in place:
                if place.endswith(("Attachment", "content", "photo", "presentedForm")):
                    yield f"{place}.url", value
            else:
                yield from addresses(value, f"{place}.{name}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from addresses(value, f"{place}[{index}]")


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a name that stands twice: two readers would see two different resources."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found
