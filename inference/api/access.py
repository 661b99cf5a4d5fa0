"""Who may ask: people with sessions, systems with keys, nobody in particular on loopback.

Everything that is not named open needs an identity, unknown addresses included, and every route
needs one of the roles that its module names for it (`inference.api.gate`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from inference.api.errors import ApiError, problem_response
from inference.api.gate import WEBSOCKET, Match, RouteGate
from inference.api.keys import ApiKeys, AttemptLimiter, Sessions
from inference.domain.roles import CONFINED_ROLES, STAFF, Role

SESSION_COOKIE = "clinfer_session"
SIGN_IN_PATH = "/sign-in"
POLICY_VIOLATION = 1008
"""Close code of RFC 6455 for a WebSocket that is refused."""

PatientKey = tuple[str, str]
"""(patient identifier, assigning authority): equal numbers of two authorities are two people."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who asks, and by what right; the name goes to the audit trail.

    Attributes
    ----------
    roles : every role of the person or key
    acting : those by which the present route was opened; never empty inside a route that needs one
    compartment : the patients that a patient or a caregiver may see
    """

    name: str
    via: Literal["key", "session", "loopback"]
    roles: frozenset[Role] = frozenset()
    acting: frozenset[Role] = frozenset()
    compartment: frozenset[PatientKey] = frozenset()

    @property
    def sees_patient_names(self) -> bool:
        """Names are shown only to somebody who showed a key or signed in."""
        return self.via != "loopback"

    @property
    def is_confined(self) -> bool:
        """Whether only a patient's or a caregiver's role opened the route."""
        return not self.acting - CONFINED_ROLES

    def sees_patient(self, identifier: str, assigning_authority: str) -> bool:
        """Whether this patient's data may be shown on the present route."""
        return not self.is_confined or (identifier, assigning_authority) in self.compartment

    def require_patient(self, identifier: str, assigning_authority: str) -> None:
        """Refuse a patient outside the compartment, as if there were no such thing.

        Raises
        ------
        ApiError
        """
        if not self.sees_patient(identifier, assigning_authority):
            raise ApiError("not_found", "there is no such thing, or it is not yours to see")


LOOPBACK = Identity(name="loopback", via="loopback", roles=STAFF)
"""Who asks where nobody is asked who they are."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """What decides about a request; ``is_on`` False lets everybody in (loopback only)."""

    is_on: bool
    keys: ApiKeys
    sessions: Sessions
    limiter: AttemptLimiter


class AccessGuard:
    """ASGI middleware that gives each request an identity or refuses it."""

    def __init__(self, app: ASGIApp, access: Access, gate: RouteGate) -> None:
        self._app, self._access, self._gate = app, access, gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer 401, 403, 405, 429, or with the way to the form."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        method = WEBSOCKET if scope["type"] == "websocket" else scope["method"]
        match = self._gate.match(method, scope["path"])
        state = scope.setdefault("state", {})
        try:
            identity = await self._admit(HTTPConnection(scope), match)
        except ApiError as error:
            await _refuse(error, scope, receive, send)
            return
        if identity is None and not match.is_open:
            await _to_sign_in(scope, receive, send)
            return
        state["identity"] = identity
        await self._app(scope, receive, send)

    async def _admit(self, connection: HTTPConnection, match: Match) -> Identity | None:
        """Return who asks; None: a stranger, at an open route or at a page.

        Raises
        ------
        ApiError
        """
        access = self._access
        identity: Identity | None = LOOPBACK
        presented = None
        if access.is_on:
            presented = presented_key(connection)
            address = connection.client.host if connection.client else ""
            wait_s = access.limiter.wait_s(address)
            if presented is not None and wait_s > 0:
                raise too_many_attempts(wait_s)
            identity = await run_in_threadpool(self._identify, connection, presented)
            if identity is None and presented is not None:
                access.limiter.failed(address)
        if match.key is None and match.other_methods:
            raise ApiError(
                "method_not_allowed",
                "this address does not take that method",
                headers={"Allow": ", ".join(sorted(match.other_methods))},
            )
        if match.is_open:
            return identity
        if identity is None:
            if match.is_page and presented is None and match.key and match.key[0] == "GET":
                return None
            raise ApiError(
                "unauthenticated",
                "send the key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'",
                headers={"WWW-Authenticate": 'Bearer realm="clinfer"'},
            )
        if match.key is None:  # the router says that there is nothing
            return identity
        acting = self._gate.acting(match.key, identity.roles)
        if not acting:
            raise ApiError("forbidden", "none of your roles opens this address")
        return replace(identity, acting=acting)

    def _identify(self, connection: HTTPConnection, presented: str | None) -> Identity | None:
        if presented is not None:
            return self._of_key(self._access.keys.name_of(presented), "key")
        token = connection.cookies.get(SESSION_COOKIE)
        return self._of_key(self._access.sessions.name_of(token) if token else None, "session")

    def _of_key(self, name: str | None, via: Literal["key", "session"]) -> Identity | None:
        roles = self._access.keys.roles_of(name) if name else None
        if name is None or roles is None:
            return None
        return Identity(name=name, via=via, roles=roles)


def too_many_attempts(wait_s: float) -> ApiError:
    """Return the refusal of an address or account that has to wait."""
    return ApiError(
        "too_many_attempts",
        f"try again in {wait_s:.0f} s",
        headers={"Retry-After": str(int(wait_s) + 1)},
    )


async def _refuse(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    scope["state"]["problem_code"] = error.problem_code
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": POLICY_VIOLATION})
        return
    answer = problem_response(
        error.problem_code,
        error.detail,
        request_id=scope["state"].get("request_id", ""),
        headers=error.headers,
    )
    await answer(scope, receive, send)


async def _to_sign_in(scope: Scope, receive: Receive, send: Send) -> None:
    query = scope["query_string"].decode("latin-1")
    target = scope["path"] + (f"?{query}" if query else "")
    answer = RedirectResponse(f"{SIGN_IN_PATH}?next={quote(target)}", 303)
    await answer(scope, receive, send)


def presented_key(connection: HTTPConnection) -> str | None:
    """Return the key in the request's headers; "" is a key too, a wrong one."""
    header = connection.headers.get("x-api-key")
    if header is not None:
        return header.strip()
    authorization = connection.headers.get("authorization")
    if authorization is None:
        return None
    scheme, _, value = authorization.partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


def identity_of(connection: HTTPConnection) -> Identity | None:
    """Return the identity that the guard found."""
    found = connection.scope.get("state", {}).get("identity")
    return found if isinstance(found, Identity) else None
