"""The FHIR read API: every type valid, every parameter searched, pages, includes, conditions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class

from inference.domain.patient import Authorities
from inference.domain.report import ReportStep
from inference.gateways.fhir.holdings import HOLDINGS
from inference.gateways.fhir.search_terms import SEARCH, includes_of, span_of
from inference.gateways.hl7_inbound import Hl7Receiver
from inference.jobs.intake import Intake
from inference.storage import report_events
from inference.storage.database import Database
from inference.storage.objects import ObjectStore
from tests.builders.clock import SetClock
from tests.builders.fhir_client import FhirClient, fhir_client
from tests.builders.hl7 import adt, lab, order
from tests.builders.instances import study_uid
from tests.builders.reports import analysed

HOSP = "urn:clinfer:authority:HOSP"


@contextmanager
def opened(folder: Path) -> Iterator[Database]:
    database = Database.open(folder / "data" / "clinfer.sqlite", clock=SetClock())
    fill(database, Intake(database=database, objects=ObjectStore(folder, reserve_bytes=0)))
    yield database
    database.close()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Filled once: most tests only read."""
    with opened(tmp_path_factory.mktemp("fhir")) as found:
        yield found


@pytest.fixture
def own_database(tmp_path: Path) -> Iterator[Database]:
    """For a test that writes."""
    with opened(tmp_path) as found:
        yield found


@pytest.fixture
def own_client(own_database: Database) -> FhirClient:
    return fhir_client(own_database)


def fill(database: Database, intake: Intake) -> None:
    """Two patients, one with an order, a number from the laboratory and an accepted result."""
    receiver = Hl7Receiver(database, Authorities())
    receiver.handle(order(number="77", accession="A1", priority="S").encode(), "")
    receiver.handle(lab("1.2").replace("PATIENT-1", "77").replace("|M1|", "|M2|").encode(), "")
    first = analysed(intake, 1, PatientID="77")
    analysed(intake, 2, PatientID="88", StudyDate="20261101")
    with database.write() as connection:
        now = database.now(connection)
        report_events.note(connection, first, ReportStep.ACCEPTED, now=now, actor="anna")
    assert first == 1


@pytest.fixture(scope="module")
def client(database: Database) -> FhirClient:
    return fhir_client(database, imaging_selection=True)


@pytest.mark.parametrize("type", list(HOLDINGS))
def test_every_type_is_valid_and_read_as_it_is_found(client: FhirClient, type: str) -> None:
    bundle = client.get(f"/{type}")
    assert bundle["entry"], f"the built case has a {type}"
    for entry in bundle["entry"]:
        found = entry["resource"]
        get_fhir_model_class(type).model_validate(found)
        assert client.get(f"/{type}/{found['id']}") == found


def test_the_tables_name_the_same_types() -> None:
    assert set(SEARCH) == set(HOLDINGS)


