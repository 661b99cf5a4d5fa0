"""Decisions about results: accept, correct, reject; drafts; figures; the training set."""

from __future__ import annotations

import base64
import binascii
import zlib
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, BackgroundTasks, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from dicom_io.errors import DicomIoError
from inference.api.access import Identity
from inference.api.deps import UID_PATTERN, ApiContext, Asker, BeforeId, Context, Limit, RowId
from inference.api.errors import ApiError
from inference.api.routes.results import file_of
from inference.api.routes.views import labels_of, series_files
from inference.domain.concordance import Grouping, concordance
from inference.domain.result import Result
from inference.domain.review import AlreadyDecidedError, DecisionFieldError, Review, Shown
from inference.domain.roles import Permissions, Role
from inference.jobs.review_desk import ReviewDesk
from inference.storage import results as result_store
from inference.storage import review_drafts, training_set
from inference.storage import reviews as review_store
from inference.storage.errors import StorageError
from inference.telemetry import get_logger

log = get_logger(__name__)
router = APIRouter(tags=["reviews"])
READERS = frozenset({Role.READER, Role.REVIEWER})
PERMISSIONS: Permissions = {
    ("POST", "/v1/results/{result_id}/decision"): READERS,
    ("GET", "/v1/results/{result_id}/decision"): READERS | {Role.CLINICIAN, Role.AUDITOR},
    ("GET", "/v1/results/{result_id}/draft"): READERS,
    ("PUT", "/v1/results/{result_id}/draft"): READERS,
    ("DELETE", "/v1/results/{result_id}/draft"): READERS,
    ("GET", "/v1/reviews"): READERS | {Role.ADMIN, Role.AUDITOR},
    ("GET", "/v1/reviews/next"): READERS,
    ("GET", "/v1/reviews/figures"): READERS | {Role.ADMIN, Role.AUDITOR},
    ("GET", "/v1/reviews/training-set"): frozenset({Role.REVIEWER, Role.ADMIN, Role.AUDITOR}),
}
MAX_DRAFT_SLICES = 256
MOST_REVIEWS = 20_000
"""Newest decisions that figures are made of."""


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ShownIn(_In):
    """What stood on the screen; the hashes must be those of what is stored."""

    result_sha256: Annotated[str, Field(max_length=64)]
    overlay_sha256: Annotated[str, Field(max_length=64)]
    view: dict[str, Any] = Field(default_factory=dict, max_length=40)
    page_version: Annotated[str, Field(max_length=64)] = ""


class DecisionIn(_In):
    """A decision: accepting with a draft is a correction."""

    decision: Literal["accept", "reject"]
    shown: ShownIn
    reason: Annotated[str, Field(max_length=64)] = ""
    comment: Annotated[str, Field(max_length=1000)] = ""


class DraftIn(_In):
    """Changed slices: index on the screen in the acquired plane, and the slice's labels.

    Labels are raw bytes, row by row, as the labels' own address gives them; zlib, then base64.
    """

    slices: Annotated[dict[int, str], Field(max_length=MAX_DRAFT_SLICES)]


class DraftOut(BaseModel):
    """What is kept of the asker's draft, and the hash of the overlay with it."""

    slices: dict[int, str]
    overlay_sha256: str


class ReviewOut(BaseModel):
    """A stored decision."""

    id: int
    result_id: int
    study_uid: str
    model: str
    model_version: str
    decision: str
    reason_code: str
    comment: str
    person: str
    overlay_sha256: str
    effort: str | None
    lowest_dice: float | None
    changed_ml: float | None
    new_result_id: int | None
    decided_at: datetime

    @classmethod
    def of(cls, review: Review) -> ReviewOut:
        """Copy the domain's."""
        fields = {
            name: getattr(review, name) for name in cls.model_fields if name != "overlay_sha256"
        }
        return cls(**fields, overlay_sha256=review.shown.overlay_sha256)


class NextOut(BaseModel):
    """The case that waits longest for a decision; empty where none does."""

    study_uid: str
    result_id: int | None
    url: str


class FiguresOut(BaseModel):
    """Agreement of people with models, in groups; see docs/review.md for the statistic."""

    by: Grouping
    n_decisions: int
    groups: list[dict[str, Any]]


@router.post("/v1/results/{result_id}/decision", summary="Accept or reject a result")
def decide(context: Context, asker: Asker, result_id: RowId, body: DecisionIn) -> ReviewOut:
    """Store who decided what, when, on what was shown; accepting a draft makes a new version."""
    shown = Shown(
        result_sha256=body.shown.result_sha256,
        overlay_sha256=body.shown.overlay_sha256,
        view=body.shown.view,
        page_version=body.shown.page_version,
    )
    desk, person = _desk(context), asker.name
    try:
        if body.decision == "accept":
            made = desk.accept(result_id, person=person, shown=shown, comment=body.comment)
        else:
            made = desk.reject(
                result_id, person=person, shown=shown, reason=body.reason, comment=body.comment
            )
    except AlreadyDecidedError as error:
        raise ApiError(
            "already_decided", str(error), review=ReviewOut.of(error.review).model_dump(mode="json")
        ) from error
    return ReviewOut.of(made)


@router.get("/v1/results/{result_id}/decision", summary="The decision about a result")
def get_decision(context: Context, result_id: RowId) -> ReviewOut:
    """Return it; 404 while nobody has decided."""
    with context.database.read() as connection:
        found = review_store.review_of(connection, result_id)
    if found is None:
        raise ApiError("not_found", f"nobody has decided about result {result_id} yet")
    return ReviewOut.of(found)


@router.get("/v1/results/{result_id}/draft", summary="The asker's correction in work")
def get_draft(context: Context, asker: Asker, result_id: RowId) -> DraftOut:
    """Return the changed slices."""
    with context.database.read() as connection:
        result = result_store.get_result(connection, result_id)
    return _draft_of(context, result, asker)


