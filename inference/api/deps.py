"""What a route is handed: the service's parts, and who asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Path, Query, Request

from inference.api.access import Access, Identity, identity_of
from inference.api.errors import ApiError
from inference.api.health import Health
from inference.api.view_cache import ViewCache
from inference.domain.result import Destination
from inference.domain.statement import Section
from inference.jobs.intake import Intake
from inference.jobs.review_desk import ReviewDesk
from inference.pipeline.spec import ModelSpec
from inference.storage.database import Database
from inference.storage.objects import ObjectStore
from inference.telemetry import Metrics


@dataclass(frozen=True, kw_only=True)
class ApiContext:
    """The parts of the service that HTTP uses.

    Attributes
    ----------
    models : the models that are served, by name
    promoting_models : whose findings lift a study on the reading list; empty: those of any model
    dicom_address : what the empty list tells a person to send to
    check_destination : tries one without storing anything there; None where there is no door out
    watermark_bytes : free disk space below which nothing more is taken in
    max_upload_parts : most files in one multipart upload
    reviews : takes decisions; None where this service takes none
    statement : from (method, path) of each route to the conformance statement
    """

    database: Database
    objects: ObjectStore
    intake: Intake
    models: dict[str, ModelSpec] = field(default_factory=dict)
    views: ViewCache
    access: Access
    health: Health
    metrics: Metrics
    version: str
    dicom_address: str = ""
    destinations: tuple[Destination, ...] = ()
    check_destination: Callable[[Destination], str] | None = None
    watermark_bytes: int = 0
    max_upload_parts: int = 20_000
    promoting_models: frozenset[str] = frozenset()
    reviews: ReviewDesk | None = None
    statement: Callable[[Sequence[tuple[str, str]]], tuple[Section, ...]] | None = None


def _context(request: Request) -> ApiContext:
    context = request.app.state.context
    if not isinstance(context, ApiContext):
        raise TypeError("the application was made without its context")
    return context


def _identity(request: Request) -> Identity:
    identity = identity_of(request)
    if identity is None:
        raise ApiError("unauthenticated", "a key is needed")
    return identity


Context = Annotated[ApiContext, Depends(_context)]
Asker = Annotated[Identity, Depends(_identity)]

UID_PATTERN = r"^[0-9]{1,60}(\.[0-9]{1,60}){1,31}$"
Uid = Annotated[
    str,
    Path(max_length=64, pattern=UID_PATTERN, examples=["1.2.826.0.1.3680043.8.498.1"]),
]
RowId = Annotated[int, Path(ge=1, le=2**62)]
Limit = Annotated[int, Query(ge=1, le=200, description="most items on a page")]
Offset = Annotated[int, Query(ge=0, le=1_000_000, description="items to leave out first")]
BeforeId = Annotated[
    int | None, Query(ge=1, le=2**62, description="only items with a smaller id (next page)")
]
