"""Signing in and out: by password, at an identity provider, or with a key; the language."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool

from inference.api.access import PASSWORD_PATH, SESSION_COOKIE, SIGN_IN_PATH, Identity, identity_of
from inference.api.deps import ApiContext, Asker, Context
from inference.api.errors import ApiError
from inference.api.forms import form_of, local_path
from inference.api.oidc import BEGUN_LIFE_S, Claimed, OidcError, OidcUnavailableError
from inference.api.pages.render import page
from inference.api.pages.words import LANGUAGE_COOKIE, LANGUAGES, words_of
from inference.api.passwords import LEAST_CHARACTERS, PasswordRuleError
from inference.api.sessions import SESSION_ABSOLUTE
from inference.api.signing_in import Attempt
from inference.domain.roles import IMAGE_READERS, Permissions, Role
from inference.storage import people
from inference.storage.people import Person

router = APIRouter(include_in_schema=False)
PERMISSIONS: Permissions = {
    ("GET", PASSWORD_PATH): frozenset(Role),
    ("POST", PASSWORD_PATH): frozenset(Role),
}
COMPARTMENT_AWARE = frozenset({("GET", PASSWORD_PATH), ("POST", PASSWORD_PATH)})
DEVICE_COOKIE = "clinfer_device"
OIDC_COOKIE = "clinfer_oidc"
LANGUAGE_LIFE_S = 365 * 24 * 3600
Text = Annotated[str, Query(max_length=4096)]


@router.get(SIGN_IN_PATH, response_class=HTMLResponse)
def sign_in_form(
    request: Request, context: Context, target: Annotated[str, Query(alias="next")] = "/"
) -> Response:
    """Show the forms."""
    if not context.access.is_on:
        return RedirectResponse("/", 303)
    return _form_page(request, context, local_path(target))


@router.post(SIGN_IN_PATH, response_class=HTMLResponse)
async def sign_in(request: Request, context: Context) -> Response:
    """Exchange a name and password, or a key, for a session cookie."""
    if not context.access.is_on:
        return RedirectResponse("/", 303)
    form = await form_of(request)
    target = local_path(form.get("next", "/"))
    if form.get("key"):
        return await run_in_threadpool(_with_key, request, context, form.get("key"), target)
    attempt = Attempt(
        name=form.get("name"),
        password=form.exact("password"),
        address=address_of(request),
        device_token=request.cookies.get(DEVICE_COOKIE, ""),
    )
    return await run_in_threadpool(_with_password, request, context, attempt, target)


@router.post("/sign-out")
def sign_out(request: Request, context: Context) -> Response:
    """End the session."""
    token = request.cookies.get(SESSION_COOKIE)
    if token:
        context.access.sessions.end(token)
    answer = RedirectResponse(SIGN_IN_PATH, 303)
    answer.delete_cookie(SESSION_COOKIE, path="/", httponly=True, samesite="lax")
    return answer


@router.get("/sign-in/provider")
def begin_at_provider(
    request: Request, context: Context, target: Annotated[str, Query(alias="next")] = "/"
) -> Response:
    """Lead to the identity provider."""
    oidc = context.access.oidc
    if oidc is None:
        raise ApiError("not_found", "no identity provider is set")
    address, state = oidc.begin(local_path(target))
    answer = RedirectResponse(address, 303)
    _set_cookie(request, answer, OIDC_COOKIE, state, int(BEGUN_LIFE_S))
    return answer


@router.get("/sign-in/provider/answer", response_class=HTMLResponse)
def answer_of_provider(
    request: Request,
    context: Context,
    state: Text = "",
    code: Text = "",
    iss: Text = "",
    error: Text = "",
) -> Response:
    """Take the provider's answer: a session, or the form again with the reason."""
    oidc, words = context.access.oidc, words_of(request)
    if oidc is None:
        raise ApiError("not_found", "no identity provider is set")
    try:
        if error or not code:
            raise OidcError(field="code", problem="the provider gave none")
        bound = request.cookies.get(OIDC_COOKIE, "")
        claimed, target = oidc.finish(state=state, bound_state=bound, code=code, issuer=iss)
    except (OidcError, OidcUnavailableError) as failure:
        request.scope["state"]["problem_code"] = failure.code
        problem = words("sign_in.oidc_failed", reason=str(failure))
        status = 503 if isinstance(failure, OidcUnavailableError) else 401
        return _form_page(request, context, "/", problem=problem, status=status)
    person = person_of(context, claimed)
    if not person.roles or person.is_disabled:
        request.scope["state"]["problem_code"] = "forbidden"
        return _form_page(request, context, "/", problem=words("sign_in.no_role"), status=403)
    return _welcome(request, context, person, target, by="oidc")


