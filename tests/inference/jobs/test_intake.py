"""What a door may answer "success" to, and what it may not."""

from __future__ import annotations

import errno
import os
import zlib
from pathlib import Path
from typing import BinaryIO

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from inference.domain.job import JobState, Priority
from inference.domain.study import Sender
from inference.domain.study_state import StudyState
from inference.jobs.errors import (
    ConflictError,
    DamagedFileError,
    IdentifierError,
    IntakeError,
    NotDicomError,
    TooLargeError,
    UnsupportedObjectError,
)
from inference.jobs.identify import Announced
from inference.jobs.intake import Intake, IntakeSettings
from inference.storage import audit, jobs, studies
from inference.storage.database import Database
from inference.storage.errors import StorageFullError
from inference.storage.objects import Disk, ObjectStore, file_sha256
from inference.storage.states import state_of
from tests.builders.clock import SetClock
from tests.builders.instances import CT_IMAGE, ct_dataset, ct_file, study_uid

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"


def n_objects(objects: ObjectStore) -> int:
    return sum(1 for _ in objects.all_objects())


def test_an_accepted_instance_is_on_disk_indexed_queued_and_on_record(
    intake: Intake, database: Database, objects: ObjectStore, sender: Sender, clock: SetClock
) -> None:
    data = ct_file()
    receipt = intake.receive([data[:100], data[100:]], sender=sender, priority=Priority.URGENT)
    assert receipt.is_new
    assert objects.path(receipt.sha256).read_bytes() == data
    assert file_sha256(objects.path(receipt.sha256)) == receipt.sha256
    assert list(objects.tmp.iterdir()) == []
    with database.read() as connection:
        instance = studies.get_instance(connection, receipt.instance_uid)
        study = studies.get_study(connection, receipt.study_uid)
        job = jobs.get_job(connection, receipt.job_id)
        (event,) = audit.events(connection)
    assert instance.sender == sender
    assert instance.original_sha256 == receipt.sha256
    assert (study.patient_id, study.modalities, study.version) == ("PATIENT-1", ("CT",), 1)
    assert (job.state, job.priority) == (JobState.COLLECTING, Priority.URGENT)
    assert (job.run_after - clock.now()).total_seconds() == 5.0
    assert (event.action, event.subject) == ("instance.received", receipt.study_uid)


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_every_encoding_is_walked(intake: Intake, sender: Sender, syntax: str) -> None:
    receipt = intake.receive([ct_file(transfer_syntax=syntax)], sender=sender)
    assert receipt.study_uid == study_uid(1)


def test_text_is_decoded_by_its_character_set(
    intake: Intake, database: Database, sender: Sender
) -> None:
    data = ct_file(SpecificCharacterSet="ISO_IR 192", PatientName="王^小东")
    intake.receive([data], sender=sender)
    with database.read() as connection:
        assert studies.get_study(connection, study_uid(1)).patient_name == "王^小东"


@pytest.mark.parametrize("magic", [b"MZ\x90\x00", b"\x7fELF", b"#!/bin/sh\n", b"II*\x00"])
def test_a_program_in_the_preamble_does_not_reach_the_disk(
    intake: Intake, objects: ObjectStore, database: Database, sender: Sender, magic: bytes
) -> None:
    clean = ct_file()
    receipt = intake.receive([magic.ljust(128, b"\1") + clean[128:]], sender=sender)
    assert objects.path(receipt.sha256).read_bytes() == clean
    with database.read() as connection:
        original = studies.get_instance(connection, receipt.instance_uid).original_sha256
    assert original != receipt.sha256


def test_ten_equal_sendings_are_one_instance_and_one_job(
    intake: Intake, database: Database, objects: ObjectStore, sender: Sender
) -> None:
    receipts = [intake.receive([ct_file()], sender=sender) for _ in range(10)]
    assert [receipt.is_new for receipt in receipts] == [True] + 9 * [False]
    with database.read() as connection:
        assert len(jobs.list_jobs(connection)) == 1
        assert studies.get_study(connection, study_uid(1)).n_instances == 1
    assert n_objects(objects) == 1


