"""The pages' addresses; what they show comes from `inference.api.pages`."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse

from inference.api.access import Identity
from inference.api.deps import UID_PATTERN, ApiContext, Asker, Context, Uid
from inference.api.overview import (
    WORDS,
    StudyOverview,
    list_overviews,
    overview_of,
    priority_word,
    summary_lines,
)
from inference.api.pages.cards import model_card
from inference.api.pages.render import page, render
from inference.api.pages.study_page import person_name, stamp_of, study_page, study_title
from inference.api.pages.words import language_of
from inference.api.routes.models import ModelName, spec_of
from inference.api.routes.reviews import MOST_REVIEWS
from inference.domain.concordance import GROUPINGS, concordance
from inference.domain.job import JobState
from inference.domain.roles import IMAGE_READERS, STAFF, Permissions
from inference.domain.study_state import StudyState
from inference.storage import reviews as review_store
from inference.storage import studies as study_store

router = APIRouter(include_in_schema=False)
PERMISSIONS: Permissions = {
    ("GET", "/"): IMAGE_READERS,
    ("GET", "/fragments/studies"): IMAGE_READERS,
    ("GET", "/studies/{study_uid}"): IMAGE_READERS,
    ("GET", "/fragments/study-stamp/{study_uid}"): IMAGE_READERS,
    ("GET", "/models"): STAFF,
    ("GET", "/models/{name}"): STAFF,
}
ROWS_PER_PAGE = 50
PageNumber = Annotated[int, Query(alias="page", ge=1, le=10_000)]
State = Annotated[StudyState | str | None, Query(max_length=20)]


@router.get("/", response_class=HTMLResponse)
def studies(
    request: Request, context: Context, asker: Asker, state: State = None, number: PageNumber = 1
) -> HTMLResponse:
    """Show the list of studies."""
    values = _rows(context, asker, _known(state), number)
    return page(request, "studies.html", section="studies", **values)


@router.get("/fragments/studies", response_class=HTMLResponse)
def studies_fragment(
    request: Request, context: Context, asker: Asker, state: State = None, number: PageNumber = 1
) -> Response:
    """Show the rows alone, or say that they have not changed."""
    html = render("_studies.html", **_rows(context, asker, _known(state), number))
    tag = f'"{hashlib.sha256(html.encode()).hexdigest()[:32]}"'
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers={"ETag": tag})
    return HTMLResponse(html, headers={"ETag": tag})


@router.get("/studies/{study_uid}", response_class=HTMLResponse)
def study(
    request: Request,
    context: Context,
    asker: Asker,
    study_uid: Uid,
    series: Annotated[str | None, Query(max_length=64, pattern=UID_PATTERN)] = None,
    result: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    lang: Annotated[str, Query(max_length=8)] = "",
) -> HTMLResponse:
    """Show one study: slices, overlay, figures, and the decision about them."""
    values = study_page(
        context,
        asker,
        study_uid,
        wanted_series=series,
        wanted_result=result,
        language=language_of(request, lang),
    )
    return page(request, "study.html", section="studies", **values)


@router.get("/fragments/study-stamp/{study_uid}", response_class=PlainTextResponse)
def study_stamp(context: Context, study_uid: Uid) -> str:
    """Return a text that changes when the study's page does."""
    with context.database.read() as connection:
        return stamp_of(overview_of(connection, study_store.get_study(connection, study_uid)))


@router.get("/models", response_class=HTMLResponse)
def models(request: Request, context: Context) -> HTMLResponse:
    """Show the models that are served."""
    cards = [model_card(spec) for spec in context.models.values()]
    with context.database.read() as connection:
        found = review_store.list_reviews(connection, limit=MOST_REVIEWS)
    figures = [(by, concordance(found, by)) for by in GROUPINGS] if found else []
    return page(request, "models.html", section="models", cards=cards, figures=figures)


@router.get("/models/{name}", response_class=HTMLResponse)
def model(request: Request, context: Context, name: ModelName) -> HTMLResponse:
    """Show one model's card."""
    return page(request, "model.html", section="models", card=model_card(spec_of(context, name)))


def _known(state: str | None) -> StudyState | None:
    """Return the state of the filter; an unknown one shows everything."""
    return StudyState(state) if state in set(StudyState) else None


def _rows(
    context: ApiContext, asker: Identity, state: StudyState | None, number: int
) -> dict[str, Any]:
    with context.database.read() as connection:
        found, has_next = list_overviews(
            connection,
            state=state,
            limit=ROWS_PER_PAGE,
            offset=(number - 1) * ROWS_PER_PAGE,
        )
    return {
        "rows": [_row(context, asker, overview) for overview in found],
        "page": number,
        "has_next": has_next,
        "state": state.value if state else "",
        "states": [one.value for one in StudyState],
        "previous_url": _list_url("/", state, number - 1),
        "next_url": _list_url("/", state, number + 1),
        "fragment_url": _list_url("/fragments/studies", state, number),
        "dicom_address": context.dicom_address,
    }


def _row(context: ApiContext, asker: Identity, overview: StudyOverview) -> dict[str, Any]:
    study = overview.study
    job = overview.job
    return {
        "study_uid": study.study_uid,
        "title": study_title(overview),
        "patient_name": person_name(study.patient_name) if asker.sees_patient_names else "",
        "state": overview.state.value,
        "state_word": WORDS[overview.state],
        "is_running": job is not None and job.state is JobState.LEASED,
        "is_pending": overview.standing.is_pending,
        "progress": job.progress if job else 0.0,
        "step": job.step if job else "",
        "priority": priority_word(job),
        "lines": summary_lines(overview, context.models),
        "n_instances": study.n_instances,
        "expected_instances": study.expected_instances,
        "received_at": study.last_received_at,
    }


def _list_url(path: str, state: StudyState | None, number: int) -> str:
    query = {
        **({"state": state.value} if state else {}),
        **({"page": number} if number > 1 else {}),
    }
    return f"{path}?{urlencode(query)}" if query else path
