"""Every case of the area fhir of the bad inputs has its outcome; fhir-010 is with the reports."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import Any

import pytest
from sqlalchemy import func, select

from inference.storage import audit
from inference.storage.database import Database
from inference.storage.exchange_tables import fhir_resource, imaging_order, patient
from tests.builders.fhir_client import FhirClient, fhir_client

PATIENT = {
    "resourceType": "Patient",
    "identifier": [{"system": "urn:oid:1.2.3", "value": "77"}],
    "name": [{"family": "Phantom", "given": ["Built"]}],
    "gender": "female",
    "birthDate": "1980-01-02",
}


def observation(**changes: Any) -> dict[str, Any]:
    quantity = {
        "value": 1.1, "unit": "mg/dL", "system": "http://unitsofmeasure.org", "code": "mg/dL",
    } | changes.pop("quantity", {})  # fmt: skip
    return {
        "resourceType": "Observation",
        "identifier": [{"system": "urn:lab", "value": "L1"}],
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "2160-0"}]},
        "subject": {"identifier": {"system": "urn:oid:1.2.3", "value": "77"}},
        "valueQuantity": {name: value for name, value in quantity.items() if value is not None},
    } | changes


def bundle(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": "transaction", "entry": list(entries)}


def entry(resource: dict[str, Any], **more: Any) -> dict[str, Any]:
    request = {"method": "POST", "url": resource["resourceType"]}
    return {"resource": resource, "request": request | more.pop("request", {})} | more


@pytest.fixture
def client(database: Database) -> FhirClient:
    found = fhir_client(database)
    found.post("/Patient", PATIENT)
    return found


def count(database: Database, table: Any) -> int:
    with database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


@pytest.mark.parametrize(
    "address", ["http://169.254.169.254/latest/meta-data", "file:///etc/passwd"]
)
def test_fhir_002_addresses_elsewhere_are_never_fetched(
    client: FhirClient, database: Database, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    def no_connection(*_args: Any, **_more: Any) -> None:
        raise AssertionError("somebody connects")

    monkeypatch.setattr(socket, "create_connection", no_connection)
    with_reference = observation(subject={"reference": address})
    found = client.post("/Observation", with_reference, 422)
    assert found["issue"][0]["expression"] == ["Observation.subject.reference"]
    found = client.post("", bundle(entry(with_reference)), 422)
    assert found["issue"][0]["expression"] == ["Bundle.entry[0].resource.subject.reference"]
    found = client.post("", bundle(entry(observation(), fullUrl=address)), 422)
    assert found["issue"][0]["expression"] == ["Bundle.entry[0].fullUrl"]
    assert count(database, fhir_resource) == 0


def test_fhir_003_two_entries_that_are_one_thing_refuse_the_bundle(
    client: FhirClient, database: Database
) -> None:
    found = client.post("", bundle(entry(observation()), entry(observation())), 409)
    assert "Bundle.entry[0]" in found["issue"][0]["diagnostics"]
    assert count(database, fhir_resource) == 0
    second = observation(identifier=[{"system": "urn:lab", "value": "L2"}])
    done = client.post("", bundle(entry(observation()), entry(second)), 200)
    assert [one["response"]["status"] for one in done["entry"]] == ["201 Created"] * 2
    assert count(database, fhir_resource) == 2


def test_a_transaction_takes_all_or_nothing(client: FhirClient, database: Database) -> None:
    wrong = observation(
        identifier=[{"system": "urn:lab", "value": "L2"}], quantity={"code": "umol/g"}
    )
    found = client.post("", bundle(entry(observation()), entry(wrong)), 422)
    assert found["issue"][0]["expression"] == ["Bundle.entry[1].resource.valueQuantity.code"]
    assert count(database, fhir_resource) == 0


def test_a_transaction_resolves_what_it_names_itself(client: FhirClient) -> None:
    url = "urn:uuid:6a1f3d0e-53c1-5a39-9d0f-6c1e43f0a9b2"
    new = PATIENT | {"identifier": [{"system": "urn:oid:1.2.3", "value": "78"}]}
    done = client.post(
        "",
        bundle(entry(observation(subject={"reference": url})), entry(new, fullUrl=url)),
        200,
    )
    location = done["entry"][0]["response"]["location"]
    assert (
        client.get(f"/{location}")["subject"]["reference"]
        == done["entry"][1]["response"]["location"]
    )


def test_fhir_004_twenty_conditional_creates_make_one(
    client: FhirClient, database: Database
) -> None:
    statuses = []
    barrier = threading.Barrier(20)

    def create() -> None:
        barrier.wait()
        answer = client.http.post(
            "/fhir/Observation",
            json=observation(),
            headers={
                "Content-Type": "application/fhir+json", "If-None-Exist": "identifier=urn:lab|L1",
            },
        )  # fmt: skip
        statuses.append(answer.status_code)

    threads = [threading.Thread(target=create) for _ in range(20)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(statuses) == [200] * 19 + [201]
    assert count(database, fhir_resource) == 1


@pytest.mark.parametrize(
    ("body", "element"),
    [
        (json.dumps(observation()).replace("1.1", "1e999"), "Observation.valueQuantity.value"),
        (json.dumps(observation(quantity={"value": "NaN"})), "Observation.valueQuantity.value"),
        (json.dumps(observation(quantity={"value": None})), "Observation.valueQuantity.value"),
        (json.dumps(observation(quantity={"value": "1.1"})), "Observation.valueQuantity.value"),
        (
            json.dumps(observation(quantity={"comparator": "<"})),
            "Observation.valueQuantity.comparator",
        ),
        (json.dumps(observation(quantity={"code": None})), "Observation.valueQuantity.code"),
        (json.dumps(observation(quantity={"code": "ug/L"})), "Observation.valueQuantity.code"),
        (json.dumps(observation(quantity={"code": "MG/DL"})), "Observation.valueQuantity.code"),
        (json.dumps(observation(quantity={"system": "urn:x"})), "Observation.valueQuantity.system"),
        (json.dumps(observation(valueQuantity=None)), "Observation.valueQuantity"),
        (json.dumps(observation(status="finished")), "Observation.status"),
        (json.dumps(observation(contained=[{"resourceType": "Patient"}])), "Observation.contained"),
        (
            json.dumps(observation(subject={"identifier": {"value": "77"}})),
            "Observation.subject.identifier.system",
        ),
        (json.dumps(observation(subject={"reference": "Patient/p99"})), "Observation.subject"),
    ],
)  # fmt: skip
def test_fhir_005_a_number_that_cannot_be_compared_is_refused(
    client: FhirClient, database: Database, body: str, element: str
) -> None:
    found = client.post("/Observation", body.encode(), 422)
    assert found["issue"][0]["expression"] == [element]
    assert count(database, fhir_resource) == 0


@pytest.mark.parametrize("body", [b'{"a": NaN}', b"[1]", b"{", b'{"a": 1, "a": 2}', b"\xff"])
def test_a_body_that_is_no_json_is_refused(client: FhirClient, body: bytes) -> None:
    client.post("/Observation", body, 400)


def test_fhir_007_a_narrative_with_a_script_is_stripped(
    client: FhirClient, database: Database
) -> None:
    div = (
        '<div xmlns="http://www.w3.org/1999/xhtml"><script>alert(1)</script>'
        '<p onload="x()">a</p><img src="http://elsewhere.example/x.png"/></div>'
    )
    made = client.post("/Observation", observation(text={"status": "generated", "div": div}))
    shown = json.dumps(client.get(f"/Observation/{made['id']}"))
    assert "script" not in shown
    assert "onload" not in shown
    assert "elsewhere" not in shown
    assert count(database, fhir_resource) == 1


def test_fhir_008_an_update_names_the_version_it_replaces(client: FhirClient) -> None:
    made = client.post("/Observation", observation())
    path, seen = f"/Observation/{made['id']}", made["meta"]["versionId"]
    changed = observation(id=made["id"], quantity={"value": 2.5})
    client.put(path, changed, 428)
    client.put(path, changed, 412, If_Match='W/"0"')
    client.put(path, changed, 200, If_Match=f'W/"{seen}"')
    client.put(path, changed, 412, If_Match=f'W/"{seen}"')
    assert client.get(path)["valueQuantity"]["value"] == 2.5


def test_fhir_009_what_is_too_much_costs_little(client: FhirClient, database: Database) -> None:
    many = (
        b'{"resourceType":"Bundle","type":"transaction","entry":['
        + b",".join([b"{}"] * 100_000)
        + b"]}"
    )
    deep = b'{"extension":' * 1000 + b"{}" + b"}" * 1000
    large = b'{"a":"' + b"x" * (50 * 1024 * 1024) + b'"}'
    for body, status in ((many, 422), (deep, 422), (large, 413)):
        started = time.process_time()
        client.post("", body, status)
        assert time.process_time() - started < 2
    assert count(database, fhir_resource) == 0


def test_every_refusal_is_without_what_it_refused(client: FhirClient) -> None:
    body = observation(subject={"identifier": {"system": "urn:oid:1.2.3", "value": "SECRET-9"}})
    found = client.post("/Observation", body, 422)
    assert "SECRET" not in json.dumps(found)
    assert found["issue"][0]["details"]["coding"][0]["code"] == "fhir_refused"


def test_only_what_can_be_written_is_taken(client: FhirClient, database: Database) -> None:
    client.post("/DiagnosticReport", {"resourceType": "DiagnosticReport"}, 405)
    client.post("/Medication", {"resourceType": "Medication"}, 404)
    answer = client.http.post(
        "/fhir/Patient", content=b"<a/>", headers={"Content-Type": "text/xml"}
    )
    assert answer.status_code == 415
    client.post("/Patient", PATIENT, 409)
    client.post("/Patient", PATIENT | {"identifier": []}, 422)
    client.post("/Patient", PATIENT | {"birthDate": "2999-01-01"} | {
        "identifier": [{"system": "urn:oid:1.2.3", "value": "79"}]}, 422)  # fmt: skip
    assert count(database, patient) == 1


def test_an_order_by_fhir_reaches_the_queue(client: FhirClient, database: Database) -> None:
    order = {
        "resourceType": "ServiceRequest",
        "identifier": [{"system": "urn:oid:1.2.9", "value": "P7"}],
        "status": "active",
        "intent": "order",
        "priority": "stat",
        "code": {"text": "CT chest"},
        "subject": {"identifier": {"system": "urn:oid:1.2.3", "value": "77"}},
    }
    made = client.post("/ServiceRequest", order)
    assert made["priority"] == "stat"
    client.post("/ServiceRequest", order, 409)
    again = client.post("/ServiceRequest", order, 200, If_None_Exist="identifier=urn:oid:1.2.9|P7")
    assert again["id"] == made["id"]
    revoked = client.put(
        f"/ServiceRequest/{made['id']}",
        order | {"id": made["id"], "status": "revoked"},
        If_Match=f'W/"{made["meta"]["versionId"]}"',
    )
    assert revoked["status"] == "revoked"
    assert count(database, imaging_order) == 1
    client.post("/ServiceRequest", order | {"intent": "plan"}, 422)
    with database.read() as connection:
        actions = [one.action for one in audit.events(connection)]
    assert actions.count("fhir.created") == 2
