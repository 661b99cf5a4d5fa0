"""Taking back: what is ours goes, what is not stays, and an interrupted recall goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from sqlalchemy import Connection

from dicom_io.statement import Referenced, Statement, make_state_report
from dicom_io.write import write_dicom
from inference.domain.job import JobState, RetryPolicy
from inference.domain.release import EventKind, EventState, ReportState, ReportStatus
from inference.domain.report import ReportStep
from inference.domain.result import (
    DeliveryState,
    DicomwebDestination,
    Release,
    ResultState,
    Retract,
)
from inference.gateways.archive_removal import ArchiveRemover
from inference.jobs import recall as recall_module
from inference.jobs.recall import NothingToRecallError, find_affected, recall, write_csv
from inference.jobs.release import offer_result, record_report, retract_result
from inference.jobs.retraction import RetractionWorker
from inference.storage import deliveries, jobs, late_results, report_events, results, retractions
from inference.storage.database import Database
from inference.storage.objects import ObjectStore
from inference.storage.results import FiledResult
from tests.builders.clock import SetClock
from tests.builders.instances import ct_dataset, study_uid
from tests.builders.results import ALGORITHM, IDENTITY
from tests.builders.rows import filed, receive

TAGS = b'{"SOPInstanceUID": "%s", "ContributingEquipmentSequence": [{"DeviceUID": "%s"}]}'


class _Orthanc(BaseHTTPRequestHandler):
    """Has one instance under every UID, made by whoever ``device_uid`` says."""

    device_uid = b"1.2.3"
    uid = b""
    deleted: list[str]

    def do_POST(self) -> None:
        type(self).uid = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(b'[{"ID": "abc", "Type": "Instance"}]')

    def do_GET(self) -> None:
        self._answer(TAGS % (self.uid, self.device_uid))

    def do_DELETE(self) -> None:
        self.deleted.append(self.uid.decode())
        self._answer(b"{}")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def archive() -> Iterator[tuple[str, type[_Orthanc]]]:
    class Handler(_Orthanc):
        deleted: list[str] = []  # noqa: RUF012 - one class for each test

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", Handler
        server.shutdown()
        thread.join()


def delivered(
    database: Database, objects: ObjectStore, clock: SetClock, folder: Path
) -> tuple[int, str]:
    """A real SR that is in the archive: its result, and the UID of the algorithm that made it."""
    image = ct_dataset()
    dataset = make_state_report(
        image,
        [
            Referenced(
                sop_class_uid=image.SOPClassUID,
                instance_uid=image.SOPInstanceUID,
                series_uid=image.SeriesInstanceUID,
            )
        ],
        Statement(state="failed", reason_code="inference", reason="no number"),
        algorithm=ALGORITHM,
        identity=IDENTITY,
    )
    write_dicom(dataset, folder / "sr.dcm")
    stored = objects.put(folder / "sr.dcm")
    one = filed("k", kinds=("sr",))
    file = replace(
        one.files[0],
        sha256=stored.sha256,
        sop_class_uid=str(dataset.SOPClassUID),
        instance_uid=str(dataset.SOPInstanceUID),
    )
    with database.write() as connection:
        row_id = made(connection, clock, replace(one, files=(file,)))
        deliveries.enqueue(
            connection, row_id, destinations=[DicomwebDestination(name="pacs", url="http://x",
            kinds=("sr",))], now=clock.now(),
        )  # fmt: skip
        due = deliveries.claim(
            connection, now=clock.now(), destination="pacs", owner="o", lease_s=60
        )
        assert due is not None
        deliveries.acknowledge(connection, due.id, owner="o", now=clock.now())
        assert retract_result(connection, row_id, reason="wrong", by="dr.lin", now=clock.now())
    return row_id, str(dataset.ContributingEquipmentSequence[0].DeviceUID)


def made(
    connection: Connection, clock: SetClock, *filed_results: FiledResult, study: int = 1
) -> int:
    receive(connection, clock.now(), study=study)
    taken = jobs.claim(connection, now=clock.now(), owner="a", policy=RetryPolicy())
    jobs.finish(connection, taken.id, owner="a", now=clock.now(), state=JobState.DONE)
    stored = results.store(connection, taken, filed=filed_results, now=clock.now())
    return stored.new[0]


def worker_for(database: Database, objects: ObjectStore, url: str) -> RetractionWorker:
    destination = DicomwebDestination(
        name="pacs", url="http://x", kinds=("sr",), retract=Retract.ARCHIVE_API, archive_url=url,
        timeout_s=5,
    )  # fmt: skip
    return RetractionWorker(
        database=database, objects=objects, destinations=[destination], remover=ArchiveRemover()
    )


def event_of(database: Database, result_id: int, kind: EventKind = EventKind.DICOM):
    with database.read() as connection:
        (found,) = (
            one for one in retractions.list_events(connection, result_ids=[result_id])
            if one.kind is kind
        )  # fmt: skip
    return found


def test_our_object_is_deleted_from_an_archive(
    database: Database, objects: ObjectStore, clock: SetClock, tmp_path: Path, archive
) -> None:
    url, handler = archive
    result_id, device_uid = delivered(database, objects, clock, tmp_path)
    handler.device_uid = device_uid.encode()
    worker = worker_for(database, objects, url)
    assert worker.run_once()
    assert not worker.run_once()
    assert event_of(database, result_id).state is EventState.DONE
    with database.read() as connection:
        (file,) = results.get_result(connection, result_id).files
    assert handler.deleted == [file.instance_uid]
    with database.read() as connection:
        told = report_events.latest(connection, [result_id])[result_id]
    assert told.step is ReportStep.RETRACTED, "HL7 and FHIR systems are told by the log of reports"


def test_an_object_that_somebody_else_made_under_our_uid_is_left_alone(
    database: Database, objects: ObjectStore, clock: SetClock, tmp_path: Path, archive
) -> None:
    url, handler = archive
    result_id, _ = delivered(database, objects, clock, tmp_path)
    assert worker_for(database, objects, url).run_once()
    event = event_of(database, result_id)
    assert (event.state, handler.deleted) == (EventState.DEAD, [])
    assert "does not name our algorithm" in event.last_error


def test_a_destination_that_is_gone_is_named(
    database: Database, objects: ObjectStore, clock: SetClock, tmp_path: Path
) -> None:
    result_id, _ = delivered(database, objects, clock, tmp_path)
    worker = RetractionWorker(
        database=database, objects=objects, destinations=[], remover=ArchiveRemover()
    )
    assert worker.run_once()
    event = event_of(database, result_id)
    assert event.state is EventState.DEAD
    assert "pacs: is no destination any more" in event.last_error


def test_a_note_waits_for_the_object_that_is_being_sent(
    database: Database, objects: ObjectStore, clock: SetClock, tmp_path: Path
) -> None:
    result_id, _ = delivered(database, objects, clock, tmp_path)
    with database.write() as connection:
        deliveries.enqueue_note(connection, result_id, destination="pacs", now=clock.now())
        one = filed("note", kinds=("rejection",)).files
        results.add_files(connection, result_id, one)
        connection.exec_driver_sql("UPDATE delivery SET state = 'leased' WHERE kind = 'sr'")
        assert not deliveries.has_work(connection, now=clock.now(), destination="pacs")
        connection.exec_driver_sql("UPDATE delivery SET state = 'delivered' WHERE kind = 'sr'")
        due = deliveries.claim(
            connection, now=clock.now(), destination="pacs", owner="o", lease_s=60
        )
    assert due is not None
    assert due.kind == "rejection"


class _KilledError(Exception):
    pass


def test_an_interrupted_recall_goes_on_where_it_stopped(
    database: Database, clock: SetClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.write() as connection:
        ids = [made(connection, clock, filed(f"{n}"), study=n) for n in (1, 2, 3)]
    taken_back = recall_module.retract_result

    def killed_at_the_second(connection, result_id, **options):
        if result_id == ids[1]:
            raise _KilledError
        return taken_back(connection, result_id, **options)

    with monkeypatch.context() as patch:
        patch.setattr(recall_module, "retract_result", killed_at_the_second)
        with pytest.raises(_KilledError):
            recall(database, "ct_lung_seg", "1.0.0", reason="x", by="me")
    found = find_affected(database, "ct_lung_seg", "1.0.0")
    assert [one.is_retracted for one in found] == [True, False, False]
    assert recall(database, "ct_lung_seg", "1.0.0", reason="x", by="me") == 2
    assert recall(database, "ct_lung_seg", "1.0.0", reason="x", by="me") == 0
    with database.read() as connection:
        for result_id in ids:
            one = results.get_result(connection, result_id)
            assert (one.state, one.reason_code) == (ResultState.SUPERSEDED, "recalled")
            assert one.reason == "recall of ct_lung_seg 1.0.0: x"
    with pytest.raises(NothingToRecallError, match=r"versions here: 1\.0\.0"):
        find_affected(database, "ct_lung_seg", "2.0.0")


def test_a_name_is_no_formula_in_the_list_of_patients(
    database: Database, clock: SetClock, tmp_path: Path
) -> None:
    with database.write() as connection:
        made(connection, clock, filed("1"))
        connection.exec_driver_sql("UPDATE study SET patient_name = '=CMD()'")
    path = tmp_path / "hit.csv"
    write_csv(path, find_affected(database, "ct_lung_seg", "1.0.0"))
    assert ",'=CMD()," in path.read_text(encoding="utf-8-sig")
    assert path.stat().st_mode & 0o077 == 0


def test_a_recalled_result_does_not_come_back_with_the_same_key(
    database: Database, clock: SetClock
) -> None:
    with database.write() as connection:
        result_id = made(connection, clock, filed("1"))
        retract_result(connection, result_id, reason="wrong", by="me", now=clock.now())
        jobs.request(connection, study_uid(1), now=clock.now(), priority=jobs.Priority.STAT)
        taken = jobs.claim(connection, now=clock.now(), owner="b", policy=RetryPolicy())
        assert taken is not None
        stored = results.store(
            connection, taken, filed=[], reused=[results.ReusedResult(key="1")], now=clock.now()
        )
        assert stored.kept == ()
        assert not results.get_result(connection, result_id).is_current


def test_only_a_result_after_the_signature_is_late(database: Database, clock: SetClock) -> None:
    pacs = DicomwebDestination(
        name="pacs", url="http://x", kinds=("seg",), release=Release.AFTER_SIGN_OFF
    )
    with database.write() as connection:
        first = made(connection, clock, filed("1", kinds=("seg",)))
        offer_result(connection, first, destinations=[pacs], now=clock.now())
        clock.advance(60)
        signed = ReportStatus(
            study_uid=study_uid(1), status=ReportState.SIGNED, signed_by="dr.lin",
            signed_at=clock.now(), source="sr", recorded_at=clock.now(),
        )  # fmt: skip
        record_report(connection, signed, now=clock.now())
        assert late_results.list_tasks(connection) == ()
        (one,) = deliveries.list_deliveries(connection)
        assert one.state is DeliveryState.WAITING
        unsigned = replace(signed, status=ReportState.PRELIMINARY, signed_by="", signed_at=None)
        assert record_report(connection, unsigned, now=clock.now()).status is ReportState.SIGNED
        clock.advance(60)
        receive(connection, clock.now(), slice_number=2)
        taken = jobs.claim(connection, now=clock.now(), owner="b", policy=RetryPolicy())
        assert taken is not None
        second = results.store(
            connection, taken, filed=[filed("two", kinds=("seg",))], now=clock.now()
        ).new[0]
        offer_result(connection, second, destinations=[pacs], now=clock.now())
        (task,) = late_results.list_tasks(connection)
    assert (task.result_id, task.is_open) == (second, True)


def test_a_model_in_research_stays_with_research(database: Database, clock: SetClock) -> None:
    clinic = DicomwebDestination(name="clinic", url="http://x", kinds=("seg",))
    research = replace(clinic, name="lab", is_research=True)
    one = filed("1", kinds=("seg",))
    draft = replace(one.draft, summary={"status": "research"})
    with database.write() as connection:
        row_id = made(connection, clock, replace(one, draft=draft))
        offer_result(connection, row_id, destinations=[clinic, research], now=clock.now())
        found = {one.destination: one for one in deliveries.list_deliveries(connection)}
    assert found["lab"].state is DeliveryState.WAITING
    assert found["clinic"].state is DeliveryState.REFUSED
    assert "destination clinic is not marked research = true" in found["clinic"].last_error
