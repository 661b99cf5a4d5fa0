"""Slices for the study page: pictures of a series, and label slices of a result."""

from __future__ import annotations

import base64
import binascii
import gzip
import zlib
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Path, Query, Response
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from inference.api.deps import ApiContext, Context, RowId, Uid
from inference.api.errors import ApiError
from inference.api.overview import segment_colors
from inference.api.routes.results import file_of
from inference.api.slices import DisplayLabels
from inference.api.view_cache import SeriesFiles
from inference.domain.result import Result
from inference.domain.roles import IMAGE_READERS, Permissions, Role
from inference.pipeline.between import fill_between
from inference.pipeline.screen import PLANES, Plane
from inference.storage import results as result_store
from inference.storage import studies as study_store

router = APIRouter(prefix="/v1/views", tags=["views"])
_VIEWERS = IMAGE_READERS | {Role.INTEGRATION}
PERMISSIONS: Permissions = {
    ("GET", "/v1/views/{study_uid}/{series_uid}/{plane}/{index}.png"): _VIEWERS,
    ("GET", "/v1/views/{study_uid}/{series_uid}/{plane}/values"): _VIEWERS,
    ("GET", "/v1/views/results/{result_id}"): _VIEWERS,
    ("GET", "/v1/views/results/{result_id}/labels"): _VIEWERS,
    ("GET", "/v1/views/results/{result_id}/labels/{plane}/{index}"): _VIEWERS,
    ("POST", "/v1/views/interpolation"): frozenset({Role.READER, Role.REVIEWER}),
}

MOST_SLICES = 32
"""Slices in one answer."""


class InterpolationIn(BaseModel):
    """Two drawn slices: a byte 0 or 1 for each pixel, row by row, as base64 of zlib."""

    model_config = ConfigDict(extra="forbid")

    height: Annotated[int, Field(ge=1, le=4096)]
    width: Annotated[int, Field(ge=1, le=4096)]
    row_mm: Annotated[float, Field(gt=0, le=100)]
    column_mm: Annotated[float, Field(gt=0, le=100)]
    n_between: Annotated[int, Field(ge=1, le=64)]
    first: str
    last: str


Index = Annotated[int, Path(ge=0, le=100_000, description="0 is the top, front or right-most")]
WindowValue = Annotated[float, Query(ge=-1e7, le=1e7, allow_inf_nan=False)]
WindowWidth = Annotated[float, Query(gt=0, le=2e7, allow_inf_nan=False)]


@router.get(
    "/{study_uid}/{series_uid}/{plane}/{index}.png",
    summary="One slice as an 8-bit grey PNG",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}},
)
def get_picture(
    context: Context,
    study_uid: Uid,
    series_uid: Uid,
    plane: Plane,
    index: Index,
    center: WindowValue,
    width: WindowWidth,
) -> Response:
    """Draw a slice in radiological convention: the patient's right is at the left."""
    volume = context.views.volume(series_files(context, study_uid, series_uid))
    picture = volume.png(plane, index, center=center, width=width)
    return Response(picture, media_type="image/png")


@router.get(
    "/{study_uid}/{series_uid}/{plane}/values",
    summary="Values of some slices as raw bytes, for a screen that windows them itself",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}}},
)
def get_values(
    context: Context,
    study_uid: Uid,
    series_uid: Uid,
    plane: Plane,
    first: Annotated[int, Query(ge=0, le=100_000)],
    count: Annotated[int, Query(ge=1, le=MOST_SLICES)] = 1,
) -> Response:
    """Return slice after slice, row by row: int16 or float32 (little-endian), not compressed.

    On a local network raw slices arrive sooner than compressed ones are made.
    """
    volume = context.views.volume(series_files(context, study_uid, series_uid))
    slices = [volume.raw(plane, index) for index in range(first, first + count)]
    return Response(b"".join(slices), media_type="application/octet-stream")


@router.get(
    "/results/{result_id}/labels",
    summary="Every label of a result, raw bytes along canonical axes",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}}},
)
def get_all_labels(context: Context, result_id: RowId) -> Response:
    """Return one label per voxel: slices to the head, rows to the back, columns to the left."""
    return _gzipped(labels_of(context, result_id).whole_gzipped())


@router.get("/results/{result_id}", summary="What a screen needs to show a result")
def get_view(context: Context, result_id: RowId) -> dict[str, Any]:
    """Return planes, windows, segments with their colours, and where slices and labels are."""
    with context.database.read() as connection:
        result = result_store.get_result(connection, result_id)
    return view_data(context, series_files(context, result.study_uid, result.series_uid), result)


