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
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inference.api.errors import ApiError, problem_response
from inference.api.gate import WEBSOCKET, Match, RouteGate
from inference.api.keys import ApiKeys, AttemptLimiter
from inference.api.oidc import OidcClient
from inference.api.sessions import Sessions
from inference.api.signing_in import SigningIn
from inference.api.trail import NO_PATIENT_DATA, AccessNote, AccessTrail, TrailError
from inference.domain.roles import CONFINED_ROLES, STAFF, Role

SESSION_COOKIE = "clinfer_session"
SIGN_IN_PATH = "/sign-in"
PASSWORD_PATH = "/account/password"  # noqa: S105 - an address
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
    is_person : a person signed in, not a key
    must_change_password : nothing else is open until the person has
    """

    name: str
    via: Literal["key", "session", "loopback"]
    roles: frozenset[Role] = frozenset()
    acting: frozenset[Role] = frozenset()
    compartment: frozenset[PatientKey] = frozenset()
    is_person: bool = False
    must_change_password: bool = False

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
    signing_in: SigningIn
    trail: AccessTrail
    oidc: OidcClient | None = None


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
            recorded = _Recorded(self._access.trail, scope, match, self._refused(scope), send)
            await _refuse(error, scope, receive, recorded.send)
            return
        if identity is None and not match.is_open:
            await _to_sign_in(scope, receive, send)
            return
        state["identity"] = identity
        if identity is None or match.key is None or match.is_open:
            await self._app(scope, receive, send)
            return
        recorded = _Recorded(self._access.trail, scope, match, identity, send)
        await self._app(scope, receive, recorded.send)

    def _refused(self, scope: Scope) -> Identity | None:
        """Return who was refused, as far as that is known."""
        found = scope["state"].get("refused")
        return found if isinstance(found, Identity) else None

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
        if identity.must_change_password and match.key[1] != PASSWORD_PATH:
            raise ApiError("forbidden", f"choose your own password first, at {PASSWORD_PATH}")
        acting = self._gate.acting(match.key, identity.roles)
        if not acting:
            connection.scope["state"]["refused"] = identity
            raise ApiError("forbidden", "none of your roles opens this address")
        return replace(identity, acting=acting)

    def _identify(self, connection: HTTPConnection, presented: str | None) -> Identity | None:
        if presented is not None:
            return self._of_key(self._access.keys.name_of(presented), "key")
        token = connection.cookies.get(SESSION_COOKIE)
        holder = self._access.sessions.holder_of(token) if token else None
        if holder is None:
            return None
        if holder.person is None:
            return self._of_key(holder.key_name, "session")
        return Identity(
            name=holder.person.name,
            via="session",
            roles=holder.person.roles,
            compartment=holder.person.compartment,
            is_person=True,
            must_change_password=holder.person.must_change_password,
        )

    def _of_key(self, name: str | None, via: Literal["key", "session"]) -> Identity | None:
        roles = self._access.keys.roles_of(name) if name else None
        if name is None or roles is None:
            return None
        return Identity(name=name, via=via, roles=roles)


class _Recorded:
    """Holds an answer back until the access is on record; 503 where it cannot be."""

    def __init__(
        self,
        trail: AccessTrail,
        scope: Scope,
        match: Match,
        identity: Identity | None,
        send: Send,
    ) -> None:
        self._trail, self._scope, self._match = trail, scope, match
        self._identity, self._send = identity, send
        self._is_replaced = False

    async def send(self, message: Message) -> None:
        """Pass a message of the answer on."""
        if self._is_replaced:
            return
        kind = message["type"]
        if kind in {"http.response.start", "websocket.accept", "websocket.close"}:
            note = self._note(message.get("status", 101 if kind == "websocket.accept" else 403))
            try:
                if note is not None:
                    await self._trail.note(note)
            except TrailError as error:
                self._is_replaced = True
                refusal = ApiError(error.code, "the access could not be written down; try again")
                await _refuse(refusal, self._scope, _nothing, self._send)
                return
        await self._send(message)

    def _note(self, status: int) -> AccessNote | None:
        match = self._match
        method, template = match.key or (self._scope.get("method", WEBSOCKET), "unknown")
        is_refusal = status in {401, 403}
        if template in NO_PATIENT_DATA and not is_refusal:
            return None
        if template == "unknown" and not is_refusal:
            return None
        client = self._scope.get("client")
        identity = self._identity
        roles = (identity.acting or identity.roles) if identity else frozenset()
        return AccessNote(
            actor=f"http:{identity.name if identity else ''}",
            roles=tuple(sorted(roles)),
            method=method,
            template=template,
            params=match.params,
            query=self._scope["query_string"].decode("latin-1"),
            status=status,
            address=client[0] if client else "",
        )


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


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