@router.get(PASSWORD_PATH, response_class=HTMLResponse)
def password_form(request: Request, asker: Asker) -> HTMLResponse:
    """Show the form for another password."""
    return _password_page(request, asker)


@router.post(PASSWORD_PATH, response_class=HTMLResponse)
async def change_password(request: Request, context: Context, asker: Asker) -> Response:
    """Replace one's own password; every session ends, and a new one begins here."""
    form = await form_of(request)
    words = words_of(request)
    if not asker.is_person:
        return _password_page(request, asker, words("sign_in.no_password"), 409)
    try:
        is_changed = await run_in_threadpool(
            context.access.signing_in.change_password,
            asker.name,
            form.exact("current"),
            form.exact("new"),
            address=address_of(request),
        )
    except (PasswordRuleError, people.PersonError) as error:
        return _password_page(request, asker, str(error), 422)
    if not is_changed:
        return _password_page(request, asker, words("sign_in.wrong_current"), 422)
    with context.database.read() as connection:
        person = people.get(connection, asker.name)
    return await run_in_threadpool(_welcome, request, context, person, "/", by="password")


@router.post("/language")
async def switch_language(request: Request) -> Response:
    """Remember in which language somebody wants the pages."""
    form = await form_of(request)
    language = form.get("language")
    if language not in LANGUAGES:
        raise ApiError("invalid_request", f"language: one of {', '.join(LANGUAGES)}")
    answer = RedirectResponse(local_path(form.get("next", "/")), 303)
    _set_cookie(request, answer, LANGUAGE_COOKIE, language, LANGUAGE_LIFE_S)
    return answer


def person_of(context: ApiContext, claimed: Claimed) -> Person:
    """Return the person a provider vouches for, with the roles that the token gives today."""
    with context.database.write() as connection:
        known = people.find_of_issuer(connection, claimed.issuer, claimed.subject)
        if known is None:
            return people.add(
                connection,
                name=_free_name(claimed, lambda name: people.find(connection, name) is None),
                display_name=claimed.display_name,
                roles=claimed.roles,
                issuer=claimed.issuer,
                issuer_subject=claimed.subject,
                now=context.database.now(connection),
            )
        return people.replace_roles_of_issuer(connection, known, claimed.roles)


def home_of(roles: frozenset[Role]) -> str:
    """Return the first page that somebody with these roles may open."""
    if roles & IMAGE_READERS:
        return "/"
    if Role.ADMIN in roles:
        return "/admin"
    if Role.AUDITOR in roles:
        return "/admin/audit"
    return "/models"


def address_of(request: Request) -> str:
    """Return where a request comes from."""
    return request.client.host if request.client else ""


def _with_key(request: Request, context: ApiContext, key: str, target: str) -> Response:
    access, words = context.access, words_of(request)
    address = address_of(request)
    wait_s = access.limiter.wait_s(address)
    name = None if wait_s > 0 else access.keys.name_of(key)
    if name is None:
        if wait_s == 0:
            access.limiter.failed(address)
            problem, status = words("sign_in.wrong_key"), 401
        else:
            problem, status = words("sign_in.wait", seconds=int(wait_s) + 1), 429
        return _form_page(request, context, target, problem=problem, status=status)
    roles = access.keys.roles_of(name) or frozenset()
    answer = RedirectResponse(target if target != "/" else home_of(roles), 303)
    _set_session(request, answer, access.sessions.begin(name))
    return answer


