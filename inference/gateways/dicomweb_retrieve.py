"""WADO-RS: whole instances as DICOM files, and their metadata as JSON (PS3.18 10.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from dicom_io.decode import NATIVE_SYNTAXES
from dicom_io.dicom_json import JsonContext, json_pieces
from dicom_io.elements import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    dataset_start,
)
from dicom_io.explicit_little import explicit_little_pieces
from dicom_io.instance_file import CHUNK_BYTES
from dicom_io.instance_frames import Frames, is_decodable
from inference.domain.roles import Permissions
from inference.gateways.dicomweb_multipart import OutPart, multipart_response
from inference.gateways.dicomweb_request import (
    PREFIX,
    MediaRange,
    NotAcceptableError,
    accepted,
    base_url,
    only_parameters,
    type_covers,
)
from inference.gateways.dicomweb_search import READERS, Uid, json_type
from inference.gateways.dicomweb_store import DicomwebStore
from inference.storage.dicom_lookup import StoredInstance

DICOM = "application/dicom"
AS_STORED = "*"
STUDY = "/studies/{study_uid}"
SERIES = STUDY + "/series/{series_uid}"
INSTANCE = SERIES + "/instances/{instance_uid}"
RESOURCES = {STUDY: "study", SERIES: "series", INSTANCE: "instance"}
PERMISSIONS: Permissions = {
    ("GET", PREFIX + path + suffix): READERS for path in RESOURCES for suffix in ("", "/metadata")
}
META_BYTES = 64 * 1024

Answer = Callable[[Request, str, str | None, str | None], Response]


@dataclass(frozen=True, kw_only=True)
class DicomChoice:
    """How files are sent: in one transfer syntax ("*": each as it is), alone or as parts."""

    transfer_syntax: str
    is_multipart: bool


class DicomwebRetrieve:
    """The retrieving end for files and metadata."""

    def __init__(self, store: DicomwebStore) -> None:
        self._store = store

    def router(self) -> APIRouter:
        """Return the addresses of studies, series and instances, and of their metadata."""
        router = APIRouter(prefix=PREFIX, tags=["dicomweb"])
        for path, word in RESOURCES.items():
            router.add_api_route(
                path,
                at_each_level(path, self.files),
                methods=["GET"],
                summary=f"Retrieve a {word} as DICOM files (WADO-RS)",
                response_class=Response,
                responses={200: {"content": {'multipart/related; type="application/dicom"': {}}}},
            )
            router.add_api_route(
                path + "/metadata",
                at_each_level(path, self.metadata),
                methods=["GET"],
                summary=f"Retrieve a {word}'s metadata (WADO-RS)",
                response_class=Response,
                responses={200: {"content": {"application/dicom+json": {}}}},
            )
        return router

    def files(
        self, request: Request, study_uid: str, series_uid: str | None, instance_uid: str | None
    ) -> Response:
        """Send instances as DICOM files, one after the other.

        Raises
        ------
        BadRequestError, NotAcceptableError, NotFoundError
        """
        only_parameters(request, frozenset())
        ranges = accepted(request)
        found = self._store.find(study_uid, series_uid, instance_uid)
        choice = choose_dicom(ranges, found, is_one=instance_uid is not None)
        if not choice.is_multipart:
            syntax = _sent_syntax(found[0], choice)
            return StreamingResponse(
                self._file(found[0], choice), media_type=f"{DICOM}; transfer-syntax={syntax}"
            )
        parts = (
            OutPart(
                headers={
                    "Content-Type": f"{DICOM}; transfer-syntax={_sent_syntax(one, choice)}",
                    "Content-Location": instance_url(base_url(request), one),
                },
                pieces=self._file(one, choice),
            )
            for one in found
        )
        return multipart_response(DICOM, parts)

    def metadata(
        self, request: Request, study_uid: str, series_uid: str | None, instance_uid: str | None
    ) -> Response:
        """Send all attributes but bulk data as DICOM JSON, instance by instance.

        Raises
        ------
        BadRequestError, NotAcceptableError, NotFoundError
        """
        only_parameters(request, frozenset({"charset"}))
        media_type = json_type(accepted(request))
        found = self._store.find(study_uid, series_uid, instance_uid)
        pieces = self._metadata(found, base_url(request))
        return StreamingResponse(pieces, media_type=media_type)

    def _file(self, stored: StoredInstance, choice: DicomChoice) -> Iterator[bytes]:
        path = self._store.path(stored)
        if _sent_syntax(stored, choice) == stored.transfer_syntax_uid:
            with path.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk
            return
        with path.open("rb") as file:
            head = file.read(META_BYTES)
        meta = head[: dataset_start(head)]
        with self._store.open(stored) as instance:
            frames = None
            if instance.pixels is not None and (
                instance.pixels.is_encapsulated
                or not instance.encoding.little
                or instance.encoding.implicit
            ):
                frames = Frames(instance, instance_uid=stored.instance_uid)
            yield from explicit_little_pieces(instance, meta, frames, self._store.pool)

    def _metadata(self, found: tuple[StoredInstance, ...], base: str) -> Iterator[bytes]:
        lead = "["
        for one in found:
            url = f"{instance_url(base, one)}/bulkdata"
            with self._store.open(one) as instance:
                context = JsonContext(is_signed=instance.is_signed, bulk=f"{url}/".__add__)
                pending, n_pending = [lead], 0
                for piece in json_pieces(instance.stream, instance.elements.values(), context):
                    pending.append(piece)
                    n_pending += len(piece)
                    if n_pending > CHUNK_BYTES:
                        yield "".join(pending).encode()
                        pending, n_pending = [], 0
                yield "".join(pending).encode()
            lead = ","
        yield b"]"


def at_each_level(path: str, answer: Answer) -> Callable[..., Response]:
    """Return an endpoint with the parameters of the address, for one answer to all levels."""

    def of_study(request: Request, study_uid: Uid) -> Response:
        return answer(request, study_uid, None, None)

    def of_series(request: Request, study_uid: Uid, series_uid: Uid) -> Response:
        return answer(request, study_uid, series_uid, None)

    def of_instance(
        request: Request, study_uid: Uid, series_uid: Uid, instance_uid: Uid
    ) -> Response:
        return answer(request, study_uid, series_uid, instance_uid)

    endpoints: dict[str, Callable[..., Response]] = {
        STUDY: of_study,
        SERIES: of_series,
        INSTANCE: of_instance,
    }
    return endpoints[path]


def instance_url(base: str, one: StoredInstance) -> str:
    """Return an instance's own address."""
    return f"{base}/studies/{one.study_uid}/series/{one.series_uid}/instances/{one.instance_uid}"