VALUES = {
    ("Patient", "identifier"): f"{HOSP}|77",
    ("Patient", "name"): "Phan",
    ("Patient", "birthdate"): "1980",
    ("Patient", "gender"): "female",
    ("Practitioner", "identifier"): "anna",
    ("Practitioner", "name"): "ANN",
    ("ImagingStudy", "identifier"): f"urn:dicom:uid|urn:oid:{study_uid(1)}",
    ("ImagingStudy", "status"): "available",
    ("ImagingStudy", "started"): "2026-11-22",
    ("ImagingStudy", "modality"): "CT",
    ("ImagingStudy", "series"): f"{study_uid(1)}.1",
    ("ServiceRequest", "identifier"): "P1",
    ("ServiceRequest", "status"): "active",
    ("ServiceRequest", "priority"): "stat",
    ("ServiceRequest", "code"): "CTCHEST",
    ("ServiceRequest", "authored"): "ge2026-11",
    ("Task", "status"): "completed",
    ("Task", "priority"): "stat,routine",
    ("Task", "focus"): f"ImagingStudy/{study_uid(1)}",
    ("Task", "authored-on"): "le2026-12-31",
    ("Task", "modified"): "2026",
    ("DiagnosticReport", "identifier"): "urn:clinfer:result|key-1",
    ("DiagnosticReport", "status"): "preliminary",
    ("DiagnosticReport", "category"): "RAD",
    ("DiagnosticReport", "code"): "http://loinc.org|18748-4",
    ("DiagnosticReport", "date"): "gt2026-11-01",
    ("DiagnosticReport", "issued"): "lt2026-12",
    ("DiagnosticReport", "result"): "Observation/r1-1",
    ("DiagnosticReport", "based-on"): "ServiceRequest/s1",
    ("Observation", "identifier"): "urn:clinfer:result|key-1-3",
    ("Observation", "status"): "final",
    ("Observation", "category"): "imaging",
    ("Observation", "code"): "118565006",
    ("Observation", "date"): "eq2026-11-22",
    ("Observation", "part-of"): study_uid(1),
    ("Observation", "derived-from"): study_uid(1),
    ("Provenance", "target"): "DiagnosticReport/r1",
    ("Provenance", "recorded"): "sa2026-01",
    ("Device", "device-name"): "ct_thorax",
    ("Basic", "identifier"): "key-1-1",
    ("Basic", "code"): "ImagingSelection",
}
FROM_RESULTS = {
    ("Observation", "device"),
    ("Observation", "performer"),
    ("Provenance", "agent"),
    ("Device", "identifier"),
}


@pytest.mark.parametrize(
    ("type", "name"),
    [
        (type, name)
        for type, table in SEARCH.items()
        for name in table
        if (type, name) != ("DiagnosticReport", "results-interpreter")  # nobody has signed
    ],
)
def test_every_parameter_finds_what_fits_and_nothing_else(
    client: FhirClient, type: str, name: str
) -> None:
    everything = client.get(f"/{type}")["entry"]
    if name in ("patient", "subject"):
        value, wrong = client.ids(f"/Patient?identifier={HOSP}|77")[0], "p999"
    elif name == "_id":
        value, wrong = everything[0]["resource"]["id"], "nobody"
    elif name == "_lastUpdated":
        value, wrong = "ge2026-01-01", "lt2026-01-01"
    elif (type, name) in FROM_RESULTS:
        value = next(
            str(found[0][1] if isinstance(found[0], tuple) else found[-1])
            for entry in everything
            if (found := SEARCH[type][name].find(entry["resource"]))
        )
        wrong = "nobody"
    else:
        value = VALUES[type, name]
        wrong = "sa2999" if SEARCH[type][name].kind == "date" else "nothing-of-that"
    found = client.ids(f"/{type}?{name}={value}")
    assert found
    assert client.ids(f"/{type}?{name}={wrong}") == []
    parameter = SEARCH[type][name]
    if name not in ("patient", "subject") and parameter.kind == "token":
        for entry in everything:
            has = any(code in value.split(",") or value.endswith(f"|{code}")
                      for _, code in parameter.find(entry["resource"]))  # fmt: skip
            assert (entry["resource"]["id"] in found) == has


def test_a_patients_things_are_found_by_number_and_authority(client: FhirClient) -> None:
    assert client.ids(f"/DiagnosticReport?patient.identifier={HOSP}|77") == ["r1"]
    assert client.ids(f"/DiagnosticReport?patient.identifier={HOSP}|88") == ["r2"]
    assert client.ids("/DiagnosticReport?patient.identifier=urn:oid:9|77") == []
    assert set(client.ids(f"/Observation?patient.identifier={HOSP}|77")) == {"r1-1", "r1-3", "o1"}
    found = client.get("/DiagnosticReport?patient.identifier=77", 400)
    assert "two patients" in found["issue"][0]["diagnostics"]


