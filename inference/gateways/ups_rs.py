"""UPS-RS: the worklist over HTTP (PS3.18 chapter 11)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi import Path as PathParameter
from pydicom.datadict import dictionary_VR, tag_for_keyword
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from inference.domain import workitem as steps
from inference.domain.roles import Permissions, Role
from inference.domain.workitem import WorkitemError
from inference.domain.workitem_match import first_value
from inference.gateways.ups import INVALID_VALUE, MISSING_ATTRIBUTE, Ups
from inference.storage.workitems import STATE, TRANSACTION_UID

JSON_TYPE = "application/dicom+json"
JSON_TYPES = frozenset({JSON_TYPE, "application/json"})
_ACCEPTED = JSON_TYPES | {"application/*", "*/*"}
PREFIX = "/dicom-web"
Uid = Annotated[str, PathParameter(max_length=64, pattern=r"^[0-9]+(\.[0-9]+)+$")]
AeTitle = Annotated[str, PathParameter(min_length=1, max_length=16, pattern=r"^[ -\[\]-~]+$")]

CLIENTS = frozenset({Role.INTEGRATION, Role.READER, Role.REVIEWER, Role.ADMIN})
PERMISSIONS: Permissions = {
    ("POST", f"{PREFIX}/workitems"): frozenset({Role.INTEGRATION, Role.ADMIN}),
    ("GET", f"{PREFIX}/workitems"): CLIENTS,
    ("GET", f"{PREFIX}/workitems/{{uid}}"): CLIENTS,
    ("POST", f"{PREFIX}/workitems/{{uid}}"): CLIENTS,
    ("PUT", f"{PREFIX}/workitems/{{uid}}/state"): CLIENTS,
    ("PUT", f"{PREFIX}/workitems/{{uid}}/state/{{ae_title}}"): CLIENTS,
    ("POST", f"{PREFIX}/workitems/{{uid}}/cancelrequest"): CLIENTS,
    ("POST", f"{PREFIX}/workitems/{{uid}}/cancelrequest/{{ae_title}}"): CLIENTS,
    ("POST", f"{PREFIX}/workitems/{{uid}}/subscribers/{{ae_title}}"): CLIENTS,
    ("DELETE", f"{PREFIX}/workitems/{{uid}}/subscribers/{{ae_title}}"): CLIENTS,
    ("POST", f"{PREFIX}/workitems/{{uid}}/subscribers/{{ae_title}}/suspend"): CLIENTS,
}

HTTP_STATUS = {
    steps.DUPLICATE: 409,
    steps.NOT_AUTHORISED: 403,
    0x0110: 409,
    MISSING_ATTRIBUTE: 400,
    INVALID_VALUE: 400,
    steps.NO_UPDATE_AFTER_FINAL: 409,
    steps.WRONG_TRANSACTION_UID: 400,
    steps.ALREADY_IN_PROGRESS: 409,
    steps.BACK_TO_SCHEDULED: 400,
    steps.FINAL_REQUIREMENTS_MISSING: 409,
    steps.NO_SUCH_WORKITEM: 404,
    steps.UNKNOWN_RECEIVER: 404,
    steps.CREATE_NOT_SCHEDULED: 400,
    steps.NOT_IN_PROGRESS: 409,
    steps.ALREADY_COMPLETED: 409,
    steps.PERFORMER_NOT_REACHED: 409,
    steps.PERFORMER_REFUSES: 409,
    steps.ACTION_NOT_APPROPRIATE: 400,
}
"""PS3.18 11.4 to 11.12: 409 where the workitem's state does not allow it, 400 where the request is
wrong whatever the state, 404 where there is no such thing."""

TRANSACTION_NAMES = frozenset({"transaction", "transactionuid", "00081195"})
"""Spellings of the parameter in the editions of PS3.18, without hyphens and in lower case."""

CONTROL_NAMES = frozenset({"limit", "offset", "includefield", "fuzzymatching"})
MAX_LIMIT, DEFAULT_LIMIT = 1000, 200
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")


class UpsRequestError(WorkitemError):
    """A request that is no UPS-RS request; ``http_status`` says how it is answered."""

    code = "workitem_request"

    def __init__(self, http_status: int, detail: str) -> None:
        self.http_status = http_status
        super().__init__(INVALID_VALUE, detail=detail)


@dataclass(frozen=True, kw_only=True)
class UpsRs:
    """The HTTP door; ``name_of`` tells who asks, as the audit trail and the readers know them."""

    ups: Ups
    name_of: Callable[[Request], str]

    def router(self) -> APIRouter:
        """Return the addresses of the worklist service."""
        router = APIRouter(prefix=PREFIX, tags=["worklist"])
        add = router.add_api_route
        one, watch = "/workitems/{uid}", "/workitems/{uid}/subscribers/{ae_title}"
        add(
            "/workitems",
            self.create,
            methods=["POST"],
            status_code=201,
            summary="Create a workitem",
        )
        add("/workitems", self.search, methods=["GET"], summary="Search workitems")
        add(one, self.retrieve, methods=["GET"], summary="Retrieve a workitem")
        add(one, self.update, methods=["POST"], summary="Update a workitem")
        add(f"{one}/state", self.change_state, methods=["PUT"], summary="Claim, complete or cancel")
        add(f"{one}/state/{{ae_title}}", self.change_state, methods=["PUT"],
            summary="The same, as the first editions address it")  # fmt: skip
        add(f"{one}/cancelrequest", self.request_cancel, methods=["POST"], status_code=202,
            summary="Ask the performer to cancel")  # fmt: skip
        add(f"{one}/cancelrequest/{{ae_title}}", self.request_cancel, methods=["POST"],
            status_code=202, summary="The same, as the first editions address it")  # fmt: skip
        add(watch, self.subscribe, methods=["POST"], status_code=201, summary="Subscribe")
        add(watch, self.unsubscribe, methods=["DELETE"], summary="Unsubscribe")
        add(f"{watch}/suspend", self.suspend, methods=["POST"],
            summary="Take no new workitems, and keep those that are watched")  # fmt: skip
        return router

    async def create(self, request: Request) -> Response:
        """Make a workitem."""

        def answer(document: dict[str, Any]) -> Response:
            uid, status = self.ups.create(document, uid=_new_uid(request), by=self._by(request))
            location = f"{request.url.path}/{uid}"
            return _ok(201, request, status, {"Location": location, "Content-Location": location})

        return await self._answer(request, answer)

    async def search(self, request: Request) -> Response:
        """Find workitems."""

        def answer(_: dict[str, Any]) -> Response:
            keys, limit, offset = _search_keys(request)
            found = self.ups.search(keys, limit=limit + 1, offset=offset)
            if not found:
                return Response(status_code=204)
            headers = {}
            if len(found) > limit:
                headers["Warning"] = f'299 {_service(request)} "There are more results"'
            return JSONResponse(found[:limit], 200, headers=headers, media_type=JSON_TYPE)

        return await self._answer(request, answer, has_body=False)

    async def retrieve(self, request: Request, uid: Uid) -> Response:
        """Show a workitem."""
        return await self._answer(
            request,
            lambda _: JSONResponse([self.ups.get(uid)], 200, media_type=JSON_TYPE),
            has_body=False,
        )

    async def update(self, request: Request, uid: Uid) -> Response:
        """Change a workitem's attributes."""

        def answer(document: dict[str, Any]) -> Response:
            held = transaction_uid_of(request, document)
            changes = {tag: value for tag, value in document.items() if tag != TRANSACTION_UID}
            status = self.ups.update(uid, changes, transaction_uid=held, by=self._by(request))
            return _ok(200, request, status, {"Content-Location": _item_path(request, uid)})

        return await self._answer(request, answer)

    async def change_state(self, request: Request, uid: Uid) -> Response:
        """Move a workitem."""

        def answer(document: dict[str, Any]) -> Response:
            status = self.ups.change_state(
                uid,
                first_value(document, STATE),
                transaction_uid=transaction_uid_of(request, document),
                by=self._by(request),
            )
            return _ok(200, request, status, {"Content-Location": _item_path(request, uid)})

        return await self._answer(request, answer)

    async def request_cancel(self, request: Request, uid: Uid) -> Response:
        """Ask for a cancellation."""

        def answer(document: dict[str, Any]) -> Response:
            status = self.ups.request_cancel(uid, document, by=self._by(request))
            return _ok(202, request, status, {"Content-Location": _item_path(request, uid)})

        return await self._answer(request, answer, may_be_empty=True)

    async def subscribe(self, request: Request, uid: Uid, ae_title: AeTitle) -> Response:
        """Watch."""

        def answer(_: dict[str, Any]) -> Response:
            query = dict(request.query_params)
            lock = query.pop("deletionlock", "false").lower() == "true"
            keys = _filter_keys(query.pop("filter", ""), query)
            status = self.ups.subscribe(
                uid, ae_title, keys=keys, has_deletion_lock=lock, by=self._by(request)
            )
            scheme = "wss" if request.url.scheme == "https" else "ws"
            channel = f"{scheme}://{request.url.netloc}{PREFIX}/ws/subscribers/{ae_title}"
            return _ok(201, request, status, {"Content-Location": channel})

        return await self._answer(request, answer, has_body=False)

    async def unsubscribe(self, request: Request, uid: Uid, ae_title: AeTitle) -> Response:
        """Watch no more."""
        return await self._answer(
            request,
            lambda _: _ok(200, request, self.ups.unsubscribe(uid, ae_title, by=self._by(request))),
            has_body=False,
        )

    async def suspend(self, request: Request, uid: Uid, ae_title: AeTitle) -> Response:
        """Take no new ones."""
        return await self._answer(
            request,
            lambda _: _ok(200, request, self.ups.suspend(uid, ae_title, by=self._by(request))),
            has_body=False,
        )

    def _by(self, request: Request) -> str:
        return self.name_of(request)

    async def _answer(
        self,
        request: Request,
        answer: Callable[[dict[str, Any]], Response],
        *,
        has_body: bool = True,
        may_be_empty: bool = False,
    ) -> Response:
        try:
            _check_accept(request)
            document: dict[str, Any] = {}
            body = await request.body() if has_body else b""
            if has_body and (body or not may_be_empty):
                document = _data_set(request, body)
            return await run_in_threadpool(answer, document)
        except WorkitemError as error:
            return _problem(request, error)


