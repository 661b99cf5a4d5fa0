"""Administration: the disk, and how long each kind of data is kept."""

from __future__ import annotations

import shutil

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool

from inference.api.deps import Asker, Context
from inference.api.errors import ApiError
from inference.api.forms import form_of
from inference.api.pages.render import page
from inference.domain.roles import Permissions, Role
from inference.jobs.retention import remove_due
from inference.storage import audit, retention

ADMINS = frozenset({Role.ADMIN})
router = APIRouter(include_in_schema=False)
PERMISSIONS: Permissions = {
    ("GET", "/admin/storage"): ADMINS,
    ("POST", "/admin/storage/rules"): ADMINS,
    ("POST", "/admin/storage/remove"): ADMINS,
}


@router.get("/admin/storage", response_class=HTMLResponse)
def storage(request: Request, context: Context) -> HTMLResponse:
    """Show the disk, the rules, and what each would remove now."""
    with context.database.read() as connection:
        due = retention.preview(connection, now=context.database.now(connection))
    disk = shutil.disk_usage(context.objects.root)
    return page(
        request,
        "admin_storage.html",
        section="admin",
        tab="storage",
        due=due,
        free_bytes=disk.free,
        total_bytes=disk.total,
        watermark_bytes=context.watermark_bytes,
        most_days=retention.MOST_DAYS,
    )


@router.post("/admin/storage/rules")
async def set_rule(request: Request, context: Context, asker: Asker) -> RedirectResponse:
    """Set the days of one kind; empty keeps it for good."""
    form = await form_of(request)
    text = form.get("days")
    if text and not text.isdecimal():
        raise ApiError("invalid_request", "days: a whole number, or empty to keep for good")
    days = int(text[:6]) if text else None
    with context.database.write() as connection:
        retention.set_days(connection, form.get("kind"), days)
        audit.append(
            connection,
            at=context.database.now(connection),
            actor=f"http:{asker.name}",
            action="retention.changed",
            subject=form.get("kind"),
            detail={"days": days},
        )
    return RedirectResponse("/admin/storage", 303)


@router.post("/admin/storage/remove")
async def remove(request: Request, context: Context, asker: Asker) -> RedirectResponse:
    """Remove what is due of one kind, a bounded number at a time."""
    form = await form_of(request)
    kind = next((one for one in retention.KINDS if one == form.get("kind")), None)
    if kind is None:
        raise ApiError("invalid_request", f"kind: one of {', '.join(retention.KINDS)}")
    await run_in_threadpool(
        remove_due, context.database, context.objects, kind, by=f"http:{asker.name}"
    )
    return RedirectResponse("/admin/storage", 303)