def test_a_merge_moves_everything_and_names_the_successor(
    own_client: FhirClient, own_database: Database
) -> None:
    client, database = own_client, own_database
    old = client.ids(f"/Patient?identifier={HOSP}|77")[0]
    Hl7Receiver(database, Authorities()).handle(
        adt("A40", "88", "MRG|77^^^HOSP", control_id="M9").encode(), ""
    )
    new = client.ids(f"/Patient?identifier={HOSP}|77")[0]
    assert new != old
    assert client.ids(f"/DiagnosticReport?patient={new}") == ["r2", "r1"]
    assert client.ids(f"/DiagnosticReport?patient={old}") == ["r2", "r1"]
    merged = client.get(f"/Patient/{old}")
    assert merged["active"] is False
    assert merged["link"] == [{"other": {"reference": f"Patient/{new}"}, "type": "replaced-by"}]
    assert client.ids("/Patient") == [new]


@pytest.mark.parametrize("type", ["Observation", "DiagnosticReport", "ImagingStudy", "Task"])
@pytest.mark.parametrize("count", [1, 2])
def test_pages_give_everything_once(client: FhirClient, type: str, count: int) -> None:
    everything = client.ids(f"/{type}")
    seen: list[str] = []
    path = f"/{type}?_count={count}"
    while path:
        bundle = client.get(path)
        ids = [entry["resource"]["id"] for entry in bundle.get("entry", ())]
        assert len(ids) <= count
        seen += ids
        links = {link["relation"]: link["url"] for link in bundle["link"]}
        path = links.get("next", "").removeprefix("http://clinfer.test/fhir")
    assert seen == everything
    assert client.get(f"/{type}?_count=0").get("entry") is None


def test_what_is_referred_to_comes_along_once(client: FhirClient) -> None:
    bundle = client.get(
        "/DiagnosticReport?_id=r1&_include=DiagnosticReport:result"
        "&_include=DiagnosticReport:subject&_include=DiagnosticReport:based-on"
    )
    kinds = [(one["search"]["mode"], one["resource"]["resourceType"]) for one in bundle["entry"]]
    assert kinds == [
        ("match", "DiagnosticReport"), ("include", "Observation"), ("include", "Observation"),
        ("include", "Patient"), ("include", "ServiceRequest"),
    ]  # fmt: skip
    for type in HOLDINGS:
        for include in includes_of(type):
            client.get(f"/{type}?_include={include}")
    client.get("/DiagnosticReport?_include=DiagnosticReport:code", 400)


@pytest.mark.parametrize(
    ("prefix", "day", "is_found"),
    [
        ("eq", "2026-11-22", True), ("eq", "2026-11", True), ("eq", "2026-11-22T10:00", False),
        ("ne", "2026-11-22", False), ("gt", "2026-11-21", True), ("gt", "2026-11-22", False),
        ("ge", "2026-11-22", True), ("ge", "2026-11-23", False), ("lt", "2026-11-23", True),
        ("lt", "2026-11-22", False), ("le", "2026-11-22", True), ("le", "2026-11-21", False),
        ("sa", "2026-11-21", True), ("sa", "2026-11-22", False), ("eb", "2026-11-23", True),
        ("eb", "2026-11-22", False), ("", "2026-11-22", True),
    ],
)  # fmt: skip
def test_prefixes_of_dates(client: FhirClient, prefix: str, day: str, is_found: bool) -> None:
    found = client.ids(f"/ImagingStudy?_id={study_uid(1)}&started={prefix}{day}")
    assert bool(found) is is_found


@pytest.mark.parametrize(
    "query",
    [
        "started=yesterday", "started=2026-02-30", "started=ap2026", "_count=many", "_count=201",
        "_sort=started", "patient.name=x", "status=", "_cursor=../x", "started=9999",
    ],
)  # fmt: skip
def test_a_search_that_cannot_be_understood_is_refused(client: FhirClient, query: str) -> None:
    found = client.get(f"/ImagingStudy?{query}", 400)
    assert found["issue"][0]["expression"] == [query.partition("=")[0]]