@router.put("/v1/results/{result_id}/draft", summary="Keep changed slices of a correction")
def put_draft(context: Context, asker: Asker, result_id: RowId, body: DraftIn) -> DraftOut:
    """Keep these slices in place of what was kept of them; the others stay."""
    with context.database.read() as connection:
        result = result_store.get_result(connection, result_id)
        decided = review_store.review_of(connection, result_id)
    if decided is not None:
        raise AlreadyDecidedError(decided)
    file = file_of(result, "labels")
    files = series_files(context, result.study_uid, result.series_uid)
    labels = context.views.labels(files, file.sha256, context.objects.path(file.sha256))
    plane = context.views.volume(files).planes[labels.acquired]
    size = plane.height * plane.width * labels.bytes_per_pixel
    slices = {
        index: _unpacked(index, text, size, plane.n_slices) for index, text in body.slices.items()
    }
    with context.database.write() as connection:
        now = context.database.now(connection)
        review_drafts.save(connection, result_id, asker.name, slices, now=now)
    return _draft_of(context, result, asker, with_slices=False)


@router.delete("/v1/results/{result_id}/draft", status_code=204, summary="Forget a correction")
def delete_draft(context: Context, asker: Asker, result_id: RowId) -> Response:
    """Forget the asker's changed slices; the machine's labels are shown again."""
    with context.database.write() as connection:
        review_drafts.discard(connection, result_id, asker.name)
    return Response(status_code=204)


@router.get("/v1/reviews", summary="List decisions, newest first")
def list_reviews(
    context: Context,
    study_uid: Annotated[str | None, Query(max_length=64, pattern=UID_PATTERN)] = None,
    limit: Limit = 50,
    before_id: BeforeId = None,
) -> list[ReviewOut]:
    """Return decisions."""
    with context.database.read() as connection:
        found = review_store.list_reviews(
            connection, study_uid=study_uid, limit=limit, before_id=before_id
        )
    return [ReviewOut.of(one) for one in found]


@router.get("/v1/reviews/next", summary="The next case without a decision")
def next_case(
    context: Context,
    background: BackgroundTasks,
    after: Annotated[str, Query(max_length=64, description="study that is left out")] = "",
    warm: Annotated[bool, Query(description="read its images now: it is opened soon")] = False,
) -> NextOut:
    """Return the case that waits longest, findings first."""
    with context.database.read() as connection:
        found = review_store.next_undecided(connection, not_study_uid=after)
    if found is None:
        return NextOut(study_uid="", result_id=None, url="/")
    if warm:
        background.add_task(_warm, context, found[1])
    return NextOut(
        study_uid=found[0],
        result_id=found[1],
        url=f"/studies/{found[0]}?result={found[1]}",
    )


@router.get("/v1/reviews/figures", summary="Agreement with models, and drift")
def figures(context: Context, by: Grouping = "model") -> FiguresOut:
    """Return accepted, corrected and rejected by group, size of corrections, and drift."""
    with context.database.read() as connection:
        found = review_store.list_reviews(connection, limit=MOST_REVIEWS)
    groups = concordance(found, by)
    return FiguresOut(
        by=by,
        n_decisions=len(found),
        groups=[
            vars(group) | {"n": group.n, "override_rate": group.override_rate} for group in groups
        ],
    )


@router.get("/v1/reviews/training-set", summary="The training set that reviews made")
def get_training_set(
    context: Context,
    model: Annotated[str | None, Query(max_length=64)] = None,
    version: Annotated[int | None, Query(ge=0)] = None,
) -> dict[str, Any]:
    """Return the rows of a version, without anything of the patient but the keyed hash."""
    with context.database.read() as connection:
        newest = training_set.current_version(connection)
        rows = training_set.list_rows(connection, model=model, version=version)
    return {
        "version": newest if version is None else version,
        "newest_version": newest,
        "rows": [vars(row) for row in rows],
    }


def _warm(context: ApiContext, result_id: int) -> None:
    """Read a result's labels and series into the cache of views."""
    try:
        labels_of(context, result_id)
    except (ApiError, DicomIoError, StorageError) as error:
        log.info("the next case cannot be read ahead", result=result_id, reason=str(error))


def _desk(context: ApiContext) -> ReviewDesk:
    if context.reviews is None:
        raise ApiError("service_unavailable", "this service takes no decisions")
    return context.reviews


def _draft_of(
    context: ApiContext, result: Result, asker: Identity, *, with_slices: bool = True
) -> DraftOut:
    slices: dict[int, bytes] = {}
    if with_slices:
        with context.database.read() as connection:
            slices = review_drafts.load(connection, result.id, asker.name)
    return DraftOut(
        slices={
            index: base64.b64encode(zlib.compress(labels, 1)).decode()
            for index, labels in slices.items()
        },
        overlay_sha256=_desk(context).stamp(result, asker.name),
    )


def _unpacked(index: int, text: str, size: int, n_slices: int) -> bytes:
    """Return a slice's labels; at most as many bytes as a slice has are ever unpacked."""
    field = f"slices.{index}"
    if not 0 <= index < n_slices:
        raise DecisionFieldError(field=field, problem=f"the series has slices 0 to {n_slices - 1}")
    try:
        opened = zlib.decompressobj()
        labels = opened.decompress(base64.b64decode(text, validate=True), size + 1)
    except (binascii.Error, zlib.error) as error:
        raise DecisionFieldError(field=field, problem="is not base64 of zlib") from error
    if len(labels) != size or not opened.eof:
        raise DecisionFieldError(field=field, problem=f"does not unpack to {size} bytes")
    return labels
