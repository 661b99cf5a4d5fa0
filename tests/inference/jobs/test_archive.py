"""A zip of strangers: its files are received one by one, and nothing is ever unpacked by name."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from inference.domain.job import JobState
from inference.domain.study import Sender
from inference.jobs.archive import ArchiveLimits
from inference.jobs.errors import DamagedFileError, TooLargeError
from inference.jobs.intake import Intake, IntakeSettings
from inference.storage import jobs, studies
from inference.storage.database import Database
from inference.storage.objects import ObjectStore
from tests.builders.instances import ct_file, study_uid


def zipped(path: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def test_every_slice_is_received_and_the_study_is_complete(
    intake: Intake, database: Database, sender: Sender, tmp_path: Path
) -> None:
    path = zipped(
        tmp_path / "study.zip",
        {
            "CT/": b"",
            "CT/1.dcm": ct_file(slice_number=1),
            "CT/2.dcm": ct_file(slice_number=2),
            "DICOMDIR": b"whatever",
            "readme.txt": b"hello",
        },
    )
    receipt = intake.receive_archive(path, sender=sender)
    assert len(receipt.accepted) == 2
    assert receipt.study_uids == (study_uid(1),)
    assert [(member.name, member.error.code) for member in receipt.refused] == [
        ("readme.txt", "not_dicom")
    ]
    with database.read() as connection:
        (job,) = jobs.list_jobs(connection)
        assert studies.get_study(connection, study_uid(1)).n_instances == 2
    assert job.state is JobState.QUEUED


def test_names_that_climb_are_only_names(
    intake: Intake, sender: Sender, tmp_path: Path, objects: ObjectStore
) -> None:
    path = zipped(tmp_path / "a.zip", {"../../../../canary.dcm": ct_file(), "/canary": ct_file()})
    receipt = intake.receive_archive(path, sender=sender)
    assert [one.is_new for one in receipt.accepted] == [True, False]
    assert not list(tmp_path.rglob("*canary*"))


@pytest.mark.parametrize(
    ("limits", "entries"),
    [
        (ArchiveLimits(max_entries=2), {"1": b"", "2": b"", "3": b""}),
        (ArchiveLimits(max_unpacked_bytes=1000), {"1": bytes(600), "2": bytes(600)}),
        (ArchiveLimits(), {"bomb": bytes(80 * 2**20)}),
    ],
)
def test_an_archive_over_a_limit_is_refused_whole(
    database: Database, objects: ObjectStore, sender: Sender, tmp_path: Path,
    limits: ArchiveLimits, entries: dict[str, bytes],
) -> None:  # fmt: skip
    intake = Intake(database=database, objects=objects, settings=IntakeSettings(archive=limits))
    with pytest.raises(TooLargeError) as caught:
        intake.receive_archive(zipped(tmp_path / "a.zip", entries), sender=sender)
    assert caught.value.field == "archive"


def test_what_is_no_zip_or_a_locked_one_is_refused(
    intake: Intake, sender: Sender, tmp_path: Path
) -> None:
    nothing = tmp_path / "a.zip"
    nothing.write_bytes(b"PK no zip")
    locked = bytearray(zipped(tmp_path / "b.zip", {"1": b"abc"}).read_bytes())
    central = locked.index(b"PK\x01\x02")
    locked[central + 8] |= 1
    (tmp_path / "b.zip").write_bytes(locked)
    for path in (nothing, tmp_path / "b.zip"):
        with pytest.raises(DamagedFileError) as caught:
            intake.receive_archive(path, sender=sender)
        assert caught.value.field == "archive"


def test_a_damaged_entry_does_not_hold_back_the_others(
    intake: Intake, sender: Sender, tmp_path: Path, objects: ObjectStore
) -> None:
    first, second = ct_file(slice_number=1), ct_file(slice_number=2)
    path = zipped(tmp_path / "a.zip", {"1": first, "2": second}, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.index(first) + 700] ^= 0xFF
    path.write_bytes(data)
    receipt = intake.receive_archive(path, sender=sender)
    assert [one.instance_uid[-1] for one in receipt.accepted] == ["2"]
    assert [member.error.code for member in receipt.refused] == ["damaged_file"]
    assert list(objects.tmp.iterdir()) == []


def test_an_archive_inside_an_archive_stays_closed(
    intake: Intake, sender: Sender, tmp_path: Path
) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("1.dcm", ct_file())
    receipt = intake.receive_archive(
        zipped(tmp_path / "a.zip", {"inner.zip": inner.getvalue()}), sender=sender
    )
    assert receipt.accepted == ()
    assert len(receipt.refused) == 1