def test_an_unknown_parameter_is_left_out_only_when_asked(client: FhirClient) -> None:
    bundle = client.get("/ImagingStudy?basedon=x&status=available", Prefer="handling=lenient")
    assert bundle["link"][0]["url"].endswith("/ImagingStudy?status=available")


def test_conditional_reads_save_the_body(client: FhirClient) -> None:
    answer = client.http.get("/fhir/DiagnosticReport/r1")
    etag, changed = answer.headers["etag"], answer.headers["last-modified"]
    assert etag == f'W/"{answer.json()["meta"]["versionId"]}"'
    client.get("/DiagnosticReport/r1", 304, If_None_Match=etag)
    client.get("/DiagnosticReport/r1", 200, If_None_Match='W/"0"')
    client.get("/DiagnosticReport/r1", 304, If_Modified_Since=changed)
    client.get("/DiagnosticReport/r1", 200, If_Modified_Since="Mon, 01 Jan 2024 00:00:00 GMT")


def test_a_change_of_status_is_a_new_version(
    own_client: FhirClient, own_database: Database
) -> None:
    client, database = own_client, own_database
    before = client.get("/DiagnosticReport/r1")["meta"]["versionId"]
    with database.write() as connection:
        report_events.note(connection, 1, ReportStep.RETRACTED, now=database.now(connection))
    after = client.get("/DiagnosticReport/r1")
    assert after["status"] == "entered-in-error"
    assert after["meta"]["versionId"] != before


def test_a_signature_makes_the_report_final_and_is_searched(
    own_client: FhirClient, own_database: Database
) -> None:
    with own_database.write() as connection:
        now = own_database.now(connection)
        report_events.note(connection, 1, ReportStep.SIGNED, now=now, actor="anna")
    report = own_client.get("/DiagnosticReport/r1")
    assert report["status"] == "final"
    reader = report["resultsInterpreter"][0]["reference"]
    assert own_client.ids(f"/DiagnosticReport?results-interpreter={reader}") == ["r1"]
    assert own_client.ids("/DiagnosticReport?results-interpreter=Practitioner/nobody") == []


def test_accepting_is_not_reporting(client: FhirClient) -> None:
    report, observation = client.get("/DiagnosticReport/r1"), client.get("/Observation/r1-1")
    assert report["status"] == "preliminary"
    assert observation["status"] == "final"
    assert observation["performer"][0]["display"] == "anna"
    assert client.get("/Observation/r2-1")["status"] == "preliminary"
    assert "performer" not in client.get("/Observation/r2-1")


def test_xml_is_not_acceptable(client: FhirClient) -> None:
    client.get("/Patient", 406, Accept="application/fhir+xml")
    client.get("/Patient?_format=xml", 406)
    client.get("/Patient?_format=json", 200, Accept="application/fhir+xml")


def test_somebody_without_a_key_is_told_no_name(database: Database) -> None:
    open_client = fhir_client(database, via="loopback")
    for path in ("/Patient", "/ImagingStudy", "/ServiceRequest"):
        text = json.dumps(open_client.get(path))
        for secret in ("Phantom", '"77"', "1980-01-02", '"A1"', '"P1"'):
            assert secret not in text
    assert open_client.get("/Patient")["entry"][0]["resource"]["meta"]["security"]


def test_the_capability_statement_says_what_the_tables_do(client: FhirClient) -> None:
    statement = client.get("/metadata")
    (rest,) = statement["rest"]
    assert [one["type"] for one in rest["resource"]] == list(HOLDINGS)
    for one in rest["resource"]:
        names = [parameter["name"] for parameter in one["searchParam"]]
        assert names == list(SEARCH[one["type"]])
    assert statement["fhirVersion"] == "4.0.1"


