"""Search parameters: what each type can be searched by, and what a value of each kind means.

These tables are what the server does and what its CapabilityStatement and docs/conformance.md say.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Literal

from inference.gateways.fhir.outcome import FhirError

Kind = Literal["token", "date", "reference", "string"]
Resource = dict[str, Any]
PREFIXES = ("eq", "ne", "gt", "ge", "lt", "le", "sa", "eb")
"""Prefixes of dates; ``ap`` (about) is refused, since nothing says how near is near."""

_DATE = re.compile(
    r"(?P<year>[0-9]{4})(-(?P<month>[0-9]{2})(-(?P<day>[0-9]{2})"
    r"(T(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(:(?P<second>[0-9]{2})(\.[0-9]+)?)?"
    r"(?P<zone>Z|[+-][0-9]{2}:[0-9]{2})?)?)?)?"
)


@dataclass(frozen=True)
class Parameter:
    """One search parameter: ``find`` takes the values out of a resource."""

    kind: Kind
    find: Callable[[Resource], list[Any]]
    targets: tuple[str, ...] = ()
    """Types that a reference may point at; those can be included."""


def _tokens(*path: str) -> Callable[[Resource], list[Any]]:
    """Codes and identifiers below a path, as (system, value)."""

    def find(resource: Resource) -> list[Any]:
        found = []
        for node in _nodes(resource, path):
            if isinstance(node, str):
                found.append((None, node))  # a code element: its system goes without saying
            elif "coding" in node or "text" in node:
                found += [
                    (one.get("system", ""), one.get("code", "")) for one in node.get("coding", ())
                ]
            else:
                found.append((node.get("system", ""), node.get("value", node.get("code", ""))))
        return found

    return find


def _values(*path: str) -> Callable[[Resource], list[Any]]:
    return lambda resource: [node for node in _nodes(resource, path) if isinstance(node, str)]


def _references(*path: str) -> Callable[[Resource], list[Any]]:
    def find(resource: Resource) -> list[Any]:
        return [node["reference"] for node in _nodes(resource, path) if "reference" in node]

    return find


def _nodes(resource: Resource, path: tuple[str, ...]) -> list[Any]:
    nodes: list[Any] = [resource]
    for name in path:
        below = [node[name] for node in nodes if isinstance(node, dict) and name in node]
        nodes = [one for node in below for one in (node if isinstance(node, list) else [node])]
    return nodes


def _names(resource: Resource) -> list[Any]:
    found = []
    for name in resource.get("name", ()):
        found += [name.get("family", ""), name.get("text", ""), *name.get("given", ())]
    return [one for one in found if one]


_ID = Parameter("token", lambda resource: [("", resource["id"])])
_UPDATED = Parameter("date", _values("meta", "lastUpdated"))
_IDENTIFIER = Parameter("token", _tokens("identifier"))
_SUBJECT = Parameter("reference", _references("subject"), ("Patient",))


def _table(**parameters: Parameter) -> Mapping[str, Parameter]:
    named = {name.replace("_", "-"): one for name, one in parameters.items()}
    return MappingProxyType({"_id": _ID, "_lastUpdated": _UPDATED, **named})


SEARCH: Mapping[str, Mapping[str, Parameter]] = MappingProxyType(
    {
        "Patient": _table(
            identifier=_IDENTIFIER,
            name=Parameter("string", _names),
            birthdate=Parameter("date", _values("birthDate")),
            gender=Parameter("token", _tokens("gender")),
        ),
        "Practitioner": _table(identifier=_IDENTIFIER, name=Parameter("string", _names)),
        "ImagingStudy": _table(
            identifier=_IDENTIFIER,
            patient=_SUBJECT,
            subject=_SUBJECT,
            status=Parameter("token", _tokens("status")),
            started=Parameter("date", _values("started")),
            modality=Parameter("token", _tokens("series", "modality")),
            series=Parameter("token", _tokens("series", "uid")),
        ),
        "ServiceRequest": _table(
            identifier=_IDENTIFIER,
            patient=_SUBJECT,
            subject=_SUBJECT,
            status=Parameter("token", _tokens("status")),
            priority=Parameter("token", _tokens("priority")),
            code=Parameter("token", _tokens("code")),
            authored=Parameter("date", _values("authoredOn")),
        ),
        "Task": _table(
            patient=Parameter("reference", _references("for"), ("Patient",)),
            subject=Parameter("reference", _references("for"), ("Patient",)),
            status=Parameter("token", _tokens("status")),
            priority=Parameter("token", _tokens("priority")),
            focus=Parameter("reference", _references("focus"), ("ImagingStudy",)),
            authored_on=Parameter("date", _values("authoredOn")),
            modified=Parameter("date", _values("lastModified")),
        ),
        "DiagnosticReport": _table(
            identifier=_IDENTIFIER,
            patient=_SUBJECT,
            subject=_SUBJECT,
            status=Parameter("token", _tokens("status")),
            category=Parameter("token", _tokens("category")),
            code=Parameter("token", _tokens("code")),
            date=Parameter("date", _values("issued")),
            issued=Parameter("date", _values("issued")),
            result=Parameter("reference", _references("result"), ("Observation",)),
            based_on=Parameter("reference", _references("basedOn"), ("ServiceRequest",)),
            results_interpreter=Parameter(
                "reference", _references("resultsInterpreter"), ("Practitioner",)
            ),
        ),
        "Observation": _table(
            identifier=_IDENTIFIER,
            patient=_SUBJECT,
            subject=_SUBJECT,
            status=Parameter("token", _tokens("status")),
            category=Parameter("token", _tokens("category")),
            code=Parameter("token", _tokens("code")),
            date=Parameter("date", _values("effectiveDateTime")),
            device=Parameter("reference", _references("device"), ("Device",)),
            performer=Parameter("reference", _references("performer"), ("Practitioner",)),
            part_of=Parameter("reference", _references("partOf"), ("ImagingStudy",)),
            derived_from=Parameter("reference", _references("derivedFrom"), ("ImagingStudy",)),
        ),
        "Provenance": _table(
            target=Parameter(
                "reference", _references("target"), ("DiagnosticReport", "Observation")
            ),
            recorded=Parameter("date", _values("recorded")),
            agent=Parameter("reference", _references("agent", "who"), ("Device", "Practitioner")),
        ),
        "Device": _table(
            identifier=_IDENTIFIER, device_name=Parameter("string", _values("deviceName", "name"))
        ),
        "Basic": _table(
            identifier=_IDENTIFIER,
            patient=_SUBJECT,
            subject=_SUBJECT,
            code=Parameter("token", _tokens("code")),
        ),
    }
)
"""Type to the parameters it can be searched by. Basic is there only where it was asked for."""

RESULT_PARAMETERS = ("_count", "_include", "_cursor", "_format", "_total")
"""Parameters that say how to answer; ``_cursor`` is of the links that answers carry."""

MAX_COUNT = 200


def includes_of(type: str) -> tuple[str, ...]:
    """Return what ``_include`` takes for a type."""
    return tuple(f"{type}:{name}" for name, parameter in SEARCH[type].items() if parameter.targets)


def fits(parameter: Parameter, name: str, wanted: str, resource: Resource) -> bool:
    """Whether a resource has one of the values, which commas separate.

    Raises
    ------
    FhirError
        A value is none of the parameter's kind.
    """
    found = parameter.find(resource)
    values = [one for one in re.split(r"(?<!\\),", wanted) if one]
    if not values:
        raise FhirError(400, "has no value", expression=name)
    test = {"token": _is_token, "date": _is_date, "reference": _is_reference, "string": _is_string}
    # Every value is read, though the first may fit: a wrong one is never passed over.
    answers = [test[parameter.kind](one.replace("\\,", ","), found, name) for one in values]
    return any(answers)


def check(parameter: Parameter, name: str, wanted: str) -> None:
    """Read a value as `fits` does, so that a wrong one is told even where nothing is stored."""
    fits(parameter, name, wanted, {"id": ""})


def span_of(text: str, name: str) -> tuple[datetime, datetime]:
    """Return the first moment that a date means, and the first after it; no zone means UTC.

    Raises
    ------
    FhirError
    """
    found = _DATE.fullmatch(text)
    if found is None:
        raise FhirError(400, f"{text!r} is no date (YYYY-MM-DDThh:mm:ssZ)", expression=name)
    year, month, day = (int(found[part] or 1) for part in ("year", "month", "day"))
    try:
        if found["hour"] is None:
            begin = datetime(year, month, day, tzinfo=UTC)
            if found["month"] is None:
                return begin, begin.replace(year=year + 1)
            if found["day"] is None:
                return begin, begin + timedelta(days=calendar.monthrange(year, month)[1])
            return begin, begin + timedelta(days=1)
        begin = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except (ValueError, OverflowError) as error:
        raise FhirError(400, f"{text!r} is no date that exists", expression=name) from error
    begin = begin.replace(tzinfo=UTC) if begin.tzinfo is None else begin.astimezone(UTC)
    if found["second"] is None:
        return begin, begin + timedelta(minutes=1)
    if "." in text:
        return begin, begin + timedelta(microseconds=1)
    return begin, begin + timedelta(seconds=1)


def _is_token(wanted: str, found: list[Any], name: str) -> bool:
    system, bar, code = wanted.rpartition("|")
    for has_system, has_code in found:
        if bar and has_system is not None and has_system != system:
            continue
        if code in ("", has_code) and (code or bar):
            return True
    return False


def _is_reference(wanted: str, found: list[Any], name: str) -> bool:
    return any(wanted in (one, one.rpartition("/")[2]) for one in found)


def _is_string(wanted: str, found: list[Any], name: str) -> bool:
    return any(str(one).casefold().startswith(wanted.casefold()) for one in found)


def _is_date(wanted: str, found: list[Any], name: str) -> bool:
    prefix = wanted[:2] if wanted[:2].isalpha() else "eq"
    if prefix not in PREFIXES:
        raise FhirError(400, f"prefix {prefix!r} is none of {', '.join(PREFIXES)}", expression=name)
    low, high = span_of(wanted.removeprefix(prefix) if wanted[:2].isalpha() else wanted, name)
    for one in found:
        begin, end = span_of(one, name)
        inside = low <= begin and end <= high
        holds = {
            "eq": inside,
            "ne": not inside,
            "gt": end > high,
            "ge": inside or end > high,
            "lt": begin < low,
            "le": inside or begin < low,
            "sa": begin >= high,
            "eb": end <= low,
        }
        if holds[prefix]:
            return True
    return False
