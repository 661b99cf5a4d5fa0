"""The FHIR API under ``/fhir``: read, search, create, update, transaction, metadata."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from inference.domain.patient import Authorities
from inference.domain.roles import Permissions, Role
from inference.gateways.fhir.capability import FORMATS, MEDIA_TYPE, capability_statement
from inference.gateways.fhir.holdings import HOLDINGS
from inference.gateways.fhir.outcome import FhirError, operation_outcome
from inference.gateways.fhir.reading import read_json
from inference.gateways.fhir.search import bundle_of, read_query, run_query
from inference.gateways.fhir.write import WRITABLE, Writer, transaction
from inference.storage import audit
from inference.storage.database import Database
from inference.storage.errors import StorageError, StorageFullError
from inference.telemetry import get_logger

log = get_logger(__name__)
Resource = dict[str, Any]

READERS = frozenset(
    {Role.READER, Role.REVIEWER, Role.SURGEON, Role.CLINICIAN, Role.ADMIN, Role.INTEGRATION}
)
PERMISSIONS: Permissions = {
    ("GET", "/fhir/metadata"): frozenset(Role),
    ("GET", "/fhir/{type}"): READERS,
    ("GET", "/fhir/{type}/{id}"): READERS,
    ("POST", "/fhir"): frozenset({Role.INTEGRATION}),
    ("POST", "/fhir/{type}"): frozenset({Role.INTEGRATION}),
    ("PUT", "/fhir/{type}/{id}"): frozenset({Role.INTEGRATION}),
}


class FhirApi:
    """Answers requests; every error is an OperationOutcome."""

    def __init__(
        self, database: Database, authorities: Authorities, *, imaging_selection: bool = False
    ) -> None:
        self._database = database
        self._authorities = authorities
        self.types = tuple(type for type in HOLDINGS if type != "Basic" or imaging_selection)
        """Types that are served; Basic (ImagingSelection of R5) only where it was asked for."""

        self._started_at = datetime.now(UTC)

    def router(self) -> APIRouter:
        """Return the addresses."""
        router = APIRouter(prefix="/fhir", tags=["fhir"])

        def add(path: str, method: str, endpoint: Callable[..., Any], summary: str) -> None:
            router.add_api_route(
                path,
                endpoint,
                methods=[method],
                summary=summary,
                response_class=Response,
                responses={200: {"content": {MEDIA_TYPE: {}}}},
            )

        def metadata(request: Request) -> Response:
            """Return the CapabilityStatement."""
            return _answered(request, lambda: self._metadata(request))

        def search(request: Request, type: str) -> Response:
            """Search one type."""
            return _answered(request, lambda: self._search(request, type))

        def read(request: Request, type: str, id: str) -> Response:
            """Read one resource."""
            return _answered(request, lambda: self._read(request, type, id))

        async def create(request: Request, type: str) -> Response:
            """Create a resource."""
            body = await request.body()
            return await asyncio.to_thread(
                _answered, request, lambda: self._create(request, type, body)
            )

        async def update(request: Request, type: str, id: str) -> Response:
            """Update a resource."""
            body = await request.body()
            return await asyncio.to_thread(
                _answered, request, lambda: self._update(request, type, id, body)
            )

        async def take_bundle(request: Request) -> Response:
            """Take a transaction."""
            body = await request.body()
            return await asyncio.to_thread(
                _answered, request, lambda: self._transaction(request, body)
            )

        add("/metadata", "GET", metadata, "What this FHIR server does (CapabilityStatement)")
        add("/{type}", "GET", search, "Search resources of a type")
        add("/{type}/{id}", "GET", read, "Read a resource")
        add("/{type}", "POST", create, "Create a resource (If-None-Exist)")
        add("/{type}/{id}", "PUT", update, "Update a resource (If-Match)")
        add("", "POST", take_bundle, "Take a transaction Bundle")
        return router

    def _metadata(self, request: Request) -> Response:
        return _json(capability_statement(self.types, _base(request), started_at=self._started_at))

    def _search(self, request: Request, type: str) -> Response:
        self._check_type(type)
        parameters = request.query_params.multi_items()
        lenient = "handling=lenient" in request.headers.get("prefer", "")
        with self._database.read() as connection:
            query = read_query(connection, type, parameters, self._authorities, is_lenient=lenient)
            page = run_query(connection, query)
            bundle = bundle_of(page, query, _base(request))
        self._note_reading(request, type, len(page.matches))
        if not _is_named(request):
            for entry in bundle.get("entry", ()):
                entry["resource"] = masked(entry["resource"])
        return _json(bundle)

    def _read(self, request: Request, type: str, id: str) -> Response:
        self._check_type(type)
        with self._database.read() as connection:
            found = HOLDINGS[type].read(connection, id)
        if found is None:
            raise FhirError(404, f"there is no {type}/{id[:64]}")
        self._note_reading(request, f"{type}/{id}", 1)
        headers = _headers_of(found)
        if _is_unchanged(request, found):
            return Response(status_code=304, headers=headers)
        return _json(found if _is_named(request) else masked(found), headers=headers)

    def _create(self, request: Request, type: str, body: bytes) -> Response:
        self._check_writable(request, type)
        resource = read_json(body)
        with self._database.write() as connection:
            writer = self._writer(request, connection)
            done = writer.create(type, resource, if_none_exist=request.headers.get("if-none-exist"))
        self._database.notify()
        location = f"{_base(request)}/{type}/{done.resource['id']}"
        headers = _headers_of(done.resource) | {"Location": location}
        return _json(done.resource, done.status, headers=headers)

    def _update(self, request: Request, type: str, id: str, body: bytes) -> Response:
        self._check_writable(request, type)
        resource = read_json(body)
        with self._database.write() as connection:
            done = self._writer(request, connection).update(
                type, id, resource, if_match=request.headers.get("if-match")
            )
        self._database.notify()
        return _json(done.resource, headers=_headers_of(done.resource))

    def _transaction(self, request: Request, body: bytes) -> Response:
        _check_media_type(request)
        bundle = read_json(body)
        with self._database.write() as connection:
            answer = transaction(self._writer(request, connection), bundle)
        self._database.notify()
        return _json(answer)

    def _writer(self, request: Request, connection: Any) -> Writer:
        return Writer(
            connection=connection,
            authorities=self._authorities,
            actor=f"fhir:{_asker(request)}",
            now=self._database.now(connection),
        )

    def _check_type(self, type: str) -> None:
        if type not in self.types:
            raise FhirError(
                404, f"there are no resources of this type, only {', '.join(self.types)}"
            )

    def _check_writable(self, request: Request, type: str) -> None:
        self._check_type(type)
        if type not in WRITABLE:
            raise FhirError(405, f"only {', '.join(WRITABLE)} can be written")
        _check_media_type(request)

    def _note_reading(self, request: Request, subject: str, n: int) -> None:
        """Write down who read what, where it is known who that is."""
        if not _is_named(request):
            return
        with self._database.write() as connection:
            audit.append(
                connection,
                at=self._database.now(connection),
                actor=f"fhir:{_asker(request)}",
                action="fhir.read",
                subject=subject,
                detail={"n": n},
            )


def masked(resource: Resource) -> Resource:
    """Take off what tells who a patient is, for somebody who showed no key."""
    secret = {"Patient": ("identifier", "name", "birthDate")}.get(resource["resourceType"], ())
    shown = {name: value for name, value in resource.items() if name not in secret}
    if "identifier" in shown:
        shown["identifier"] = [one for one in shown["identifier"] if "type" not in one]
        if not shown["identifier"]:
            del shown["identifier"]
    if shown != resource:
        label = {
            "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
            "code": "MASKED",
        }
        shown["meta"] = {**resource["meta"], "security": [label]}
    return shown


def _answered(request: Request, answer: Callable[[], Response]) -> Response:
    try:
        _check_accept(request)
        return answer()
    except FhirError as error:
        request.scope.get("state", {})["problem_code"] = error.code
        return _json(operation_outcome(error), error.status)
    except StorageError as error:
        status = 507 if isinstance(error, StorageFullError) else 503
        log.error("FHIR request failed", reason=str(error))
        return _json(operation_outcome(FhirError(status, "the storage is busy; try again")), status)
    except Exception:  # a FHIR client is owed an OperationOutcome, whatever went wrong
        log.exception("FHIR request failed")
        return _json(operation_outcome(FhirError(500, "a fault of the service")), 500)


def _json(resource: Resource, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    body = json.dumps(resource, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(body, status, headers, media_type=f"{MEDIA_TYPE}; charset=utf-8")


def _headers_of(resource: Resource) -> dict[str, str]:
    meta = resource["meta"]
    changed = datetime.fromisoformat(meta["lastUpdated"]).astimezone(UTC)
    return {
        "ETag": f'W/"{meta["versionId"]}"',
        "Last-Modified": format_datetime(changed, usegmt=True),
    }


def _is_unchanged(request: Request, resource: Resource) -> bool:
    seen = request.headers.get("if-none-match")
    if seen is not None:
        version = resource["meta"]["versionId"]
        return any(one.strip() in (f'W/"{version}"', f'"{version}"') for one in seen.split(","))
    since = request.headers.get("if-modified-since")
    if since is None:
        return False
    try:
        moment = parsedate_to_datetime(since)
    except ValueError:
        return False  # RFC 9110: a date that is none is ignored
    changed = datetime.fromisoformat(resource["meta"]["lastUpdated"])
    return changed.replace(microsecond=0) <= moment.replace(tzinfo=moment.tzinfo or UTC)


def _check_accept(request: Request) -> None:
    asked = request.query_params.get("_format")
    if asked is not None and asked not in FORMATS:
        raise FhirError(406, f"only {MEDIA_TYPE} is written", expression="_format")
    taken = {*FORMATS, "*/*", "application/*", ""}
    offered = {
        one.partition(";")[0].strip() for one in request.headers.get("accept", "").split(",")
    }
    if asked is None and not offered & taken:
        raise FhirError(406, f"only {MEDIA_TYPE} is written", expression="Accept")


def _check_media_type(request: Request) -> None:
    said = request.headers.get("content-type", "").partition(";")[0].strip()
    if said not in FORMATS:
        raise FhirError(415, f"send {MEDIA_TYPE}", expression="Content-Type")


def _base(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}/fhir"


def _identity(request: Request) -> Any:
    return request.scope.get("state", {}).get("identity")


def _asker(request: Request) -> str:
    return str(getattr(_identity(request), "name", ""))


def _is_named(request: Request) -> bool:
    """Whether the asker showed who they are; without that, nobody's name is told."""
    return bool(getattr(_identity(request), "sees_patient_names", False))