def test_other_pixels_under_the_same_uid_are_put_aside(
    intake: Intake, database: Database, objects: ObjectStore, sender: Sender
) -> None:
    first = intake.receive([ct_file(fill=1)], sender=sender)
    before = objects.path(first.sha256).read_bytes()
    with pytest.raises(ConflictError) as caught:
        intake.receive([ct_file(fill=2)], sender=sender)
    assert caught.value.field == "SOPInstanceUID (0008,0018)"
    assert objects.path(first.sha256).read_bytes() == before
    with database.read() as connection:
        (aside,) = studies.list_quarantined(connection)
        assert [one.sha256 for one in studies.list_instances(connection, study_uid(1))] == [
            first.sha256
        ]
    assert (aside.code, aside.study_uid) == ("conflict", study_uid(1))
    assert aside.instance_uid == first.instance_uid
    objects.verify(aside.sha256)


def test_another_patient_in_the_same_study_is_put_aside(intake: Intake, sender: Sender) -> None:
    intake.receive([ct_file(slice_number=1)], sender=sender)
    with pytest.raises(ConflictError) as caught:
        intake.receive([ct_file(slice_number=2, PatientID="OTHER")], sender=sender)
    assert caught.value.field == "PatientID (0010,0020)"


BAD_UIDS = ["../../../../canary", "1.2.3\0x", "1." + 70 * "3", "1.2;touch canary;#", "1.2`id`", ""]


@pytest.mark.parametrize("uid", BAD_UIDS)
@pytest.mark.parametrize(
    ("keyword", "field"),
    [
        ("SOPInstanceUID", "SOPInstanceUID (0008,0018)"),
        ("StudyInstanceUID", "StudyInstanceUID (0020,000D)"),
        ("SeriesInstanceUID", "SeriesInstanceUID (0020,000E)"),
    ],
)
def test_a_malformed_identifier_is_refused_by_name(
    intake: Intake, database: Database, tmp_path: Path, sender: Sender, keyword: str, field: str,
    uid: str,
) -> None:  # fmt: skip
    data = with_raw_uid(keyword, uid)
    with pytest.raises(IdentifierError) as caught:
        intake.receive([data], sender=sender)
    assert caught.value.field == field
    with database.read() as connection:
        assert studies.list_studies(connection) == ()
        assert studies.list_quarantined(connection)[0].code == "identifier"
    assert not list(tmp_path.rglob("*canary*"))


TAGS = {
    "SOPInstanceUID": b"\x08\0\x18\0",
    "StudyInstanceUID": b"\x20\0\x0d\0",
    "SeriesInstanceUID": b"\x20\0\x0e\0",
}


def with_raw_uid(keyword: str, uid: str) -> bytes:
    """A file whose UID is what no library would write: the element is replaced byte by byte."""
    data = ct_file()
    start = data.index(TAGS[keyword] + b"UI")
    old_length = int.from_bytes(data[start + 6 : start + 8], "little")
    raw = uid.encode() + (b"\0" if len(uid) % 2 else b"")
    element = TAGS[keyword] + b"UI" + len(raw).to_bytes(2, "little") + raw
    return data[:start] + element + data[start + 8 + old_length :]


def test_announced_and_received_must_agree(intake: Intake, sender: Sender) -> None:
    uid = str(ct_dataset().SOPInstanceUID)
    for announced, field in (
        (Announced(sop_class_uid=SEGMENTATION, instance_uid=uid), "SOPClassUID (0008,0016)"),
        (Announced(sop_class_uid=CT_IMAGE, instance_uid="1.2.3"), "SOPInstanceUID (0008,0018)"),
    ):
        with pytest.raises(IdentifierError) as caught:
            intake.receive([ct_file()], sender=sender, announced=announced)
        assert caught.value.field == field


@pytest.mark.parametrize("data", [b"", b"x", os.urandom(4096), ct_file()[132:]])
def test_what_is_no_dicom_file_is_refused_and_not_kept(
    intake: Intake, objects: ObjectStore, sender: Sender, data: bytes
) -> None:
    with pytest.raises(NotDicomError):
        intake.receive([data], sender=sender)
    assert n_objects(objects) == 0


