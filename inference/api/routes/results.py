"""Results and their files: SEG, SR, NIfTI labels, contact sheet."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse

from inference.api.deps import UID_PATTERN, BeforeId, Context, Limit, RowId
from inference.api.errors import ApiError
from inference.api.schemas import PageOut, ResultOut
from inference.domain.result import Result, ResultFile
from inference.domain.roles import IMAGE_READERS, Permissions, Role
from inference.storage import results as result_store

router = APIRouter(prefix="/v1/results", tags=["results"])
PERMISSIONS: Permissions = {
    ("GET", "/v1/results"): IMAGE_READERS | {Role.INTEGRATION},
    ("GET", "/v1/results/{result_id}"): IMAGE_READERS | {Role.INTEGRATION},
    ("GET", "/v1/results/{result_id}/files/{kind}"): IMAGE_READERS | {Role.INTEGRATION},
}

Kind = Annotated[
    str, PathParameter(max_length=32, pattern=r"^[a-z]+(_[a-z]+)?(-[0-9]{2,3}|-verified)?$")
]
FILE_ENDINGS = {"labels": ".nii.gz", "sheet": ".png", "result": ".json"}
"""Endings of files that are not DICOM; those are ``.<kind>.dcm``."""


def file_name(result: Result, kind: str) -> str:
    """Name a file of a result as a person saves it."""
    return f"{result.model}-{result.id}{FILE_ENDINGS.get(kind, f'.{kind}.dcm')}"


@router.get("", summary="List results, newest first")
def list_results(
    context: Context,
    study_uid: Annotated[str | None, Query(max_length=64, pattern=UID_PATTERN)] = None,
    current_only: Annotated[bool, Query(description="leave out superseded results")] = True,
    limit: Limit = 50,
    before_id: BeforeId = None,
) -> PageOut[ResultOut]:
    """Return a page of results."""
    with context.database.read() as connection:
        found = result_store.list_results(
            connection,
            study_uid=study_uid,
            current_only=current_only,
            limit=limit + 1,
            before_id=before_id,
        )
    page = found[:limit]
    next_url = None
    if len(found) > limit:
        next_url = f"/v1/results?limit={limit}&before_id={page[-1].id}"
        next_url += "" if current_only else "&current_only=false"
        next_url += f"&study_uid={study_uid}" if study_uid else ""
    return PageOut(items=[ResultOut.of(one) for one in page], next=next_url)


@router.get("/{result_id}", summary="One result")
def get_result(context: Context, result_id: RowId) -> ResultOut:
    """Return a result."""
    with context.database.read() as connection:
        return ResultOut.of(result_store.get_result(connection, result_id))


@router.get(
    "/{result_id}/files/{kind}",
    summary="Fetch a file of a result",
    response_class=FileResponse,
    responses={200: {"content": {"application/octet-stream": {}}}},
)
def get_file(context: Context, result_id: RowId, kind: Kind) -> FileResponse:
    """Return the stored bytes, the same each time."""
    with context.database.read() as connection:
        result = result_store.get_result(connection, result_id)
    file = file_of(result, kind)
    path = context.objects.path(file.sha256)
    if not path.is_file():
        raise ApiError("internal", "the stored file is missing; the log says more")
    return FileResponse(
        path,
        media_type=file.media_type or "application/octet-stream",
        filename=file_name(result, kind),
        headers={"ETag": f'"{file.sha256}"', "X-Content-SHA256": file.sha256},
    )


def file_of(result: Result, kind: str) -> ResultFile:
    """Return a result's file of a kind.

    Raises
    ------
    ApiError
        It has none: nothing was found, or the result is a refusal.
    """
    for file in result.files:
        if file.kind == kind:
            return file
    raise ApiError("not_found", f"result {result.id} has no file {kind}")
