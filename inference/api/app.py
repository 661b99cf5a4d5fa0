"""The HTTP application: routes, pages, and the guards around them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.middleware import Middleware
from starlette.staticfiles import StaticFiles

from inference.api.access import AccessGuard
from inference.api.deps import ApiContext
from inference.api.errors import MEDIA_TYPE, install
from inference.api.guards import BodyGuard, BodyLimits, Observation, OriginGuard
from inference.api.pages.render import STATIC_FOLDER, page
from inference.api.routes import (
    conformance,
    deliveries,
    health,
    jobs,
    models,
    pages,
    patients,
    reports,
    results,
    studies,
    views,
)
from inference.api.schemas import ProblemOut

UPLOAD_PATHS = (
    re.compile(r"/v1/studies"),
    re.compile(r"/dicom-web/studies(/[0-9.]+)?"),
)


@dataclass(frozen=True, kw_only=True)
class HttpOptions:
    """How the guards are set: allowed Host names (empty: any) and the largest bodies."""

    allowed_hosts: frozenset[str] = frozenset()
    max_upload_bytes: int = 2 * 1024**3
    max_other_bytes: int = 1024**2


def create_app(
    context: ApiContext, options: HttpOptions, *, more_routers: Sequence[APIRouter] = ()
) -> FastAPI:
    """Build the application; ``more_routers`` are other doors of the service (DICOMweb)."""
    app = FastAPI(
        title="clinfer",
        version=context.version,
        summary="Clinical AI inference: studies in, overlays and reports out. A person decides.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
        responses={
            "default": {
                "model": ProblemOut,
                "description": "A problem (RFC 9457)",
                "content": {MEDIA_TYPE: {}},
            }
        },
        # Outermost first.
        middleware=[
            Middleware(Observation, metrics=context.metrics),
            Middleware(OriginGuard, allowed_hosts=options.allowed_hosts),
            Middleware(AccessGuard, access=context.access),
            Middleware(
                BodyGuard,
                limits=BodyLimits(
                    upload_bytes=options.max_upload_bytes, other_bytes=options.max_other_bytes
                ),
                upload_paths=UPLOAD_PATHS,
            ),
        ],
    )
    app.state.context = context
    install(app, draw_problem)
    for module in (studies, jobs, results, models, deliveries, views, health, pages):
        app.include_router(module.router)
    for module in (patients, reports, conformance):
        app.include_router(module.router)
    for router in more_routers:
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=STATIC_FOLDER), name="static")
    return app


def draw_problem(request: Request, problem: dict[str, Any]) -> Response:
    """Show a problem as a page."""
    return page(request, "problem.html", section="", **problem)
