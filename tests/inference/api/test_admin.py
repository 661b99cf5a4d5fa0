"""The administration pages: what they change, what they refuse, what an auditor can prove."""

from __future__ import annotations

import csv
import html
import io
import os
import re
import time
from collections.abc import Iterator
from datetime import timedelta
from itertools import product

import pytest
from sqlalchemy import update

from inference.domain.result import DimseDestination
from inference.domain.roles import Role
from inference.domain.study import Channel, Sender
from inference.storage import people, retention, routing, studies
from inference.storage.tables import audit, job, quarantine, study
from tests.builders.app import GOOD_PASSWORD, App, Browser, built_app
from tests.builders.two_boxes import BuiltStudy, two_boxes_study

SENDER = Sender(channel=Channel.DIMSE, name="CT_ONE", address="10.1.1.1")


@pytest.fixture
def app(tmp_path) -> Iterator[App]:
    with built_app(tmp_path) as built:
        yield built


@pytest.fixture
def admin(app: App) -> Browser:
    browser = app.browser()
    browser._client.headers.update(app.session(app.person("root", Role.ADMIN, Role.AUDITOR)))
    return browser


@pytest.fixture
def stored(app: App) -> BuiltStudy:
    built = two_boxes_study()
    for content in built.files():
        app.context.intake.receive([content], sender=SENDER)
    return built


def done(answer) -> None:
    assert answer.status_code == 303, answer.text


class TestPeople:
    def test_an_admin_adds_changes_and_shuts_out(self, app: App, admin: Browser) -> None:
        form = {"name": "Ada", "display_name": "Ada L.", "password": GOOD_PASSWORD}
        done(admin.post("/admin/people", data=form | {"roles": ["reader", "surgeon"]}))
        with app.database.read() as connection:
            ada = people.get(connection, "ada")
        assert ada.roles == {Role.READER, Role.SURGEON}
        assert ada.must_change_password
        assert "Ada L." in admin.get("/admin/people").text
        done(admin.post("/admin/people/ada/roles", data={"roles": "pharmacist"}))
        done(admin.post("/admin/people/ada/password", data={"password": "a second harbour"}))
        done(admin.post("/admin/people/ada/disabled", data={"is_disabled": "true"}))
        with app.database.read() as connection:
            ada = people.get(connection, "ada")
        assert ada.roles == {Role.PHARMACIST}
        assert ada.is_disabled
        actions = [one.action for one in app.events() if one.subject == "ada"]
        assert [one for one in actions if one.startswith("person.")] == [
            "person.added",
            "person.roles_changed",
            "person.password_changed",
            "person.disabled",
        ]
        assert GOOD_PASSWORD not in str(app.events())

    def test_forms_that_do_not_hold(self, admin: Browser) -> None:
        for form, code in (
            ({"name": "", "password": GOOD_PASSWORD}, "person"),
            ({"name": "../x", "password": GOOD_PASSWORD}, "person"),
            ({"name": "root", "password": GOOD_PASSWORD}, "person"),
            ({"name": "ben", "password": "short"}, "password_rule"),
            ({"name": "ben", "password": GOOD_PASSWORD, "roles": "god"}, "invalid_request"),
            ({"name": "ben", "password": GOOD_PASSWORD, "roles": "patient"}, "person"),
            ({"name": "ben", "password": GOOD_PASSWORD, "patients": "P-1"}, "invalid_request"),
        ):
            answer = admin.post("/admin/people", data=form)
            assert (answer.status_code, answer.json()["code"]) == (422, code)

    def test_a_patient_is_bound_to_patients(self, app: App, admin: Browser) -> None:
        form = {"name": "pat", "password": GOOD_PASSWORD, "roles": "patient"}
        done(admin.post("/admin/people", data=form | {"patients": "P-1@urn:oid:1.2\nP@2@B"}))
        with app.database.read() as connection:
            found = people.get(connection, "pat").compartment
        assert found == {("P-1", "urn:oid:1.2"), ("P@2", "B")}

    def test_the_last_admin_cannot_leave(self, admin: Browser) -> None:
        answer = admin.post("/admin/people/root/roles", data={"roles": "reader"})
        assert (answer.status_code, answer.json()["code"]) == (422, "person")