def transaction_uid_of(request: Request, document: dict[str, Any]) -> str:
    """Return the Transaction UID, wherever an edition of the standard puts it; "" for none.

    Raises
    ------
    UpsRequestError
        Two places say two UIDs, or it is none.
    """
    given = {first_value(document, TRANSACTION_UID)}
    for name, value in request.query_params.multi_items():
        if re.sub(r"[-_ ]", "", name).lower() in TRANSACTION_NAMES:
            given.add(value)
        elif not value and _UID.fullmatch(name):
            given.add(name)
    given.discard("")
    if len(given) > 1:
        raise UpsRequestError(400, "two Transaction UIDs are given")
    found = next(iter(given), "")
    if found and (len(found) > 64 or not _UID.fullmatch(found)):
        raise UpsRequestError(400, "the Transaction UID (0008,1195) is no UID")
    return found


def _new_uid(request: Request) -> str:
    """Return the UID for a new workitem: ``?workitem=UID``, or ``?UID`` in the first editions."""
    names = ("workitem", "AffectedSOPInstanceUID")
    query = request.query_params
    found = next((query[name] for name in names if query.get(name)), "")
    found = found or next((name for name, value in query.items() if not value), "")
    if found and (len(found) > 64 or not _UID.fullmatch(found)):
        raise UpsRequestError(400, "the workitem's UID is no UID")
    return found


