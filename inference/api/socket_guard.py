"""What stands before every WebSocket: the same hosts, origins and keys as before a request.

A browser sends cookies with a WebSocket to any site, so a session counts only from our own pages.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from inference.api.access import SESSION_COOKIE, Access, Identity
from inference.api.guards import host_name
from inference.telemetry import get_logger

POLICY_VIOLATION = 1008
log = get_logger(__name__)


class SocketGuard:
    """ASGI middleware that closes a WebSocket before it opens, or gives it an identity."""

    def __init__(self, app: ASGIApp, access: Access, allowed_hosts: frozenset[str]) -> None:
        self._app, self._access, self._allowed = app, access, allowed_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a WebSocket through, or close it."""
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        identity = None if self._is_foreign(Headers(scope=scope)) else self._identify(scope)
        if identity is None:
            log.info("websocket refused", path=scope["path"])
            await receive()
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
            return
        scope.setdefault("state", {})["identity"] = identity
        await self._app(scope, receive, send)

    def _is_foreign(self, headers: Headers) -> bool:
        host = headers.get("host", "").lower()
        if self._allowed and host_name(host) not in self._allowed:
            return True
        origin = headers.get("origin")
        return origin is not None and origin.lower().partition("://")[2] != host

    def _identify(self, scope: Scope) -> Identity | None:
        if not self._access.is_on:
            return Identity(name="loopback", via="loopback")
        connection = HTTPConnection(scope)
        address = connection.client.host if connection.client else ""
        if self._access.limiter.wait_s(address) > 0:
            return None
        scheme, _, value = connection.headers.get("authorization", "").partition(" ")
        key = connection.headers.get("x-api-key", value if scheme.lower() == "bearer" else "")
        if key:
            name = self._access.keys.name_of(key.strip())
            if name is None:
                self._access.limiter.failed(address)
            return Identity(name=name, via="key") if name else None
        token = connection.cookies.get(SESSION_COOKIE)
        name = self._access.sessions.name_of(token) if token else None
        has_origin = "origin" in connection.headers
        return Identity(name=name, via="session") if name and has_origin else None
