"""STOW-RS: instances in by DICOMweb, each with its own success or failure (PS3.18 10.5).

The body is parsed as it arrives, every instance goes through the same durable intake as a C-STORE,
and only then does the answer say so. Bad instances do not stop the good ones beside them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi import Path as PathParameter
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from inference.domain.errors import ClinferError
from inference.domain.job import Priority
from inference.domain.roles import SENDERS, Permissions
from inference.domain.study import Channel, Sender
from inference.gateways.dicomweb_request import NotAcceptableError
from inference.jobs.errors import IdentifierError, IntakeError, UnsupportedObjectError
from inference.jobs.identify import identify
from inference.jobs.intake import Intake
from inference.jobs.multipart import (
    MultipartError,
    Part,
    media_type_of,
    parameters_of,
    save_parts,
)
from inference.jobs.structure import is_deflated, read_file_meta, walk_dataset
from inference.storage.errors import StorageFullError
from inference.telemetry import get_logger

JSON_TYPE = "application/dicom+json"
PERMISSIONS: Permissions = {
    ("POST", "/dicom-web/studies"): SENDERS,
    ("POST", "/dicom-web/studies/{study_uid}"): SENDERS,
}
_ACCEPTED = frozenset({JSON_TYPE, "application/json", "application/*", "*/*"})

OUT_OF_RESOURCES = 0xA700
DATASET_MISMATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
SOP_CLASS_NOT_SUPPORTED = 0x0122
DUPLICATE_INSTANCE = 0x0111
PROCESSING_FAILURE = 0x0110
"""Failure reasons of PS3.18 table 10.5.3-1 and PS3.7 annex C."""

FAILURE_REASONS = {
    "not_dicom": CANNOT_UNDERSTAND,
    "damaged_file": CANNOT_UNDERSTAND,
    "identifier": DATASET_MISMATCH,
    "unsupported_object": SOP_CLASS_NOT_SUPPORTED,
    "too_large": OUT_OF_RESOURCES,
    "conflict": DUPLICATE_INSTANCE,
    "storage_full": OUT_OF_RESOURCES,
}

log = get_logger(__name__)


class UnsupportedMediaTypeError(ClinferError):
    """The body is not multipart/related with DICOM instances."""

    code = "unsupported_media_type"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one part; UIDs are "" where the part does not say them."""

    sop_class_uid: str
    instance_uid: str
    failure_reason: int | None = None


@dataclass(frozen=True, kw_only=True)
class Stow:
    """The receiving end."""

    intake: Intake
    max_parts: int

    def router(self) -> APIRouter:
        """Return the two addresses of the store transaction."""
        router = APIRouter(prefix="/dicom-web", tags=["dicomweb"])

        async def store(request: Request) -> JSONResponse:
            """Store instances of any study."""
            return await self.store(request, None)

        async def store_in_study(
            request: Request,
            study_uid: Annotated[str, PathParameter(max_length=64, pattern=r"^[0-9]+(\.[0-9]+)+$")],
        ) -> JSONResponse:
            """Store instances of one study; those of another are refused."""
            return await self.store(request, study_uid)

        for path, endpoint in (("/studies", store), ("/studies/{study_uid}", store_in_study)):
            router.add_api_route(
                path,
                endpoint,
                methods=["POST"],
                summary="Store instances (STOW-RS)",
                response_class=JSONResponse,
                openapi_extra=_REQUEST_BODY,
                responses={
                    200: {"content": {JSON_TYPE: {"example": _EXAMPLE}}},
                    202: {"description": "some instances were refused"},
                    409: {"description": "every instance was refused"},
                },
            )
        return router

    async def store(self, request: Request, study_uid: str | None) -> JSONResponse:
        """Take a request's instances and say what became of each.

        Raises
        ------
        UnsupportedMediaTypeError, NotAcceptableError, MultipartError, StorageFullError
        """
        content_type = request.headers.get("content-type", "")
        _check_types(content_type, request.headers.get("accept", "*/*"))
        objects = self.intake.objects
        objects.check_space()
        parts = await save_parts(
            _body(request), content_type, objects.new_temporary, max_parts=self.max_parts
        )
        try:
            if not parts:
                raise MultipartError("the body has no part")
            sender = _sender(request)
            outcomes = await asyncio.to_thread(
                lambda: [self._take(part, sender, study_uid) for part in parts]
            )
        finally:
            for part in parts:
                with suppress(OSError):
                    part.path.unlink(missing_ok=True)
        n_stored = sum(outcome.failure_reason is None for outcome in outcomes)
        status = 200 if n_stored == len(outcomes) else 202 if n_stored else 409
        return JSONResponse(answer_dataset(outcomes), status, media_type=JSON_TYPE)

    def _take(self, part: Part, sender: Sender, study_uid: str | None) -> Outcome:
        said = _said_in_meta(part.path)
        try:
            if part.media_type not in {"application/dicom", "application/octet-stream", ""}:
                raise UnsupportedObjectError(
                    field="Content-Type", problem=f"a part is {part.media_type}, not DICOM"
                )
            if study_uid is not None:
                self._check_study(part.path, study_uid)
            receipt = self.intake.receive_file(part.path, sender=sender, priority=Priority.ROUTINE)
        except (IntakeError, StorageFullError) as error:
            log.warning("instance not taken", code=error.code, instance_uid=said[1])
            return Outcome(
                sop_class_uid=said[0],
                instance_uid=said[1],
                failure_reason=FAILURE_REASONS.get(error.code, PROCESSING_FAILURE),
            )
        return Outcome(sop_class_uid=receipt.sop_class_uid, instance_uid=receipt.instance_uid)

    def _check_study(self, path: Path, study_uid: str) -> None:
        """Refuse an instance of another study before anything of it is stored.

        Raises
        ------
        IntakeError
        """
        meta = read_file_meta(path)
        if is_deflated(meta.transfer_syntax_uid):
            raise UnsupportedObjectError(
                field="TransferSyntaxUID (0002,0010)",
                problem="deflated instances are taken at /dicom-web/studies only",
            )
        structure = walk_dataset(
            path, meta.dataset_offset, meta.transfer_syntax_uid, self.intake.settings.structure
        )
        if identify(structure, meta, None).study_uid != study_uid:
            raise IdentifierError(
                field="StudyInstanceUID (0020,000D)", problem="is not the study of the address"
            )


