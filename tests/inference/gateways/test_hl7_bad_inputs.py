"""Every case of the area hl7v2 of the bad inputs has its outcome; each test names its case."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import func, select

from inference.domain.job import Priority
from inference.domain.patient import Authorities, PatientIdentifier
from inference.gateways.hl7_inbound import Hl7Receiver
from inference.gateways.mllp import MllpLimits, MllpServer, framed
from inference.jobs.intake import Intake
from inference.storage import audit, hl7_messages, orders, patients
from inference.storage.database import Database
from inference.storage.exchange_tables import fhir_resource, imaging_order
from tests.builders.hl7 import (
    adt,
    code_of,
    fields_of,
    lab,
    message,
    order,
    place_of,
    talk,
)
from tests.builders.instances import ct_file, study_uid
from tests.builders.rows import SENDER

HOSP = "urn:clinfer:authority:HOSP"


@pytest.fixture
def refused() -> list[str]:
    return []


@pytest.fixture
def receiver(database: Database, refused: list[str]) -> Hl7Receiver:
    return Hl7Receiver(database, Authorities(), refused=refused.append)


def answer(receiver: Hl7Receiver, text: str) -> bytes:
    (found,) = receiver.handle(text.encode(), "127.0.0.1")
    return found


def count(database: Database, table: object) -> int:
    with database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def actions(database: Database) -> list[str]:
    with database.read() as connection:
        return [event.action for event in audit.events(connection)]


def test_hl7_002_endless_message_is_closed_at_its_size(receiver: Hl7Receiver) -> None:
    with (
        MllpServer(receiver.handle, host="127.0.0.1", port=0) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection,
    ):
        sent = 0
        connection.sendall(b"\x0bMSH|")
        with pytest.raises(OSError, match=r"reset|pipe|aborted"):  # noqa: PT012
            while sent < 64 * 1024 * 1024:
                connection.sendall(b"A" * 65536)
                sent += 65536
        # What the kernels buffer goes out too, but nowhere near what was offered.
        assert sent < 32 * 1024 * 1024


def test_hl7_002_endless_message_is_closed_at_its_time(receiver: Hl7Receiver) -> None:
    limits = MllpLimits(message_s=0.3)
    with (
        MllpServer(receiver.handle, host="127.0.0.1", port=0, limits=limits) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection,
    ):
        connection.sendall(b"\x0bMSH|")
        assert connection.recv(1) == b""
        (after,) = talk(server.port, [adt("A01")])
    assert code_of(after) == "AA"
    assert MllpLimits() == MllpLimits(max_message_bytes=2**20, message_s=10.0)


@pytest.mark.parametrize(
    ("text", "place", "hl7_code"),
    [
        (message("XXX^A01", "PID|1"), "MSH^1^9^^1", "200"),
        (message("ADT^A99", "PID|1"), "MSH^1^9^^2", "201"),
        (message("ORM^O01", "PID|1", version="9.9"), "MSH^1^12", "203"),
        (message("ORU^R01", "PID|1").replace("^~\\&", "$%*@"), "MSH^1^2", "102"),
        (message("ORM^O01", "PID|1", control_id=""), "MSH^1^10", "101"),
        (message("ADT^A01", "PID|1", charset="ISO IR87"), "MSH^1^18", "103"),
        (message("ADT^A01", "PID|1").replace("|P|2.5.1", "|T|2.5.1"), "MSH^1^11", "202"),
        (message("ADT^A01", "not a segment"), "MSH^1", "100"),
    ],
)
def test_hl7_003_a_header_that_is_not_taken_is_rejected(
    receiver: Hl7Receiver,
    database: Database,
    refused: list[str],
    text: str,
    place: str,
    hl7_code: str,
) -> None:
    found = fields_of(answer(receiver, text))
    assert found["MSA"][1] == "AR"
    assert (found["ERR"][2], found["ERR"][3], found["ERR"][4]) == (place, hl7_code, "E")
    with database.read() as connection:
        assert hl7_messages.list_refused(connection) == ()
        assert hl7_messages.find(connection, "RIS|HOSP", "M1") is None
    assert actions(database) == ["message.rejected"]
    assert refused == ["message_refused"]


def test_hl7_004_a_replayed_order_has_one_effect(receiver: Hl7Receiver, database: Database) -> None:
    answers = [answer(receiver, order()) for _ in range(10)]
    assert [code_of(one) for one in answers] == ["AA"] * 10
    assert count(database, imaging_order) == 1
    assert actions(database).count("order.active") == 1
    other = answer(receiver, order(placer="P2"))
    assert (code_of(other), place_of(other)) == ("AR", "MSH^1^10")


def test_hl7_005_an_image_for_the_old_number_belongs_to_the_survivor(
    receiver: Hl7Receiver, database: Database, intake: Intake
) -> None:
    merge = adt("A40", "NEW-1", "MRG|OLD-1^^^HOSP")
    assert code_of(answer(receiver, merge)) == "AA"
    file = ct_file(PatientID="OLD-1", IssuerOfPatientID="HOSP")
    intake.receive([file], sender=SENDER)
    with database.read() as connection:
        new = patients.find(connection, PatientIdentifier(value="NEW-1", authority=HOSP))
        assert new is not None
        assert patients.studies_of(connection, new) == (study_uid(1),)
        found = [one for one in audit.events(connection) if one.action == "patient.resolved"]
    (event,) = found
    assert event.detail["identifier"] == ["OLD-1", HOSP]
    assert event.detail["identifiers"] == [["NEW-1", HOSP], ["OLD-1", HOSP]]


def test_hl7_005_undoing_the_merge_gives_the_study_back(
    receiver: Hl7Receiver, database: Database, intake: Intake
) -> None:
    answer(receiver, adt("A40", "NEW-1", "MRG|OLD-1^^^HOSP"))
    intake.receive([ct_file(PatientID="OLD-1", IssuerOfPatientID="HOSP")], sender=SENDER)
    with database.write() as connection:
        (merge,) = patients.list_merges(connection)
        now = database.now(connection)
        undone = patients.undo_merge(connection, merge.id, actor="anna", reason="twins", now=now)
        new = patients.find(connection, PatientIdentifier(value="NEW-1", authority=HOSP))
        old = patients.find(connection, PatientIdentifier(value="OLD-1", authority=HOSP))
        assert new is not None
        assert old is not None
        assert new != old
        assert patients.studies_of(connection, new) == ()
        assert patients.studies_of(connection, old) == (study_uid(1),)
    assert (undone.undone_by, undone.undo_reason) == ("anna", "twins")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (lab("12,5"), "OBX^1^5"),
        (lab("1e5"), "OBX^1^5"),
        (lab(""), "OBX^1^5"),
        (lab("1.2", "mmol/L"), "OBX^1^6"),
        (lab("1.2", ""), "OBX^1^6"),
        (lab("1.2", "MG/DL"), "OBX^1^6"),
        (lab("1.2", kind="TX"), "OBX^1^2"),
        (lab("1.2", born="20991231"), "PID^1^7"),
        (lab("1.2", born="1980-01-02"), "PID^1^7"),
    ],
)
def test_hl7_006_a_wrong_value_is_put_aside_with_its_field(
    receiver: Hl7Receiver, database: Database, text: str, place: str
) -> None:
    found = answer(receiver, text)
    assert (code_of(found), place_of(found)) == ("AE", place)
    assert count(database, fhir_resource) == 0
    with database.read() as connection:
        (kept,) = hl7_messages.list_refused(connection)
        assert (
            patients.find(connection, PatientIdentifier(value="PATIENT-1", authority=HOSP)) is None
        )
    assert kept.body == text.encode()
    assert kept.errors[0]["place"] == place
    assert actions(database) == ["message.put_aside"]


def test_hl7_006_the_same_with_right_values_is_kept(
    receiver: Hl7Receiver, database: Database
) -> None:
    assert code_of(answer(receiver, lab("1.2"))) == "AA"
    with database.read() as connection:
        (row,) = connection.execute(select(fhir_resource)).all()
    assert row.body["valueQuantity"]["value"] == 1.2
    assert row.body["valueQuantity"]["code"] == "mg/dL"
    assert row.body["effectiveDateTime"] == "2026-11-22T11:00:00+00:00"


SERVER = """
import os, signal, sys, threading
from pathlib import Path
from inference.domain.patient import Authorities
from inference.gateways.hl7_inbound import Hl7Receiver
from inference.gateways.mllp import MllpServer
from inference.storage.database import Database
database = Database.open(Path(sys.argv[1]))
receiver = Hl7Receiver(database, Authorities())
def handle(data, address):
    answers = receiver.handle(data, address)  # committed
    os.kill(os.getpid(), signal.SIGKILL)
    return answers
