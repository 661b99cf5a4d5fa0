"""From an error to an HTTP answer: ``application/problem+json`` (RFC 9457) with a stable ``code``.

The only place that knows status codes. A problem never carries a traceback, a path, SQL, or
anything of a patient; its ``request_id`` leads to the log line that may say more.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from dicom_io.errors import DicomIoError
from inference.domain import errors as domain
from inference.jobs.errors import IntakeError
from inference.telemetry import get_logger

MEDIA_TYPE = "application/problem+json"
log = get_logger(__name__)


@dataclass(frozen=True)
class Problem:
    """What a code means over HTTP."""

    status: int
    title: str


PROBLEMS: dict[str, Problem] = {
    "bad_request": Problem(400, "The request is malformed"),
    "invalid_request": Problem(422, "A field of the request has a wrong value"),
    "unauthenticated": Problem(401, "A valid API key is needed"),
    "too_many_attempts": Problem(429, "Too many wrong keys from this address"),
    "forbidden": Problem(403, "Your roles do not open this"),
    "cross_origin": Problem(403, "Requests from other sites are refused"),
    "host_not_allowed": Problem(421, "This service does not answer under that host name"),
    "not_found": Problem(404, "There is no such thing"),
    "method_not_allowed": Problem(405, "This address does not take that method"),
    "not_acceptable": Problem(406, "No offered media type is acceptable"),
    "request_timeout": Problem(408, "The body came too slowly"),
    "conflict": Problem(409, "The state of the thing does not allow this"),
    "body_too_large": Problem(413, "The body is larger than the limit"),
    "unsupported_media_type": Problem(415, "This media type or encoding is not taken here"),
    "no_instances": Problem(422, "The upload holds no DICOM instance that can be taken"),
    "multipart_refused": Problem(400, "The multipart body is malformed or passes a limit"),
    "not_drawable": Problem(422, "The series cannot be drawn"),
    "reading_refused": Problem(409, "The reading task does not allow this"),
    "workitem_refused": Problem(409, "The workitem does not allow this"),
    "workitem_request": Problem(400, "This is no request that the worklist understands"),
    "storage_full": Problem(507, "The disk has too little room"),
    "routing": Problem(422, "The routing rule does not hold"),
    "retention": Problem(422, "The retention rule does not hold"),
    "audit_chain": Problem(409, "The audit trail was changed"),
    "patient_mismatch": Problem(409, "The study is another patient's"),
    "person": Problem(422, "The person's name, roles or patients do not hold"),
    "password_rule": Problem(422, "This password is too easily guessed"),
    "oidc": Problem(401, "Signing in with the identity provider failed"),
    "oidc_unavailable": Problem(503, "The identity provider does not answer"),
    "already_decided": Problem(409, "Somebody else has decided about this result"),
    "shown_outdated": Problem(409, "What was shown is not what is stored"),
    "not_reviewable": Problem(409, "This result is not one to decide about"),
    "decision_field": Problem(422, "A field of the decision has a wrong value"),
    "not_requeueable": Problem(409, "This job cannot be started again"),
    "release": Problem(409, "The result or report does not allow this"),
    "head_too_large": Problem(431, "The address or the headers are too long"),
    "storage_unavailable": Problem(503, "The database is busy or away"),
    "service_unavailable": Problem(503, "A part that this needs is not ready"),
    "internal": Problem(500, "A fault of the service"),
}
"""Codes with a meaning of their own over HTTP; any other lower layer's error has its own ``code``,
and its class says the status (`problem_of`)."""

_STATUS_CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    413: "body_too_large",
    415: "unsupported_media_type",
    503: "service_unavailable",
}


class ApiError(domain.ClinferError):
    """A problem that the HTTP layer finds itself; ``code`` is one of `PROBLEMS`."""

    def __init__(
        self, code: str, detail: str, *, headers: dict[str, str] | None = None, **fields: Any
    ) -> None:
        self.problem_code, self.detail = code, detail
        self.headers, self.fields = headers or {}, fields
        super().__init__(detail)


def problem_response(
    code: str,
    detail: str,
    *,
    request_id: str,
    problem: Problem | None = None,
    headers: dict[str, str] | None = None,
    fields: dict[str, Any] | None = None,
) -> JSONResponse:
    """Return the answer for a problem; ``problem`` is needed for a lower layer's code."""
    meaning = problem or PROBLEMS[code]
    body = {
        "type": f"urn:clinfer:problem:{code}",
        "title": meaning.title,
        "status": meaning.status,
        "code": code,
        "detail": detail,
        "request_id": request_id,
        **(fields or {}),
    }
    return JSONResponse(body, meaning.status, media_type=MEDIA_TYPE, headers=headers)


def problem_of(error: Exception) -> tuple[str, Problem]:
    """Return the code and meaning of a named error of a lower layer."""
    code = getattr(error, "code", "")
    if code in PROBLEMS:
        return code, PROBLEMS[code]
    refusals = (DicomIoError, IntakeError, domain.RefusedError, domain.NoApplicableModelError)
    if isinstance(error, refusals):
        return error.code, Problem(422, "The input was refused")
    if isinstance(error, domain.BackendUnavailableError):
        return error.code, Problem(503, "The inference server is not there")
    if isinstance(error, domain.ClinferError):
        return error.code, Problem(500, "The service could not do this")
    return "internal", PROBLEMS["internal"]


def request_id_of(request: Request) -> str:
    """Return the id that the outermost guard gave the request."""
    return str(request.scope.get("state", {}).get("request_id", ""))


Draw = Callable[[Request, dict[str, Any]], Response]


def install(app: FastAPI, draw: Draw) -> None:
    """Answer every error of the application as a problem.

    ``draw`` shows a problem to a person: it is called where a browser asked for a page.
    """

    def answer(
        request: Request, code: str, detail: str, problem: Problem | None = None, **more: Any
    ) -> Response:
        request.scope.get("state", {})["problem_code"] = code
        response = problem_response(
            code, detail, request_id=request_id_of(request), problem=problem, **more
        )
        if not is_page_request(request):
            return response
        return draw(request, json.loads(bytes(response.body)))

    @app.exception_handler(ApiError)
    async def on_api_error(request: Request, error: ApiError) -> Response:
        return answer(
            request, error.problem_code, error.detail, headers=error.headers, fields=error.fields
        )

    @app.exception_handler(domain.ClinferError)
    @app.exception_handler(DicomIoError)
    async def on_named_error(request: Request, error: Exception) -> Response:
        code, problem = problem_of(error)
        detail = str(error)
        if problem.status >= 500:
            log.error("request failed", code=code, error=detail)
            detail = problem.title
        return answer(request, code, detail, problem)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> Response:
        found = error.errors()
        if any(item["loc"] and item["loc"][0] == "path" for item in found):
            # An address with an impossible identifier is the address of nothing.
            return answer(request, "not_found", "no such address")
        fields = [
            {"field": ".".join(str(part) for part in item["loc"][1:]), "problem": item["msg"]}
            for item in found
        ]
        detail = "; ".join(f"{item['field']}: {item['problem']}" for item in fields)
        return answer(request, "invalid_request", detail, fields={"errors": fields})

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> Response:
        code = _STATUS_CODES.get(error.status_code, "bad_request")
        return answer(request, code, PROBLEMS[code].title, headers=dict(error.headers or {}))


def is_page_request(request: Request) -> bool:
    """Whether a browser asked for a page, so that a problem is shown as one."""
    is_api = request.url.path.startswith(("/v1", "/dicom-web", "/metrics", "/openapi", "/static"))
    return not is_api and "text/html" in request.headers.get("accept", "")
