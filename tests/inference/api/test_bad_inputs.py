"""The areas http and auth of the shared list of bad inputs: each has its test, or says whose it is.

What no other file tests stands here: addresses, content types, and sign-in under load.
"""

from __future__ import annotations

import importlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from inference.domain.roles import CONFINED_ROLES, Role
from tests.builders.app import GOOD_PASSWORD, App, built_app

HERE = "tests.inference.api"
TESTS = {
    "auth-003": f"{HERE}.test_oidc:test_auth_003_unknown_crit_headers_are_refused",
    "auth-004": f"{HERE}.test_oidc:test_auth_004_encrypted_tokens_are_not_taken_at_all",
    "auth-005": f"{HERE}.test_oidc:test_auth_005_claims_that_do_not_hold",
    "auth-006": f"{HERE}.test_oidc:test_auth_005_006_headers_that_are_not_taken",
    "auth-008": f"{HERE}.test_oidc:TestKeys",
    "auth-009": f"{HERE}.test_bad_inputs:test_auth_009_a_thousand_guesses",
    "auth-010": f"{HERE}.test_route_matrix:test_every_cell_of_the_matrix",
    "auth-011": f"{HERE}.test_trail:TestCompartments",
    "http-001": f"{HERE}.test_guards:test_a_body_over_the_limit_is_refused_before_it_is_read",
    "http-003": f"{HERE}.test_guards:test_encoded_bodies_are_not_taken",
    "http-004": f"{HERE}.test_uploads:test_a_hundred_thousand_parts_end_early",
    "http-008": f"{HERE}.test_guards:test_malformed_requests_are_400_and_the_connection_ends",
    "http-009": f"{HERE}.test_guards:test_a_slow_head_is_cut_off_and_others_are_served",
    "http-010": f"{HERE}.test_guards:test_malformed_requests_are_400_and_the_connection_ends",
    "http-011": f"{HERE}.test_bad_inputs:test_http_011_addresses_lead_nowhere",
    "http-014": f"{HERE}.test_bad_inputs:test_http_014_other_content_types_are_415",
    "http-016": f"{HERE}.test_uploads:test_the_same_upload_twenty_times_at_once_is_one_study",
    "http-017": f"{HERE}.test_uploads:test_a_sender_that_goes_away_leaves_nothing",
    "http-018": (
        "tests.inference.gateways.test_dicomweb:test_one_bad_instance_among_fifty_is_named_alone"
    ),
    "http-019": (
        "tests.inference.gateways.test_dicomweb:"
        "test_an_instance_of_another_study_is_refused_and_not_stored"
    ),
    "http-022": f"{HERE}.test_bad_inputs:test_http_022_no_address_comes_from_a_request",
    "http-023": (
        f"{HERE}.test_route_matrix:test_writing_routes_refuse_other_sites_whatever_the_role"
    ),
    "http-026": f"{HERE}.test_guards:test_every_answer_carries_the_security_headers",
    "http-028": (
        f"{HERE}.test_route_matrix:test_other_methods_are_405_for_everybody_and_change_nothing"
    ),
}
ELSEWHERE = {
    "auth-012": "there is no break-glass: nothing can be used without a reason or after its time",
    "auth-013": "there are no SMART launch tokens; patients and caregivers are in the matrix",
    "http-012": "no route takes a JSON body",
    "http-015": "there is no Idempotency-Key: an upload is known by its content",
    "http-020": "QIDO-RS is not among this file's routes",
    "http-021": "WADO-RS is not among this file's routes",
    "http-025": "confirming a proposal: tests/care",
}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with built_app(tmp_path_factory.mktemp("bad")) as built:
        yield built


@pytest.fixture(scope="module")
def everything(app: App) -> dict[str, str]:
    return app.session(app.person("everything", *(set(Role) - CONFINED_ROLES)))


def test_every_case_of_both_areas_has_its_test(repository: Path) -> None:
    for name, place in TESTS.items():
        module, _, test = place.partition(":")
        assert hasattr(importlib.import_module(module), test), name
    shared = repository.parent / "shared" / "reference" / "bad_inputs.json"
    if shared.is_file():
        listed = {
            one["id"]
            for one in json.loads(shared.read_text())["inputs"]
            if one["area"] in {"http", "auth"}
        }
        assert listed == TESTS.keys() | ELSEWHERE.keys()


