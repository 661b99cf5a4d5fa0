"""Templates to HTML; everything that goes into one is escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from inference.api.access import identity_of
from inference.api.pages.words import words_of
from inference.version import SOFTWARE_VERSION

FOLDER = Path(__file__).resolve().parent
STATIC_FOLDER = FOLDER / "static"

_environment = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(name: str, **values: Any) -> str:
    """Fill a template."""
    return _environment.get_template(name).render(**values)


def page(
    request: Request, name: str, *, section: str, status: int = 200, **values: Any
) -> HTMLResponse:
    """Answer with a whole page; ``section`` marks where in the navigation it belongs.

    Templates are given ``t``, the words of whoever asks, besides ``values``.
    """
    query = f"?{request.url.query}" if request.url.query else ""
    html = render(
        name,
        t=words_of(request),
        here=request.url.path + query if request.method == "GET" else "/",
        identity=identity_of(request),
        section=section,
        version=SOFTWARE_VERSION,
        **values,
    )
    return HTMLResponse(html, status)
