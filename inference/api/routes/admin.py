"""The administration's first page, and its people: who may sign in, and as what."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool

from inference.api.access import Identity
from inference.api.deps import ApiContext, Asker, Context
from inference.api.errors import ApiError
from inference.api.forms import Form, form_of
from inference.api.pages.render import page
from inference.api.passwords import LEAST_CHARACTERS, check_password
from inference.domain.roles import Permissions, Role
from inference.storage import audit, people

ADMINS = frozenset({Role.ADMIN})
router = APIRouter(include_in_schema=False)
PERMISSIONS: Permissions = {
    ("GET", "/admin"): frozenset({Role.ADMIN, Role.AUDITOR}),
    ("GET", "/admin/people"): ADMINS,
    ("POST", "/admin/people"): ADMINS,
    ("POST", "/admin/people/{name}/roles"): ADMINS,
    ("POST", "/admin/people/{name}/password"): ADMINS,
    ("POST", "/admin/people/{name}/disabled"): ADMINS,
}
Name = Annotated[str, Path(max_length=64, pattern=r"^[a-z0-9][a-z0-9._@-]*$")]


@router.get("/admin")
def first_page(asker: Asker) -> RedirectResponse:
    """Lead to the first page that the role opens."""
    is_admin = Role.ADMIN in asker.roles
    return RedirectResponse("/admin/people" if is_admin else "/admin/audit", 303)


@router.get("/admin/people", response_class=HTMLResponse)
def list_people(request: Request, context: Context) -> HTMLResponse:
    """Show everybody."""
    with context.database.read() as connection:
        found = people.list_people(connection)
    return page(
        request,
        "admin_people.html",
        section="admin",
        tab="people",
        people=found,
        roles=list(Role),
        least=LEAST_CHARACTERS,
    )


@router.post("/admin/people")
async def add_person(request: Request, context: Context, asker: Asker) -> RedirectResponse:
    """Add a local person with a first password, which they change when they sign in."""
    form = await form_of(request)
    return await run_in_threadpool(_add, context, asker, form)


@router.post("/admin/people/{name}/roles")
async def set_roles(
    request: Request, context: Context, asker: Asker, name: Name
) -> RedirectResponse:
    """Replace a person's roles."""
    form = await form_of(request)
    with context.database.write() as connection:
        changed = people.set_roles(
            connection, name, _roles(form), compartment=_patients(form.get("patients"))
        )
        audit.append(
            connection,
            at=context.database.now(connection),
            actor=f"http:{asker.name}",
            action="person.roles_changed",
            subject=changed.name,
            detail={"roles": sorted(changed.roles)},
        )
    return RedirectResponse("/admin/people", 303)


@router.post("/admin/people/{name}/password")
async def set_password(
    request: Request, context: Context, asker: Asker, name: Name
) -> RedirectResponse:
    """Give a person a password for one sign-in; every session of theirs ends."""
    form = await form_of(request)
    return await run_in_threadpool(_set_password, context, asker, name, form.exact("password"))


@router.post("/admin/people/{name}/disabled")
async def set_disabled(
    request: Request, context: Context, asker: Asker, name: Name
) -> RedirectResponse:
    """Shut a person out, or let them in again."""
    form = await form_of(request)
    is_disabled = form.get("is_disabled") == "true"
    with context.database.write() as connection:
        people.set_disabled(connection, name, is_disabled)
        audit.append(
            connection,
            at=context.database.now(connection),
            actor=f"http:{asker.name}",
            action="person.disabled" if is_disabled else "person.enabled",
            subject=name,
        )
    return RedirectResponse("/admin/people", 303)


def _add(context: ApiContext, asker: Identity, form: Form) -> RedirectResponse:
    name, password = form.get("name").lower(), form.exact("password")
    check_password(password, name=name)
    password_hash = context.access.signing_in.passwords.hash(password)
    with context.database.write() as connection:
        now = context.database.now(connection)
        made = people.add(
            connection,
            name=name,
            display_name=form.get("display_name")[:200],
            roles=_roles(form),
            password_hash=password_hash,
            must_change_password=True,
            compartment=_patients(form.get("patients")),
            now=now,
        )
        audit.append(
            connection,
            at=now,
            actor=f"http:{asker.name}",
            action="person.added",
            subject=made.name,
            detail={"roles": sorted(made.roles)},
        )
    return RedirectResponse("/admin/people", 303)


def _set_password(
    context: ApiContext, asker: Identity, name: str, password: str
) -> RedirectResponse:
    check_password(password, name=name)
    password_hash = context.access.signing_in.passwords.hash(password)
    with context.database.write() as connection:
        now = context.database.now(connection)
        people.set_password(connection, name, password_hash, now=now, must_change=True)
        audit.append(
            connection,
            at=now,
            actor=f"http:{asker.name}",
            action="person.password_changed",
            subject=name,
        )
    return RedirectResponse("/admin/people", 303)


def _roles(form: Form) -> list[Role]:
    try:
        return [Role(value) for value in form.all("roles")]
    except ValueError as error:
        raise ApiError("invalid_request", f"roles: {error}") from error


def _patients(text: str) -> list[tuple[str, str]]:
    """Read one IDENTIFIER@AUTHORITY per line."""
    found = []
    for line in text.split():
        identifier, _, authority = line.rpartition("@")
        if not identifier or not authority:
            raise ApiError("invalid_request", "patients: one IDENTIFIER@AUTHORITY on each line")
        found.append((identifier, authority))
    return found
