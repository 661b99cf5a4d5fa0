"""Who may ask: keys in headers, sessions in cookies, nothing at all on loopback.

Everything that is not named open needs an identity, unknown addresses included.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from inference.api.errors import problem_response
from inference.api.keys import ApiKeys, AttemptLimiter, Sessions

SESSION_COOKIE = "clinfer_session"
SIGN_IN_PATH = "/sign-in"
OPEN_PATHS = frozenset({"/healthz", "/readyz", SIGN_IN_PATH})
OPEN_PREFIX = "/static/"
_PAGE_PATHS = re.compile(r"/|/studies/.*|/models.*|/conformance|/fragments/.*")


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who asks, and by what right; the name goes to the audit trail."""

    name: str
    via: Literal["key", "session", "loopback"]

    @property
    def sees_patient_names(self) -> bool:
        """Names are shown only to somebody who showed a key."""
        return self.via != "loopback"


@dataclass(frozen=True, kw_only=True)
class Access:
    """What decides about a request; ``is_on`` False lets everybody in (loopback only)."""

    is_on: bool
    keys: ApiKeys
    sessions: Sessions
    limiter: AttemptLimiter


class AccessGuard:
    """ASGI middleware that gives each request an identity or refuses it."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer 401, 429, or with the way to the key form."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        if not self._access.is_on:
            state["identity"] = Identity(name="loopback", via="loopback")
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        request = Request(scope)
        address = request.client.host if request.client else ""
        wait_s = self._access.limiter.wait_s(address)
        presented = presented_key(request)
        if presented is not None and wait_s > 0:
            state["problem_code"] = "too_many_attempts"
            answer = problem_response(
                "too_many_attempts",
                f"try again in {wait_s:.0f} s",
                request_id=state.get("request_id", ""),
                headers={"Retry-After": str(int(wait_s) + 1)},
            )
            await answer(scope, receive, send)
            return
        identity = self._identify(request, presented)
        if identity is not None:
            state["identity"] = identity
        elif presented is not None:
            self._access.limiter.failed(address)
        if identity is not None or path in OPEN_PATHS or path.startswith(OPEN_PREFIX):
            await self._app(scope, receive, send)
            return
        if scope["method"] == "GET" and _PAGE_PATHS.fullmatch(path) and presented is None:
            target = f"{SIGN_IN_PATH}?next={quote(path)}"
            await RedirectResponse(target, 303)(scope, receive, send)
            return
        state["problem_code"] = "unauthenticated"
        answer = problem_response(
            "unauthenticated",
            "send the key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'",
            request_id=state.get("request_id", ""),
            headers={"WWW-Authenticate": 'Bearer realm="clinfer"'},
        )
        await answer(scope, receive, send)

    def _identify(self, request: Request, presented: str | None) -> Identity | None:
        if presented is not None:
            name = self._access.keys.name_of(presented)
            return Identity(name=name, via="key") if name else None
        token = request.cookies.get(SESSION_COOKIE)
        name = self._access.sessions.name_of(token) if token else None
        return Identity(name=name, via="session") if name else None


def presented_key(request: Request) -> str | None:
    """Return the key in the request's headers; "" is a key too, a wrong one."""
    header = request.headers.get("x-api-key")
    if header is not None:
        return header.strip()
    authorization = request.headers.get("authorization")
    if authorization is None:
        return None
    scheme, _, value = authorization.partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


def identity_of(request: Request) -> Identity | None:
    """Return the identity that the guard found."""
    found = request.scope.get("state", {}).get("identity")
    return found if isinstance(found, Identity) else None