def test_no_cut_of_a_file_is_accepted(intake: Intake, sender: Sender) -> None:
    data = ct_file(shape=(3, 5))
    for end in range(140, len(data), max(1, len(data) // 200)):
        with pytest.raises((DamagedFileError, NotDicomError, IdentifierError)):
            intake.receive([data[:end]], sender=sender)


def test_pixel_data_must_be_as_long_as_rows_columns_and_frames_say(
    intake: Intake, sender: Sender
) -> None:
    data = ct_file(shape=(4, 4))
    start = data.index(b"\xe0\x7f\x10\0OW")
    claims_more = data[: start + 8] + (0x7FFFFFF0).to_bytes(4, "little") + data[start + 12 :]
    for bad in (
        claims_more,
        ct_file(shape=(4, 4), Rows=65535, Columns=65535),
        ct_file(shape=(4, 4), NumberOfFrames="2"),
        ct_file(shape=(4, 4), PixelData=bytes(4 * 4 * 2 + 2)),
    ):
        with pytest.raises(IntakeError) as caught:
            intake.receive([bad], sender=sender)
        assert caught.value.field == "PixelData (7FE0,0010)" or "7FE0" in caught.value.field


@pytest.mark.parametrize("depth", [65, 200, 20_000])
def test_deep_nesting_is_refused_without_recursion(
    intake: Intake, sender: Sender, depth: int
) -> None:
    nested = depth * (b"\x40\0\x30\xa7SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\0\xe0\xff\xff\xff\xff")
    nested += depth * (b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0")
    data = ct_file()
    start = data.index(b"\xe0\x7f\x10\0OW")
    with pytest.raises(TooLargeError) as caught:
        intake.receive([data[:start] + nested + data[start:]], sender=sender)
    assert "nesting depth" in caught.value.problem


def test_a_nesting_that_is_allowed_passes(intake: Intake, sender: Sender) -> None:
    nested = 60 * (b"\x40\0\x30\xa7SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\0\xe0\xff\xff\xff\xff")
    nested += 60 * (b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0")
    data = ct_file()
    start = data.index(b"\xe0\x7f\x10\0OW")
    intake.receive([data[:start] + nested + data[start:]], sender=sender)


def test_a_deflated_bomb_is_refused_while_it_inflates(
    intake: Intake, objects: ObjectStore, sender: Sender
) -> None:
    plain = ct_file(transfer_syntax=DeflatedExplicitVRLittleEndian)
    head = plain[: plain.index(b"1.2.840.10008.1.2.1.99") + 22]
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join(deflate.compress(bytes(1024 * 1024)) for _ in range(64)) + deflate.flush()
    with pytest.raises(TooLargeError) as caught:
        intake.receive([head + bomb], sender=sender)
    assert caught.value.field == "deflated dataset"
    assert list(objects.tmp.iterdir()) == []


def test_classes_that_carry_foreign_files_are_not_accepted(
    intake: Intake, objects: ObjectStore, sender: Sender
) -> None:
    for sop_class in (ENCAPSULATED_PDF, "1.2.840.10008.5.1.4.1.1.11.1", "1.2.3.4"):
        with pytest.raises(UnsupportedObjectError):
            intake.receive([ct_file(SOPClassUID=sop_class)], sender=sender)
    assert n_objects(objects) == 0


def test_a_segmentation_is_kept_and_starts_nothing(
    intake: Intake, database: Database, sender: Sender
) -> None:
    receipt = intake.receive([ct_file(SOPClassUID=SEGMENTATION)], sender=sender)
    assert receipt.job_id is None
    with database.read() as connection:
        assert state_of(connection, receipt.study_uid) is StudyState.NOT_APPLICABLE


def test_the_size_cap_stops_the_stream(
    database: Database, objects: ObjectStore, sender: Sender
) -> None:
    intake = Intake(
        database=database, objects=objects, settings=IntakeSettings(max_instance_bytes=500)
    )
    with pytest.raises(TooLargeError):
        intake.receive([bytes(400), bytes(101)], sender=sender)
    assert list(objects.tmp.iterdir()) == []


def test_a_refusal_is_on_record_without_patient_data(
    intake: Intake, database: Database, sender: Sender
) -> None:
    with pytest.raises(IntakeError):
        intake.receive([ct_file(SOPClassUID=ENCAPSULATED_PDF)], sender=sender)
    with database.read() as connection:
        (event,) = audit.events(connection)
    assert event.action == "instance.refused"
    assert event.detail["code"] == "unsupported_object"
    assert "Phantom" not in str(event)


def test_a_full_quarantine_keeps_the_reason_but_not_the_bytes(
    database: Database, objects: ObjectStore, sender: Sender
) -> None:
    intake = Intake(
        database=database, objects=objects, settings=IntakeSettings(max_quarantine_bytes=10)
    )
    with pytest.raises(DamagedFileError):
        intake.receive([ct_file(NumberOfFrames="7")], sender=sender)
    assert n_objects(objects) == 0
    with database.read() as connection:
        assert len(audit.events(connection)) == 1


def test_an_expected_count_ends_the_waiting(
    intake: Intake, database: Database, sender: Sender, clock: SetClock
) -> None:
    intake.receive([ct_file(slice_number=1, NumberOfStudyRelatedInstances="2")], sender=sender)
    with database.read() as connection:
        (job,) = jobs.list_jobs(connection)
    assert (job.run_after - clock.now()).total_seconds() == 60.0
    intake.receive([ct_file(slice_number=2, NumberOfStudyRelatedInstances="2")], sender=sender)
    with database.read() as connection:
        (job,) = jobs.list_jobs(connection)
    assert job.state is JobState.QUEUED
    intake.receive([ct_file(study=2, slice_number=1)], sender=sender)
    intake.expect(study_uid(2), 1)
    with database.read() as connection:
        assert jobs.list_jobs(connection)[0].state is JobState.QUEUED


class FailingDisk(Disk):
    """Fails at the n-th call of the durable sequence."""

    def __init__(self) -> None:
        self.remaining: int | None = None
        self.number = errno.ENOSPC

    def _count(self) -> None:
        if self.remaining is not None:
            self.remaining -= 1
            if self.remaining < 0:
                raise OSError(self.number, "injected")

    def create(self, path: Path) -> BinaryIO:
        self._count()
        return super().create(path)

    def write(self, file: BinaryIO, data: bytes | memoryview) -> None:
        self._count()
        super().write(file, data)

    def fsync(self, path: Path) -> None:
        self._count()
        super().fsync(path)

    def rename(self, source: Path, target: Path) -> None:
        self._count()
        super().rename(source, target)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_no_failing_call_of_the_disk_ends_in_success(
    tmp_path: Path, database: Database, sender: Sender, number: int
) -> None:
    disk = FailingDisk()
    objects = ObjectStore(tmp_path / "data", disk=disk, reserve_bytes=0)
    intake = Intake(database=database, objects=objects)
    disk.number = number
    succeeded_after: int | None = None
    for n_calls in range(12):
        disk.remaining = n_calls
        try:
            intake.receive([ct_file()], sender=sender)
        except (StorageFullError, OSError):
            with database.read() as connection:
                assert studies.list_studies(connection) == ()
            assert list(objects.tmp.iterdir()) == []
        else:
            succeeded_after = n_calls
            break
    assert succeeded_after == 5  # create, write, fsync, rename, fsync of the folder
    with database.read() as connection:
        (stored,) = studies.list_instances(connection, study_uid(1))
    objects.verify(stored.sha256)


def test_a_commit_that_fails_is_no_success(
    intake: Intake, database: Database, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StorageFullError(free_bytes=0, needed_bytes=0)

    with monkeypatch.context() as patch:
        patch.setattr(audit, "append", fail)
        with pytest.raises(StorageFullError):
            intake.receive([ct_file()], sender=sender)
    with database.read() as connection:
        assert studies.list_studies(connection) == ()
    assert intake.receive([ct_file()], sender=sender).is_new
