"""Fetching from a real Orthanc by C-FIND, C-MOVE and C-GET, and from peers that misbehave."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import JPEGLSLossless
from pynetdicom import AE, evt
from typer.testing import CliRunner

from inference.__main__ import app
from inference.gateways.archive_user import FIND_MODEL, MOVE_MODEL, Archive, ArchiveUser, FetchError
from inference.gateways.dimse import DimseServer
from inference.gateways.dimse_association import DimseSettings
from inference.gateways.retrieve import Fetched, Fetcher, Question
from inference.jobs.intake import Intake
from inference.storage import studies
from inference.storage.database import Database
from tests.builders.instances import ct_dataset, ct_file, part10, series_uid, study_uid
from tests.builders.orthanc import CALLING_AET, Orthanc

AUTHORITY = "HOSPITAL-A"
pytestmark = pytest.mark.filterwarnings(
    # pynetdicom leaves the socket of a connection that failed to the garbage collector.
    "ignore:.*socket.socket:pytest.PytestUnraisableExceptionWarning"
)


def send_to(orthanc: Orthanc, *files: bytes) -> None:
    for file in files:
        answer = httpx.post(f"{orthanc.url}/instances", content=file, trust_env=False)
        assert answer.status_code == 200, answer.text


def issued(study: int, **more: Any) -> bytes:
    return part10(ct_dataset(study=study, IssuerOfPatientID=AUTHORITY, **more))


def archive_of(orthanc: Orthanc, **changes: Any) -> Archive:
    values: dict[str, Any] = {
        "name": "pacs", "host": "127.0.0.1", "port": orthanc.dicom_port,
        "called_aet": orthanc.aet, "calling_aet": CALLING_AET, "timeout_s": 10.0,
    }  # fmt: skip
    return Archive(**values | changes)


@contextmanager
def our_receiver(orthanc: Orthanc, intake: Intake) -> Iterator[int]:
    """Our receiver under the name that the archive knows, entered there with its port."""
    settings = DimseSettings(port=0, ae_title=CALLING_AET, calling_ae_titles=(orthanc.aet,))
    with DimseServer(intake, settings) as server:
        enter_port(orthanc, server.port)
        yield server.port


def enter_port(orthanc: Orthanc, port: int) -> None:
    modality = {
        "AET": CALLING_AET, "Host": "127.0.0.1", "Port": port, "AllowEcho": True,
        "AllowFind": True, "AllowMove": True, "AllowGet": True, "AllowStore": True,
    }  # fmt: skip
    answer = httpx.put(f"{orthanc.url}/modalities/aisvc", json=modality, trust_env=False)
    assert answer.status_code == 200, answer.text


def fetched(fetcher: Fetcher, question: Question) -> list[Fetched]:
    return [
        fetcher.fetch(one, lambda _: None) for one in fetcher.list_series(question) if one.missing
    ]


def test_what_is_missing_of_a_study_comes_by_move_and_only_that(
    orthanc: Orthanc, intake: Intake, database: Database
) -> None:
    files = [ct_file(study=801, slice_number=n) for n in range(1, 6)]
    files += [ct_file(study=801, series=2, slice_number=n) for n in range(1, 4)]
    send_to(orthanc, *files)
    with our_receiver(orthanc, intake):
        sender = _sender()
        for file in files[:5]:  # the first series is here already
            intake.receive([file], sender=sender)
        fetcher = Fetcher(ArchiveUser(archive_of(orthanc)), database, intake)
        listed = fetcher.list_series(Question(study_uid=study_uid(801)))
        assert {one.series_uid: (one.n_instances, len(one.missing)) for one in listed} == {
            series_uid(801): (5, 0), series_uid(801, 2): (3, 3),
        }  # fmt: skip
        (came,) = fetched(fetcher, Question(study_uid=study_uid(801)))
    assert came.is_complete
    assert (came.sent.n_completed, came.sent.n_failed) == (3, 0)
    with database.read() as connection:
        instances = studies.list_instances(
            connection, study_uid(801), series_uid=series_uid(801, 2)
        )
    assert len(instances) == 3
    assert {one.sender.name for one in instances} == {orthanc.aet}


def test_a_series_comes_by_get_as_it_is_stored(
    orthanc: Orthanc, intake: Intake, database: Database
) -> None:
    compressed = ct_dataset(study=802, slice_number=2)
    compressed.compress(JPEGLSLossless)
    compressed.SOPInstanceUID = ct_dataset(study=802, slice_number=2).SOPInstanceUID
    compressed.file_meta.MediaStorageSOPInstanceUID = compressed.SOPInstanceUID
    send_to(orthanc, issued(802), part10(compressed))
    fetcher = Fetcher(ArchiveUser(archive_of(orthanc, retrieve="get")), database, intake)
    (came,) = fetched(fetcher, Question(accession_number="A802"))
    assert came.is_complete
    with database.read() as connection:
        stored = studies.list_instances(connection, study_uid(802))
    assert JPEGLSLossless in {one.transfer_syntax_uid for one in stored}
    assert fetched(fetcher, Question(accession_number="A802")) == []


def test_priors_are_a_patients_of_one_authority_in_a_time(
    orthanc: Orthanc, intake: Intake, database: Database
) -> None:
    for study, date in ((811, "20240110"), (812, "20250110"), (813, "20260110")):
        send_to(orthanc, issued(study, PatientID="SAME-811", StudyDate=date))
    fetcher = Fetcher(ArchiveUser(archive_of(orthanc)), database, intake)
    question = Question(
        patient_id="SAME-811", authority=AUTHORITY, first_date="20240601", last_date="20251231"
    )
    assert [one.study_uid for one in fetcher.list_series(question)] == [study_uid(812)]
    other = Question(patient_id="SAME-811", authority="HOSPITAL-B")
    assert fetcher.list_series(other) == ()


def test_a_patient_id_without_its_authority_in_the_answer_is_refused(
    orthanc: Orthanc, intake: Intake, database: Database
) -> None:
    send_to(orthanc, ct_file(study=814))  # it names no issuer
    question = Question(patient_id="PATIENT-814", authority=AUTHORITY)
    unsaid = Fetcher(ArchiveUser(archive_of(orthanc)), database, intake)
    found = list(unsaid._user.find(Question(accession_number="A814").keys()))
    with pytest.raises(FetchError, match="does not say whose patient id"):
        unsaid._check_patient(question, found)
    named = archive_of(orthanc, issuer_of_patient_id=AUTHORITY)
    Fetcher(ArchiveUser(named), database, intake)._check_patient(question, found)


def test_one_accession_number_of_two_patients_is_not_fetched(
    orthanc: Orthanc, intake: Intake, database: Database
) -> None:
    send_to(orthanc, ct_file(study=815, AccessionNumber="TWICE"))
    send_to(orthanc, ct_file(study=816, AccessionNumber="TWICE"))
    fetcher = Fetcher(ArchiveUser(archive_of(orthanc)), database, intake)
    with pytest.raises(FetchError, match="2 patients have this accession number"):
        fetcher.list_series(Question(accession_number="TWICE"))


def test_a_destination_that_the_archive_cannot_reach_is_named(
    orthanc: Orthanc, intake: Intake, database: Database
) -> None:
    send_to(orthanc, ct_file(study=817))
    enter_port(orthanc, 1)  # nobody listens there
    fetcher = Fetcher(ArchiveUser(archive_of(orthanc)), database, intake)
    (listed,) = fetcher.list_series(Question(study_uid=study_uid(817)))
    with pytest.raises(FetchError, match="unable to process") as caught:
        fetcher.fetch(listed, lambda _: None)
    assert (caught.value.operation, caught.value.status) == ("C-MOVE", 0xC000)


@pytest.mark.parametrize(
    ("question", "problem"),
    [
        (Question(), "give one of"),
        (Question(study_uid="1.2", accession_number="A"), "give one of"),
        (Question(study_uid="../etc"), "is no UID"),
        (Question(patient_id="17"), "goes with its authority"),
        (Question(patient_id="1*", authority="A"), "may not hold"),
        (Question(accession_number="A?"), "may not hold"),
        (Question(study_uid="1.2", first_date="2024"), "must be YYYYMMDD"),
        (Question(study_uid="1.2", first_date="20250101", last_date="20240101"), "after the last"),
    ],
)
def test_a_question_that_would_match_more_than_it_says_is_refused(
    question: Question, problem: str
) -> None:
    with pytest.raises(FetchError, match=problem) as caught:
        question.check("pacs")
    assert caught.value.archive == "pacs"


def test_nobody_there_and_an_unknown_caller_are_told_apart(orthanc: Orthanc) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    away = ArchiveUser(archive_of(orthanc, port=port))
    with pytest.raises(FetchError, match=r"no association with 127\.0\.0\.1"):
        list(away.find(Question(study_uid="1.2").keys()))
    stranger = ArchiveUser(archive_of(orthanc, calling_aet="STRANGER"))
    with pytest.raises(FetchError, match=r"rejected: .*STRANGER"):
        list(stranger.find(Question(study_uid="1.2").keys()))


@contextmanager
def misbehaving(handler_event: Any, handler: Any, model: str) -> Iterator[int]:
    entity = AE(ae_title="BAD")
    entity.add_supported_context(model)
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(handler_event, handler)]
    )
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


def test_a_destination_that_the_archive_refuses_is_told_what_to_do(orthanc: Orthanc) -> None:
    def on_move(_event: Any) -> Iterator[Any]:
        yield (None, None)  # the destination is not known: 0xA801, whatever else

    with misbehaving(evt.EVT_C_MOVE, on_move, MOVE_MODEL) as port:
        user = ArchiveUser(archive_of(orthanc, port=port, called_aet="BAD"))
        keys = Dataset()
        keys.QueryRetrieveLevel = "STUDY"
        keys.StudyInstanceUID = "1.2.3"
        with pytest.raises(FetchError, match="does not know our AE title") as caught:
            user.move(keys, lambda _: None)
    assert (caught.value.operation, caught.value.status) == ("C-MOVE", 0xA801)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (0xA701, "cannot count"),
        (0xA702, "cannot send"),
        (0xA900, "does not match"),
        (0xC001, "unable to process"),
        (0xFE00, "cancelled"),
        (0x0124, "not authorised"),
        (0x0110, "it failed"),
    ],
)
def test_every_status_of_a_find_is_named(orthanc: Orthanc, status: int, said: str) -> None:
    def on_find(_event: Any) -> Iterator[Any]:
        yield (status, None)

    with misbehaving(evt.EVT_C_FIND, on_find, FIND_MODEL) as port:
        user = ArchiveUser(archive_of(orthanc, port=port, called_aet="BAD"))
        with pytest.raises(FetchError, match=said) as caught:
            list(user.find(Question(study_uid="1.2.3").keys()))
    assert (caught.value.operation, caught.value.status) == ("C-FIND", status)


def test_a_find_that_fails_midway_gives_its_status(orthanc: Orthanc) -> None:
    def on_find(_event: Any) -> Iterator[Any]:
        answer = Dataset()
        answer.StudyInstanceUID = "1.2.3"
        yield (0xFF00, answer)
        yield (0xA700, None)

    with misbehaving(evt.EVT_C_FIND, on_find, FIND_MODEL) as port:
        user = ArchiveUser(archive_of(orthanc, port=port, called_aet="BAD"))
        with pytest.raises(FetchError, match="out of resources") as caught:
            list(user.find(Question(study_uid="1.2.3").keys()))
    assert (caught.value.operation, caught.value.status) == ("C-FIND", 0xA700)


def test_an_archive_that_does_not_answer_is_left_after_the_time(orthanc: Orthanc) -> None:
    release = threading.Event()

    def on_find(_event: Any) -> Iterator[Any]:
        release.wait(20)
        yield (0x0000, None)

    with misbehaving(evt.EVT_C_FIND, on_find, FIND_MODEL) as port:
        user = ArchiveUser(archive_of(orthanc, port=port, called_aet="BAD", timeout_s=0.5))
        with pytest.raises(FetchError, match=r"no answer within 0\.5 s"):
            list(user.find(Question(study_uid="1.2.3").keys()))
        release.set()


def test_the_command_lists_then_fetches_where_no_service_runs(
    orthanc: Orthanc, tmp_path: Path
) -> None:
    send_to(orthanc, ct_file(study=820), ct_file(study=820, slice_number=2))
    settings = tmp_path / "clinfer.toml"
    settings.write_text(
        f'dicom_ae_title = "{CALLING_AET}"\ndicom_port = 0\nmin_free_disk_mib = 16\n'
        f'data_dir = "{tmp_path}/data"\n[[archives]]\nname = "pacs"\nhost = "127.0.0.1"\n'
        f'port = {orthanc.dicom_port}\nae_title = "{orthanc.aet}"\nretrieve = "get"\n'
    )
    base = ["fetch", "--archive", "pacs", "--study", study_uid(820), "--settings", str(settings)]
    listed = CliRunner().invoke(app, [*base, "--dry-run"])
    assert listed.exit_code == 0, listed.output
    assert "2 instances in 1 series are not here" in listed.output
    done = CliRunner().invoke(app, base)
    assert done.exit_code == 0, done.output
    assert "2 of 2 came" in done.output
    again = CliRunner().invoke(app, base)
    assert "0 instances in 0 series are not here" in again.output


def _sender() -> Any:
    from inference.domain.study import Channel, Sender

    return Sender(channel=Channel.DIMSE, name="CT1")
