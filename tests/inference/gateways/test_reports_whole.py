"""A study goes through the whole service and is told to a hospital's HL7 and FHIR systems."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
from fhir.resources.R4B.bundle import Bundle

from inference.gateways.hl7_message import read_header
from inference.gateways.mllp import MllpServer
from tests.builders.fhir_server import running_fhir_server
from tests.builders.hl7 import code_of, order, talk
from tests.builders.service import FakeEngine, finished_study, running_service, send_zip
from tests.builders.two_boxes import two_boxes_study


def test_an_order_a_study_and_two_reports(tmp_path: Path) -> None:
    heard: list[str] = []

    def hospital(data: bytes, address: str) -> tuple[bytes, ...]:
        heard.append(data.decode())
        control_id = read_header(data).control_id
        return (f"MSH|^~\\&|H||C||20261122||ACK|1|P|2.5.1\rMSA|AA|{control_id}\r".encode(),)

    built = two_boxes_study()
    with (
        running_fhir_server() as ehr,
        MllpServer(hospital, host="127.0.0.1", port=0) as his,
        running_service(
            tmp_path,
            FakeEngine((200.0, 500.0)),
            hl7_port=0,
            default_patient_authority="urn:oid:1.2.3",
            destinations=[
                {"name": "his", "kind": "hl7", "host": "127.0.0.1", "port": his.port},
                {"name": "ehr", "kind": "fhir", "url": ehr.url},
            ],
        ) as service,
    ):
        (answer,) = talk(service.hl7_port, [order(priority="S")])
        assert code_of(answer) == "AA"
        send_zip(service, built.zipped())
        assert finished_study(service, built.study_uid)["outcome"] == "finding"
        until_s = time.monotonic() + 30
        while (not heard or not ehr.bundles) and time.monotonic() < until_s:
            time.sleep(0.05)
        found = httpx.get(
            f"{service.http_url}/fhir/Observation?part-of={built.study_uid}&status=preliminary"
        ).json()
        told = httpx.get(f"{service.http_url}/v1/reports").json()
    assert {(one["destination"], one["step"]) for one in told} == {
        ("his", "preliminary"), ("ehr", "preliminary"),
    }  # fmt: skip
    (text,) = heard
    volumes = [line.split("|")[5] for line in text.split("\r") if "118565006^Volume" in line]
    assert len(volumes) == 2
    assert all(float(one) > 0 for one in volumes)
    (bundle,) = ehr.bundles
    Bundle.model_validate(bundle)
    sent = sorted(one["valueQuantity"]["value"] for one in ehr.of_type("Observation"))
    assert sent == sorted(entry["resource"]["valueQuantity"]["value"] for entry in found["entry"])
    assert sent == [round(float(one), 6) for one in sorted(volumes, key=float)]
    sites = {one["bodySite"]["coding"][0]["code"] for one in ehr.of_type("Observation")}
    assert sites == {"85756007"}
    (patient,) = ehr.of_type("Patient")
    assert patient["identifier"][0]["system"] == "urn:oid:1.2.3"
