"""A search: which resources fit, a page of them, what they refer to, and where the next page is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import Connection

from inference.domain.patient import Authorities, PatientIdentifier
from inference.gateways.fhir.holdings import HOLDINGS, Found, Wanted
from inference.gateways.fhir.outcome import FhirError
from inference.gateways.fhir.search_terms import (
    MAX_COUNT,
    RESULT_PARAMETERS,
    SEARCH,
    Parameter,
    check,
    fits,
    includes_of,
)
from inference.storage import patients
from inference.storage.errors import NotFoundError

Resource = dict[str, Any]
DEFAULT_COUNT = 50
MAX_LOOKED_AT = 5000
"""Resources that one page looks at: where few fit, a page may be short and its link goes on."""

PATIENT_NAMES = frozenset({"patient", "subject"})
BY_IDENTIFIER = frozenset(
    {"patient.identifier", "subject.identifier", "patient:identifier", "subject:identifier"}
)


@dataclass(frozen=True, kw_only=True)
class Query:
    """A search as it was asked."""

    type: str
    terms: tuple[tuple[str, Parameter, str], ...]
    wanted: Wanted
    count: int
    includes: tuple[str, ...]
    asked: tuple[tuple[str, str], ...]
    """The parameters that were used, for the links."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page of a search; ``next_key`` is None on the last."""

    matches: tuple[Resource, ...]
    included: tuple[Resource, ...]
    next_key: str | None


def read_query(
    connection: Connection,
    type: str,
    parameters: Sequence[tuple[str, str]],
    authorities: Authorities,
    *,
    is_lenient: bool = False,
) -> Query:
    """Read the parameters of a search.

    A parameter that is not known is refused, since leaving it out would answer another question;
    ``is_lenient`` (``Prefer: handling=lenient``) leaves it out, and the self link shows that.

    Raises
    ------
    FhirError
    """
    terms: list[tuple[str, Parameter, str]] = []
    rows: set[int] | None = None
    options = {"_count": str(DEFAULT_COUNT), "_cursor": ""}
    includes: list[str] = []
    asked: list[tuple[str, str]] = []
    for name, value in parameters:
        if name in BY_IDENTIFIER and _has_patient(type):
            rows = _narrow(rows, _rows_of_identifier(connection, value, name, authorities))
        elif name in PATIENT_NAMES and _has_patient(type):
            rows = _narrow(rows, _rows_of_reference(connection, value))
        elif name in SEARCH[type]:
            if (type, name) == ("Patient", "identifier") and value.rpartition("|")[2]:
                rows = _narrow(rows, _rows_of_any(connection, value, authorities))
            check(SEARCH[type][name], name, value)
            terms.append((name, SEARCH[type][name], value))
        elif name == "_include":
            includes.append(_include(type, value))
        elif name in RESULT_PARAMETERS:
            options[name] = value
        elif is_lenient:
            continue
        else:
            raise FhirError(
                400,
                f"is no search parameter of {type}; there are "
                f"{', '.join([*SEARCH[type], *RESULT_PARAMETERS])}",
                expression=name,
                issue="not-supported",
            )
        asked.append((name, value))
    return Query(
        type=type,
        terms=tuple(terms),
        wanted=Wanted(
            rows=None if rows is None else frozenset(rows), before=_key(options["_cursor"])
        ),
        count=_count(options["_count"]),
        includes=tuple(includes),
        asked=tuple(one for one in asked if one[0] != "_cursor"),
    )


def run_query(connection: Connection, query: Query) -> Page:
    """Return a page of what fits."""
    matches: list[Resource] = []
    next_key, last_key = None, None
    for n_looked_at, (key, resource) in enumerate(_candidates(connection, query)):
        if len(matches) == query.count or n_looked_at == MAX_LOOKED_AT:
            next_key = last_key
            break
        last_key = key
        if all(fits(parameter, name, value, resource) for name, parameter, value in query.terms):
            matches.append(resource)
    return Page(
        matches=tuple(matches),
        included=tuple(_included(connection, query, matches)),
        next_key=next_key if query.count else None,
    )