class TestRouting:
    def add(self, admin: Browser, name: str, **fields: str) -> None:
        done(admin.post("/admin/routes", data={"name": name} | fields))

    def test_a_dry_run_says_what_would_happen_and_why(
        self, app: App, admin: Browser, stored: BuiltStudy
    ) -> None:
        page = admin.get(f"/admin/routes?study_uid={stored.study_uid}").text
        assert "would run" in page
        self.add(admin, "mr", modality="MR")
        self.add(admin, "ct one", ae_title="ct_*", modality="CT", model="ct_two_boxes")
        page = admin.get(f"/admin/routes?study_uid={stored.study_uid}").text
        assert "differs in Modality" in page
        assert "takes it" in page
        assert "would run" in page
        with app.database.read() as connection:
            rules = {rule.name: rule.id for rule in routing.list_rules(connection)}
        done(admin.post(f"/admin/routes/{rules['ct one']}/enabled", data={"is_enabled": "false"}))
        page = admin.get(f"/admin/routes?study_uid={stored.study_uid}").text
        assert "is off" in page
        assert "no rule sends the series to it" in page
        done(admin.post(f"/admin/routes/{rules['ct one']}/remove"))
        with app.database.read() as connection:
            assert [rule.name for rule in routing.list_rules(connection)] == ["mr"]

    def test_rules_that_do_not_hold(self, admin: Browser) -> None:
        for form, code in (
            ({"name": ""}, "routing"),
            ({"name": "x" * 65}, "routing"),
            ({"name": "a", "model": "no_such"}, "invalid_request"),
            ({"name": "a", "destination": "nowhere"}, "invalid_request"),
            ({"name": "a", "series": "x" * 129}, "routing"),
        ):
            answer = admin.post("/admin/routes", data=form)
            assert (answer.status_code, answer.json()["code"]) == (422, code)

    def test_a_study_that_is_not_there(self, admin: Browser) -> None:
        assert admin.get("/admin/routes?study_uid=1.2.3").status_code == 404
        assert admin.get("/admin/routes?study_uid=x").status_code == 422

    # pynetdicom leaves the socket of a failed connection to the garbage collector.
    @pytest.mark.filterwarnings("ignore:.*socket.socket:pytest.PytestUnraisableExceptionWarning")
    def test_a_destination_is_tried(self, app: App, admin: Browser) -> None:
        there = DimseDestination(name="pacs", host="127.0.0.1", port=1, called_aet="PACS")
        object.__setattr__(app.context, "destinations", (there,))
        assert "PACS@127.0.0.1:1" in admin.get("/admin/routes").text
        assert "no association" in admin.post("/admin/destinations/pacs/test").text
        assert admin.post("/admin/destinations/other/test").status_code == 404
        assert app.events("destination.tried")[0].detail == {"is_well": False}


class TestWork:
    def bury(self, app: App, stored: BuiltStudy) -> int:
        with app.database.write() as connection:
            connection.execute(
                update(job).values(state="dead", reason_code="poison", reason="it was too much")
            )
            return int(connection.execute(job.select()).one().id)

    def test_jobs_are_narrowed(self, admin: Browser, stored: BuiltStudy) -> None:
        assert stored.study_uid in admin.get("/admin/jobs?state=collecting").text
        assert stored.study_uid not in admin.get("/admin/jobs?state=dead").text
        assert stored.study_uid not in admin.get("/admin/jobs?study_uid=1.2.3").text
        assert stored.study_uid not in admin.get("/admin/jobs?model=ct_two_boxes").text
        assert admin.get("/admin/deliveries?state=dead").status_code == 200

    def test_a_dead_job_is_tried_again(self, app: App, admin: Browser, stored: BuiltStudy) -> None:
        job_id = self.bury(app, stored)
        assert "it was too much" in admin.get("/admin/dead").text
        done(admin.post(f"/admin/jobs/{job_id}/retry"))
        assert "No job or delivery was given up." in admin.get("/admin/dead").text
        assert app.events("job.requeued")[0].actor == "http:root"
        assert admin.post(f"/admin/jobs/{job_id}/retry").status_code == 409
        assert admin.post("/admin/deliveries/7/retry").status_code == 404
        assert admin.post("/admin/deliveries/pacs/retry-dead").status_code == 404

    def test_models_say_their_engine_and_readiness(self, admin: Browser) -> None:
        page = admin.get("/admin/models").text
        assert "Two boxes on CT" in page
        assert "torch-fp32" in page


