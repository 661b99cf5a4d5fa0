"""Results reach a real PACS unchanged, once, and what cannot be sent says why."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import RLELossless

from inference.domain.job import RetryPolicy
from inference.domain.result import (
    Delivery,
    DeliveryState,
    Destination,
    DicomwebDestination,
    DimseDestination,
    ResultDraft,
    ResultFile,
    ResultState,
)
from inference.domain.study import Channel, Sender, StudyInput
from inference.gateways.dimse import DimseServer, DimseSettings
from inference.gateways.senders import make_sender
from inference.jobs.delivery import DeliveryPolicy, DeliveryWorker
from inference.jobs.errors import DeliveryError
from inference.jobs.intake import Intake
from inference.jobs.structure import read_file_meta
from inference.jobs.worker import Worker
from inference.storage import audit, deliveries
from inference.storage.database import Database
from inference.storage.objects import ObjectStore
from tests.builders.instances import CT_IMAGE, ct_dataset, part10
from tests.builders.orthanc import CALLING_AET, Orthanc

SENDER = Sender(channel=Channel.UPLOAD, name="tester")
POLICY = DeliveryPolicy(backoff_s=0.01, backoff_cap_s=0.02, max_tries=3)


def dataset_bytes(path: Path) -> bytes:
    return path.read_bytes()[read_file_meta(path).dataset_offset :]


def file_of(dataset) -> ResultFile:
    return ResultFile(
        kind="seg", sha256="", size_bytes=0, media_type="application/dicom",
        sop_class_uid=str(dataset.SOPClassUID), instance_uid=str(dataset.SOPInstanceUID),
    )  # fmt: skip


def to_dimse(orthanc: Orthanc, **changes: object) -> DimseDestination:
    fields = {
        "name": "pacs", "host": "127.0.0.1", "port": orthanc.dicom_port,
        "called_aet": orthanc.aet, "calling_aet": CALLING_AET, "timeout_s": 10.0,
    }  # fmt: skip
    return DimseDestination(**(fields | changes))


def to_dicomweb(orthanc: Orthanc) -> DicomwebDestination:
    return DicomwebDestination(name="pacs", url=orthanc.dicomweb_url, timeout_s=10.0)


@pytest.mark.parametrize("kind", [to_dimse, to_dicomweb])
@pytest.mark.parametrize("is_compressed", [False, True])
def test_orthanc_gives_back_what_was_sent(
    orthanc: Orthanc, tmp_path: Path, kind: Callable[[Orthanc], Destination], is_compressed: bool
) -> None:
    study = 700 + 2 * is_compressed + (kind is to_dimse)
    dataset = ct_dataset(study=study, shape=(16, 12))
    if is_compressed:
        dataset.compress(RLELossless)
    path = tmp_path / "object"
    path.write_bytes(part10(dataset))
    make_sender(kind(orthanc)).send(path, file_of(dataset))
    make_sender(kind(orthanc)).send(path, file_of(dataset))  # a resend is no error
    mine = [
        row for row in orthanc.instances() if row["StudyInstanceUID"] == dataset.StudyInstanceUID
    ]
    assert len(mine) == 1
    back = tmp_path / "back"
    back.write_bytes(
        orthanc.retrieve(
            dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID
        )
    )
    assert dataset_bytes(back) == dataset_bytes(path)
    assert read_file_meta(back).transfer_syntax_uid == str(dataset.file_meta.TransferSyntaxUID)


def test_an_unknown_caller_is_told_so(orthanc: Orthanc, tmp_path: Path) -> None:
    dataset = ct_dataset(study=710)
    path = tmp_path / "object"
    path.write_bytes(part10(dataset))
    with pytest.raises(DeliveryError) as caught:
        make_sender(to_dimse(orthanc, calling_aet="STRANGER")).send(path, file_of(dataset))
    assert "alling AE title not recogni" in caught.value.problem
    assert not caught.value.is_permanent


# pynetdicom leaves a refused connection's socket to the garbage collector.
@pytest.mark.filterwarnings("ignore:.*socket.socket:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("scheme", ["dimse", "dicomweb"])
def test_nobody_there_is_worth_another_try(tmp_path: Path, scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    destination: Destination = (
        DimseDestination(name="x", host="127.0.0.1", port=port, called_aet="X", timeout_s=2)
        if scheme == "dimse"
        else DicomwebDestination(name="x", url=f"http://127.0.0.1:{port}", timeout_s=2)
    )
    dataset = ct_dataset()
    path = tmp_path / "object"
    path.write_bytes(part10(dataset))
    with pytest.raises(DeliveryError) as caught:
        make_sender(destination).send(path, file_of(dataset))
    assert not caught.value.is_permanent
    assert caught.value.destination == "x"


def test_a_receiver_that_takes_no_such_class_is_not_asked_again(
    intake: Intake, tmp_path: Path
) -> None:
    dataset = ct_dataset(SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1")
    path = tmp_path / "object"
    path.write_bytes(part10(dataset))
    with DimseServer(intake, DimseSettings(port=0)) as server:
        to = DimseDestination(
            name="x", host="127.0.0.1", port=server.port, called_aet="CLINFER", timeout_s=5
        )
        with pytest.raises(DeliveryError) as caught:
            make_sender(to).send(path, file_of(dataset))
    assert caught.value.is_permanent


class _Answer(BaseHTTPRequestHandler):
    status, body, expect = 200, b"", None

    def do_POST(self) -> None:
        type(self).expect = self.headers.get("Expect")
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.status)
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (200, b'{"00081199": {"vr": "SQ", "Value": [{"00081155": {"Value": ["UID"]}}]}}', "sent"),
        (200, b"{}", "again"),
        (409, b'{"00081198": {"Value": [{"00081197": {"Value": [273]}}]}}', "sent"),
        (409, b'{"00081198": {"Value": [{"00081197": {"Value": [42752]}}]}}', "again"),
        (202, b'{"00081198": {"Value": [{"00081197": {"Value": [43264]}}]}}', "never"),
        (202, b'{"00081198": "?"}', "again"),
        (503, b"", "again"),
        (401, b"", "again"),
        (415, b"", "never"),
    ],
)
def test_answers_of_a_dicomweb_server_are_understood(
    tmp_path: Path, status: int, body: bytes, outcome: str
) -> None:
    dataset = ct_dataset()
    path = tmp_path / "object"
    path.write_bytes(part10(dataset))

    class Handler(_Answer):
        pass

    Handler.status = status
    Handler.body = body.replace(b"UID", str(dataset.SOPInstanceUID).encode())
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        to = DicomwebDestination(
            name="x", url=f"http://127.0.0.1:{server.server_port}", timeout_s=5
        )
        try:
            make_sender(to).send(path, file_of(dataset))
        except DeliveryError as error:
            found = "never" if error.is_permanent else "again"
        else:
            found = "sent"
        thread.join()
    assert found == outcome
    assert Handler.expect is None


class _Processor:
    def __init__(self, study: int) -> None:
        self.seg = ct_dataset(study=study, series=8, shape=(9, 9))
        self.sr = ct_dataset(study=study, series=9, shape=(3, 3))

    def process(self, study: StudyInput, *, out: Path, progress: object) -> tuple[ResultDraft, ...]:
        files = {"seg": out / "seg.dcm", "sr": out / "sr.dcm"}
        files["seg"].write_bytes(part10(self.seg))
        files["sr"].write_bytes(part10(self.sr))
        return (
            ResultDraft(
                key=study.input_hash, series_uid="1.2", model="m", model_version="1",
                weights_sha256="", state=ResultState.FINDING, files=files,
                summary={"status": "released"},
            ),
        )  # fmt: skip


def deliver(
    intake: Intake, database: Database, objects: ObjectStore, destination: Destination, study: int
) -> tuple[DeliveryWorker, _Processor]:
    """Receive, analyse; what remains is to send."""
    processor = _Processor(study)
    receipt = intake.receive([part10(ct_dataset(study=study))], sender=SENDER)
    intake.close_study(receipt.study_uid)
    worker = Worker(
        database=database, objects=objects, processor=processor, destinations=[destination],
        policy=RetryPolicy(),
    )  # fmt: skip
    assert worker.run_once()
    return (
        DeliveryWorker(
            database=database, objects=objects, destination=destination,
            sender=make_sender(destination), policy=POLICY,
        ),
        processor,
    )  # fmt: skip


def rows(database: Database) -> tuple[Delivery, ...]:
    with database.read() as connection:
        return deliveries.list_deliveries(connection)


@pytest.mark.parametrize("kind", [to_dimse, to_dicomweb])
def test_the_outbox_empties_into_the_pacs(
    intake: Intake, database: Database, objects: ObjectStore, orthanc: Orthanc,
    kind: Callable[[Orthanc], Destination],
) -> None:  # fmt: skip
    study = 720 + (kind is to_dimse)
    sender, processor = deliver(intake, database, objects, kind(orthanc), study)
    while sender.run_once():
        pass
    assert {row.state for row in rows(database)} == {DeliveryState.DELIVERED}
    stored = {row["SOPInstanceUID"] for row in orthanc.instances()}
    assert {processor.seg.SOPInstanceUID, processor.sr.SOPInstanceUID} <= stored
    with database.read() as connection:
        actions = [event.action for event in audit.events(connection)]
    assert actions.count("result.delivered") == 2


def test_a_crash_before_the_acknowledgement_was_noted_leaves_one_copy(
    intake: Intake, database: Database, objects: ObjectStore, orthanc: Orthanc,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    sender, processor = deliver(intake, database, objects, to_dicomweb(orthanc), 730)
    with monkeypatch.context() as patch:
        patch.setattr(sender, "_acknowledge", lambda due, owner: None)  # killed right there
        assert sender.run_once()
    with database.write() as connection:
        deliveries.release(connection, deliveries.owners(connection), now=database.now(connection))
    while sender.run_once():
        pass
    assert {row.state for row in rows(database)} == {DeliveryState.DELIVERED}
    uids = [row["SOPInstanceUID"] for row in orthanc.instances()]
    assert uids.count(processor.seg.SOPInstanceUID) == 1


def test_a_receiver_that_stays_away_ends_in_the_dead_letters_and_can_be_started_again(
    intake: Intake, database: Database, objects: ObjectStore
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    gone = DicomwebDestination(name="gone", url=f"http://127.0.0.1:{port}", timeout_s=2)
    sender, _ = deliver(intake, database, objects, gone, 740)
    stop = threading.Event()
    thread = threading.Thread(target=sender.run, args=(stop,), kwargs={"poll_s": 0.01})
    thread.start()
    for _ in range(1000):
        if {row.state for row in rows(database)} == {DeliveryState.DEAD}:
            break
        stop.wait(0.01)
    stop.set()
    thread.join(5)
    assert {(row.state, row.tries) for row in rows(database)} == {(DeliveryState.DEAD, 3)}
    assert "ConnectError" in rows(database)[0].last_error
    with database.write() as connection:
        deliveries.requeue(connection, rows(database)[0].id, now=database.now(connection))
    assert {row.state for row in rows(database)} == {DeliveryState.DEAD, DeliveryState.WAITING}


def test_damaged_bytes_are_not_sent(
    intake: Intake, database: Database, objects: ObjectStore, orthanc: Orthanc
) -> None:
    sender, processor = deliver(intake, database, objects, to_dicomweb(orthanc), 750)
    for row in rows(database):
        objects.path(row.sha256).write_bytes(b"damaged")
    sender.run_once()
    assert "has hash" in {row.last_error for row in rows(database) if row.tries}.pop()
    assert processor.seg.SOPInstanceUID not in {
        row["SOPInstanceUID"] for row in orthanc.instances()
    }


def test_waits_grow_to_the_cap_with_a_little_chance() -> None:
    policy = DeliveryPolicy(backoff_s=5, backoff_cap_s=60, jitter=0.2)
    for tries, seconds in ((1, 5), (2, 10), (3, 20), (9, 60)):
        assert timedelta(seconds=seconds) <= policy.wait(tries) <= timedelta(seconds=seconds * 1.2)


def test_pixels_survive_compression_in_this_test(tmp_path: Path) -> None:
    dataset = ct_dataset(shape=(16, 12))
    before = np.frombuffer(dataset.PixelData, np.uint16).reshape(16, 12).copy()
    dataset.compress(RLELossless)
    assert dataset.SOPClassUID == CT_IMAGE
    assert (dataset.pixel_array == before).all()
