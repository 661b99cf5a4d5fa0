"""Patients, orders and their effect on the queue, message by message."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from inference.domain.job import JobState, Priority
from inference.domain.patient import Authorities, PatientIdentifier
from inference.domain.result import ResultState
from inference.gateways.hl7_inbound import Hl7Receiver
from inference.gateways.mllp import FramingError, MllpServer, MllpTls, exchange
from inference.jobs.intake import Intake
from inference.storage import jobs, orders, patients, results
from inference.storage.database import Database
from tests.builders.hl7 import PID, adt, code_of, fields_of, message, order, place_of, talk
from tests.builders.instances import ct_file, study_uid
from tests.builders.rows import SENDER

HOSP = "urn:clinfer:authority:HOSP"


@pytest.fixture
def receiver(database: Database) -> Hl7Receiver:
    return Hl7Receiver(database, Authorities())


def send(receiver: Hl7Receiver, text: str, *, encoding: str = "utf-8") -> bytes:
    (found,) = receiver.handle(text.encode(encoding), "127.0.0.1")
    return found


def taken(receiver: Hl7Receiver, text: str, **options: str) -> None:
    answer = send(receiver, text, **options)
    assert code_of(answer) == "AA", answer


def patient_of(database: Database, number: str, authority: str = HOSP) -> patients.Patient | None:
    with database.read() as connection:
        row_id = patients.find(connection, PatientIdentifier(value=number, authority=authority))
        return None if row_id is None else patients.get_patient(connection, row_id)


def image(intake: Intake, study: int = 1, slice_number: int = 1, **attributes: object) -> None:
    given = {"IssuerOfPatientID": "HOSP", "PatientID": "PATIENT-1", "AccessionNumber": "A1"}
    file = ct_file(study=study, slice_number=slice_number, **(given | attributes))
    intake.receive([file], sender=SENDER)


def newest_job(database: Database, study: int = 1) -> jobs.Job:
    with database.read() as connection:
        return jobs.list_jobs(connection, study_uid=study_uid(study), limit=1)[0]


def test_equal_numbers_of_two_authorities_never_join(
    receiver: Hl7Receiver, database: Database, intake: Intake
) -> None:
    taken(receiver, adt("A01", "77"))
    taken(receiver, adt("A01", "77", control_id="M2").replace("^^^HOSP", "^^^CLINIC"))
    image(intake, 1, PatientID="77", IssuerOfPatientID="CLINIC")
    image(intake, 2, PatientID="77", IssuerOfPatientID="")
    here, there = patient_of(database, "77"), patient_of(database, "77", HOSP[:-4] + "CLINIC")
    nobody = patient_of(database, "77", "")
    assert here is not None
    assert there is not None
    assert nobody is not None
    assert len({here.id, there.id, nobody.id}) == 3
    with database.read() as connection:
        assert patients.studies_of(connection, here.id) == ()
        assert patients.studies_of(connection, there.id) == (study_uid(1),)
        assert patients.studies_of(connection, nobody.id) == (study_uid(2),)


def test_one_authority_is_one_whatever_the_door(database: Database, intake: Intake) -> None:
    authorities = Authorities(names={"HOSP": "urn:oid:1.2.3"})
    receiver = Hl7Receiver(database, authorities)
    intake.settings = replace(intake.settings, authorities=authorities)
    taken(receiver, adt("A01", "77").replace("^^^HOSP", "^^^HOSP&1.2.3&ISO"))
    image(intake, 1, PatientID="77")  # the issuer's local name
    from pydicom.dataset import Dataset

    qualifier = Dataset()
    qualifier.UniversalEntityID, qualifier.UniversalEntityIDType = "1.2.3", "ISO"
    image(
        intake, 2, PatientID="77", IssuerOfPatientID="",
        IssuerOfPatientIDQualifiersSequence=[qualifier],
    )  # fmt: skip
    found = patient_of(database, "77", authorities.of_system("urn:oid:1.2.3"))
    assert found is not None
    with database.read() as connection:
        assert patients.studies_of(connection, found.id) == (study_uid(1), study_uid(2))


def test_an_authority_that_says_two_things_is_an_error(database: Database) -> None:
    receiver = Hl7Receiver(database, Authorities(names={"HOSP": "urn:oid:1.2.3"}))
    answer = send(receiver, adt("A01", "77").replace("^^^HOSP", "^^^HOSP&9.9&ISO"))
    assert (code_of(answer), place_of(answer)) == ("AE", "PID^1^3^1^4")


def test_a_number_without_authority_is_an_error_unless_there_is_a_default(
    receiver: Hl7Receiver, database: Database
) -> None:
    bare = adt("A01", "77").replace("^^^HOSP", "")
    answer = send(receiver, bare)
    assert (code_of(answer), place_of(answer)) == ("AE", "PID^1^3^1^4")
    taken(Hl7Receiver(database, Authorities(default="urn:oid:9")), bare)
    assert patient_of(database, "77", "urn:oid:9") is not None


def test_visits_and_demographics_follow_the_messages(
    receiver: Hl7Receiver, database: Database
) -> None:
    seen = []
    for number, (event, pv1) in enumerate(
        (("A01", "PV1|1|I|W1^2^3"), ("A02", "PV1|1|I|W9^1^1"), ("A08", ""), ("A03", "")), start=1
    ):
        more = (pv1,) if pv1 else ()
        taken(receiver, adt(event, "77", *more, control_id=f"M{number}"))
        found = patient_of(database, "77")
        assert found is not None
        seen.append((found.visit, found.location))
    assert seen == [
        ("admitted", "W1^2^3"), ("transferred", "W9^1^1"), ("transferred", "W9^1^1"),
        ("discharged", "W9^1^1"),
    ]  # fmt: skip
    assert found.demographics.name == "Phantom^Built"
    assert (found.demographics.birth_date, found.demographics.sex) == ("19800102", "F")


@pytest.mark.parametrize(
    ("charset", "encoding"), [("UNICODE UTF-8", "utf-8"), ("GB 18030-2000", "gb18030")]
)
def test_names_arrive_in_the_set_that_the_header_names(
    receiver: Hl7Receiver, database: Database, charset: str, encoding: str
) -> None:
    # In GB 18030 the second byte of this family name is that of "|"
    pid = "PID|1||77^^^HOSP||Wang^XiaoDong~\u5020^\u5c0f\u4e1c^^^^^^I||1980|M"
    text = message("ADT^A08", pid, charset=charset)
    taken(receiver, text, encoding=encoding)
    found = patient_of(database, "77")
    assert found is not None
    assert found.demographics.name == "Wang^XiaoDong=\u5020^\u5c0f\u4e1c"


def test_text_that_is_not_in_its_set_is_rejected(receiver: Hl7Receiver) -> None:
    text = message("ADT^A08", "PID|1||77^^^HOSP||\u738b^\u5c0f", charset="")
    answer = send(receiver, text)
    assert (code_of(answer), place_of(answer)) == ("AR", "MSH^1^18")


def test_identifiers_of_two_patients_need_a_merge_first(receiver: Hl7Receiver) -> None:
    taken(receiver, adt("A01", "1"))
    taken(receiver, adt("A01", "2", control_id="M2"))
    both = message("ADT^A08", "PID|1||1^^^HOSP~2^^^HOSP||X^Y", control_id="M3")
    assert place_of(send(receiver, both)) == "PID^1^3"
    taken(receiver, adt("A40", "1", "MRG|2^^^HOSP", control_id="M4"))
    taken(receiver, both)


def test_a_merge_the_other_way_round_is_refused(receiver: Hl7Receiver) -> None:
    taken(receiver, adt("A40", "1", "MRG|2^^^HOSP"))
    taken(receiver, adt("A40", "1", "MRG|2^^^HOSP", control_id="M2"))
    answer = send(receiver, adt("A40", "2", "MRG|1^^^HOSP", control_id="M3"))
    assert (code_of(answer), place_of(answer)) == ("AE", "MRG^1^1")


def test_an_order_before_the_images_sets_their_priority(
    receiver: Hl7Receiver, database: Database, intake: Intake
) -> None:
    taken(receiver, order(priority="S"))
    image(intake)
    assert newest_job(database).priority is Priority.STAT


def test_an_order_of_another_patient_with_the_same_accession_does_nothing(
    receiver: Hl7Receiver, database: Database, intake: Intake
) -> None:
    taken(receiver, order(number="PATIENT-2", priority="S"))
    image(intake)
    assert newest_job(database).priority is Priority.ROUTINE


@pytest.mark.parametrize("kind", ["ORM^O01", "OMI^O23"])
def test_a_change_to_stat_reorders_the_queue(
    receiver: Hl7Receiver, database: Database, intake: Intake, kind: str
) -> None:
    for study in (1, 2):
        taken(receiver, order(placer=f"P{study}", accession=f"A{study}", control_id=f"N{study}"))
        image(intake, study, AccessionNumber=f"A{study}")
        intake.close_study(study_uid(study))
    change = order("XO", placer="P2", accession="A2", priority="S", control_id="X", kind=kind)
    taken(receiver, change)
    with database.write() as connection:
        claimed = jobs.claim(
            connection, now=database.now(connection), owner="o", policy=jobs.RetryPolicy()
        )
    assert claimed is not None
    assert (claimed.study_uid, claimed.priority) == (study_uid(2), Priority.STAT)
    taken(receiver, order("XO", placer="P1", accession="A1", priority="A", control_id="Y"))
    assert newest_job(database, 1).priority is Priority.URGENT
    taken(receiver, order("XO", placer="P1", accession="A1", control_id="Z"))
    assert newest_job(database, 1).priority is Priority.URGENT, "nothing said, nothing changed"


def test_a_priority_in_tq1_counts_and_a_contradiction_is_refused(
    receiver: Hl7Receiver, database: Database
) -> None:
    text = order(priority="R").rstrip("\r")
    answer = send(receiver, text + "\rTQ1|1||||||||S\r")
    assert (code_of(answer), place_of(answer)) == ("AE", "OBR^1^27^^6")
    taken(receiver, order(control_id="M2").rstrip("\r") + "\rTQ1|1||||||||S^Stat\r")
    with database.read() as connection:
        found = orders.find(connection, "P1", "urn:clinfer:authority:RIS")
    assert found is not None
    assert found.priority is Priority.STAT


def test_a_cancel_ends_what_waits_and_says_so_in_a_result(
    receiver: Hl7Receiver, database: Database, intake: Intake
) -> None:
    taken(receiver, order())
    image(intake)
    taken(receiver, order("CA", control_id="M2"))
    ended = newest_job(database)
    assert (ended.state, ended.reason_code) == (JobState.FAILED, "order_cancelled")
    with database.read() as connection:
        (result,) = results.list_results(connection, study_uid=study_uid(1))
    assert (result.state, result.reason_code) == (ResultState.REFUSED, "order_cancelled")
    image(intake, slice_number=2)
    assert newest_job(database).id == ended.id, "later images of it start nothing"
    taken(receiver, order("NW", control_id="M3", priority="S"))
    again = newest_job(database)
    assert (again.state, again.priority) == (JobState.QUEUED, Priority.STAT)


def test_images_after_the_cancel_are_kept_and_not_analysed(
    receiver: Hl7Receiver, database: Database, intake: Intake
) -> None:
    taken(receiver, order())
    taken(receiver, order("CA", control_id="M2"))
    image(intake)
    image(intake, slice_number=2)
    assert newest_job(database).reason_code == "order_cancelled"
    with database.read() as connection:
        assert len(jobs.list_jobs(connection)) == 1
        assert len(results.list_results(connection)) == 1


def test_a_running_job_is_left_to_finish(
    receiver: Hl7Receiver, database: Database, intake: Intake
) -> None:
    taken(receiver, order())
    image(intake)
    intake.close_study(study_uid(1))
    with database.write() as connection:
        jobs.claim(connection, now=database.now(connection), owner="o", policy=jobs.RetryPolicy())
    taken(receiver, order("CA", control_id="M2"))
    assert newest_job(database).state is JobState.LEASED


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (order("CA"), "ORC^1^2"),
        (order("XO"), "ORC^1^2"),
        (order("ZZ"), "ORC^1^1"),
        (order(placer="").replace("^RIS", ""), "ORC^1^2"),
        (order(priority="Q"), "OBR^1^27^^6"),
        (order(accession="A" * 65), "OBR^1^18"),
        (message("ORM^O01", PID.format(number="1")), "ORC^1"),
        (message("ORM^O01", PID.format(number="1"), "ORC|NW|P1^RIS"), "OBR^1"),
        (message("ORM^O01", "ORC|NW|P1^RIS"), "PID^1"),
        (order().rstrip("\r") + "\rZDS|../x^RIS^Application^DICOM\r", "ZDS^1^1^^1"),
    ],
)
def test_an_order_that_cannot_be_taken_names_the_field(
    receiver: Hl7Receiver, text: str, place: str
) -> None:
    answer = send(receiver, text)
    assert (code_of(answer), place_of(answer)) == ("AE", place)


def test_what_was_put_aside_is_tried_again(receiver: Hl7Receiver) -> None:
    cancel = order("CA", control_id="M9")
    assert code_of(send(receiver, cancel)) == "AE"
    taken(receiver, order())
    taken(receiver, cancel)


@pytest.mark.parametrize(
    ("accept", "application", "codes"),
    [
        ("AL", "AL", ["CA", "AA"]),
        ("AL", "NE", ["CA"]),
        ("NE", "AL", ["AA"]),
        ("NE", "NE", []),
        ("ER", "SU", ["AA"]),
    ],
)
def test_the_sender_says_which_acknowledgements_it_wants(
    receiver: Hl7Receiver, accept: str, application: str, codes: list[str]
) -> None:
    text = message("ADT^A01", PID.format(number="1"), accept=accept, application=application)
    assert [code_of(one) for one in receiver.handle(text.encode(), "")] == codes


def test_only_named_senders_are_heard(database: Database) -> None:
    receiver = Hl7Receiver(database, Authorities(), senders=frozenset({"LIS"}))
    answer = send(receiver, adt("A01"))
    assert (code_of(answer), place_of(answer)) == ("AR", "MSH^1^3")


def test_messages_of_one_connection_are_answered_in_order(receiver: Hl7Receiver) -> None:
    texts = [adt("A08", str(number), control_id=f"C{number}") for number in range(20)]
    with MllpServer(receiver.handle, host="127.0.0.1", port=0) as server:
        answers = talk(server.port, texts)
    assert [fields_of(one)["MSA"][2] for one in answers] == [f"C{n}" for n in range(20)]


def test_over_tls_a_peer_without_our_certificate_is_not_heard(
    receiver: Hl7Receiver, tmp_path: Path
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "clinfer")])
    today = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, secret = tmp_path / "cert.pem", tmp_path / "key.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    tls = MllpTls(certificate=pem, key=secret)
    with MllpServer(receiver.handle, host="127.0.0.1", port=0, tls=tls) as server:
        text = adt("A01").encode()
        to = {"host": "localhost", "port": server.port, "timeout_s": 5.0}
        assert code_of(exchange(text, **to, tls_ca=pem)) == "AA"
        with pytest.raises((OSError, FramingError)):
            exchange(text, **to)
    mutual = MllpTls(certificate=pem, key=secret, client_ca=pem)
    with (
        MllpServer(receiver.handle, host="127.0.0.1", port=0, tls=mutual) as server,
        pytest.raises((OSError, FramingError)),
    ):
        exchange(text, host="localhost", port=server.port, timeout_s=5.0, tls_ca=pem)