def test_imaging_selections_are_there_only_where_asked_for(database: Database) -> None:
    plain = fhir_client(database)
    plain.get("/Basic", 404)
    types = [one["type"] for one in plain.get("/metadata")["rest"][0]["resource"]]
    assert "Basic" not in types


def test_a_missing_resource_or_type_is_an_outcome(client: FhirClient) -> None:
    for path in ("/Patient/p999", "/Observation/r1-99", "/Medication", "/Task/x"):
        client.get(path, 404)


def test_months_and_years_end_where_they_do() -> None:
    begin, end = span_of("2024-02", "d")
    assert (end - begin).days == 29
    assert (span_of("2024", "d")[1] - span_of("2024", "d")[0]).days == 366
    assert span_of("2026-11-22T10:00:00+08:00", "d")[0].hour == 2


# Short examples after those of HL7's R4 publication (hl7.org/fhir/R4), written anew here: the
# elements are the published ones' (f202 temperature, f001 glucose, ultrasound report, CT study).
PUBLISHED: list[dict[str, Any]] = [
    {
        "resourceType": "Observation", "id": "f001", "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "15074-8",
                             "display": "Glucose [Moles/volume] in Blood"}]},
        "subject": {"reference": "Patient/f001", "display": "P. van de Heuvel"},
        "effectivePeriod": {"start": "2013-04-02T09:30:10+01:00"},
        "issued": "2013-04-03T15:30:10+01:00",
        "valueQuantity": {"value": 6.3, "unit": "mmol/l",
                          "system": "http://unitsofmeasure.org", "code": "mmol/L"},
        "referenceRange": [{"low": {"value": 3.1, "unit": "mmol/l"},
                            "high": {"value": 6.2, "unit": "mmol/l"}}],
    },
    {
        "resourceType": "DiagnosticReport", "id": "ultrasound", "status": "final",
        "category": [{"coding": [{"system": "http://snomed.info/sct", "code": "394914008"}]}],
        "code": {"text": "Abdominal Ultrasound"}, "subject": {"reference": "Patient/example"},
        "effectiveDateTime": "2012-12-01T12:00:00+01:00", "conclusion": "Unremarkable study",
    },
    {
        "resourceType": "ImagingStudy", "id": "example", "status": "available",
        "identifier": [{"system": "urn:dicom:uid",
                        "value": "urn:oid:2.16.124.113543.6003.1154777499.30246.19789"}],
        "subject": {"reference": "Patient/dicom"}, "started": "2011-01-01T11:01:20+03:00",
        "numberOfSeries": 1, "numberOfInstances": 1,
        "series": [{"uid": "2.16.124.113543.6003.2588828330.45298.17418", "number": 3,
                    "modality": {"system": "http://dicom.nema.org/resources/ontology/DCM",
                                 "code": "CT"}, "description": "CT Surview 180",
                    "numberOfInstances": 1}],
    },
    {
        "resourceType": "Task", "id": "example1", "status": "in-progress", "intent": "order",
        "priority": "routine", "focus": {"reference": "ServiceRequest/lipid"},
        "executionPeriod": {"start": "2016-10-31T08:25:05+10:00"},
    },
]  # fmt: skip


@pytest.mark.parametrize("example", PUBLISHED, ids=lambda one: one["resourceType"])
def test_published_examples_go_round(example: dict[str, Any]) -> None:
    parsed = get_fhir_model_class(example["resourceType"]).model_validate(example)
    again = json.loads(parsed.model_dump_json())
    assert _plain(again) == _plain(example)


def _plain(node: Any) -> Any:
    """Numbers and moments as values, since 6.30 is 6.3 and Z is +00:00."""
    if isinstance(node, dict):
        return {name: _plain(value) for name, value in node.items()}
    if isinstance(node, list):
        return [_plain(one) for one in node]
    if isinstance(node, str) and "T" in node and node[:4].isdigit():
        return span_of(node, "")[0]
    return float(node) if isinstance(node, int | float) and not isinstance(node, bool) else node
