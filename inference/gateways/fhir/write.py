"""Create, update and transaction: patients, orders and observations that others tell us of."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection

from inference.domain.laboratory import unit_problem
from inference.domain.order import OrderDraft, OrderStatus
from inference.domain.patient import Authorities, Demographics, PatientIdentifier
from inference.gateways.fhir.holdings import HOLDINGS
from inference.gateways.fhir.outcome import FhirError
from inference.gateways.fhir.reading import MAX_ENTRIES, addresses, valid
from inference.gateways.fhir.vocabulary import (
    IDENTIFIER_TYPE,
    LOINC,
    PRIORITY_OF,
    SEX_OF,
    UCUM,
)
from inference.jobs.ordered import apply_order
from inference.storage import audit, fhir_resources, orders, patients
from inference.storage.fhir_resources import IdentifierTakenError
from inference.storage.patients import PatientConflictError

Resource = dict[str, Any]
MAX_VALUE = 1e9
"""No measurement of a person is larger in any unit this service knows."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """What became of a write: 201 with a new resource, or 200 with one that was there."""

    status: int
    resource: Resource


@dataclass(frozen=True, kw_only=True)
class Writer:
    """Writes in one transaction of the caller's.

    ``known`` maps the ``urn:uuid`` of a bundle's entries to what they became.
    """

    connection: Connection
    authorities: Authorities
    actor: str
    now: datetime
    known: dict[str, str] = field(default_factory=dict)

    def create(
        self, type: str, resource: Resource, *, if_none_exist: str | None = None, at: str = ""
    ) -> Written:
        """Store a new resource, or find the one that ``If-None-Exist`` describes.

        Writers are serialised, so of twenty that ask at once one creates and the others find.

        Raises
        ------
        FhirError
        """
        cleaned = valid(resource, type, at)
        if if_none_exist is not None:
            found = self._existing(type, if_none_exist)
            if found is not None:
                return Written(status=200, resource=found)
        id = _CREATE[type](self, cleaned, at or type)
        self._note("fhir.created", type, id)
        return Written(status=201, resource=self._read(type, id))

    def update(
        self, type: str, id: str, resource: Resource, *, if_match: str | None, at: str = ""
    ) -> Written:
        """Replace a resource, if it is still the version that the writer saw.

        Raises
        ------
        FhirError
            428: the version is not said; 412: it is another by now.
        """
        current = HOLDINGS[type].read(self.connection, id)
        if current is None:
            raise FhirError(404, f"there is no {type}/{id}")
        if if_match is None:
            raise FhirError(428, "send If-Match with the version that is to be replaced")
        version = current["meta"]["versionId"]
        if if_match.strip() not in (f'W/"{version}"', f'"{version}"'):
            raise FhirError(412, f"the version is {version} by now; read it again")
        cleaned = valid(resource, type, at)
        if cleaned.get("id") != id:
            raise FhirError(422, "is not the id of the address", expression=f"{at or type}.id")
        _UPDATE[type](self, id, cleaned, at or type)
        self._note("fhir.updated", type, id)
        return Written(status=200, resource=self._read(type, id))

    def subject(self, resource: Resource, at: str) -> int:
        """Return the patient a resource is about.

        Raises
        ------
        FhirError
            Nobody, or somebody who is not known here.
        """
        said = resource.get("subject", {})
        where = f"{at}.subject"
        if "reference" in said:
            target = self.known.get(said["reference"], said["reference"])
            found = HOLDINGS["Patient"].read(self.connection, target.removeprefix("Patient/"))
            if found is None:
                raise FhirError(422, "is no patient that is known here", expression=where)
            return int(target.removeprefix("Patient/p"))
        if "identifier" in said:
            identifier = self.identifier(said["identifier"], f"{where}.identifier")
            row = patients.find(self.connection, identifier)
            if row is None:
                raise FhirError(422, "is no patient that is known here", expression=where)
            return row
        raise FhirError(422, "names no patient", expression=where)

    def identifier(self, said: Mapping[str, Any], at: str) -> PatientIdentifier:
        """Return a patient's number with its authority.

        Raises
        ------
        FhirError
        """
        value = str(said.get("value", "")).strip()
        authority = self.authorities.of_system(str(said.get("system", "")))
        if not value or len(value) > 256 or len(authority) > 512:
            raise FhirError(422, "has no value, or one that is too long", expression=at)
        if not authority:
            raise FhirError(422, "is missing: whose number is it?", expression=f"{at}.system")
        return PatientIdentifier(value=value, authority=authority)

    def _existing(self, type: str, criteria: str) -> Resource | None:
        name, equals, value = criteria.removeprefix("?").partition("=")
        system, bar, number = value.rpartition("|")
        if name != "identifier" or not equals or not bar or not number:
            raise FhirError(
                412, "If-None-Exist is identifier=SYSTEM|VALUE here", expression="If-None-Exist"
            )
        id = _FIND[type](self, system, number)
        return None if id is None else self._read(type, id)

    def _read(self, type: str, id: str) -> Resource:
        found = HOLDINGS[type].read(self.connection, id)
        assert found is not None, "it was written in this transaction"
        return found

    def _note(self, action: str, type: str, id: str) -> None:
        audit.append(
            self.connection,
            at=self.now,
            actor=self.actor,
            action=action,
            subject=f"{type}/{id}",
        )


def transaction(writer: Writer, bundle: Resource) -> Resource:
    """Take every entry of a transaction, or, by the error that is raised, none.

    Raises
    ------
    FhirError
    """
    entries = bundle.get("entry", [])
    if bundle.get("resourceType") != "Bundle" or bundle.get("type") != "transaction":
        raise FhirError(422, "only a transaction is taken here", expression="Bundle.type")
    if not isinstance(entries, list) or len(entries) > MAX_ENTRIES:
        raise FhirError(422, f"holds more than {MAX_ENTRIES} entries", expression="Bundle.entry")
    prepared = [_entry(entry, f"Bundle.entry[{n}]") for n, entry in enumerate(entries)]
    _refuse_twice(writer, prepared)
    answers = []
    # Patients first: the others refer to them, and a transaction has no order of its own.
    in_order = sorted(range(len(prepared)), key=lambda n: prepared[n].type != "Patient")
    done: dict[int, Written] = {}
    for n in in_order:
        entry = prepared[n]
        if entry.method == "POST":
            done[n] = writer.create(
                entry.type, entry.resource, if_none_exist=entry.if_none_exist, at=entry.at
            )
        else:
            done[n] = writer.update(
                entry.type, entry.id, entry.resource, if_match=entry.if_match, at=entry.at
            )
        if entry.full_url:
            made = done[n].resource
            writer.known[entry.full_url] = f"{made['resourceType']}/{made['id']}"
    for n in range(len(prepared)):
        made = done[n].resource
        answers.append(
            {
                "response": {
                    "status": "201 Created" if done[n].status == 201 else "200 OK",
                    "location": f"{made['resourceType']}/{made['id']}",
                    "etag": f'W/"{made["meta"]["versionId"]}"',
                    "lastModified": made["meta"]["lastUpdated"],
                }
            }
        )
    return {"resourceType": "Bundle", "type": "transaction-response", "entry": answers}


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """One entry of a transaction, with its request read."""

    at: str
    method: str
    type: str
    id: str
    full_url: str
    resource: Resource
    if_none_exist: str | None
    if_match: str | None


def _entry(entry: Any, at: str) -> _Entry:
    if not isinstance(entry, dict) or not isinstance(entry.get("request"), dict):
        raise FhirError(422, "has no request", expression=f"{at}.request")
    resource, request = entry.get("resource"), entry["request"]
    if not isinstance(resource, dict):
        raise FhirError(422, "is missing", expression=f"{at}.resource")
    full_url = str(entry.get("fullUrl", ""))
    if full_url and not full_url.startswith("urn:uuid:"):
        raise FhirError(
            422, "is an address elsewhere, which is never fetched", expression=f"{at}.fullUrl"
        )
    for place, value in addresses(resource, f"{at}.resource"):
        if "://" in value or value.startswith("file:"):
            raise FhirError(
                422, "is an address elsewhere, which is never fetched", expression=place
            )
    method = request.get("method")
    type, _, id = str(request.get("url", "")).partition("/")
    if method not in ("POST", "PUT") or type not in WRITABLE or bool(id) != (method == "PUT"):
        raise FhirError(
            422,
            f"is none of POST Type and PUT Type/id with a type of {', '.join(WRITABLE)}",
            expression=f"{at}.request",
        )
    return _Entry(
        at=f"{at}.resource",
        method=method,
        type=type,
        id=id,
        full_url=full_url,
        resource=resource,
        if_none_exist=request.get("ifNoneExist"),
        if_match=request.get("ifMatch"),
    )


def _refuse_twice(writer: Writer, prepared: list[_Entry]) -> None:
    """Refuse a bundle in which two entries are one thing: one of them would be lost in silence."""
    seen: dict[tuple[str, str, str], str] = {}
    for entry in prepared:
        keys = [(entry.type, "id", entry.id)] if entry.id else []
        identifiers = entry.resource.get("identifier", [])
        keys += [
            (entry.type, str(one.get("system", "")), str(one["value"]))
            for one in (identifiers if isinstance(identifiers, list) else [])
            if isinstance(one, dict) and one.get("value")
        ]
        if entry.full_url:
            keys.append(("fullUrl", "", entry.full_url))
        for key in keys:
            if key in seen and seen[key] != entry.at:
                raise FhirError(
                    409, f"is the same as {seen[key]}; nothing was stored", expression=entry.at
                )
            seen[key] = entry.at


def _create_patient(writer: Writer, resource: Resource, at: str) -> str:
    identifiers = _patient_identifiers(writer, resource, at)
    for one in identifiers:
        if patients.record_of(writer.connection, one) is not None:
            raise FhirError(
                409, "is that of a patient who is known here", expression=f"{at}.identifier"
            )
    row = patients.ensure(writer.connection, identifiers, now=writer.now)
    _describe(writer, row, resource, at)
    return f"p{row}"


def _update_patient(writer: Writer, id: str, resource: Resource, at: str) -> None:
    row = int(id.removeprefix("p"))
    known = patients.get_patient(writer.connection, row)
    if known.id != row:
        raise FhirError(409, f"was merged into Patient/p{known.id}; write to that")
    said = _patient_identifiers(writer, resource, at)
    try:
        patients.ensure(writer.connection, [*said, known.identifiers[0]], now=writer.now)
    except PatientConflictError as error:
        raise FhirError(409, error.problem, expression=f"{at}.identifier") from error
    _describe(writer, row, resource, at)


def _patient_identifiers(writer: Writer, resource: Resource, at: str) -> list[PatientIdentifier]:
    said = resource.get("identifier", [])
    if not said:
        raise FhirError(
            422,
            "is missing: a patient is a number and its authority",
            expression=f"{at}.identifier",
        )
    return [writer.identifier(one, f"{at}.identifier[{n}]") for n, one in enumerate(said)]


def _describe(writer: Writer, row: int, resource: Resource, at: str) -> None:
    born = str(resource.get("birthDate", ""))
    if len(born) == 10 and date.fromisoformat(born) > writer.now.date():
        raise FhirError(422, "is to come", expression=f"{at}.birthDate")
    names = resource.get("name", [])
    patients.describe(
        writer.connection,
        row,
        demographics=Demographics(
            name=_dicom_name(names[0]) if names else "",
            birth_date=born.replace("-", ""),
            sex=SEX_OF.get(str(resource.get("gender", "")), ""),
        ),
        now=writer.now,
    )


def _dicom_name(name: Mapping[str, Any]) -> str:
    given = [*name.get("given", ()), "", ""]
    parts = [
        str(name.get("family") or name.get("text", "")),
        str(given[0]),
        " ".join(str(one) for one in given[1:] if one),
        " ".join(name.get("prefix", ())),
        " ".join(name.get("suffix", ())),
    ]
    return "^".join(part.replace("^", " ").replace("=", " ") for part in parts).rstrip("^")


def _create_observation(writer: Writer, resource: Resource, at: str) -> str:
    _check_quantity(resource, at)
    row = writer.subject(resource, at)
    identifiers = [
        (str(one.get("system", "")), str(one["value"]))
        for one in resource.get("identifier", ())
        if one.get("value")
    ]
    try:
        stored = fhir_resources.add(
            writer.connection,
            type="Observation",
            body=_body(resource),
            patient_row=row,
            actor=writer.actor,
            now=writer.now,
            identifiers=identifiers,
        )
    except IdentifierTakenError as error:
        raise FhirError(
            409,
            f"is that of Observation/o{error.resource_id}",
            expression=f"{at}.identifier",
            issue="duplicate",
        ) from error
    return f"o{stored.id}"


def _update_observation(writer: Writer, id: str, resource: Resource, at: str) -> None:
    if not id.startswith("o"):
        raise FhirError(405, "was made here; reviewing changes it, writing does not")
    _check_quantity(resource, at)
    row = writer.subject(resource, at)
    stored = fhir_resources.get(writer.connection, "Observation", int(id[1:]))
    if patients.survivor(writer.connection, stored.patient_row) != patients.survivor(
        writer.connection, row
    ):
        raise FhirError(422, "is another patient than before", expression=f"{at}.subject")
    fhir_resources.replace(
        writer.connection, stored, body=_body(resource), actor=writer.actor, now=writer.now
    )


def _body(resource: Resource) -> Resource:
    return {name: value for name, value in resource.items() if name != "id"}


def _check_quantity(resource: Resource, at: str) -> None:
    """Refuse a number that cannot be compared: not finite, with a sign, or in a wrong unit."""
    where = f"{at}.valueQuantity"
    said = resource.get("valueQuantity")
    if said is None:
        raise FhirError(422, "is missing: only measured numbers are taken", expression=where)
    value = said.get("value")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise FhirError(422, "is no finite number", expression=f"{where}.value")
    if abs(value) > MAX_VALUE:
        raise FhirError(422, f"is beyond {MAX_VALUE:.0e}", expression=f"{where}.value")
    if "comparator" in said:
        raise FhirError(
            422, "is not taken: less than a number is no number", expression=f"{where}.comparator"
        )
    if said.get("system") != UCUM:
        raise FhirError(422, f"is not {UCUM}", expression=f"{where}.system")
    codes = resource.get("code", {}).get("coding", [])
    loinc = next((one.get("code", "") for one in codes if one.get("system") == LOINC), "")
    problem = unit_problem(loinc, str(said.get("code", "")))
    if problem:
        raise FhirError(422, problem, expression=f"{where}.code")


def _create_order(writer: Writer, resource: Resource, at: str) -> str:
    draft = _draft(writer, resource, at)
    if orders.find(writer.connection, draft.placer_number, draft.placer_authority) is not None:
        raise FhirError(409, "is that of an order that is known", expression=f"{at}.identifier")
    return f"s{_put_order(writer, draft, writer.subject(resource, at), at)}"


def _update_order(writer: Writer, id: str, resource: Resource, at: str) -> None:
    draft = _draft(writer, resource, at)
    known = orders.get(writer.connection, int(id[1:]))
    if (known.placer_number, known.placer_authority) != (
        draft.placer_number,
        draft.placer_authority,
    ):
        raise FhirError(422, "is not the order's", expression=f"{at}.identifier")
    _put_order(writer, draft, writer.subject(resource, at), at)


def _put_order(writer: Writer, draft: OrderDraft, row: int, at: str) -> int:
    try:
        stored = orders.put(writer.connection, draft, patient_row=row, now=writer.now)
    except PatientConflictError as error:
        raise FhirError(409, error.problem, expression=f"{at}.subject") from error
    apply_order(writer.connection, stored, now=writer.now)
    return stored.id


def _draft(writer: Writer, resource: Resource, at: str) -> OrderDraft:
    kinds: dict[str, Mapping[str, Any]] = {}
    for one in resource.get("identifier", ()):
        codes = one.get("type", {}).get("coding", [])
        kind = next((c.get("code") for c in codes if c.get("system") == IDENTIFIER_TYPE), "PLAC")
        kinds.setdefault(str(kind), one)
    placer = kinds.get("PLAC")
    if placer is None or not placer.get("value"):
        raise FhirError(422, "holds no placer's number (type PLAC)", expression=f"{at}.identifier")
    status = str(resource["status"])
    if status not in set(OrderStatus):
        raise FhirError(422, f"is none of {', '.join(OrderStatus)}", expression=f"{at}.status")
    if resource.get("intent") != "order":
        raise FhirError(422, "only orders are taken", expression=f"{at}.intent")
    code = resource.get("code", {})
    first = (code.get("coding") or [{}])[0]
    accession = str(kinds.get("ACSN", {}).get("value", ""))
    if len(accession) > 64 or len(str(placer["value"])) > 256:
        raise FhirError(422, "holds a number that is too long", expression=f"{at}.identifier")
    return OrderDraft(
        placer_number=str(placer["value"]),
        placer_authority=str(placer.get("system", "")),
        filler_number=str(kinds.get("FILL", {}).get("value", "")),
        accession_number=accession,
        priority=PRIORITY_OF[str(resource.get("priority", "routine"))],
        status=OrderStatus(status),
        code=str(first.get("code", "")),
        code_system=str(first.get("system", "")),
        code_text=str(code.get("text") or first.get("display", "")),
        reason="; ".join(
            str(one["text"]) for one in resource.get("reasonCode", ()) if "text" in one
        ),
        requester=str(resource.get("requester", {}).get("display", "")),
    )


def _find_patient(writer: Writer, system: str, value: str) -> str | None:
    identifier = PatientIdentifier(value=value, authority=writer.authorities.of_system(system))
    row = patients.find(writer.connection, identifier)
    return None if row is None else f"p{row}"


def _find_observation(writer: Writer, system: str, value: str) -> str | None:
    stored = fhir_resources.by_identifier(writer.connection, "Observation", system, value)
    return None if stored is None else f"o{stored.id}"


def _find_order(writer: Writer, system: str, value: str) -> str | None:
    order = orders.find(writer.connection, value, system)
    return None if order is None else f"s{order.id}"


_CREATE: Mapping[str, Callable[[Writer, Resource, str], str]] = MappingProxyType(
    {
        "Patient": _create_patient,
        "ServiceRequest": _create_order,
        "Observation": _create_observation,
    }
)
_UPDATE: Mapping[str, Callable[[Writer, str, Resource, str], None]] = MappingProxyType(
    {
        "Patient": _update_patient,
        "ServiceRequest": _update_order,
        "Observation": _update_observation,
    }
)
_FIND: Mapping[str, Callable[[Writer, str, str], str | None]] = MappingProxyType(
    {"Patient": _find_patient, "ServiceRequest": _find_order, "Observation": _find_observation}
)
WRITABLE = tuple(_CREATE)
"""Types that others may create and update."""
