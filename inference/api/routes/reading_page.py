"""The reading list's page: the same rows as the API's, drawn by the server."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse

from inference.api.access import Identity
from inference.api.deps import ApiContext, Asker, Context
from inference.api.pages.reading_words import LANGUAGES, WORDS
from inference.api.pages.render import page, render
from inference.api.pages.study_page import person_name
from inference.api.pages.words import language_of
from inference.api.routes.reading import SEEING, is_mine, rows_for
from inference.domain.roles import Permissions
from inference.services.telemedicine.listing import Row

router = APIRouter(include_in_schema=False)
PERMISSIONS: Permissions = {
    ("GET", "/reading"): SEEING,
    ("GET", "/fragments/reading"): SEEING,
}
STATES = ("open", "mine", "taken", "signed", "arbitration", "done")
MAX_ROWS = 200
StateQuery = Annotated[str, Query(max_length=20)]
ModalityQuery = Annotated[str, Query(max_length=16)]
LanguageQuery = Annotated[str | None, Query(alias="lang", max_length=8)]


@router.get("/reading", response_class=HTMLResponse)
def reading(
    request: Request,
    context: Context,
    asker: Asker,
    state: StateQuery = "",
    modality: ModalityQuery = "",
    mine: bool = False,
    lang: LanguageQuery = None,
) -> HTMLResponse:
    """Show the reading list."""
    language = language_of(request, lang)
    values = _values(context, asker, state, modality, mine, language)
    return page(request, "reading.html", section="reading", **values)


@router.get("/fragments/reading", response_class=HTMLResponse)
def reading_fragment(
    request: Request,
    context: Context,
    asker: Asker,
    state: StateQuery = "",
    modality: ModalityQuery = "",
    mine: bool = False,
    lang: LanguageQuery = None,
) -> Response:
    """Show the rows alone, or say that they have not changed."""
    language = language_of(request, lang)
    html = render("_reading.html", **_values(context, asker, state, modality, mine, language))
    tag = f'"{hashlib.sha256(html.encode()).hexdigest()[:32]}"'
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers={"ETag": tag})
    return HTMLResponse(html, headers={"ETag": tag})


def _values(
    context: ApiContext, asker: Identity, state: str, modality: str, mine: bool, language: str
) -> dict[str, Any]:
    state = state if state in STATES else ""
    rows, _ = rows_for(context, asker, is_done=state == "done")
    modalities = sorted({one for row in rows for one in row.study.modalities})
    found = [
        one
        for one in rows
        if (not state or one.standing == state)
        and (not modality or modality in one.study.modalities)
        and (not mine or is_mine(one, asker))
    ]
    query = {"state": state, "modality": modality, "mine": "true" if mine else "", "lang": language}
    kept = {name: value for name, value in query.items() if value}
    return {
        "w": WORDS[language],
        "language": language,
        "other_language": next(one for one in LANGUAGES if one != language),
        "other_url": f"/reading?{urlencode(kept | {'lang': _other(language)})}",
        "rows": [_row(one, asker) for one in found[:MAX_ROWS]],
        "state": state,
        "states": STATES,
        "modality": modality,
        "modalities": modalities,
        "mine": mine,
        "fragment_url": f"/fragments/reading?{urlencode(kept)}",
    }


def _other(language: str) -> str:
    return next(one for one in LANGUAGES if one != language)


def _row(row: Row, asker: Identity) -> dict[str, Any]:
    study, task = row.study, row.task
    name = person_name(study.patient_name) if asker.sees_patient_names else ""
    return {
        "task_id": task.id,
        "study_uid": study.study_uid,
        "place": row.place,
        "title": study.description or "/".join(study.modalities) or study.study_uid,
        "patient_name": name,
        "modalities": "/".join(study.modalities),
        "priority": task.priority.name.lower(),
        "deadline_at": task.deadline_at,
        "ai_state": row.ai_state.value,
        "lifted_by": row.lifted_by,
        "reason": row.reason,
        "undone_by": task.promotion_undone_by,
        "undone_reason": task.promotion_undone_reason,
        "standing": row.standing,
        "holder": row.holder,
        "is_second": bool(row.note),
        "why_not": row.why_not,
        "escalated_to": ", ".join(task.escalated_to),
        "is_escalated": task.escalation_level > 0,
    }