def choose_dicom(
    ranges: tuple[MediaRange, ...], found: tuple[StoredInstance, ...], *, is_one: bool
) -> DicomChoice:
    """Return the best form that the client takes and every instance can be sent in.

    Raises
    ------
    NotAcceptableError
        Says what would be accepted.
    """
    for one in ranges:
        if one.media_type == "multipart/related" and not type_covers(one.inner_type, DICOM):
            continue
        is_multipart = one.media_type in ("multipart/related", "multipart/*")
        if not is_multipart and not one.covers(DICOM):
            continue
        is_any = one.media_type in ("*/*", "application/*")
        if not is_multipart and not is_any and not is_one:
            continue  # one file cannot hold several instances
        syntax = one.transfer_syntax or EXPLICIT_VR_LITTLE_ENDIAN
        if all(_can_be_sent(stored, syntax) for stored in found):
            return DicomChoice(transfer_syntax=syntax, is_multipart=is_multipart or is_any)
    stored = ", ".join(sorted({one.transfer_syntax_uid for one in found}))
    raise NotAcceptableError(
        f'send Accept: multipart/related; type="{DICOM}"; transfer-syntax=*'
        f"{f' or {DICOM}' if is_one else ''}; stored are {stored}, and {EXPLICIT_VR_LITTLE_ENDIAN}"
        " can be made of what is decoded here"
    )


def _can_be_sent(stored: StoredInstance, syntax: str) -> bool:
    if syntax in (AS_STORED, stored.transfer_syntax_uid):
        return True
    if syntax != EXPLICIT_VR_LITTLE_ENDIAN:
        return False
    return stored.transfer_syntax_uid in NATIVE_SYNTAXES or is_decodable(
        stored.transfer_syntax_uid, stored.n_samples
    )


def _sent_syntax(stored: StoredInstance, choice: DicomChoice) -> str:
    if choice.transfer_syntax == AS_STORED:
        return stored.transfer_syntax_uid
    return choice.transfer_syntax
