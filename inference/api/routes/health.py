"""Is the service alive, is it ready, and its metrics."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from inference.api.deps import Context
from inference.api.schemas import CheckOut, ReadyOut
from inference.domain.roles import Permissions, Role

router = APIRouter(tags=["health"])
PERMISSIONS: Permissions = {("GET", "/metrics"): frozenset({Role.ADMIN, Role.INTEGRATION})}


@router.get("/healthz", summary="Alive: the process answers")
async def healthz() -> dict[Literal["status"], Literal["alive"]]:
    """Answer without asking any part."""
    return {"status": "alive"}


@router.get(
    "/readyz",
    summary="Ready: database, disk, inference server and models, each named",
    responses={503: {"model": ReadyOut, "description": "a part is not ready"}},
)
def readyz(context: Context, response: Response) -> ReadyOut:
    """Ask each part."""
    checks = context.health.checks()
    is_ready = all(check.is_ready for check in checks)
    response.status_code = 200 if is_ready else 503
    return ReadyOut(
        is_ready=is_ready,
        checks=[
            CheckOut(name=check.name, is_ready=check.is_ready, detail=check.detail)
            for check in checks
        ],
    )


@router.get("/metrics", summary="Metrics in Prometheus' text format", response_class=Response)
def metrics(context: Context) -> Response:
    """Return counters, histograms, and gauges read at this moment."""
    return Response(
        generate_latest(context.metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
    )