def _candidates(connection: Connection, query: Query) -> Iterator[Found]:
    """Resources that may fit: those of the ids that were asked for, else all of the type."""
    ids = next((value for name, _, value in query.terms if name == "_id"), None)
    if ids is None or query.wanted.rows is not None:
        yield from HOLDINGS[query.type].walk(connection, query.wanted)
        return
    for id in sorted(set(ids.split(",")[:MAX_COUNT])):
        resource = HOLDINGS[query.type].read(connection, id)
        if resource is not None and id > query.wanted.before:
            yield id, resource


def bundle_of(page: Page, query: Query, base: str) -> Resource:
    """Write a page as a Bundle of type searchset, with links to itself and to the next page."""
    address = f"{base}/{query.type}"
    links = [{"relation": "self", "url": _url(address, query.asked)}]
    if page.next_key is not None:
        following = (*query.asked, ("_cursor", page.next_key))
        links.append({"relation": "next", "url": _url(address, following)})
    entries = [
        {
            "fullUrl": f"{base}/{one['resourceType']}/{one['id']}",
            "resource": one,
            "search": {"mode": mode},
        }
        for found, mode in ((page.matches, "match"), (page.included, "include"))
        for one in found
    ]
    bundle: Resource = {"resourceType": "Bundle", "type": "searchset", "link": links}
    if page.next_key is None and not query.wanted.before and query.count:
        bundle["total"] = len(page.matches)
    if entries:
        bundle["entry"] = entries
    return bundle


def _included(connection: Connection, query: Query, matches: Sequence[Resource]) -> list[Resource]:
    seen = {f"{one['resourceType']}/{one['id']}" for one in matches}
    found = []
    for include in query.includes:
        name = include.partition(":")[2]
        for match in matches:
            for target in SEARCH[query.type][name].find(match):
                if target in seen:
                    continue
                seen.add(target)
                type, _, id = target.partition("/")
                resource = HOLDINGS[type].read(connection, id)
                if resource is not None:
                    found.append(resource)
    return found


def _has_patient(type: str) -> bool:
    return "patient" in SEARCH[type]


def _rows_of_reference(connection: Connection, value: str) -> set[int]:
    rows = set()
    for one in value.split(","):
        id = one.rpartition("Patient/")[2]
        if not id.startswith("p") or not id[1:].isdigit() or len(id) > 18:
            continue  # the id of nobody: nothing of theirs is here
        try:
            rows.add(patients.get_patient(connection, int(id[1:])).id)
        except NotFoundError:
            continue
    return rows


def _rows_of_identifier(
    connection: Connection, value: str, name: str, authorities: Authorities
) -> set[int]:
    rows = set()
    for one in value.split(","):
        system, bar, number = one.rpartition("|")
        if not bar or not number:
            raise FhirError(
                400,
                "is SYSTEM|NUMBER: a number without its authority may be that of two patients",
                expression=name,
            )
        identifier = PatientIdentifier(value=number, authority=authorities.of_system(system))
        row = patients.find(connection, identifier)
        if row is not None:
            rows.add(row)
    return rows


def _rows_of_any(connection: Connection, value: str, authorities: Authorities) -> set[int] | None:
    """Return whose number it is; None where a value names no authority: all are looked at."""
    if any("|" not in one or not one.rpartition("|")[2] for one in value.split(",")):
        return None
    return _rows_of_identifier(connection, value, "identifier", authorities)


def _narrow(rows: set[int] | None, more: set[int] | None) -> set[int] | None:
    if rows is None or more is None:
        return more if rows is None else rows
    return rows & more


def _include(type: str, value: str) -> str:
    if value not in includes_of(type):
        raise FhirError(
            400,
            f"{value!r} is none of {', '.join(includes_of(type)) or 'nothing'}",
            expression="_include",
        )
    return value


def _count(text: str) -> int:
    if not text.isdigit() or int(text[:9]) > MAX_COUNT:
        raise FhirError(
            400, f"{text[:20]!r} is no number from 0 to {MAX_COUNT}", expression="_count"
        )
    return int(text)


def _key(text: str) -> str:
    if not all(one.isascii() and (one.isalnum() or one == ".") for one in text) or len(text) > 64:
        raise FhirError(400, "is none of a link that was given", expression="_cursor")
    return text


def _url(address: str, parameters: Sequence[tuple[str, str]]) -> str:
    return f"{address}?{urlencode(parameters)}" if parameters else address