def _search_keys(request: Request) -> tuple[dict[str, Any], int, int]:
    query = request.query_params
    limit, offset = _number(query.get("limit"), DEFAULT_LIMIT), _number(query.get("offset"), 0)
    keys: dict[str, Any] = {}
    for name, value in query.multi_items():
        if name not in CONTROL_NAMES:
            _add_key(keys, name, value)
    return keys, min(limit, MAX_LIMIT), offset


def _filter_keys(text: str, query: dict[str, str]) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    pairs = [part.partition("=")[::2] for part in text.split(",") if part]
    for name, value in [*pairs, *query.items()]:
        _add_key(keys, name, value)
    return keys


def _add_key(keys: dict[str, Any], name: str, value: str) -> None:
    """Put ``Keyword=value``, ``ggggeeee=value`` or a dotted path of them among the keys."""
    *parents, last = [_tag(part) for part in name.split(".")]
    level = keys
    for tag in parents:
        level = level.setdefault(tag, {"vr": "SQ", "Value": [{}]})["Value"][0]
    vr = dictionary_VR(last)
    wrapped: Any = {"Alphabetic": value} if vr == "PN" else value
    level[last] = {"vr": vr, "Value": [wrapped] if value else []}


def _tag(name: str) -> str:
    number = int(name, 16) if re.fullmatch(r"[0-9A-Fa-f]{8}", name) else tag_for_keyword(name)
    try:
        if number is None:
            raise KeyError(name)
        dictionary_VR(number)
    except KeyError:
        raise UpsRequestError(400, f"{name[:64]!r} is no attribute that can be searched") from None
    return f"{number:08X}"