class TestStorage:
    def age(self, app: App, days: int) -> None:
        with app.database.write() as connection:
            old = app.database.now(connection) - timedelta(days=days)
            connection.execute(update(study).values(last_received_at=old))
            connection.execute(update(quarantine).values(received_at=old))
        hours_ago = time.time() - 2 * 3600
        for path in app.context.objects.all_objects():
            os.utime(path, (hours_ago, hours_ago))

    def preview(self, app: App) -> dict[str, tuple[int | None, int]]:
        with app.database.read() as connection:
            due = retention.preview(connection, now=app.database.now(connection))
        return {one.kind: (one.days, one.n_items) for one in due}

    def test_nothing_is_due_without_days(
        self, app: App, admin: Browser, stored: BuiltStudy
    ) -> None:
        self.age(app, 4000)
        assert set(self.preview(app).values()) == {(None, 0)}
        for kind in retention.KINDS:
            done(admin.post("/admin/storage/remove", data={"kind": kind}))
        with app.database.read() as connection:
            assert studies.list_instances(connection, stored.study_uid)

    def test_images_go_when_they_are_due_and_nothing_works_on_them(
        self, app: App, admin: Browser, stored: BuiltStudy
    ) -> None:
        done(admin.post("/admin/storage/rules", data={"kind": "images", "days": "30"}))
        self.age(app, 31)
        assert self.preview(app)["images"] == (30, 0)  # its job still waits
        with app.database.write() as connection:
            connection.execute(update(job).values(state="done"))
        assert self.preview(app)["images"] == (30, len(stored.instances))
        assert f"{len(stored.instances)} items" in admin.get("/admin/storage").text
        done(admin.post("/admin/storage/remove", data={"kind": "images"}))
        assert list(app.context.objects.all_objects()) == []
        with app.database.read() as connection:
            assert studies.get_study(connection, stored.study_uid).n_instances == 0
        assert app.events("retention.removed")[0].detail == {"n": len(stored.instances)}
        reader = app.session(app.person("ada", Role.READER))
        page = app.browser().get(f"/studies/{stored.study_uid}", headers=reader)
        assert page.status_code == 200

    def test_young_images_stay(self, app: App, admin: Browser, stored: BuiltStudy) -> None:
        with app.database.write() as connection:
            connection.execute(update(job).values(state="done"))
        done(admin.post("/admin/storage/rules", data={"kind": "images", "days": "30"}))
        self.age(app, 29)
        done(admin.post("/admin/storage/remove", data={"kind": "images"}))
        with app.database.read() as connection:
            assert len(studies.list_instances(connection, stored.study_uid)) == len(
                stored.instances
            )

    def test_days_that_do_not_hold(self, admin: Browser) -> None:
        for days in ["0", "-1", "1.5", "36501", "x", "9" * 400]:
            answer = admin.post("/admin/storage/rules", data={"kind": "images", "days": days})
            assert answer.status_code == 422, days

    def test_a_rule_is_taken_back(self, app: App, admin: Browser) -> None:
        done(admin.post("/admin/storage/rules", data={"kind": "images", "days": "5"}))
        done(admin.post("/admin/storage/rules", data={"kind": "images", "days": ""}))
        assert self.preview(app)["images"] == (None, 0)
        assert admin.post("/admin/storage/rules", data={"kind": "all"}).status_code == 422
        assert admin.post("/admin/storage/remove", data={"kind": "all"}).status_code == 422


class TestAudit:
    def test_an_auditor_searches_and_exports(self, app: App, admin: Browser) -> None:
        admin.get("/admin/jobs")
        page = admin.get("/admin/audit?action=access.read&actor=http:root").text
        assert "GET /admin/jobs" in page
        assert "GET /admin/jobs" not in admin.get("/admin/audit?actor=dimse").text
        assert "GET /admin/jobs" not in admin.get("/admin/audit?until=2020-01-01").text
        answer = admin.get("/admin/audit.csv?action=access.read")
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        assert {row["actor"] for row in rows} == {"http:root"}
        kept = {str(one.seq): one.hash for one in app.events()}
        assert all(kept[row["seq"]] == row["hash"] for row in rows)
        assert admin.get("/admin/audit?since=yesterday").status_code == 422

    def test_the_export_is_complete_and_harmless_in_a_spreadsheet(
        self, app: App, admin: Browser, monkeypatch
    ) -> None:
        from inference.storage import audit as audit_store

        monkeypatch.setattr("inference.api.routes.admin_audit.EXPORT_ROWS", 7)
        with app.database.write() as connection:
            for n in range(30):
                audit_store.append(
                    connection,
                    at=app.database.now(connection),
                    actor="=cmd()",
                    action="did",
                    subject=str(n),
                )
        answer = admin.get("/admin/audit.csv?action=did")
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        assert [row["subject"] for row in rows] == [str(n) for n in reversed(range(30))]
        assert {row["actor"] for row in rows} == {"'=cmd()"}

    def test_the_chain_is_proved_and_a_change_is_found(self, app: App, admin: Browser) -> None:
        admin.get("/admin/jobs")
        admin.get("/admin/people")
        assert "The chain is whole" in admin.get("/admin/audit/chain").text
        with app.database.write() as connection:
            connection.execute(update(audit).where(audit.c.seq == 1).values(actor="nobody"))
        assert "broken at event 1" in admin.get("/admin/audit/chain").text

    def test_an_admin_alone_sees_no_audit_and_an_auditor_alone_changes_nothing(
        self, app: App
    ) -> None:
        browser = app.browser()
        only_admin = app.session(app.person("adm", Role.ADMIN))
        auditor = app.session(app.person("aud", Role.AUDITOR))
        assert browser.get("/admin/audit", headers=only_admin).status_code == 403
        assert browser.get("/admin/people", headers=auditor).status_code == 403
        assert browser.get("/admin", headers=auditor).headers["location"] == "/admin/audit"


