"""Who saw what: every access is on record before its answer leaves, refusals too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import APIRouter

from inference.api import app as app_module
from inference.api.deps import Asker
from inference.domain.roles import CONFINED_ROLES, Role
from inference.storage.errors import StorageUnavailableError
from tests.builders.app import PATIENT, App, built_app


@pytest.fixture
def app(tmp_path) -> Iterator[App]:
    with built_app(tmp_path) as built:
        yield built


def facts(app: App, action: str) -> list[tuple[str, str, str, int]]:
    return [
        (one.actor, one.subject, one.detail["route"], one.detail["status"])
        for one in app.events(action)
    ]


def test_a_read_says_who_by_which_role_what_and_how_it_ended(app: App) -> None:
    headers = app.session(app.person("ada", Role.READER, Role.PHARMACIST))
    app.browser().get("/v1/studies/1.2.3", headers=headers)
    assert facts(app, "study.read") == [("http:ada", "1.2.3", "GET /v1/studies/{study_uid}", 404)]
    assert app.events("study.read")[0].detail["roles"] == ["reader"]
    assert app.events("study.read")[0].detail["address"] == "127.0.0.1"


def test_refusals_are_on_record_with_the_name_where_it_is_known(app: App) -> None:
    headers = app.session(app.person("phil", Role.PHARMACIST))
    app.browser().get("/v1/studies/1.2.3", headers=headers)
    app.browser().get("/v1/studies/1.2.3", headers={"X-API-Key": "wrong"})
    route = "GET /v1/studies/{study_uid}"
    assert facts(app, "access.refused") == [
        ("http:phil", "1.2.3", route, 403),
        ("http:", "1.2.3", route, 401),
    ]


def test_strangers_cannot_fill_the_trail(app: App) -> None:
    browser = app.browser(address="10.0.0.9")
    for _ in range(30):
        assert browser.get("/v1/studies").status_code == 401
    assert len(app.events("access.refused")) == 1
    app.browser(address="10.0.0.10").get("/v1/studies")
    assert len(app.events("access.refused")) == 2


def test_the_same_access_again_within_a_minute_is_one(app: App) -> None:
    headers = app.session(app.person("ada", Role.READER))
    browser, trail = app.browser(), app.context.access.trail
    clock = [1000.0]
    trail._clock = lambda: clock[0]
    for _ in range(5):
        browser.get("/v1/studies/1.2.3", headers=headers)
    browser.get("/v1/studies/1.2.4", headers=headers)
    assert [event.subject for event in app.events("study.read")] == ["1.2.3", "1.2.4"]
    clock[0] += 61
    browser.get("/v1/studies/1.2.3", headers=headers)
    assert len(app.events("study.read")) == 3


def test_writes_are_never_folded(app: App) -> None:
    headers = app.session(app.person("ada", Role.READER))
    for _ in range(3):
        app.browser().post("/v1/jobs/7/requeue", headers=headers)
    assert len(app.events("access.write")) == 3


def test_accesses_of_one_moment_share_transactions(app: App, monkeypatch) -> None:
    headers = app.session(app.person("ada", Role.READER))
    n_writes = 0
    write = type(app.database).write

    def counted(database: Any) -> Any:
        nonlocal n_writes
        n_writes += 1
        return write(database)

    monkeypatch.setattr(type(app.database), "write", counted)
    requests = [("GET", f"/v1/studies/1.2.{n}", {"headers": headers}) for n in range(200)]
    answers = app.browser().together(requests)
    assert {one.status_code for one in answers} == {404}
    monkeypatch.undo()
    assert len(app.events("study.read")) == 200
    assert n_writes < 150  # 200 where each had one of its own


def test_what_cannot_be_written_down_is_not_shown(app: App, monkeypatch) -> None:
    headers = app.session(app.person("ada", Role.READER))

    def full(*_: Any, **__: Any) -> None:
        raise StorageUnavailableError(problem="locked")

    monkeypatch.setattr("inference.api.trail.audit.append", full)
    answer = app.browser().get("/v1/studies", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
    assert "items" not in answer.text
    monkeypatch.undo()
    assert app.browser().get("/v1/studies", headers=headers).status_code == 200


def test_models_and_metrics_are_no_patient_data(app: App) -> None:
    headers = app.session(app.person("root", Role.ADMIN))
    for path in ("/v1/models", "/metrics", "/models", "/openapi.json"):
        assert app.browser().get(path, headers=headers).status_code == 200
    assert app.events() == []


class TestCompartments:
    """auth-011: what is another patient's is not there (404), and the try is on record."""

    @pytest.fixture
    def built(self, tmp_path, monkeypatch) -> Iterator[App]:
        router = APIRouter()

        @router.get("/v1/of-patient/{patient_identifier}")
        def of_patient(asker: Asker, patient_identifier: str) -> dict[str, str]:
            asker.require_patient(patient_identifier, "urn:oid:1.2.3")
            return {"patient": patient_identifier}

        key = ("GET", "/v1/of-patient/{patient_identifier}")
        door = app_module.Door(
            router=router,
            permissions={key: CONFINED_ROLES | {Role.CLINICIAN}},
            compartment_aware=frozenset({key}),
        )
        monkeypatch.setattr(
            "inference.bootstrap.create_app",
            lambda context, options, doors: app_module.create_app(context, options, doors=[door]),
        )
        with built_app(tmp_path) as built:
            yield built

    def test_a_caregiver_sees_the_own_patient_and_nobody_else(self, built: App) -> None:
        browser = built.browser()
        carer = built.session(built.person("carer", Role.CAREGIVER))
        assert PATIENT == ("P-1", "urn:oid:1.2.3")
        assert browser.get("/v1/of-patient/P-1", headers=carer).status_code == 200
        other = browser.get("/v1/of-patient/P-2", headers=carer)
        assert (other.status_code, other.json()["code"]) == (404, "not_found")
        assert ("http:carer", "P-2", "GET /v1/of-patient/{patient_identifier}", 404) in facts(
            built, "access.read"
        )

    def test_staff_are_not_confined_even_where_they_are_patients_too(self, built: App) -> None:
        both = built.session(built.person("nurse", Role.CLINICIAN, Role.PATIENT))
        assert built.browser().get("/v1/of-patient/P-2", headers=both).status_code == 200

    def test_the_same_number_of_another_authority_is_another_patient(self, built: App) -> None:
        from inference.api.access import Identity

        asker = Identity(
            name="x", via="session", acting=CONFINED_ROLES, compartment=frozenset({("P-1", "B")})
        )
        assert asker.sees_patient("P-1", "B")
        assert not asker.sees_patient("P-1", "A")