@router.post(
    "/interpolation",
    summary="Masks of the slices between two drawn ones",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}}},
)
def interpolate(body: InterpolationIn) -> Response:
    """Return one byte per pixel, 1 inside, slice after slice; shape-based interpolation."""
    first, last = (_mask(body, name) for name in ("first", "last"))
    filled = fill_between(first, last, body.n_between, (body.row_mm, body.column_mm))
    return _gzipped(gzip.compress(filled.astype(np.uint8).tobytes(), 1, mtime=0))


@router.get(
    "/results/{result_id}/labels/{plane}/{index}",
    summary="One slice of a result's labels as raw bytes, in the picture's own layout",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}}},
)
def get_labels(context: Context, result_id: RowId, plane: Plane, index: Index) -> Response:
    """Return one label per pixel, row by row: 1 byte, or 2 (little-endian) for over 255 labels."""
    return _gzipped(labels_of(context, result_id).gzipped(plane, index))


def labels_of(context: ApiContext, result_id: int) -> DisplayLabels:
    """Return a result's labels as the screen has them.

    Raises
    ------
    ApiError, NotFoundError
    """
    with context.database.read() as connection:
        result = result_store.get_result(connection, result_id)
    file = file_of(result, "labels")
    files = series_files(context, result.study_uid, result.series_uid)
    return context.views.labels(files, file.sha256, context.objects.path(file.sha256))


def _gzipped(content: bytes) -> Response:
    return Response(
        content,
        media_type="application/octet-stream",
        headers={"Content-Encoding": "gzip"},
    )


def _mask(body: InterpolationIn, name: str) -> NDArray[np.bool_]:
    """Unpack a drawn slice; never more bytes than it has pixels."""
    size = body.height * body.width
    try:
        opened = zlib.decompressobj()
        content = opened.decompress(base64.b64decode(getattr(body, name), validate=True), size + 1)
    except (binascii.Error, zlib.error) as error:
        raise ApiError("invalid_request", f"{name}: is not base64 of zlib") from error
    if len(content) != size or content.strip(b"\0\1"):
        raise ApiError("invalid_request", f"{name}: must be {size} bytes of 0 or 1")
    mask: NDArray[np.bool_] = np.frombuffer(content, np.bool_).reshape(body.height, body.width)
    return mask


def series_files(context: ApiContext, study_uid: str, series_uid: str) -> SeriesFiles:
    """Find the stored image files of a series.

    Raises
    ------
    ApiError
        The study has no such series, or no image in it.
    """
    with context.database.read() as connection:
        instances = study_store.list_instances(
            connection, study_uid, series_uid=series_uid, images_only=True
        )
    if not instances:
        raise ApiError("not_found", f"study {study_uid} has no images in series {series_uid}")
    return SeriesFiles(
        study_uid=study_uid,
        series_uid=series_uid,
        paths=tuple(context.objects.path(one.sha256) for one in instances),
    )


def view_data(context: ApiContext, files: SeriesFiles, result: Result | None) -> dict[str, Any]:
    """Return what the study page's script needs, JSON-ready.

    Raises
    ------
    ApiError
        The series cannot be drawn, or the labels do not lie on it.
    """
    labels = None
    if result is not None and any(file.kind == "labels" for file in result.files):
        file = file_of(result, "labels")
        labels = context.views.labels(files, file.sha256, context.objects.path(file.sha256))
    volume = context.views.volume(files)
    first = {plane: volume.planes[plane].n_slices // 2 for plane in PLANES}
    if labels is not None:
        for plane in PLANES:
            fullest = labels.fullest_slice(plane)
            first[plane] = first[plane] if fullest is None else fullest
    segments = []
    if labels is not None and result is not None:
        colors = segment_colors(result, context.models)
        segments = [
            {
                "label": segment["label"],
                "name": segment["name"],
                "color_rgb": [int(colors[segment["label"]][i : i + 2], 16) for i in (1, 3, 5)],
                "presence": {plane: labels.presence(plane, segment["label"]) for plane in PLANES},
            }
            for segment in result.summary.get("segments", ())
        ]
    return {
        "pictures_url": f"/v1/views/{files.study_uid}/{files.series_uid}",
        "labels_url": f"/v1/views/results/{result.id}/labels" if labels and result else None,
        "label_bytes": labels.bytes_per_pixel if labels else 1,
        "label_shape": dict(
            zip(
                ("depth", "height", "width"),
                labels.array.shape if labels else (0, 0, 0),
                strict=True,
            )
        ),
        "value_type": volume.raw_dtype.name,
        "planes": [vars(volume.planes[plane]) for plane in PLANES],
        "first_plane": volume.acquired_plane,
        "first_index": first,
        "presets": [vars(preset) for preset in volume.presets],
        "unit": "HU" if volume.modality == "CT" else "",
        "segments": segments,
    }
