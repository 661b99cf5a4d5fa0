"""The FHIR API in this process, asked by somebody who showed a key."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import FastAPI
from fhir.resources.R4B import get_fhir_model_class
from starlette.types import ASGIApp, Receive, Scope, Send

from inference.api.access import Identity
from inference.domain.patient import Authorities
from inference.gateways.fhir.routes import FhirApi
from inference.storage.database import Database

TYPE = "application/fhir+json"


class _Known:
    """Gives every request an identity."""

    def __init__(self, app: ASGIApp, identity: Identity) -> None:
        self._app, self._identity = app, identity

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["identity"] = self._identity
        await self._app(scope, receive, send)


@dataclass
class InProcess:
    """A client without a socket; may be used by several threads."""

    app: ASGIApp

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://clinfer.test"
            ) as client:
                return await client.request(method, path, **more)

        return asyncio.run(ask())

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.request("GET", path, **more)

    def post(self, path: str, **more: Any) -> httpx.Response:
        return self.request("POST", path, **more)

    def put(self, path: str, **more: Any) -> httpx.Response:
        return self.request("PUT", path, **more)


@dataclass
class FhirClient:
    """Requests and the checks that every answer must pass."""

    http: InProcess

    def get(self, path: str, status: int = 200, **headers: str) -> Any:
        answer = self.http.get(f"/fhir{path}", headers=_headers(headers))
        return _checked(answer, status)

    def post(self, path: str, body: Any, status: int = 201, **headers: str) -> Any:
        answer = self.http.post(
            f"/fhir{path}", headers={"Content-Type": TYPE} | _headers(headers), **_content(body)
        )
        return _checked(answer, status)

    def put(self, path: str, body: Any, status: int = 200, **headers: str) -> Any:
        answer = self.http.put(
            f"/fhir{path}", headers={"Content-Type": TYPE} | _headers(headers), **_content(body)
        )
        return _checked(answer, status)

    def ids(self, path: str) -> list[str]:
        """Ids of the matches of a search."""
        bundle = self.get(path)
        return [
            entry["resource"]["id"]
            for entry in bundle.get("entry", ())
            if entry["search"]["mode"] == "match"
        ]


def fhir_client(
    database: Database,
    *,
    authorities: Authorities | None = None,
    imaging_selection: bool = False,
    via: Any = "key",
) -> FhirClient:
    app = FastAPI()
    api = FhirApi(database, authorities or Authorities(), imaging_selection=imaging_selection)
    app.include_router(api.router())
    app.add_middleware(_Known, identity=Identity(name="ris", via=via))
    return FhirClient(http=InProcess(app=app))


def _headers(named: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in named.items()}


def _content(body: Any) -> dict[str, Any]:
    return {"content": body} if isinstance(body, bytes) else {"json": body}


def _checked(answer: httpx.Response, status: int) -> Any:
    assert answer.status_code == status, (answer.status_code, answer.text[:500])
    if status == 304:
        return None
    assert answer.headers["content-type"].startswith(TYPE)
    body = answer.json()
    if status >= 400:
        assert body["resourceType"] == "OperationOutcome"
    get_fhir_model_class(body["resourceType"]).model_validate(body)
    return body
