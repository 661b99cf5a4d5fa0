"""What stands before every request, outermost first: observation, origin, body size.

Plain ASGI, so that a body is never read further than allowed and a stream is never buffered.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from dataclasses import dataclass

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inference.api.errors import ApiError, problem_response
from inference.telemetry import Metrics, get_logger

BODY_TIMEOUT_S = 30.0
"""Longest wait for the next piece of a body."""

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:;"
        " connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none';"
        " frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not "no-referrer": under it browsers send "Origin: null" with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
MAX_HEAD_BYTES = 32 * 1024
MAX_HEADERS = 100
"""Largest request head; the parser's own limit holds only for heads that come in pieces."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
log = get_logger(__name__)


class Observation:
    """Gives each request an id, security headers, one log line, metrics; turns faults into 500."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Observe one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        began_s = time.monotonic()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_headers)
            except Exception:  # the process boundary: a fault is logged and answered
                log.exception("fault while answering", path=scope["path"])
                state["problem_code"] = "internal"
                if status == 0:
                    answer = problem_response(
                        "internal", "the log has more under this request id", request_id=request_id
                    )
                    await answer(scope, receive, send_with_headers)
            finally:
                self._note(scope, status, time.monotonic() - began_s)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unknown")
        state = scope["state"]
        self._metrics.http_requests.labels(scope["method"][:8], route, status).inc()
        self._metrics.http_seconds.labels(route).observe(seconds)
        if "problem_code" in state:
            self._metrics.rejections.labels("http", state["problem_code"]).inc()
        identity = state.get("identity")
        log.log(
            10 if status < 400 and scope["method"] == "GET" else 20,
            "request",
            method=scope["method"],
            path=scope["path"],
            status=status,
            ms=round(seconds * 1000, 1),
            by=identity.name if identity else None,
            code=state.get("problem_code"),
        )


class OriginGuard:
    """Answers only under our own names, and changes things only for our own pages.

    The first stops DNS rebinding (a foreign name that resolves to 127.0.0.1), the second
    cross-site requests, which on loopback come with no key to stop them.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: frozenset[str]) -> None:
        self._app, self._allowed = app, allowed_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse foreign hosts, cross-site changes, and cross-site WebSockets."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        # A WebSocket is no safe method: no rule of browsers keeps another site from reading it.
        method = scope.get("method", "WEBSOCKET")
        refusal = _too_large_head(scope) or self._refusal(method, headers)
        if refusal is None:
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        code, detail = refusal
        await _answer(ApiError(code, detail), scope, receive, send, is_open=False)

    def _refusal(self, method: str, headers: Headers) -> tuple[str, str] | None:
        host = headers.get("host", "").lower()
        if self._allowed and host_name(host) not in self._allowed:
            return "host_not_allowed", "use the address that the service was started with"
        if "transfer-encoding" in headers and "content-length" in headers:
            return "bad_request", "both Content-Length and Transfer-Encoding are given"
        if method in _SAFE_METHODS:
            return None
        origin = headers.get("origin")
        if origin is not None and origin.lower().partition("://")[2] != host:
            return "cross_origin", "the Origin header names another site"
        if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
            return "cross_origin", "the browser says that another site asks"
        if "clinfer_session" in headers.get("cookie", "") and origin is None:
            return "cross_origin", "a request with a session must name its origin"
        return None


def _too_large_head(scope: Scope) -> tuple[str, str] | None:
    headers = scope["headers"]
    n_bytes = len(scope.get("raw_path") or b"") + len(scope["query_string"])
    n_bytes += sum(len(name) + len(value) for name, value in headers)
    if n_bytes > MAX_HEAD_BYTES or len(headers) > MAX_HEADERS:
        return "head_too_large", f"at most {MAX_HEAD_BYTES} bytes and {MAX_HEADERS} headers"
    return None


def host_name(host: str) -> str:
    """Return a Host header without its port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


@dataclass(frozen=True, kw_only=True)
class BodyLimits:
    """Largest bodies, in bytes: of an upload, and of anything else."""

    upload_bytes: int
    other_bytes: int


class BodyGuard:
    """Stops a body at its limit, whatever its headers say, and one that stalls."""

    def __init__(
        self, app: ASGIApp, limits: BodyLimits, upload_paths: tuple[re.Pattern[str], ...]
    ) -> None:
        self._app, self._limits, self._upload_paths = app, limits, upload_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a guarded body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_upload = scope["method"] == "POST" and any(
            pattern.fullmatch(scope["path"]) for pattern in self._upload_paths
        )
        limit = self._limits.upload_bytes if is_upload else self._limits.other_bytes
        refusal = _header_refusal(Headers(scope=scope), limit)
        if refusal is not None:
            await _answer(refusal, scope, receive, send)
            return

        received = 0
        is_complete = False
        failure: ApiError | None = None
        has_answered = False

        async def guarded_receive() -> Message:
            nonlocal received, is_complete, failure
            try:
                async with asyncio.timeout(None if is_complete else BODY_TIMEOUT_S):
                    message = await receive()
            except TimeoutError:
                failure = ApiError("request_timeout", f"nothing for {BODY_TIMEOUT_S:.0f} s")
                raise failure from None
            if message["type"] != "http.request":
                return message
            received += len(message.get("body", b""))
            if received > limit:
                failure = ApiError("body_too_large", f"the limit here is {limit} bytes")
                raise failure
            is_complete = not message.get("more_body", False)
            return message

        async def guarded_send(message: Message) -> None:
            nonlocal has_answered
            if failure is None:
                has_answered = True
                await send(message)
            elif not has_answered:
                # Whatever the application made of the broken stream, this is the answer.
                has_answered = True
                await _answer(failure, scope, receive, send, is_open=False)

        await self._app(scope, guarded_receive, guarded_send)


def _header_refusal(headers: Headers, limit: int) -> ApiError | None:
    if headers.get("content-encoding", "identity").lower() != "identity":
        return ApiError("unsupported_media_type", "a Content-Encoding is not taken")
    length = headers.get("content-length")
    if length is None:
        return None
    if not length.isdecimal():
        return ApiError("bad_request", "Content-Length is not a number")
    if int(length) > limit:
        return ApiError("body_too_large", f"the limit here is {limit} bytes")
    return None


async def _answer(
    error: ApiError, scope: Scope, receive: Receive, send: Send, *, is_open: bool = True
) -> None:
    scope["state"]["problem_code"] = error.problem_code
    headers = {} if is_open else {"Connection": "close"}
    answer = problem_response(
        error.problem_code,
        error.detail,
        request_id=scope["state"]["request_id"],
        headers=headers,
    )
    await answer(scope, receive, send)
