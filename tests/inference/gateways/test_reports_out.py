"""Reports to other systems: HL7 ORU and FHIR transactions, from preliminary to withdrawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message

from inference.domain.patient import Authorities
from inference.domain.report import (
    WRONG_PATIENT,
    FhirDestination,
    Hl7Destination,
    ReportDestination,
    ReportStep,
)
from inference.domain.result import DeliveryState, ResultState
from inference.gateways.fhir.sender import FhirSender
from inference.gateways.hl7_inbound import Hl7Receiver
from inference.gateways.hl7_message import read_header
from inference.gateways.hl7_report import Hl7Sender
from inference.gateways.mllp import MllpServer
from inference.jobs.delivery import DeliveryPolicy
from inference.jobs.intake import Intake
from inference.jobs.reporting import ReportSender, ReportWorker
from inference.storage import report_deliveries, report_events
from inference.storage.database import Database
from tests.builders.clock import SetClock
from tests.builders.fhir_server import FhirServer, running_fhir_server
from tests.builders.hl7 import adt, order
from tests.builders.reports import SEGMENTS, analysed, received, store_result

POLICY = DeliveryPolicy(max_tries=4, backoff_s=10.0, jitter=0.0)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def database(tmp_path: Any, clock: SetClock) -> Iterator[Database]:
    opened = Database.open(tmp_path / "data" / "clinfer.sqlite", clock=clock)
    yield opened
    opened.close()


@dataclass
class Hospital:
    """An HL7 receiver that keeps what it is sent; ``answers`` are given first, then AA."""

    heard: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    port: int = 0

    def handle(self, data: bytes, address: str) -> tuple[bytes, ...]:
        self.heard.append(data.decode())
        control_id = read_header(data).control_id
        code = self.answers.pop(0) if self.answers else "AA"
        if code == "hang up":
            raise OSError("hung up")
        error = "\rERR|||101|E||||PID-5 is missing" if code == "AE" else ""
        return (
            f"MSH|^~\\&|H||C||20261122||ACK|1|P|2.5.1\rMSA|{code}|{control_id}{error}".encode(),
        )

    def fields(self, segment: str, index: int, field: int) -> list[str]:
        lines = [line for line in self.heard[index].split("\r") if line.startswith(segment)]
        rows = [line.split("|") for line in lines]
        return [row[field] if field < len(row) else "" for row in rows]


@pytest.fixture
def hospital() -> Iterator[Hospital]:
    found = Hospital()
    with MllpServer(found.handle, host="127.0.0.1", port=0) as server:
        found.port = server.port
        yield found


@pytest.fixture
def fhir_server() -> Iterator[FhirServer]:
    with running_fhir_server() as server:
        yield server


def to_hl7(database: Database, hospital: Hospital, **options: Any) -> ReportWorker:
    to = Hl7Destination(name="his", host="127.0.0.1", port=hospital.port, timeout_s=5, **options)
    return worker(database, to, Hl7Sender(database, to, Authorities()))


def to_fhir(database: Database, server: FhirServer, **options: Any) -> ReportWorker:
    to = FhirDestination(name="ehr", url=server.url, timeout_s=5, **options)
    return worker(database, to, FhirSender(database, to))


def worker(database: Database, to: ReportDestination, sender: ReportSender) -> ReportWorker:
    return ReportWorker(database=database, destination=to, sender=sender, policy=POLICY)


def run(one: ReportWorker) -> None:
    while one.run_once():
        pass


def note(
    database: Database, result_id: int, status: ReportStep, actor: str = "", reason: str = ""
) -> None:
    with database.write() as connection:
        report_events.note(
            connection, result_id, status, now=database.now(connection), actor=actor, reason=reason
        )


def states(database: Database) -> list[DeliveryState]:
    with database.read() as connection:
        return [DeliveryState(one.state) for one in report_deliveries.list_deliveries(connection)][
            ::-1
        ]


def test_an_oru_goes_from_preliminary_to_final_to_withdrawn(
    database: Database, intake: Intake, hospital: Hospital
) -> None:
    one = to_hl7(database, hospital, receiving_application="HIS")
    result_id = analysed(intake)
    run(one)
    note(database, result_id, ReportStep.ACCEPTED, actor="anna")
    run(one)
    note(database, result_id, ReportStep.SIGNED, actor="anna")
    run(one)
    note(database, result_id, ReportStep.RETRACTED, reason="wrong side")
    note(database, result_id, ReportStep.SIGNED, actor="anna")  # nothing goes beyond a retraction
    run(one)
    assert [set(hospital.fields("OBX", n, 11)) for n in range(4)] == [{"P"}, {"F"}, {"F"}, {"D"}]
    assert [hospital.fields("OBR", n, 25)[0] for n in range(4)] == ["P", "P", "F", "C"]
    assert set(hospital.fields("OBX", 1, 16)) == {"anna"}
    assert set(hospital.fields("OBX", 0, 16)) == {""}
    assert {read_header(text.encode()).control_id for text in hospital.heard}.__len__() == 4
    assert states(database) == [DeliveryState.DELIVERED] * 4
    for text in hospital.heard:
        parse_message(text, validation_level=VALIDATION_LEVEL.STRICT).validate()


def test_an_oru_says_what_was_measured_and_whose_it_is(
    database: Database, intake: Intake, hospital: Hospital
) -> None:
    one = to_hl7(database, hospital)
    receiver = Hl7Receiver(database, Authorities())
    receiver.handle(order(number="77", accession="A1").encode(), "")
    analysed(
        intake,
        PatientID="77",
        PatientName="O|Neil^Ann=\u738b^\u5c0f",
        SpecificCharacterSet="ISO_IR 192",
    )
    run(one)
    assert hospital.fields("PID", 0, 3) == ["77^^^HOSP"]
    assert hospital.fields("OBR", 0, 2) == ["P1^RIS"]
    assert hospital.fields("OBR", 0, 18) == ["A1"]
    values = list(
        zip(
            hospital.fields("OBX", 0, 3),
            hospital.fields("OBX", 0, 5),
            hospital.fields("OBX", 0, 6),
            strict=True,
        )
    )
    assert ("118565006^Volume^SCT", "1234.5", "mL^milliliter^UCUM") in values
    assert ("118565006^Volume^SCT", "0.0125", "mL^milliliter^UCUM") in values
    assert ("373098007^Mean^SCT", "-780.25", "[hnsf'U]^[hnsf'U]^UCUM") in values
    sites = [value for code, value, _ in values if code.startswith("363698007")]
    assert sites == ["39607008^Left lung^SCT^7771000^Left^SCT", "80891009^Heart^SCT"]
    assert "Research use, not for primary diagnosis" in hospital.fields("NTE", 0, 3)[0]


def test_names_with_separators_and_ideographs_are_written_right(
    database: Database, intake: Intake, hospital: Hospital
) -> None:
    one = to_hl7(database, hospital)
    analysed(intake, PatientName="O|Neil^Ann=\u738b^\u5c0f", SpecificCharacterSet="ISO_IR 192")
    run(one)
    assert hospital.fields("PID", 0, 5) == ["O\\F\\Neil^Ann^^^^^^A~\u738b^\u5c0f^^^^^^I"]


def test_a_refused_study_is_reported_too(
    database: Database, intake: Intake, hospital: Hospital
) -> None:
    one = to_hl7(database, hospital)
    analysed(intake, segments=(), state=ResultState.REFUSED, reason="slices are missing")
    run(one)
    assert set(hospital.fields("OBX", 0, 11)) == {"X"}
    assert any("slices are missing" in value for value in hospital.fields("OBX", 0, 5))


def test_a_retraction_for_the_wrong_patient_is_w(
    database: Database, intake: Intake, hospital: Hospital
) -> None:
    one = to_hl7(database, hospital)
    result_id = analysed(intake)
    run(one)
    note(database, result_id, ReportStep.RETRACTED, reason=WRONG_PATIENT)
    run(one)
    assert set(hospital.fields("OBX", 1, 11)) == {"W"}


def test_a_destination_after_sign_off_hears_nothing_before(
    database: Database, intake: Intake, hospital: Hospital
) -> None:
    one = to_hl7(database, hospital, after_sign_off=True)
    first, second = analysed(intake, 1), analysed(intake, 2)
    run(one)
    note(database, first, ReportStep.RETRACTED, reason="never told, so never untold")
    run(one)
    assert hospital.heard == []
    note(database, second, ReportStep.ACCEPTED, actor="anna")
    run(one)
    note(database, second, ReportStep.RETRACTED)
    run(one)
    assert [set(hospital.fields("OBX", n, 11)) for n in range(2)] == [{"F"}, {"D"}]


def test_a_superseded_result_is_deleted_before_the_new_one_is_told(
    database: Database, intake: Intake, hospital: Hospital
) -> None:
    one = to_hl7(database, hospital)
    first = analysed(intake)
    run(one)
    received(intake, slice_number=2)
    second = store_result(intake, 1, key="other")
    run(one)
    told = {
        (hospital.fields("OBR", n, 3)[0], hospital.fields("OBX", n, 11)[0]) for n in range(1, 3)
    }
    assert told == {(f"{first}^CLINFER", "D"), (f"{second}^CLINFER", "P")}


def test_the_order_for_each_patient_is_kept_while_others_pass(
    database: Database, intake: Intake, hospital: Hospital, clock: SetClock
) -> None:
    one = to_hl7(database, hospital)
    hospital.answers = ["AR"]  # of the first: tried again after a while
    first = analysed(intake, 1)
    note(database, first, ReportStep.ACCEPTED, actor="anna")
    second = analysed(intake, 2)
    run(one)
    told = [hospital.fields("OBR", n, 3)[0] for n in range(len(hospital.heard))]
    assert told == [f"{first}^CLINFER", f"{second}^CLINFER"]
    clock.advance(11)
    run(one)
    said = [(hospital.fields("OBR", n, 3)[0], hospital.fields("OBX", n, 11)[0]) for n in (2, 3)]
    assert said == [(f"{first}^CLINFER", "P"), (f"{first}^CLINFER", "F")]
    assert hospital.heard[2].split("|")[9] == hospital.heard[0].split("|")[9], "the same control id"


def test_an_error_of_content_is_a_dead_letter_with_the_reason(
    database: Database, intake: Intake, hospital: Hospital, clock: SetClock
) -> None:
    one = to_hl7(database, hospital)
    hospital.answers = ["AE"]
    analysed(intake)
    run(one)
    with database.write() as connection:
        (dead,) = report_deliveries.list_deliveries(connection, state=DeliveryState.DEAD)
        assert "PID-5 is missing" in dead.last_error
        report_deliveries.requeue(connection, dead.id, now=clock.now())
    run(one)
    assert states(database) == [DeliveryState.DELIVERED]


def test_a_receiver_that_is_away_is_tried_until_the_tries_end(
    database: Database, intake: Intake, hospital: Hospital, clock: SetClock
) -> None:
    one = to_hl7(database, hospital)
    hospital.answers = ["hang up"] * POLICY.max_tries
    analysed(intake)
    for _ in range(POLICY.max_tries):
        run(one)
        clock.advance(100)
    assert len(hospital.heard) == POLICY.max_tries
    assert states(database) == [DeliveryState.DEAD]


def test_a_merge_names_the_survivor_first(
    database: Database, intake: Intake, hospital: Hospital
) -> None:
    one = to_hl7(database, hospital)
    Hl7Receiver(database, Authorities()).handle(adt("A40", "NEW", "MRG|OLD^^^HOSP").encode(), "")
    analysed(intake, PatientID="OLD")
    run(one)
    assert hospital.fields("PID", 0, 3) == ["NEW^^^HOSP~OLD^^^HOSP"]


def test_a_fhir_server_gets_valid_resources(
    database: Database, intake: Intake, fhir_server: FhirServer
) -> None:
    one = to_fhir(database, fhir_server, imaging_selection=True)
    result_id = analysed(intake)
    run(one)
    (bundle,) = fhir_server.bundles
    Bundle.model_validate(bundle)
    assert {one["status"] for one in fhir_server.of_type("Observation")} == {"preliminary"}
    first, second = sorted(
        fhir_server.of_type("Observation"), key=lambda one: -one["valueQuantity"]["value"]
    )
    assert first["valueQuantity"] == {
        "value": 1234.5, "unit": "mL", "system": "http://unitsofmeasure.org", "code": "mL",
    }  # fmt: skip
    assert first["bodySite"]["coding"][0]["code"] == "39607008:272741003=7771000"
    assert second["bodySite"]["coding"][0]["code"] == "80891009"
    urls = {entry["fullUrl"] for entry in bundle["entry"]}
    (report,) = fhir_server.of_type("DiagnosticReport")
    assert {one["reference"] for one in report["result"]} <= urls
    assert report["subject"]["reference"] in urls
    (study,) = fhir_server.of_type("ImagingStudy")
    assert study["identifier"][0]["value"].startswith("urn:oid:")
    assert len(fhir_server.of_type("Basic")) == len(SEGMENTS)
    note(database, result_id, ReportStep.ACCEPTED, actor="anna")
    run(one)
    (report,) = fhir_server.of_type("DiagnosticReport")
    assert report["status"] == "preliminary"
    for observation in fhir_server.of_type("Observation"):
        assert observation["status"] == "final"
        assert observation["performer"][0]["display"] == "anna"
    note(database, result_id, ReportStep.SIGNED, actor="anna")
    run(one)
    (report,) = fhir_server.of_type("DiagnosticReport")
    assert report["status"] == "final"
    assert report["resultsInterpreter"][0]["display"] == "anna"
    note(database, result_id, ReportStep.RETRACTED, reason="recalled")
    run(one)
    (report,) = fhir_server.of_type("DiagnosticReport")
    assert report["status"] == "entered-in-error"
    assert {one["status"] for one in fhir_server.of_type("Observation")} == {"entered-in-error"}
    assert len(fhir_server.of_type("Provenance")) == 1
    for sent in fhir_server.bundles:
        Bundle.model_validate(sent)


def test_fhir_010_a_failing_server_ends_with_exactly_one_report(
    database: Database, intake: Intake, fhir_server: FhirServer, clock: SetClock
) -> None:
    one = to_fhir(database, fhir_server)
    fhir_server.faults = [500, 429, "silent"]
    fhir_server.headers = {"Retry-After": "120"}
    analysed(intake)
    run(one)  # 500, which says 120 s too, but that is no promise
    clock.advance(11)
    run(one)  # 429
    clock.advance(100)
    run(one)
    assert len(fhir_server.faults) == 1, "before the time that Retry-After names nothing is sent"
    clock.advance(21)
    run(one)  # committed, not answered
    assert states(database) == [DeliveryState.WAITING]
    clock.advance(100)
    run(one)
    assert states(database) == [DeliveryState.DELIVERED]
    for type, n in (("DiagnosticReport", 1), ("Observation", 2), ("Provenance", 1), ("Patient", 1)):
        assert len(fhir_server.of_type(type)) == n


def test_a_patient_without_authority_is_named_and_not_made(
    database: Database, intake: Intake, fhir_server: FhirServer
) -> None:
    one = to_fhir(database, fhir_server)
    analysed(intake, PatientID="5", IssuerOfPatientID="")
    run(one)
    assert fhir_server.of_type("Patient") == []
    (report,) = fhir_server.of_type("DiagnosticReport")
    assert report["subject"] == {"type": "Patient", "identifier": {"value": "5"}}


def test_a_refusal_by_the_server_is_a_dead_letter(
    database: Database, intake: Intake, fhir_server: FhirServer
) -> None:
    one = to_fhir(database, fhir_server)
    fhir_server.faults = [422]
    analysed(intake)
    run(one)
    assert states(database) == [DeliveryState.DEAD]