def _with_password(
    request: Request, context: ApiContext, attempt: Attempt, target: str
) -> Response:
    words = words_of(request)
    try:
        person = context.access.signing_in.sign_in(attempt)
    except ApiError as error:
        request.scope["state"]["problem_code"] = error.problem_code
        is_wait = error.problem_code == "too_many_attempts"
        problem = (
            words("sign_in.wait", seconds=error.fields["wait_s"])
            if is_wait
            else words("sign_in.busy")
        )
        answer = _form_page(
            request, context, target, problem=problem, status=429 if is_wait else 503
        )
        answer.headers.update(error.headers)
        return answer
    if person is None:
        request.scope["state"]["problem_code"] = "unauthenticated"
        problem = words("sign_in.wrong_password")
        return _form_page(request, context, target, problem=problem, status=401)
    return _welcome(request, context, person, target, by="password")


def _welcome(
    request: Request, context: ApiContext, person: Person, target: str, *, by: str
) -> Response:
    access = context.access
    device_token = access.signing_in.welcome(
        person,
        address=address_of(request),
        device_token=request.cookies.get(DEVICE_COOKIE, ""),
        by=by,
    )
    former = request.cookies.get(SESSION_COOKIE)
    if former:  # the session's token never survives a change of who it stands for
        access.sessions.end(former)
    if person.must_change_password:
        target = f"{PASSWORD_PATH}?next={quote(target)}"
    elif target == "/":
        target = home_of(person.roles)
    answer = RedirectResponse(target, 303)
    _set_session(request, answer, access.sessions.begin(person))
    life_s = int(people.DEVICE_LIFE.total_seconds())
    _set_cookie(request, answer, DEVICE_COOKIE, device_token, life_s)
    answer.delete_cookie(OIDC_COOKIE, path="/", httponly=True, samesite="lax")
    return answer


def _set_session(request: Request, answer: Response, token: str) -> None:
    life_s = int(SESSION_ABSOLUTE.total_seconds())
    _set_cookie(request, answer, SESSION_COOKIE, token, life_s)


def _set_cookie(request: Request, answer: Response, name: str, value: str, life_s: int) -> None:
    # Lax, not Strict: the way back from an identity provider and a link in a PACS come from
    # another site and need the cookie; changes are guarded by their Origin.
    answer.set_cookie(
        name,
        value,
        max_age=life_s,
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https" or request.app.state.is_behind_tls,
        path="/",
    )


def _form_page(
    request: Request, context: ApiContext, target: str, *, problem: str = "", status: int = 200
) -> HTMLResponse:
    oidc = context.access.oidc
    return page(
        request,
        "sign_in.html",
        section="",
        status=status,
        next=target,
        problem=problem,
        provider=oidc.options.label if oidc else "",
    )


def _password_page(
    request: Request, asker: Identity, problem: str = "", status: int = 200
) -> HTMLResponse:
    return page(
        request,
        "password.html",
        section="",
        status=status,
        problem=problem,
        must_change=asker.must_change_password,
        least=LEAST_CHARACTERS,
        who=identity_of(request),
    )


def _free_name(claimed: Claimed, is_free: Callable[[str], bool]) -> str:
    """Return a name like the provider's that nobody here has."""
    plain = re.sub(r"[^a-z0-9._@-]", "-", claimed.preferred_name.lower()).strip("-._@")[:48]
    if plain and is_free(plain):
        return plain
    digest = hashlib.sha256(f"{claimed.issuer}\n{claimed.subject}".encode()).hexdigest()
    return f"{plain or 'person'}-{digest[:12]}"
