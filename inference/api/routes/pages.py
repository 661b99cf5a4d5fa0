"""The pages' addresses; what they show comes from `inference.api.pages`."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any
from urllib.parse import parse_qs, urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse

from inference.api.access import SESSION_COOKIE, SIGN_IN_PATH, Identity
from inference.api.deps import UID_PATTERN, ApiContext, Asker, Context, Uid
from inference.api.errors import ApiError
from inference.api.keys import SESSION_ABSOLUTE_S
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
from inference.api.pages.review_words import language_of
from inference.api.pages.study_page import person_name, stamp_of, study_page, study_title
from inference.api.routes.models import ModelName, spec_of
from inference.api.routes.reviews import MOST_REVIEWS
from inference.api.routes.studies import note_reading
from inference.domain.concordance import GROUPINGS, concordance
from inference.domain.job import JobState
from inference.domain.study_state import StudyState
from inference.storage import reviews as review_store
from inference.storage import studies as study_store

router = APIRouter(include_in_schema=False)
ROWS_PER_PAGE = 50
MAX_FORM_BYTES = 4096
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
        language=language_of(request.headers.get("accept-language", ""), lang),
    )
    note_reading(context, asker, study_uid)
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


@router.get(SIGN_IN_PATH, response_class=HTMLResponse)
def sign_in_form(
    request: Request, context: Context, target: Annotated[str, Query(alias="next")] = "/"
) -> Response:
    """Show the key form."""
    if not context.access.is_on:
        return RedirectResponse("/", 303)
    return page(request, "sign_in.html", section="", next=local_path(target), problem="")


@router.post(SIGN_IN_PATH, response_class=HTMLResponse)
async def sign_in(request: Request, context: Context) -> Response:
    """Exchange a key for a session cookie."""
    access = context.access
    if not access.is_on:
        return RedirectResponse("/", 303)
    form = await _form(request)
    target = local_path(form.get("next", "/"))
    address = request.client.host if request.client else ""
    wait_s = access.limiter.wait_s(address)
    name = None if wait_s > 0 else access.keys.name_of(form.get("key", "").strip())
    if name is None:
        if wait_s == 0:
            access.limiter.failed(address)
        problem = (
            f"Too many wrong keys; try again in {wait_s:.0f} s."
            if wait_s > 0
            else "This key is not known here."
        )
        status = 429 if wait_s > 0 else 401
        return page(
            request, "sign_in.html", section="", status=status, next=target, problem=problem
        )
    answer = RedirectResponse(target, 303)
    answer.set_cookie(
        SESSION_COOKIE,
        access.sessions.begin(name),
        max_age=SESSION_ABSOLUTE_S,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
        path="/",
    )
    return answer


@router.post("/sign-out")
def sign_out(request: Request, context: Context) -> Response:
    """End the session."""
    token = request.cookies.get(SESSION_COOKIE)
    if token:
        context.access.sessions.end(token)
    answer = RedirectResponse(SIGN_IN_PATH, 303)
    answer.delete_cookie(SESSION_COOKIE, path="/", httponly=True, samesite="strict")
    return answer


def local_path(target: str) -> str:
    """Return where to go after signing in; only ever an address of this service."""
    is_local = target.startswith("/") and not target.startswith("//") and "\\" not in target
    return target if is_local and target.isprintable() else "/"


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


async def _form(request: Request) -> dict[str, str]:
    """Read a small form.

    Raises
    ------
    ApiError
    """
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise ApiError("unsupported_media_type", "send application/x-www-form-urlencoded")
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_FORM_BYTES:
            raise ApiError("body_too_large", f"the limit here is {MAX_FORM_BYTES} bytes")
    try:
        fields = parse_qs(body.decode("utf-8"), max_num_fields=10)
    except ValueError as error:
        raise ApiError("bad_request", "the form is malformed") from error
    return {name: values[0] for name, values in fields.items()}
