"""The conformance statement as a page, and as the document that lies in docs."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import PlainTextResponse
from markupsafe import Markup, escape

from inference.api.deps import Context
from inference.api.errors import ApiError
from inference.api.pages.render import page
from inference.domain.roles import Permissions, Role
from inference.domain.statement import markdown

PERMISSIONS: Permissions = {("GET", "/conformance"): frozenset(Role)}
router = APIRouter(include_in_schema=False)
TITLES = {"en": "Conformance statement", "zh": "一致性声明"}
_CODE = re.compile(r"`([^`]*)`")


@router.get("/conformance")
def conformance(
    request: Request,
    context: Context,
    lang: Literal["en", "zh"] = "en",
    form: Annotated[Literal["page", "markdown"], Query(alias="as")] = "page",
) -> Response:
    """Show what this service conforms to, as it runs."""
    if context.statement is None:
        raise ApiError("not_found", "this application was made without a statement")
    paths = request.app.openapi()["paths"]
    routes = [(method.upper(), path) for path, methods in paths.items() for method in methods]
    sections = context.statement(routes)
    if form == "markdown":
        return PlainTextResponse(
            markdown(TITLES["en"], sections), media_type="text/markdown; charset=utf-8"
        )
    return page(
        request,
        "conformance.html",
        section="conformance",
        title=TITLES[lang],
        lang=lang,
        sections=sections,
        prose=_prose,
    )


def _prose(text: str) -> Markup:
    """Escape text and show what stands between backticks as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped before
