"""With keys on: every address but the open ones wants one; pages take a session instead."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from inference.api.keys import ApiKeys
from inference.bootstrap import Service
from tests.builders.service import finished_study, running_service
from tests.builders.two_boxes import BuiltStudy, two_boxes_study


@pytest.fixture(scope="module")
def study() -> BuiltStudy:
    return two_boxes_study()


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> str:
    return ApiKeys(tmp_path_factory.getbasetemp() / "keyed" / "keys.json").create("radiology")


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, key: str, study: BuiltStudy
) -> Iterator[Service]:
    keys_file = tmp_path_factory.getbasetemp() / "keyed" / "keys.json"
    folder = tmp_path_factory.mktemp("keyed-service")
    with running_service(folder, auth="keys", api_keys_file=keys_file) as running:
        answer = httpx.post(
            f"{running.http_url}/v1/studies",
            content=study.zipped(),
            headers={"Content-Type": "application/zip", "X-API-Key": key},
        )
        assert answer.status_code == 202
        finished_study(running, study.study_uid, key=key)
        yield running


@pytest.fixture
def stranger(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.http_url) as client:
        yield client


def every_operation(document: dict, study_uid: str) -> list[tuple[str, str]]:
    values = {"study_uid": study_uid, "series_uid": "1.2", "plane": "axial", "kind": "seg"}
    operations = []
    for path, methods in document["paths"].items():
        filled = re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], "1"), path)
        operations += [(method.upper(), filled) for method in methods]
    return operations


def test_every_route_wants_a_key(
    service: Service, stranger: httpx.Client, key: str, study: BuiltStudy
) -> None:
    document = stranger.get("/openapi.json", headers={"X-API-Key": key}).json()
    operations = every_operation(document, study.study_uid)
    assert len(operations) > 15
    for method, path in operations:
        answer = stranger.request(method, path)
        if path in {"/healthz", "/readyz"}:
            assert answer.status_code == 200, path
            continue
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), path
        assert answer.headers["www-authenticate"].startswith("Bearer")
    for path in ("/v1/unknown", "/openapi.json", "/metrics", "/fragments/studies"):
        assert stranger.get(path).status_code in {401, 303}


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": ""},
        {"X-API-Key": "clf_00000000_" + "A" * 43},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": "Basic dXNlcjpwYXNz"},
        {"Authorization": "Bearer eyJhbGciOiJub25lIn0.e30."},
        {"Cookie": "clinfer_session=forged"},
    ],
)
def test_wrong_keys_open_nothing(tmp_path, headers: dict[str, str]) -> None:
    with running_service(tmp_path, auth="keys") as service:
        answer = httpx.get(f"{service.http_url}/v1/studies", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"


def test_both_headers_take_the_key_and_names_are_told(
    stranger: httpx.Client, key: str, study: BuiltStudy
) -> None:
    for headers in ({"X-API-Key": key}, {"Authorization": f"Bearer {key}"}):
        answer = stranger.get(f"/v1/studies/{study.study_uid}", headers=headers)
        assert answer.json()["patient_name"] == "Müller^Änne"
        assert answer.json()["patient_id"] == "SECRET-77"


def test_a_page_leads_to_the_key_form_and_back(
    stranger: httpx.Client, service: Service, key: str, study: BuiltStudy
) -> None:
    page = f"/studies/{study.study_uid}"
    first = stranger.get(page)
    assert first.status_code == 303
    assert first.headers["location"] == f"/sign-in?next={page}"
    origin = {"Origin": service.http_url}
    answer = stranger.post("/sign-in", data={"key": key, "next": page}, headers=origin)
    assert (answer.status_code, answer.headers["location"]) == (303, page)
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert key not in cookie
    shown = stranger.get(page)
    assert shown.status_code == 200
    assert "Müller, Änne" in shown.text
    stranger.post("/sign-out", headers=origin)
    assert stranger.get(page).status_code == 303


def test_a_session_changes_nothing_for_another_site(
    stranger: httpx.Client, service: Service, key: str
) -> None:
    stranger.post("/sign-in", data={"key": key}, headers={"Origin": service.http_url})
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", "Origin": service.http_url},
        {},
    ):
        answer = stranger.post("/v1/jobs/1/requeue", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "cross_origin")


@pytest.mark.parametrize(
    "target", ["https://evil.example", "//evil.example", "/\\evil.example", "/a\nb", "evil"]
)
def test_signing_in_leads_nowhere_else(
    stranger: httpx.Client, service: Service, key: str, target: str
) -> None:
    answer = stranger.post(
        "/sign-in", data={"key": key, "next": target}, headers={"Origin": service.http_url}
    )
    assert answer.headers["location"] == "/"


def test_guessing_is_stopped(tmp_path) -> None:
    with (
        running_service(tmp_path, auth="keys") as service,
        httpx.Client(base_url=service.http_url) as client,
    ):
        codes = [
            client.get("/v1/jobs", headers={"X-API-Key": f"guess{n}"}).status_code
            for n in range(12)
        ]
        assert codes == [401] * 10 + [429] * 2
        last = client.get("/v1/jobs", headers={"X-API-Key": "guess"})
        assert int(last.headers["retry-after"]) > 0
        form = client.post("/sign-in", data={"key": "x"}, headers={"Origin": service.http_url})
        assert form.status_code == 429
        assert client.get("/healthz").status_code == 200


def test_reading_a_study_is_on_record(service: Service, stranger: httpx.Client, key: str, study):
    from inference.storage import audit
    from inference.storage.database import Database

    stranger.get(f"/v1/studies/{study.study_uid}", headers={"X-API-Key": key})
    database = Database.open(service._settings.data_dir / "clinfer.sqlite3")
    try:
        with database.read() as connection:
            events = audit.events(connection, subject=study.study_uid, limit=200)
    finally:
        database.close()
    assert ("http:radiology", "study.read") in {(one.actor, one.action) for one in events}
