"""Every route for every role: exactly what the modules say, and no route silent."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import pytest
from fastapi import APIRouter, WebSocket

from inference.api import app as app_module
from inference.api.gate import OPEN_ROUTES, WEBSOCKET, RouteGate, RouteKey
from inference.domain.roles import CONFINED_ROLES, Role
from tests.builders.app import ORIGIN, App, Browser, built_app

FILL = {"study_uid": "1.2.3", "series_uid": "1.2.4", "plane": "axial", "kind": "seg"}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with built_app(tmp_path_factory.mktemp("matrix")) as built:
        yield built


@pytest.fixture(scope="module")
def sessions(app: App) -> dict[str, dict[str, str]]:
    """Headers of one person for each role, and of one who has none."""
    found = {role.value: app.session(app.person(role.value, role)) for role in Role}
    return found | {"nobody": app.session(app.person("nobody"))}


def address(template: str) -> str:
    return re.sub(r"\{(\w+)(:\w+)?\}", lambda match: FILL.get(match[1], "7"), template)


def cell_is_open(app: App, key: RouteKey, role: str) -> bool:
    if role == "nobody":
        return False
    gate = app.app.state.gate
    is_named = Role(role) in gate.permissions.get(key, frozenset())
    return is_named and (Role(role) not in CONFINED_ROLES or key in gate.compartment_aware)


def ask(browser: Browser, key: RouteKey, headers: dict[str, str]) -> int:
    method, template = key
    form = {"Content-Type": "application/x-www-form-urlencoded"} if method != "GET" else {}
    return browser.request(method, address(template), headers=headers | form).status_code


def test_every_cell_of_the_matrix(app: App, sessions: dict[str, dict[str, str]]) -> None:
    browser, wrong, n_cells = app.browser(), [], 0
    for key in app.app.state.gate.every_route():
        if key in OPEN_ROUTES:
            continue
        for role, headers in sessions.items():
            status = ask(browser, key, headers)
            expected = cell_is_open(app, key, role)
            if (status not in {401, 403}) != expected or status >= 500:
                wrong.append((key, role, status, expected))
            n_cells += 1
        strangers = ask(browser, key, ORIGIN)
        if strangers not in {401, 303}:
            wrong.append((key, "stranger", strangers, False))
    assert wrong == []
    assert n_cells >= 24 * 12


def test_every_route_of_the_application_is_named_and_no_other(app: App) -> None:
    gate = app.app.state.gate
    silent = [
        key for key in gate.every_route() if key not in gate.permissions and key not in OPEN_ROUTES
    ]
    assert silent == []
    assert set(gate.permissions) - set(gate.every_route()) == set()
    assert OPEN_ROUTES - set(gate.every_route()) - {("GET", "/static/{path:path}")} == set()
    assert all(gate.permissions.values())


def test_a_route_that_no_module_names_is_shut_even_on_loopback(tmp_path) -> None:
    with built_app(tmp_path, auth="off") as built:
        browser = built.browser()
        assert browser.get("/v1/studies").status_code == 200
        del built.app.state.gate.permissions["GET", "/v1/studies"]
        answer = browser.get("/v1/studies")
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_two_modules_cannot_name_the_same_route(app: App) -> None:
    one = {("GET", "/a"): frozenset({Role.ADMIN})}
    with pytest.raises(ValueError, match="GET /a"):
        RouteGate().close([], [one, one])


def test_other_methods_are_405_for_everybody_and_change_nothing(
    app: App, sessions: dict[str, dict[str, str]]
) -> None:
    browser = app.browser()
    taken: dict[str, set[str]] = {}
    for method, template in app.app.state.gate.every_route():
        if method != WEBSOCKET:  # an address for WebSockets alone is none for requests
            taken.setdefault(template, set()).add(method)
    own = {template: set(methods) for template, methods in taken.items()}
    for template, methods in taken.items():  # an address may fit a template with a variable too
        for other, more in own.items():
            if re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", other), address(template)):
                methods |= more
    before = len(app.events())
    for template, methods in taken.items():
        for method in {"HEAD", "OPTIONS", "TRACE", "CONNECT", "DELETE", "PUT", "PATCH"} - methods:
            headers = sessions["admin"] | {"X-HTTP-Method-Override": "POST"}
            answer = browser.request(method, address(template), headers=headers)
            assert answer.status_code == 405, (method, template)
            assert set(answer.headers["allow"].split(", ")) == methods
    assert len(app.events()) == before


def test_an_unknown_address_is_404_to_somebody_and_401_to_nobody(
    app: App, sessions: dict[str, dict[str, str]]
) -> None:
    browser = app.browser()
    assert browser.get("/v1/nothing", headers=sessions["reader"]).status_code == 404
    assert browser.get("/v1/nothing").status_code == 401


def test_writing_routes_refuse_other_sites_whatever_the_role(app: App) -> None:
    """CSRF: with a session, an origin is needed and it is ours, on every writing route."""
    everything = app.session(app.person("everything", *(set(Role) - CONFINED_ROLES)))
    browser = app.browser()
    for key in app.app.state.gate.every_route():
        if key[0] == "GET":
            continue
        for origin in ({}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
            headers = {"Cookie": everything["Cookie"]} | origin
            answer = browser.request(key[0], address(key[1]), headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (403, "cross_origin"), key


class TestWebSockets:
    """A route that is a WebSocket is asked for by the same rules, and by our own pages only."""

    @pytest.fixture
    def built(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
        router = APIRouter()

        @router.websocket("/v1/events")
        async def events(socket: WebSocket) -> None:
            await socket.accept()
            await socket.close()

        door = app_module.Door(
            router=router,
            permissions={(WEBSOCKET, "/v1/events"): frozenset({Role.READER})},
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "inference.bootstrap.create_app",
                lambda context, options, doors: app_module.create_app(
                    context, options, doors=[door]
                ),
            )
            with built_app(tmp_path_factory.mktemp("sockets")) as built:
                yield built

    def opened(self, built: App, headers: dict[str, str]) -> str:
        """Ask for the socket; returns the first thing that is answered."""
        scope = {
            "type": "websocket",
            "path": "/v1/events",
            "raw_path": b"/v1/events",
            "query_string": b"",
            "root_path": "",
            "client": ("127.0.0.1", 1),
            "headers": [
                (name.lower().encode(), value.encode())
                for name, value in ({"Host": "127.0.0.1"} | headers).items()
            ],
        }
        answers: list[str] = []

        async def receive() -> dict[str, object]:
            return {"type": "websocket.connect"}

        async def send(message: dict[str, object]) -> None:
            answers.append(str(message["type"]))

        asyncio.run(built.app(scope, receive, send))
        return answers[0]

    def test_a_reader_from_our_own_page_is_let_in_and_nobody_else(self, built: App) -> None:
        reader = built.session(built.person("ada", Role.READER))
        other = built.session(built.person("phil", Role.PHARMACIST))
        assert self.opened(built, reader) == "websocket.accept"
        for headers in (
            {},
            other,
            reader | {"Origin": "https://evil.example"},
            {"Cookie": reader["Cookie"]},
            reader | {"Host": "evil.example"},
        ):
            assert self.opened(built, headers) == "websocket.close"
        assert [event.actor for event in built.events("access.refused")] == ["http:", "http:phil"]


def test_a_patients_role_opens_only_what_knows_of_compartments() -> None:
    gate, key = RouteGate(), ("GET", "/of-a-patient")
    both = [{key: frozenset({Role.PATIENT, Role.READER})}]
    gate.close([], both)
    assert gate.acting(key, frozenset({Role.PATIENT})) == frozenset()
    assert gate.acting(key, frozenset({Role.PATIENT, Role.READER})) == {Role.READER}
    gate.close([], both, compartment_aware=[key])
    assert gate.acting(key, frozenset({Role.PATIENT})) == {Role.PATIENT}
