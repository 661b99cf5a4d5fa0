"""The worker follows the routing table: which model runs, and where its results go."""

from __future__ import annotations

from pathlib import Path

import httpx
from pydicom import dcmread
from pydicom.dataset import Dataset

from inference.domain.routing import RoutingRule
from inference.domain.study import Channel, Sender
from inference.jobs.routing import facts_of
from inference.storage import routing
from inference.storage.database import Database
from tests.builders.app import built_app
from tests.builders.dicom import as_bytes
from tests.builders.service import finished_study, running_service, send_zip
from tests.builders.two_boxes import two_boxes_study

DESTINATIONS = [
    {"name": name, "kind": "stow", "url": "http://127.0.0.1:9/none"} for name in ("pacs", "lab")
]


def add(folder: Path, **rule: str) -> None:
    database = Database.open(folder / "data" / "clinfer.sqlite3")
    with database.write() as connection:
        routing.add_rule(connection, RoutingRule(position=0, name=str(rule), **rule))
    database.close()


def destinations_of(url: str) -> set[str]:
    return {one["destination"] for one in httpx.get(f"{url}/v1/deliveries").json()["items"]}


def test_results_go_where_the_matching_rules_say(tmp_path: Path) -> None:
    with running_service(tmp_path, destinations=DESTINATIONS) as service:
        add(tmp_path, modality="CT", destination="lab")
        add(tmp_path, modality="MR", destination="pacs")
        study = two_boxes_study()
        send_zip(service, study.zipped())
        assert finished_study(service, study.study_uid)["outcome"] == "finding"
        assert destinations_of(service.http_url) == {"lab"}


def test_a_series_that_no_rule_takes_is_analysed_by_nobody_and_says_so(tmp_path: Path) -> None:
    with running_service(tmp_path, destinations=DESTINATIONS) as service:
        add(tmp_path, modality="MR")
        study = two_boxes_study()
        send_zip(service, study.zipped())
        found = finished_study(service, study.study_uid)
        assert found["outcome"] == "not_applicable"
        assert "no rule of the routing table sends the series to a model" in found["reason"]
        sent = httpx.get(f"{service.http_url}/v1/deliveries").json()["items"]
        assert {one["kind"] for one in sent} <= {"state_sr"}, "only the word that nobody looked"


def test_the_facts_are_the_senders_the_codes_and_the_descriptions(tmp_path: Path) -> None:
    study = two_boxes_study()
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "CTCHEST", "L", "Chest"
    for instance in study.instances:
        instance.ProcedureCodeSequence = [code]
    with built_app(tmp_path) as built:
        for n, instance in enumerate(study.instances):
            sender = Sender(channel=Channel.DIMSE, name=f"CT_{n % 2}", address="10.0.0.1")
            built.context.intake.receive([as_bytes(instance)], sender=sender)
        with built.database.read() as connection:
            (facts,) = facts_of(connection, built.context.objects, study.study_uid).values()
            first = built.context.objects
        assert facts.ae_titles == {"CT_0", "CT_1"}
        assert "CTCHEST" in facts.procedures
        assert facts.modality == "CT"
        assert facts.description == dcmread(next(first.all_objects())).SeriesDescription