server = MllpServer(handle, host="127.0.0.1", port=0)
server.start()
print(server.port, flush=True)
threading.Event().wait()
"""


def test_hl7_008_a_kill_between_commit_and_answer_leaves_one_effect(
    tmp_path: Path, repository: Path
) -> None:
    path = tmp_path / "data" / "clinfer.sqlite"
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(path)],
        cwd=repository,
        env=os.environ | {"PYTHONPATH": str(repository)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process, process.stdout as output:
        port = int(output.readline())
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(framed(order(priority="S").encode()))
            try:
                heard = connection.recv(1)
            except ConnectionResetError:
                heard = b""
        assert process.wait(20) == -signal.SIGKILL
    assert heard == b""
    database = Database.open(path)
    with MllpServer(
        Hl7Receiver(database, Authorities()).handle, host="127.0.0.1", port=0
    ) as server:
        started = time.monotonic()
        (again,) = talk(server.port, [order(priority="S")])
    assert time.monotonic() - started < 2
    assert code_of(again) == "AA"
    with database.read() as connection:
        found = orders.find(connection, "P1", "urn:clinfer:authority:RIS")
        assert found is not None
        assert found.priority is Priority.STAT
        n_effects = sum(e.action == "order.active" for e in audit.events(connection))
    assert n_effects == 1
    assert count(database, imaging_order) == 1
    database.close()
