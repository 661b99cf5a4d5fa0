"""WADO-RS: frames and other bulk data, one at a time (PS3.18 10.4)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Request
from fastapi import Path as PathParameter
from fastapi.responses import Response, StreamingResponse

from dicom_io.dicom_json import PIXEL_TAGS, in_little_endian
from dicom_io.elements import EXPLICIT_VR_LITTLE_ENDIAN
from dicom_io.instance_file import InstanceFile
from dicom_io.instance_frames import Frames
from dicom_io.raw_elements import RawElement, raw_elements, raw_items
from inference.domain.roles import Permissions
from inference.gateways.dicomweb_multipart import OutPart, multipart_response
from inference.gateways.dicomweb_request import (
    PREFIX,
    BadRequestError,
    MediaRange,
    NotAcceptableError,
    accepted,
    base_url,
    only_parameters,
    type_covers,
)
from inference.gateways.dicomweb_retrieve import AS_STORED, INSTANCE, instance_url
from inference.gateways.dicomweb_search import READERS, Uid
from inference.gateways.dicomweb_store import DicomwebStore
from inference.storage.dicom_lookup import StoredInstance
from inference.storage.errors import NotFoundError

OCTETS, PDF = "application/octet-stream", "application/pdf"
FRAMES = INSTANCE + "/frames/{frame_list}"
BULK_DATA = INSTANCE + "/bulkdata/{attribute_path}"
PERMISSIONS: Permissions = {("GET", PREFIX + path): READERS for path in (FRAMES, BULK_DATA)}

STREAM_TYPES = {
    "1.2.840.10008.1.2.4.50": "image/jpeg",
    "1.2.840.10008.1.2.4.51": "image/jpeg",
    "1.2.840.10008.1.2.4.57": "image/jpeg",
    "1.2.840.10008.1.2.4.70": "image/jpeg",
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.4.92": "image/jpx",
    "1.2.840.10008.1.2.4.93": "image/jpx",
    "1.2.840.10008.1.2.4.201": "image/jphc",
    "1.2.840.10008.1.2.4.202": "image/jphc",
    "1.2.840.10008.1.2.4.203": "image/jphc",
    "1.2.840.10008.1.2.5": "image/dicom-rle",
}
"""Media type of a frame's stream as it is stored (PS3.18 table 8.7.3-5); nothing is compressed
here, so a type is given only where the stored stream is of it."""

OLD_NAMES = {"image/x-jls": "image/jls", "image/x-dicom-rle": "image/dicom-rle"}
MAX_FRAMES_ASKED = 10_000
ENCAPSULATED_DOCUMENT, MIME_TYPE = 0x00420011, 0x00420012

FrameList = Annotated[str, PathParameter(max_length=60_000, pattern=r"^[0-9]+(,[0-9]+)*$")]
AttributePath = Annotated[
    str, PathParameter(max_length=512, pattern=r"^[0-9A-F]{8}(\.[0-9]+\.[0-9A-F]{8})*$")
]


@dataclass(frozen=True, kw_only=True)
class FrameChoice:
    """How frames are sent: as the stored streams, or as plain values."""

    media_type: str
    transfer_syntax: str
    is_stored: bool
    is_multipart: bool


class DicomwebPixels:
    """The retrieving end for frames and bulk data."""

    def __init__(self, store: DicomwebStore) -> None:
        self._store = store

    def router(self) -> APIRouter:
        """Return the two addresses."""
        router = APIRouter(prefix=PREFIX, tags=["dicomweb"])

        def frames(
            request: Request,
            study_uid: Uid,
            series_uid: Uid,
            instance_uid: Uid,
            frame_list: FrameList,
        ) -> Response:
            """Send frames by number, from 1."""
            return self.frames(request, (study_uid, series_uid, instance_uid), frame_list)

        def bulk_data(
            request: Request,
            study_uid: Uid,
            series_uid: Uid,
            instance_uid: Uid,
            attribute_path: AttributePath,
        ) -> Response:
            """Send the value of one attribute that the metadata names by its address."""
            return self.bulk_data(request, (study_uid, series_uid, instance_uid), attribute_path)

        for path, endpoint, word in (
            (FRAMES, frames, "frames"),
            (BULK_DATA, bulk_data, "bulk data"),
        ):
            router.add_api_route(
                path,
                endpoint,
                methods=["GET"],
                summary=f"Retrieve {word} (WADO-RS)",
                response_class=Response,
                responses={200: {"content": {f'multipart/related; type="{OCTETS}"': {}}}},
            )
        return router

    def frames(self, request: Request, uids: tuple[str, str, str], frame_list: str) -> Response:
        """Send the frames asked for, in the order asked.

        Raises
        ------
        BadRequestError, NotAcceptableError, NotFoundError, DicomIoError
        """
        only_parameters(request, frozenset())
        ranges = accepted(request)
        numbers = [int(text) for text in frame_list.split(",")]
        if len(numbers) > MAX_FRAMES_ASKED or min(numbers) < 1:
            raise BadRequestError(
                field="frames", problem=f"are numbered from 1, at most {MAX_FRAMES_ASKED} at a time"
            )
        (stored,) = self._store.find(*uids)
        with ExitStack() as stack:
            instance = stack.enter_context(self._store.open(stored))
            if instance.pixels is None:
                raise NotFoundError(what="frame", key=f"{numbers[0]} of {stored.instance_uid}")
            frames = Frames(instance, instance_uid=stored.instance_uid)
            if max(numbers) > len(frames):
                raise NotFoundError(what="frame", key=f"{max(numbers)} of {len(frames)}")
            choice = choose_frames(ranges, stored, frames, n_asked=len(numbers))
            first = self._frame(frames, numbers[0], choice)  # its faults are told before the answer
            kept = stack.pop_all()
        content_type = choice.media_type
        if choice.transfer_syntax:
            content_type += f"; transfer-syntax={choice.transfer_syntax}"
        if not choice.is_multipart:
            kept.close()
            return Response(first, media_type=content_type)
        parts = self._frame_parts(
            kept,
            frames,
            numbers,
            first,
            choice,
            content_type,
            instance_url(base_url(request), stored),
        )
        return multipart_response(choice.media_type, parts)

    def _frame(self, frames: Frames, number: int, choice: FrameChoice) -> bytes:
        if choice.is_stored:
            return frames.stored(number)
        return frames.plain(number, self._store.pool)

    def _frame_parts(
        self,
        kept: ExitStack,
        frames: Frames,
        numbers: list[int],
        first: bytes,
        choice: FrameChoice,
        content_type: str,
        url: str,
    ) -> Iterator[OutPart]:
        with kept:
            for place, number in enumerate(numbers):
                content = first if place == 0 else self._frame(frames, number, choice)
                headers = {
                    "Content-Type": content_type,
                    "Content-Length": str(len(content)),
                    "Content-Location": f"{url}/frames/{number}",
                }
                yield OutPart(headers=headers, pieces=(content,))

    def bulk_data(self, request: Request, uids: tuple[str, str, str], path: str) -> Response:
        """Send one value, pixels plain and in pieces.

        Raises
        ------
        BadRequestError, NotAcceptableError, NotFoundError, DicomIoError
        """
        only_parameters(request, frozenset())
        ranges = accepted(request)
        (stored,) = self._store.find(*uids)
        with ExitStack() as stack:
            instance = stack.enter_context(self._store.open(stored))
            element = find_element(instance, path)
            if element is None or element.is_sequence:
                raise NotFoundError(what="bulk data", key=path)
            media_type, is_multipart = _choose_bulk(ranges, instance, element)
            frames = None
            if element.tag in PIXEL_TAGS and element.is_encapsulated:
                frames = Frames(instance, instance_uid=stored.instance_uid)
                if not frames.can_be_decoded:
                    raise NotAcceptableError(
                        f"pixels of {stored.transfer_syntax_uid} are not decoded here; ask for"
                        " frames with transfer-syntax=*"
                    )
            kept = stack.pop_all()
        pieces = self._value(kept, instance, element, frames)
        headers = {"Content-Type": media_type}
        if media_type == OCTETS:
            headers["Content-Type"] += f"; transfer-syntax={EXPLICIT_VR_LITTLE_ENDIAN}"
        if not is_multipart:
            return StreamingResponse(pieces, headers=headers)
        headers["Content-Location"] = f"{instance_url(base_url(request), stored)}/bulkdata/{path}"
        return multipart_response(media_type, [OutPart(headers=headers, pieces=pieces)])

    def _value(
        self,
        kept: ExitStack,
        instance: InstanceFile,
        element: RawElement,
        frames: Frames | None,
    ) -> Iterator[bytes]:
        with kept:
            if frames is not None:
                yield from frames.all_plain(self._store.pool)
            elif element.encoding.little:
                yield from instance.pieces(element.begin, element.end)
            else:
                raw = instance.read(element.begin, element.end)
                yield in_little_endian(element.vr, raw, little=False)


def choose_frames(
    ranges: tuple[MediaRange, ...], stored: StoredInstance, frames: Frames, *, n_asked: int
) -> FrameChoice:
    """Return the best form that the client takes and the frames can be sent in.

    Raises
    ------
    NotAcceptableError
        Says what would be accepted.
    """
    syntax = stored.transfer_syntax_uid
    stream_type = STREAM_TYPES.get(syntax) if frames.is_compressed else None
    for one in ranges:
        is_multipart = one.media_type in ("multipart/related", "multipart/*", "*/*")
        if not is_multipart and n_asked > 1:
            continue
        wanted = one.inner_type if is_multipart else one.media_type
        wanted = OLD_NAMES.get(wanted, wanted)
        asked = one.transfer_syntax
        if type_covers(wanted, OCTETS):
            if asked in (None, EXPLICIT_VR_LITTLE_ENDIAN) and frames.can_be_decoded:
                return _plain(is_multipart)
            if asked == AS_STORED or (asked == syntax and frames.is_compressed):
                if not frames.is_compressed:
                    return _plain(is_multipart)
                return FrameChoice(
                    media_type=OCTETS,
                    transfer_syntax=syntax,
                    is_stored=True,
                    is_multipart=is_multipart,
                )
        if (
            stream_type is not None
            and type_covers(wanted, stream_type)
            and asked in (None, AS_STORED, syntax)
        ):
            return FrameChoice(
                media_type=stream_type,
                transfer_syntax=syntax,
                is_stored=True,
                is_multipart=is_multipart,
            )
    also = f" or {stream_type}" if stream_type else ""
    raise NotAcceptableError(
        f'send Accept: multipart/related; type="{OCTETS}"; transfer-syntax=*{also}; frames are'
        f" stored as {syntax} and are not compressed anew"
    )


def _plain(is_multipart: bool) -> FrameChoice:
    return FrameChoice(
        media_type=OCTETS,
        transfer_syntax=EXPLICIT_VR_LITTLE_ENDIAN,
        is_stored=False,
        is_multipart=is_multipart,
    )


def find_element(instance: InstanceFile, path: str) -> RawElement | None:
    """Return the element at "TAG" or "TAG.item.TAG..."; None where there is none."""
    first, *rest = path.split(".")
    element = instance.elements.get(int(first, 16))
    for number, tag in zip(rest[::2], rest[1::2], strict=True):
        if element is None or not element.is_sequence:
            return None
        element = _in_item(instance, element, int(number), int(tag, 16))
    return element


def _in_item(
    instance: InstanceFile, sequence: RawElement, number: int, tag: int
) -> RawElement | None:
    places = raw_items(instance.stream, sequence.begin, sequence.end, sequence.encoding)
    for place, (begin, end) in enumerate(places):
        if place == number:
            elements = raw_elements(
                instance.stream, begin, end, sequence.encoding, is_signed=instance.is_signed
            )
            return next((element for element in elements if element.tag == tag), None)
    return None


def _choose_bulk(
    ranges: tuple[MediaRange, ...], instance: InstanceFile, element: RawElement
) -> tuple[str, bool]:
    """Return media type, and whether it comes as a part."""
    kinds = [OCTETS]
    if element.tag == ENCAPSULATED_DOCUMENT and instance.text(MIME_TYPE).lower() == PDF:
        kinds.append(PDF)
    for one in ranges:
        if one.transfer_syntax not in (None, AS_STORED, EXPLICIT_VR_LITTLE_ENDIAN):
            continue
        is_multipart = one.media_type in ("multipart/related", "multipart/*", "*/*")
        wanted = one.inner_type if is_multipart else one.media_type
        for media_type in kinds:
            if type_covers(wanted, media_type):
                return media_type, is_multipart
    raise NotAcceptableError(f"bulk data is {' or '.join(kinds)}, alone or as multipart/related")
