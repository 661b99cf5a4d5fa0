"""Administration: jobs, deliveries, and the dead ones of both, with another try; the models."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from inference.api.deps import Asker, BeforeId, Context, RowId
from inference.api.errors import ApiError
from inference.api.pages.cards import model_card
from inference.api.pages.render import page
from inference.api.routes.jobs import requeue_job
from inference.domain.job import JobState
from inference.domain.result import DeliveryState
from inference.domain.roles import Permissions, Role
from inference.storage import audit
from inference.storage import deliveries as delivery_store
from inference.storage import jobs as job_store

ADMINS = frozenset({Role.ADMIN})
router = APIRouter(include_in_schema=False)
PERMISSIONS: Permissions = {
    ("GET", "/admin/jobs"): ADMINS,
    ("GET", "/admin/deliveries"): ADMINS,
    ("GET", "/admin/dead"): ADMINS,
    ("POST", "/admin/jobs/{job_id}/retry"): ADMINS,
    ("POST", "/admin/deliveries/{delivery_id}/retry"): ADMINS,
    ("POST", "/admin/deliveries/{destination}/retry-dead"): ADMINS,
    ("GET", "/admin/models"): ADMINS,
}
ROWS = 50
MOST_RETRIES = 1000
Filter = Annotated[str, Query(max_length=64)]


@router.get("/admin/jobs", response_class=HTMLResponse)
def jobs(
    request: Request,
    context: Context,
    state: Filter = "",
    study_uid: Filter = "",
    model: Filter = "",
    before_id: BeforeId = None,
) -> HTMLResponse:
    """Show jobs, newest first, narrowed by state, study and model."""
    with context.database.read() as connection:
        found = job_store.list_jobs(
            connection,
            state=_state(JobState, state),
            study_uid=study_uid or None,
            model=model or None,
            before_id=before_id,
            limit=ROWS + 1,
        )
        counts = job_store.count_by_state(connection)
    return page(
        request,
        "admin_jobs.html",
        section="admin",
        tab="jobs",
        jobs=found[:ROWS],
        counts=counts,
        older=found[ROWS - 1].id if len(found) > ROWS else None,
        state=state,
        study_uid=study_uid,
        model=model,
        states=list(JobState),
        models=sorted(context.models),
    )


@router.get("/admin/deliveries", response_class=HTMLResponse)
def deliveries(
    request: Request,
    context: Context,
    state: Filter = "",
    destination: Filter = "",
    study_uid: Filter = "",
    before_id: BeforeId = None,
) -> HTMLResponse:
    """Show deliveries, newest first, narrowed by state, destination and study."""
    with context.database.read() as connection:
        found = delivery_store.list_deliveries(
            connection,
            state=_state(DeliveryState, state),
            destination=destination or None,
            study_uid=study_uid or None,
            before_id=before_id,
            limit=ROWS + 1,
        )
        counts = delivery_store.count_by_state(connection)
    return page(
        request,
        "admin_deliveries.html",
        section="admin",
        tab="deliveries",
        deliveries=found[:ROWS],
        counts=counts,
        older=found[ROWS - 1].id if len(found) > ROWS else None,
        state=state,
        destination=destination,
        study_uid=study_uid,
        states=list(DeliveryState),
        destinations=[one.name for one in context.destinations],
    )


@router.get("/admin/dead", response_class=HTMLResponse)
def dead_letters(request: Request, context: Context) -> HTMLResponse:
    """Show what was given up: nothing here goes on by itself."""
    with context.database.read() as connection:
        dead_jobs = job_store.list_jobs(connection, state=JobState.DEAD, limit=200)
        dead = delivery_store.list_deliveries(connection, state=DeliveryState.DEAD, limit=200)
    return page(
        request,
        "admin_dead.html",
        section="admin",
        tab="dead",
        jobs=dead_jobs,
        deliveries=dead,
        destinations=sorted({one.destination for one in dead}),
    )


@router.post("/admin/jobs/{job_id}/retry")
def retry_job(context: Context, asker: Asker, job_id: RowId) -> RedirectResponse:
    """Queue a dead job again with fresh tries."""
    requeue_job(context, asker, job_id)
    return RedirectResponse("/admin/dead", 303)


@router.post("/admin/deliveries/{delivery_id}/retry")
def retry_delivery(context: Context, asker: Asker, delivery_id: RowId) -> RedirectResponse:
    """Queue a dead delivery again with fresh tries."""
    _retry(context, asker.name, (delivery_id,))
    return RedirectResponse("/admin/dead", 303)


@router.post("/admin/deliveries/{destination}/retry-dead")
def retry_destination(context: Context, asker: Asker, destination: str) -> RedirectResponse:
    """Queue every dead delivery to one destination again: it is back."""
    with context.database.read() as connection:
        dead = delivery_store.list_deliveries(
            connection, state=DeliveryState.DEAD, destination=destination, limit=MOST_RETRIES
        )
    if not dead:
        raise ApiError("not_found", "no dead delivery goes to that destination")
    _retry(context, asker.name, tuple(one.id for one in dead))
    return RedirectResponse("/admin/dead", 303)


@router.get("/admin/models", response_class=HTMLResponse)
def models(request: Request, context: Context) -> HTMLResponse:
    """Show the models: their cards, whether they are ready, and which engine was chosen."""
    ready = {check.name.removeprefix("model "): check for check in context.health.checks()}
    rows: list[dict[str, Any]] = [
        {
            "card": model_card(spec),
            "weights": spec.weights.sha256,
            "is_ready": ready[spec.name].is_ready if spec.name in ready else None,
            "detail": ready[spec.name].detail if spec.name in ready else "",
            "engine": spec.engine.label,
        }
        for spec in context.models.values()
    ]
    return page(request, "admin_models.html", section="admin", tab="models", models=rows)


def _retry(context: Any, name: str, ids: tuple[int, ...]) -> None:
    with context.database.write() as connection:
        now = context.database.now(connection)
        for delivery_id in ids:
            delivery = delivery_store.requeue(connection, delivery_id, now=now)
            audit.append(
                connection,
                at=now,
                actor=f"http:{name}",
                action="delivery.requeued",
                subject=delivery.study_uid,
                detail={"delivery_id": delivery_id},
            )
    context.database.notify()


def _state(kind: Any, text: str) -> Any:
    """Return the state of a filter; an unknown one shows everything."""
    return next((one for one in kind if one.value == text), None)
