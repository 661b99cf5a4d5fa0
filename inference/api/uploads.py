"""An uploaded study: streamed to disk within the limits, unpacked, and handed to the intake."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import Request
from starlette.requests import ClientDisconnect

from inference.api.deps import ApiContext
from inference.api.errors import ApiError
from inference.api.schemas import ReceivedStudyOut, RefusedFileOut, UploadOut
from inference.domain.job import Priority
from inference.domain.study import Channel, Sender
from inference.jobs.errors import IntakeError
from inference.jobs.intake import Intake, Receipt
from inference.jobs.multipart import media_type_of, save_parts
from inference.telemetry import get_logger

ZIP_TYPES = frozenset({"application/zip", "application/x-zip-compressed"})
DICOM_TYPE = "application/dicom"
FORM_TYPE = "multipart/form-data"
WRITE_BYTES = 1024 * 1024
MAX_REFUSED_LISTED = 100

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class UploadOptions:
    """What the sender said about the study, and who sent it."""

    priority: Priority
    expected_instances: int | None
    is_complete: bool
    sender_name: str
    sender_address: str

    @property
    def sender(self) -> Sender:
        """Return it as the intake writes it down."""
        return Sender(channel=Channel.UPLOAD, name=self.sender_name, address=self.sender_address)


@dataclass(kw_only=True)
class _Taken:
    """What was received so far."""

    receipts: list[Receipt] = field(default_factory=list)
    refused: list[RefusedFileOut] = field(default_factory=list)


async def take_upload(request: Request, context: ApiContext, options: UploadOptions) -> UploadOut:
    """Receive a request's body as a study.

    Raises
    ------
    ApiError
        Not a type that is taken, or nothing in it that can be taken.
    StorageFullError
        There is no room; what was counted before stays.
    """
    content_type = request.headers.get("content-type", "")
    media_type = media_type_of(content_type)
    if media_type not in {*ZIP_TYPES, DICOM_TYPE, FORM_TYPE}:
        raise ApiError(
            "unsupported_media_type",
            f"send {', '.join(sorted(ZIP_TYPES))}, {DICOM_TYPE} or {FORM_TYPE}",
        )
    length = request.headers.get("content-length", "0")
    context.objects.check_space(int(length) if length.isdecimal() else 0)
    paths: list[Path] = []
    try:
        if media_type == FORM_TYPE:
            parts = await save_parts(
                body_of(request),
                content_type,
                context.objects.new_temporary,
                max_parts=context.max_upload_parts,
            )
            paths = [part.path for part in parts]
            files = [part.path for part in parts if part.is_file]
        else:
            paths = files = [context.objects.new_temporary()]
            await save_stream(body_of(request), paths[0])
        taken = await asyncio.to_thread(_take_files, files, context, options)
    finally:
        for path in paths:
            with suppress(OSError):
                path.unlink(missing_ok=True)
    if not taken.receipts:
        raise ApiError(
            "no_instances",
            taken.refused[0].detail if taken.refused else "the upload is empty",
            refused=[one.model_dump() for one in taken.refused[:MAX_REFUSED_LISTED]],
        )
    return _answer(taken)


async def body_of(request: Request) -> AsyncIterator[bytes]:
    """Give the body piece by piece.

    Raises
    ------
    ApiError
        The sender went away in the middle.
    """
    try:
        async for piece in request.stream():
            if piece:
                yield piece
    except ClientDisconnect as error:
        raise ApiError("bad_request", "the body was cut off") from error


async def save_stream(stream: AsyncIterator[bytes], path: Path) -> None:
    """Write a stream to a new file, off the event loop's thread."""
    with path.open("xb") as file:
        waiting = bytearray()
        async for piece in stream:
            waiting += piece
            if len(waiting) >= WRITE_BYTES:
                await asyncio.to_thread(file.write, bytes(waiting))
                waiting.clear()
        await asyncio.to_thread(file.write, bytes(waiting))


def _take_files(files: list[Path], context: ApiContext, options: UploadOptions) -> _Taken:
    taken = _Taken()
    try:
        for number, path in enumerate(files, start=1):
            try:
                _take_file(path, f"file {number}", context.intake, options, taken)
            except IntakeError as error:
                refused = RefusedFileOut(name=f"file {number}", code=error.code, detail=str(error))
                taken.refused.append(refused)
    finally:
        _close(context.intake, options, taken)
    return taken


def _take_file(
    path: Path, name: str, intake: Intake, options: UploadOptions, taken: _Taken
) -> None:
    if not is_zip(path):
        receipt = intake.receive_file(path, sender=options.sender, priority=options.priority)
        taken.receipts.append(receipt)
        return
    archive = intake.receive_archive(
        path, sender=options.sender, priority=options.priority, is_complete=False
    )
    taken.receipts += archive.accepted
    taken.refused += [
        RefusedFileOut(
            name=f"{name}: {member.name}", code=member.error.code, detail=str(member.error)
        )
        for member in archive.refused
    ]


def is_zip(path: Path) -> bool:
    """Whether a file begins as a zip does; a DICOM file never does after its preamble."""
    with path.open("rb") as file:
        head = file.read(132)
    return head.startswith(b"PK") and head[128:] != b"DICM"


def _close(intake: Intake, options: UploadOptions, taken: _Taken) -> None:
    """Say how much there is to come, so that nobody waits for more."""
    for study_uid in {receipt.study_uid for receipt in taken.receipts}:
        if options.expected_instances is not None:
            intake.expect(study_uid, options.expected_instances)
        elif options.is_complete:
            intake.close_study(study_uid)


def _answer(taken: _Taken) -> UploadOut:
    by_study: dict[str, list[Receipt]] = {}
    for receipt in taken.receipts:
        by_study.setdefault(receipt.study_uid, []).append(receipt)
    return UploadOut(
        studies=[
            ReceivedStudyOut(
                study_uid=study_uid,
                n_new=sum(receipt.is_new for receipt in receipts),
                n_repeated=sum(not receipt.is_new for receipt in receipts),
                job_id=max((r.job_id for r in receipts if r.job_id is not None), default=None),
                url=f"/v1/studies/{study_uid}",
            )
            for study_uid, receipts in by_study.items()
        ],
        refused=taken.refused[:MAX_REFUSED_LISTED],
        n_refused=len(taken.refused),
    )