def answer_dataset(outcomes: list[Outcome]) -> dict[str, Any]:
    """Return the Store Instances Response as DICOM JSON (PS3.18 annex I)."""
    stored = [_reference(outcome) for outcome in outcomes if outcome.failure_reason is None]
    failed = [
        _reference(outcome) | _failure(outcome)
        for outcome in outcomes
        if outcome.failure_reason is not None and outcome.instance_uid
    ]
    nameless = [
        _failure(outcome)
        for outcome in outcomes
        if outcome.failure_reason is not None and not outcome.instance_uid
    ]
    dataset: dict[str, Any] = {"00081190": {"vr": "UR"}}
    if failed:
        dataset["00081198"] = {"vr": "SQ", "Value": failed}
    if stored:
        dataset["00081199"] = {"vr": "SQ", "Value": stored}
    if nameless:
        dataset["0008119A"] = {"vr": "SQ", "Value": nameless}
    return dataset


def _reference(outcome: Outcome) -> dict[str, Any]:
    return {
        "00081150": {"vr": "UI", "Value": [outcome.sop_class_uid]},
        "00081155": {"vr": "UI", "Value": [outcome.instance_uid]},
    }


def _failure(outcome: Outcome) -> dict[str, Any]:
    return {"00081197": {"vr": "US", "Value": [outcome.failure_reason]}}


def _said_in_meta(path: Path) -> tuple[str, str]:
    """Return SOP class and instance UID of the file meta information, as far as it has them."""
    try:
        meta = read_file_meta(path)
    except IntakeError:
        return "", ""
    return meta.sop_class_uid, meta.instance_uid


def _check_types(content_type: str, accept: str) -> None:
    if media_type_of(content_type) != "multipart/related":
        raise UnsupportedMediaTypeError('send multipart/related; type="application/dicom"')
    inner = parameters_of(content_type).get("type", "application/dicom")
    if media_type_of(inner) != "application/dicom":
        raise UnsupportedMediaTypeError(f"parts of type {inner} are not taken; send DICOM files")
    offered = {media_type_of(one) for one in accept.split(",")}
    if not offered & _ACCEPTED:
        raise NotAcceptableError(f"the answer is {JSON_TYPE}")


def _sender(request: Request) -> Sender:
    identity = request.scope.get("state", {}).get("identity")
    return Sender(
        channel=Channel.DICOMWEB,
        name=str(getattr(identity, "name", "")),
        address=request.client.host if request.client else "",
    )


async def _body(request: Request) -> AsyncIterator[bytes]:
    try:
        async for piece in request.stream():
            if piece:
                yield piece
    except ClientDisconnect as error:
        raise MultipartError("the body was cut off") from error


_REQUEST_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            'multipart/related; type="application/dicom"': {
                "schema": {"type": "string", "format": "binary"}
            }
        },
    }
}
_EXAMPLE = answer_dataset(
    [
        Outcome(
            sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
            instance_uid="1.2.826.0.1.3680043.8.498.1.2.3",
        )
    ]
)
