"""Administration: the routing table, a dry run on a stored study, and tests of destinations."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from dicom_io.series import scan
from inference.api.deps import UID_PATTERN, ApiContext, Asker, Context, RowId
from inference.api.errors import ApiError
from inference.api.forms import form_of
from inference.api.pages.render import page
from inference.domain.roles import Permissions, Role
from inference.domain.routing import NO_DESTINATION, Routing, RoutingRule
from inference.jobs.errors import DeliveryError
from inference.jobs.routing import facts_of
from inference.pipeline.applicability import applicable
from inference.storage import audit, routing, studies

ADMINS = frozenset({Role.ADMIN})
router = APIRouter(include_in_schema=False)
PERMISSIONS: Permissions = {
    ("GET", "/admin/routes"): ADMINS,
    ("POST", "/admin/routes"): ADMINS,
    ("POST", "/admin/routes/{rule_id}/enabled"): ADMINS,
    ("POST", "/admin/routes/{rule_id}/remove"): ADMINS,
    ("POST", "/admin/destinations/{name}/test"): ADMINS,
}
FIELDS = ("name", "ae_title", "modality", "procedure", "series", "model", "destination")
DestinationName = Annotated[str, Path(max_length=32, pattern=r"^[A-Za-z0-9_-]+$")]


@router.get("/admin/routes", response_class=HTMLResponse)
def routes(
    request: Request,
    context: Context,
    study_uid: Annotated[str, Query(max_length=64)] = "",
) -> HTMLResponse:
    """Show the table; with a study, what it would do to it and why."""
    return _page(request, context, study_uid=study_uid.strip())


@router.post("/admin/routes")
async def add_rule(request: Request, context: Context, asker: Asker) -> RedirectResponse:
    """Add a rule at the end."""
    form = await form_of(request)
    values = {name: form.get(name) for name in FIELDS}
    if values["model"] and values["model"] not in context.models:
        raise ApiError("invalid_request", f"model: one of {', '.join(sorted(context.models))}")
    names = {one.name for one in context.destinations} | {"", NO_DESTINATION}
    if values["destination"] not in names:
        raise ApiError("invalid_request", f"destination: one of {', '.join(sorted(names - {''}))}")
    with context.database.write() as connection:
        rule = RoutingRule(
            position=0,
            name=values["name"],
            ae_title=values["ae_title"],
            modality=values["modality"],
            procedure=values["procedure"],
            series=values["series"],
            model=values["model"],
            destination=values["destination"],
        )
        routing.add_rule(connection, rule)
        _note(context, connection, asker.name, "routing.added", values["name"], values)
    return RedirectResponse("/admin/routes", 303)


@router.post("/admin/routes/{rule_id}/enabled")
async def set_enabled(
    request: Request, context: Context, asker: Asker, rule_id: RowId
) -> RedirectResponse:
    """Switch a rule on or off."""
    form = await form_of(request)
    is_enabled = form.get("is_enabled") == "true"
    with context.database.write() as connection:
        routing.set_enabled(connection, rule_id, is_enabled)
        _note(
            context,
            connection,
            asker.name,
            "routing.changed",
            str(rule_id),
            {"is_enabled": is_enabled},
        )
    return RedirectResponse("/admin/routes", 303)


@router.post("/admin/routes/{rule_id}/remove")
def remove_rule(context: Context, asker: Asker, rule_id: RowId) -> RedirectResponse:
    """Forget a rule."""
    with context.database.write() as connection:
        routing.remove_rule(connection, rule_id)
        _note(context, connection, asker.name, "routing.removed", str(rule_id), {})
    return RedirectResponse("/admin/routes", 303)


@router.post("/admin/destinations/{name}/test", response_class=HTMLResponse)
def try_destination(
    request: Request, context: Context, asker: Asker, name: DestinationName
) -> HTMLResponse:
    """Try one destination: C-ECHO, or a STOW-RS request that stores nothing."""
    found = next((one for one in context.destinations if one.name == name), None)
    if found is None or context.check_destination is None:
        raise ApiError("not_found", f"no destination is named {name}")
    try:
        answer, is_well = context.check_destination(found), True
    except DeliveryError as error:
        answer, is_well = str(error), False
    with context.database.write() as connection:
        _note(context, connection, asker.name, "destination.tried", name, {"is_well": is_well})
    tried = {"name": name, "answer": answer, "is_well": is_well}
    return _page(request, context, study_uid="", tried=tried)


def dry_run(context: ApiContext, study_uid: str) -> list[dict[str, Any]]:
    """Say for each series of a stored study which rules take it, what would run, and why.

    Raises
    ------
    NotFoundError
    """
    with context.database.read() as connection:
        rules = routing.list_rules(connection)
        facts = facts_of(connection, context.objects, study_uid)
        images = studies.list_instances(connection, study_uid, images_only=True)
    paths = [context.objects.path(one.sha256) for one in images]
    series = {one.series_uid: one for one in scan(p for p in paths if p.is_file()).series}
    table = Routing(rules=rules if any(rule.is_enabled for rule in rules) else (), facts=facts)
    found = []
    for series_uid, fact in facts.items():
        models = []
        for name, spec in context.models.items():
            routed = table.takes(series_uid, name)
            reason = applicable(spec, series[series_uid]) if series_uid in series else "no image"
            models.append(
                {
                    "name": name,
                    "is_run": routed and reason is None,
                    "is_routed": routed,
                    "reason": reason or "",
                    "destinations": [
                        one.name
                        for one in context.destinations
                        if table.delivers(series_uid, name, one.name)
                    ],
                }
            )
        found.append(
            {
                "facts": fact,
                "rules": [(rule, rule.mismatch(fact)) for rule in rules],
                "models": models,
            }
        )
    return found


def _page(
    request: Request, context: ApiContext, *, study_uid: str, tried: dict[str, Any] | None = None
) -> HTMLResponse:
    is_uid = bool(re.fullmatch(UID_PATTERN, study_uid))
    if study_uid and not is_uid:
        raise ApiError("invalid_request", "study_uid: a Study Instance UID, digits and dots")
    with context.database.read() as connection:
        rules = routing.list_rules(connection)
    return page(
        request,
        "admin_routes.html",
        section="admin",
        tab="routes",
        rules=rules,
        models=sorted(context.models),
        destinations=[_shown(one) for one in context.destinations],
        none=NO_DESTINATION,
        study_uid=study_uid,
        outcome=dry_run(context, study_uid) if is_uid else None,
        tried=tried,
    )


def _shown(destination: Any) -> dict[str, str]:
    where = getattr(destination, "url", "") or (
        f"{getattr(destination, 'called_aet', '')}@{getattr(destination, 'host', '')}"
        f":{getattr(destination, 'port', '')}"
    )
    kind = "STOW-RS" if hasattr(destination, "url") else "C-STORE"
    return {"name": destination.name, "kind": kind, "where": where}


def _note(
    context: ApiContext,
    connection: Any,
    name: str,
    action: str,
    subject: str,
    detail: dict[str, Any],
) -> None:
    audit.append(
        connection,
        at=context.database.now(connection),
        actor=f"http:{name}",
        action=action,
        subject=subject,
        detail=detail,
    )