def _number(text: str | None, default: int) -> int:
    if text is None:
        return default
    if not text.isdecimal() or len(text) > 9:
        raise UpsRequestError(400, "limit and offset are whole numbers, 0 or more")
    return int(text)


def _check_accept(request: Request) -> None:
    ranges = request.headers.get("accept", "*/*").split(",")
    if not any(one.partition(";")[0].strip().lower() in _ACCEPTED for one in ranges):
        raise UpsRequestError(406, f"this answers as {JSON_TYPE}")


def _data_set(request: Request, body: bytes) -> dict[str, Any]:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in JSON_TYPES:
        raise UpsRequestError(415, f"send {JSON_TYPE}")
    try:
        found = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise UpsRequestError(400, "the body is no JSON") from None
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    if not isinstance(found, dict) or not all(
        re.fullmatch(r"[0-9A-Fa-f]{8}", tag) and isinstance(element, dict)
        for tag, element in found.items()
    ):
        raise UpsRequestError(400, "send one data set in the DICOM JSON model")
    return {tag.upper(): element for tag, element in found.items()}


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _item_path(request: Request, uid: str) -> str:
    return f"{PREFIX}/workitems/{uid}"


def _service(request: Request) -> str:
    return request.url.netloc


def _ok(
    http_status: int, request: Request, status: int, headers: dict[str, str] | None = None
) -> Response:
    """Answer a request that was done; a DIMSE warning travels in a Warning header."""
    headers = dict(headers or {})
    if status != steps.SUCCESS:
        headers["Warning"] = f'299 {_service(request)} "{status:04X}: {steps.MEANINGS[status]}"'
    return Response(status_code=http_status, headers=headers)


def _problem(request: Request, error: WorkitemError) -> Response:
    http_status = (
        error.http_status
        if isinstance(error, UpsRequestError)
        else HTTP_STATUS.get(error.status, 409)
    )
    state = request.scope.get("state", {})
    state["problem_code"] = error.code
    body = {
        "type": f"urn:clinfer:problem:{error.code}",
        "title": "The worklist refuses this",
        "status": http_status,
        "code": error.code,
        "dicom_status": f"{error.status:04X}",
        "detail": str(error),
        "request_id": str(state.get("request_id", "")),
    }
    warning = f'299 {_service(request)} "{steps.MEANINGS.get(error.status, "refused")}"'
    return JSONResponse(
        body, http_status, media_type="application/problem+json", headers={"Warning": warning}
    )