@pytest.mark.parametrize(
    "path",
    [
        "/studies/..%2f..%2fcanary",
        "/v1/studies/..%2f..%2fcanary",
        "/v1/studies/1.2.3%00",
        "/v1/studies/1.2.3;x",
        "/v1/studies/%c0%ae%c0%ae",
        "/v1/studies/%ff",
        "//v1/studies",
        "/v1//studies",
        "/static/..%2faccess.py",
        "/static/%2e%2e/render.py",
        "/admin/people/..%2froot/roles",
        "/v1/results/1/files/..%2f..%2fx",
    ],
)
def test_http_011_addresses_lead_nowhere(app: App, everything: dict[str, str], path: str) -> None:
    answer = app.browser().get(path, headers=everything)
    assert answer.status_code in {400, 404, 405}, path


def test_http_014_other_content_types_are_415(app: App, everything: dict[str, str]) -> None:
    """Forms say what they are; a charset or a type that a browser may send unasked is no form."""
    browser, gate = app.browser(), app.app.state.gate
    forms = [
        template
        for method, template in gate.every_route()
        if method == "POST" and (template.startswith("/admin/people") or template in FORMS)
    ]
    assert len(forms) > 6
    for template in forms:
        path = template.replace("{name}", "everything")
        for content_type in ("", "text/plain", "application/json", "text/html; charset=utf-7"):
            headers = everything | ({"Content-Type": content_type} if content_type else {})
            answer = browser.request("POST", path, content=b"name=x", headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


FORMS = {
    "/sign-in", "/language", "/account/password", "/admin/routes", "/admin/storage/rules",
    "/admin/storage/remove",
}  # fmt: skip


def test_forms_have_bounds(app: App, everything: dict[str, str]) -> None:
    browser = app.browser()
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for content, status in (
        (b"name=" + b"x" * 20_000, 413),
        (b"&".join(b"a%d=1" % n for n in range(100)), 400),
        (b"name=\xff\xfe", 400),
    ):
        answer = browser.request("POST", "/sign-in", content=content, headers=everything | form)
        assert answer.status_code == status


def test_http_022_no_address_comes_from_a_request(
    app: App, everything: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Destinations are those of the settings; a name that is an address is refused unasked."""
    asked: list[object] = []
    monkeypatch.setattr(socket.socket, "connect", lambda _self, to: asked.append(to))
    browser = app.browser()
    for target in (
        "http://127.0.0.1:1/",
        "http://169.254.169.254/latest",
        "file:///etc/passwd",
        "rebind.example",
    ):
        rule = {"name": target[:20], "destination": target}
        answer = browser.request("POST", "/admin/routes", data=rule, headers=everything)
        assert answer.status_code == 422
        tried = browser.request("POST", f"/admin/destinations/{target}/test", headers=everything)
        assert tried.status_code in {404, 405}
        provider = browser.get(f"/sign-in/provider?next={target}")
        assert provider.status_code == 404
    assert asked == []


def test_auth_009_a_thousand_guesses(tmp_path: Path) -> None:
    with built_app(tmp_path) as built:
        built.person("ada", Role.READER, password=GOOD_PASSWORD)
        guesses = [
            (
                "POST",
                "/sign-in",
                {
                    "data": {"name": "ada" if n % 2 else f"name{n}", "password": f"guess {n}"},
                    "headers": {"Origin": "http://127.0.0.1"},
                },
            )
            for n in range(1000)
        ]
        attacker = built.browser(address="10.6.6.6")
        statuses: list[int] = []
        for start in range(0, 1000, 50):
            answers = attacker.together(guesses[start : start + 50])
            statuses += [one.status_code for one in answers]
        # What is in flight at the same moment may pass the limit by a little, never by much.
        assert statuses.count(401) <= 100 + 50
        assert statuses.count(429) == 1000 - statuses.count(401)
        assert all(int(one.headers["retry-after"]) > 0 for one in answers)