def test_every_page_is_whole_in_both_languages(admin: Browser, stored: BuiltStudy) -> None:
    tabs = ("people", "routes", "jobs", "deliveries", "dead", "models", "storage", "audit")
    for tab, language in product(tabs, ("en", "zh")):
        answer = admin.get(f"/admin/{tab}", headers={"Accept-Language": language})
        assert answer.status_code == 200, tab
        assert f'<html lang="{language}">' in answer.text
        assert ("管理" in answer.text) == (language == "zh")


class TestLaunch:
    def test_the_study_is_opened_by_uid_or_accession_and_patient(
        self, app: App, stored: BuiltStudy
    ) -> None:
        reader, browser = app.session(app.person("ada", Role.READER)), app.browser()
        with app.database.write() as connection:
            connection.execute(update(study).values(accession_number="A-1"))
        target = f"/studies/{stored.study_uid}"
        for query in (
            f"requestType=STUDY&studyUID={stored.study_uid}",
            f"requestType=study&studyUID={stored.study_uid}&patientID=SECRET-77",
            "requestType=STUDY&accessionNumber=A-1&patientID=SECRET-77",
            "requestType=STUDY&accessionNumber=A-1&patientID=SECRET-77^^^HOSPITAL",
        ):
            answer = browser.get(f"/launch?{query}", headers=reader)
            assert (answer.status_code, answer.headers.get("location")) == (303, target), query

    def test_what_does_not_fit_is_refused(self, app: App, stored: BuiltStudy) -> None:
        reader, browser = app.session(app.person("ada", Role.READER)), app.browser()
        with app.database.write() as connection:
            connection.execute(update(study).values(accession_number="A-1"))
        for query, status, code in (
            ("requestType=STUDY&studyUID={uid}&patientID=P-2", 409, "patient_mismatch"),
            ("requestType=STUDY&accessionNumber=A-1&patientID=P-2", 409, "patient_mismatch"),
            ("requestType=STUDY&studyUID={uid}&accessionNumber=A-2", 404, "not_found"),
            ("requestType=STUDY&studyUID=1.2.3", 404, "not_found"),
            ("requestType=STUDY&accessionNumber=A-1", 422, "invalid_request"),
            ("requestType=STUDY&patientID=SECRET-77", 422, "invalid_request"),
            ("requestType=PATIENT&studyUID={uid}", 422, "invalid_request"),
            ("studyUID={uid}", 422, "invalid_request"),
            ("requestType=STUDY&studyUID=../x", 422, "invalid_request"),
        ):
            path = f"/launch?{query.format(uid=stored.study_uid)}"
            answer = browser.get(path, headers=reader)
            assert (answer.status_code, answer.json()["code"]) == (status, code), query
            assert stored.study_uid not in answer.text

    def test_a_stranger_signs_in_first_and_lands_on_the_study(
        self, app: App, stored: BuiltStudy
    ) -> None:
        app.person("ada", Role.READER, password=GOOD_PASSWORD)
        browser = app.browser()
        asked = browser.get(f"/launch?requestType=STUDY&studyUID={stored.study_uid}")
        form_url = asked.headers["location"]
        assert form_url.startswith("/sign-in?next=/launch")
        page = browser.get(form_url).text
        target = html.unescape(re.search(r'name="next" value="(/launch[^"]*)"', page)[1])
        answer = browser.post(
            "/sign-in", data={"name": "ada", "password": GOOD_PASSWORD, "next": target}
        )
        landed = browser.get(answer.headers["location"])
        assert landed.headers["location"] == f"/studies/{stored.study_uid}"
