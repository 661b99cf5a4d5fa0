"""Slices for the study page: pictures of a series, and label slices of a result."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from inference.api.deps import ApiContext, Context, RowId, Uid
from inference.api.errors import ApiError
from inference.api.overview import segment_colors
from inference.api.routes.results import file_of
from inference.api.slices import PLANES, Plane
from inference.api.view_cache import SeriesFiles
from inference.domain.result import Result
from inference.domain.roles import IMAGE_READERS, Permissions, Role
from inference.storage import results as result_store
from inference.storage import studies as study_store

router = APIRouter(prefix="/v1/views", tags=["views"])
PERMISSIONS: Permissions = {
    ("GET", "/v1/views/{study_uid}/{series_uid}/{plane}/{index}.png"): IMAGE_READERS
    | {Role.INTEGRATION},
    ("GET", "/v1/views/results/{result_id}/labels/{plane}/{index}"): IMAGE_READERS
    | {Role.INTEGRATION},
}

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
    "/results/{result_id}/labels/{plane}/{index}",
    summary="One slice of a result's labels as raw bytes, in the picture's own layout",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}}},
)
def get_labels(context: Context, result_id: RowId, plane: Plane, index: Index) -> Response:
    """Return one label per pixel, row by row: 1 byte, or 2 (little-endian) for over 255 labels."""
    with context.database.read() as connection:
        result = result_store.get_result(connection, result_id)
    file = file_of(result, "labels")
    files = series_files(context, result.study_uid, result.series_uid)
    labels = context.views.labels(files, file.sha256, context.objects.path(file.sha256))
    return Response(
        labels.gzipped(plane, index),
        media_type="application/octet-stream",
        headers={"Content-Encoding": "gzip"},
    )


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
    volume = context.views.volume(files)
    labels = None
    if result is not None and any(file.kind == "labels" for file in result.files):
        file = file_of(result, "labels")
        labels = context.views.labels(files, file.sha256, context.objects.path(file.sha256))
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
        "planes": [vars(volume.planes[plane]) for plane in PLANES],
        "first_plane": volume.acquired_plane,
        "first_index": first,
        "presets": [vars(preset) for preset in volume.presets],
        "unit": "HU" if volume.modality == "CT" else "",
        "segments": segments,
    }
