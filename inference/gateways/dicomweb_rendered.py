"""WADO-RS: pictures of frames, instances, series and studies, and thumbnails (PS3.18 10.4)."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, get_args

from fastapi import APIRouter, Request
from fastapi import Path as PathParameter
from fastapi.responses import Response, StreamingResponse
from PIL import Image, ImageDraw, ImageFont

from dicom_io.instance_file import InstanceFile
from dicom_io.instance_frames import Frames
from inference.domain.roles import Permissions
from inference.gateways.dicomweb_picture import (
    GreyWindow,
    Viewport,
    WindowFunction,
    draw_frame,
    is_baseline_color,
    place,
)
from inference.gateways.dicomweb_pixels import ENCAPSULATED_DOCUMENT, MIME_TYPE, PDF
from inference.gateways.dicomweb_request import (
    PREFIX,
    BadRequestError,
    MediaRange,
    NotAcceptableError,
    accepted,
    base_url,
    only_parameters,
)
from inference.gateways.dicomweb_retrieve import INSTANCE, RESOURCES, at_each_level
from inference.gateways.dicomweb_search import READERS, Uid
from inference.gateways.dicomweb_store import DicomwebStore
from inference.storage.dicom_lookup import StoredInstance
from inference.storage.errors import NotFoundError

FRAME = INSTANCE + "/frames/{frame_number}"
PERMISSIONS: Permissions = {
    ("GET", PREFIX + path + suffix): READERS
    for path in (*RESOURCES, FRAME)
    for suffix in ("/rendered", "/thumbnail")
}
PICTURE_TYPES = {"image/jpeg": "JPEG", "image/png": "PNG"}
PARAMETERS = frozenset({"window", "viewport", "quality", "annotation", "iccprofile"})
DEFAULT_QUALITY = 90
MAX_SIDE_PX = 4096
THUMBNAIL_PX = 128
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"

FrameNumber = Annotated[int, PathParameter(ge=1, le=10_000_000)]


@dataclass(frozen=True, kw_only=True)
class PictureRequest:
    """How a picture is asked for."""

    media_type: str
    window: GreyWindow | None
    viewport: Viewport | None
    quality: int
    warnings: tuple[str, ...] = ()


class DicomwebRendered:
    """The end that draws."""

    def __init__(self, store: DicomwebStore) -> None:
        self._store = store

    def router(self) -> APIRouter:
        """Return the addresses of pictures and thumbnails at every level."""
        router = APIRouter(prefix=PREFIX, tags=["dicomweb"])

        def frame_picture(
            request: Request,
            study_uid: Uid,
            series_uid: Uid,
            instance_uid: Uid,
            frame_number: FrameNumber,
        ) -> Response:
            return self.rendered(request, study_uid, series_uid, instance_uid, frame_number)

        def frame_thumbnail(
            request: Request,
            study_uid: Uid,
            series_uid: Uid,
            instance_uid: Uid,
            frame_number: FrameNumber,
        ) -> Response:
            return self.thumbnail(request, study_uid, series_uid, instance_uid, frame_number)

        def add(path: str, endpoint: Callable[..., Response], summary: str) -> None:
            router.add_api_route(
                path,
                endpoint,
                methods=["GET"],
                summary=f"{summary} (WADO-RS)",
                response_class=Response,
                responses={200: {"content": {name: {} for name in PICTURE_TYPES}}},
            )

        for path, word in RESOURCES.items():
            add(f"{path}/rendered", at_each_level(path, self.rendered), f"A picture of a {word}")
            add(f"{path}/thumbnail", at_each_level(path, self.thumbnail), f"A {word}'s thumbnail")
        add(f"{FRAME}/rendered", frame_picture, "A picture of a frame")
        add(f"{FRAME}/thumbnail", frame_thumbnail, "A frame's thumbnail")
        return router

    def rendered(
        self,
        request: Request,
        study_uid: str,
        series_uid: str | None,
        instance_uid: str | None,
        frame_number: int | None = None,
    ) -> Response:
        """Draw a frame: the one asked for, an instance's first, else the middle of the pictures.

        Raises
        ------
        BadRequestError, NotAcceptableError, NotFoundError, DicomIoError
        """
        ranges = accepted(request)
        found = self._store.find(study_uid, series_uid, instance_uid)
        stored = _representative(found)
        if not stored.has_rows:
            return self._document(stored, ranges)
        asked = parse_picture(request, ranges)
        with self._store.open(stored) as instance:
            frames = _frames_to_draw(instance, stored)
            number = frame_number or (1 if instance_uid else len(frames) // 2 + 1)
            picture = self._draw(instance, frames, number, asked)
        return _answer(picture, asked, base_url(request))

    def thumbnail(
        self,
        request: Request,
        study_uid: str,
        series_uid: str | None,
        instance_uid: str | None,
        frame_number: int | None = None,
    ) -> Response:
        """Draw a small picture; of what has none, a tile with its modality.

        Raises
        ------
        BadRequestError, NotAcceptableError, NotFoundError, DicomIoError
        """
        ranges = accepted(request)
        asked = parse_picture(request, ranges)
        if asked.viewport is None:
            side = Viewport(width=THUMBNAIL_PX, height=THUMBNAIL_PX)
            asked = PictureRequest(
                media_type=asked.media_type,
                window=asked.window,
                viewport=side,
                quality=asked.quality,
                warnings=asked.warnings,
            )
        found = self._store.find(study_uid, series_uid, instance_uid)
        stored = _representative(found)
        if not stored.has_rows:
            return _answer(_tile(stored.modality), asked, base_url(request))
        with self._store.open(stored) as instance:
            frames = _frames_to_draw(instance, stored)
            picture = self._draw(instance, frames, frame_number or len(frames) // 2 + 1, asked)
        return _answer(picture, asked, base_url(request))

    def _draw(
        self, instance: InstanceFile, frames: Frames, number: int, asked: PictureRequest
    ) -> Image.Image:
        if number > len(frames):
            raise NotFoundError(what="frame", key=f"{number} of {len(frames)}")
        picture = draw_frame(instance, frames, number, self._store.pool, asked.window)
        if asked.viewport is None:
            return picture
        source = asked.viewport.source
        if source is not None and not _is_inside(source, picture):
            raise BadRequestError(
                field="viewport",
                problem=f"shows what lies outside the frame of {picture.width} x {picture.height}",
            )
        return place(picture, asked.viewport)

    def _document(self, stored: StoredInstance, ranges: tuple[MediaRange, ...]) -> Response:
        """Send an encapsulated PDF as what it is; nothing else without pictures can be drawn."""
        with self._store.open(stored) as instance:
            element = instance.elements.get(ENCAPSULATED_DOCUMENT)
            is_pdf = element is not None and instance.text(MIME_TYPE).lower() == PDF
            if element is not None and is_pdf and any(one.covers(PDF) for one in ranges):
                # The value is padded to an even length; readers of PDF ignore what follows its end.
                pieces = list(instance.pieces(element.begin, element.end))
                return StreamingResponse(iter(pieces), media_type=PDF)
        offer = f"; it is {PDF}" if is_pdf else "; its metadata and file can be retrieved"
        raise NotAcceptableError(f"{stored.modality or 'this instance'} has no picture{offer}")


def parse_picture(request: Request, ranges: tuple[MediaRange, ...]) -> PictureRequest:
    """Read the parameters of PS3.18 8.3.5.

    Raises
    ------
    BadRequestError, NotAcceptableError
    """
    given = only_parameters(request, PARAMETERS)
    media_type = next((name for one in ranges for name in PICTURE_TYPES if one.covers(name)), None)
    if media_type is None:
        raise NotAcceptableError(f"pictures are {' or '.join(PICTURE_TYPES)}")
    ignored = tuple(
        f"The {name} parameter is not supported and was ignored"
        for name in ("annotation", "iccprofile")
        if name in given
    )
    return PictureRequest(
        media_type=media_type,
        window=_window(given["window"]) if "window" in given else None,
        viewport=_viewport(given["viewport"]) if "viewport" in given else None,
        quality=_quality(given["quality"]) if "quality" in given else DEFAULT_QUALITY,
        warnings=ignored,
    )


def _window(text: str) -> GreyWindow:
    center, width, function = ([*text.split(","), "", "", ""])[:3]
    function = function.lower() or "linear"
    is_well_formed = (
        len(text.split(",")) in (2, 3)
        and re.fullmatch(_NUMBER, center)
        and re.fullmatch(_NUMBER, width)
        and function in get_args(WindowFunction)
    )
    if not is_well_formed or not math.isfinite(float(center)) or not 0 < float(width) < 1e12:
        raise BadRequestError(
            field="window",
            problem="must be center,width,function: two numbers, the width above 0, and one of "
            + ", ".join(get_args(WindowFunction)),
        )
    chosen: WindowFunction = (
        "sigmoid" if function == "sigmoid" else "linear-exact" if "exact" in function else "linear"
    )
    return GreyWindow(center=float(center), width=float(width), function=chosen)


def _viewport(text: str) -> Viewport:
    parts = text.split(",")
    is_well_formed = len(parts) in (2, 6) and all(
        re.fullmatch(r"-?\d{1,6}", part) or (place_ > 1 and part == "")
        for place_, part in enumerate(parts)
    )
    if not is_well_formed:
        raise BadRequestError(
            field="viewport", problem="must be width,height or width,height,left,top,width,height"
        )
    width, height = int(parts[0]), int(parts[1])
    if not (1 <= width <= MAX_SIDE_PX and 1 <= height <= MAX_SIDE_PX):
        raise BadRequestError(field="viewport", problem=f"sides are 1 to {MAX_SIDE_PX} pixels")
    if len(parts) == 2:
        return Viewport(width=width, height=height)
    left, top = (int(part or 0) for part in parts[2:4])
    wide, high = (int(part) if part else None for part in parts[4:6])
    return Viewport(width=width, height=height, source=(left, top, wide, high))


def _is_inside(source: tuple[int, int, int | None, int | None], picture: Image.Image) -> bool:
    left, top, wide, high = source
    right = picture.width if wide is None else left + abs(wide)
    bottom = picture.height if high is None else top + abs(high)
    return 0 <= left < right <= picture.width and 0 <= top < bottom <= picture.height


def _quality(text: str) -> int:
    if not re.fullmatch(r"\d{1,3}", text) or not 1 <= int(text) <= 100:
        raise BadRequestError(field="quality", problem="must be a whole number from 1 to 100")
    return int(text)


def _representative(found: tuple[StoredInstance, ...]) -> StoredInstance:
    """Return the middle one of those that have pictures, else the first."""
    pictured = [one for one in found if one.has_rows]
    return pictured[len(pictured) // 2] if pictured else found[0]


def _frames_to_draw(instance: InstanceFile, stored: StoredInstance) -> Frames:
    frames = Frames(instance, instance_uid=stored.instance_uid)
    if not frames.can_be_decoded and not is_baseline_color(instance, frames):
        raise NotAcceptableError(
            f"pixels of {stored.transfer_syntax_uid} with {stored.n_samples} samples are not"
            " decoded here; ask for frames with transfer-syntax=*"
        )
    return frames


def _tile(modality: str) -> Image.Image:
    tile = Image.new("L", (THUMBNAIL_PX, THUMBNAIL_PX), 32)
    font = ImageFont.load_default(36)
    draw = ImageDraw.Draw(tile)
    middle = (THUMBNAIL_PX // 2, THUMBNAIL_PX // 2)
    draw.text(middle, modality[:6] or "?", fill=220, font=font, anchor="mm")
    return tile


def _answer(picture: Image.Image, asked: PictureRequest, base: str) -> Response:
    out = io.BytesIO()
    kind = PICTURE_TYPES[asked.media_type]
    options = {"quality": asked.quality} if kind == "JPEG" else {"compress_level": 3}
    picture.save(out, kind, **options)
    headers = {}
    if asked.warnings:
        headers["Warning"] = ", ".join(f'299 {base} "{text}"' for text in asked.warnings)
    return Response(out.getvalue(), media_type=asked.media_type, headers=headers)
