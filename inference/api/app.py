"""The HTTP application: routes, pages, and the guards around them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.middleware import Middleware
from starlette.staticfiles import StaticFiles

from inference.api.access import AccessGuard
from inference.api.deps import ApiContext
from inference.api.errors import MEDIA_TYPE, install
from inference.api.gate import RouteGate, RouteKey
from inference.api.guards import BodyGuard, BodyLimits, Observation, OriginGuard
from inference.api.pages.render import STATIC_FOLDER, page
from inference.api.routes import (
    admin,
    admin_audit,
    admin_routing,
    admin_storage,
    admin_work,
    changes,
    conformance,
    deliveries,
    health,
    jobs,
    launch,
    models,
    pages,
    patients,
    reading,
    reading_page,
    release,
    reports,
    results,
    reviews,
    sign_in,
    studies,
    views,
)
from inference.api.schemas import ProblemOut
from inference.domain.roles import STAFF, Permissions

UPLOAD_PATHS = (
    re.compile(r"/v1/studies"),
    re.compile(r"/dicom-web/studies(/[0-9.]+)?"),
)


PERMISSIONS: Permissions = {("GET", "/openapi.json"): STAFF}


@dataclass(frozen=True, kw_only=True)
class Door:
    """Another door of the service: its routes, and which roles each opens to."""

    router: APIRouter
    permissions: Permissions
    compartment_aware: frozenset[RouteKey] = frozenset()


@dataclass(frozen=True, kw_only=True)
class HttpOptions:
    """How the guards are set: allowed Host names (empty: any) and the largest bodies."""

    allowed_hosts: frozenset[str] = frozenset()
    max_upload_bytes: int = 2 * 1024**3
    max_other_bytes: int = 1024**2
    is_behind_tls: bool = False
    """Whether browsers come by https; cookies are then for https only."""


def create_app(context: ApiContext, options: HttpOptions, *, doors: Sequence[Door] = ()) -> FastAPI:
    """Build the application; ``doors`` are other ways in (DICOMweb)."""
    gate = RouteGate()
    app = FastAPI(
        title="clinfer",
        version=context.version,
        summary="Clinical AI inference: studies in, overlays and reports out. A person decides.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
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
            Middleware(AccessGuard, access=context.access, gate=gate, draw=draw_problem),
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
    app.state.is_behind_tls = options.is_behind_tls
    install(app, draw_problem)
    modules = (
        studies, jobs, results, reviews, changes, models, deliveries, release, views, health, pages,
        reading, reading_page, sign_in, launch, patients, reports, conformance,
        admin, admin_work, admin_routing, admin_storage, admin_audit,
    )  # fmt: skip
    for router in (*(module.router for module in modules), *(door.router for door in doors)):
        app.include_router(router)

    @app.get("/openapi.json", include_in_schema=False)
    def openapi() -> JSONResponse:
        return JSONResponse(app.openapi())

    app.mount("/static", StaticFiles(directory=STATIC_FOLDER), name="static")
    gate.close(
        app.routes,
        [
            PERMISSIONS,
            *(module.PERMISSIONS for module in modules),
            *(door.permissions for door in doors),
        ],
        compartment_aware=[
            *sign_in.COMPARTMENT_AWARE,
            *(key for door in doors for key in door.compartment_aware),
        ],
    )
    app.state.gate = gate
    return app


def draw_problem(request: Request, problem: dict[str, Any]) -> Response:
    """Show a problem as a page."""
    return page(request, "problem.html", section="", **problem)
