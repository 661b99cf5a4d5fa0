"""A watched folder takes what stands still, and moves it only once it is safe."""

from __future__ import annotations

import threading
import time
import zipfile
from pathlib import Path

import pytest

from inference.gateways.watch import FolderWatcher
from inference.jobs.intake import Intake
from inference.storage import studies
from inference.storage.database import Database
from inference.storage.objects import ObjectStore
from tests.builders.instances import ct_file, study_uid


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def n_instances(database: Database) -> int:
    with database.read() as connection:
        return sum(study.n_instances for study in studies.list_studies(connection))


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_files_and_archives_are_received_and_moved(
    intake: Intake, database: Database, inbox: Path
) -> None:
    (inbox / "ct" / "deep").mkdir(parents=True)
    (inbox / "ct" / "deep" / "1").write_bytes(ct_file(slice_number=1))
    (inbox / "bad.dcm").write_bytes(b"no dicom")
    with zipfile.ZipFile(inbox / "more.zip", "w") as archive:
        archive.writestr("2", ct_file(slice_number=2))
        archive.writestr("notes.txt", b"x")
    watcher = FolderWatcher(intake, inbox, stable_s=0)
    assert watcher.look() == 3
    assert watcher.look() == 0
    assert n_instances(database) == 2
    assert names(inbox) == {
        "done/ct/deep/1", "done/more.zip", "done/more.zip.reason.txt",
        "refused/bad.dcm", "refused/bad.dcm.reason.txt",
    }  # fmt: skip
    assert "error[not_dicom]" in (inbox / "refused" / "bad.dcm.reason.txt").read_text()
    with database.read() as connection:
        (instance, _) = studies.list_instances(connection, study_uid(1))
    assert (instance.sender.channel.value, instance.sender.name) == ("folder", "inbox")


def test_a_file_that_still_grows_is_left(intake: Intake, database: Database, inbox: Path) -> None:
    data = ct_file()
    path = inbox / "1.dcm"
    path.write_bytes(data[:500])
    watcher = FolderWatcher(intake, inbox, stable_s=0.2)
    assert watcher.look() == 0
    time.sleep(0.25)
    path.write_bytes(data)
    assert watcher.look() == 0
    time.sleep(0.25)
    assert watcher.look() == 1
    assert n_instances(database) == 1


def test_unfinished_hidden_and_linked_files_are_not_touched(
    intake: Intake, inbox: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside.dcm"
    outside.write_bytes(ct_file())
    (inbox / "link.dcm").symlink_to(outside)
    for name in (".1.dcm", "1.dcm.part", "1.tmp"):
        (inbox / name).write_bytes(ct_file())
    assert FolderWatcher(intake, inbox, stable_s=0).look() == 0
    assert outside.exists()


def test_a_crash_before_the_move_receives_it_once_more_and_then_moves_it(
    intake: Intake, database: Database, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (inbox / "1.dcm").write_bytes(ct_file())
    watcher = FolderWatcher(intake, inbox, stable_s=0)
    with monkeypatch.context() as patch:
        patch.setattr(watcher, "_move", lambda *_, **__: None)  # killed right there
        watcher.look()
    assert names(inbox) == {"1.dcm"}
    assert FolderWatcher(intake, inbox, stable_s=0).look() == 1
    assert names(inbox) == {"done/1.dcm"}
    assert n_instances(database) == 1


def test_without_space_a_file_stays_where_it_is(
    intake: Intake, objects: ObjectStore, inbox: Path
) -> None:
    (inbox / "1.dcm").write_bytes(ct_file())
    watcher = FolderWatcher(intake, inbox, stable_s=0)
    objects.reserve_bytes = 10**18
    assert watcher.look() == 0
    assert names(inbox) == {"1.dcm"}
    objects.reserve_bytes = 0
    assert watcher.look() == 1


def test_a_second_file_of_the_same_name_does_not_replace_the_first(
    intake: Intake, inbox: Path
) -> None:
    watcher = FolderWatcher(intake, inbox, stable_s=0)
    for number in (1, 2):
        (inbox / "x.dcm").write_bytes(ct_file(slice_number=number))
        watcher.look()
    assert names(inbox) == {"done/x.dcm", "done/x-1.dcm"}


def test_the_loop_ends_when_told(intake: Intake, database: Database, inbox: Path) -> None:
    stop = threading.Event()
    watcher = FolderWatcher(intake, inbox, stable_s=0.05)
    thread = threading.Thread(target=watcher.run, args=(stop,), kwargs={"poll_s": 0.02})
    thread.start()
    (inbox / "1.dcm").write_bytes(ct_file())
    deadline = time.monotonic() + 10
    while not n_instances(database) and time.monotonic() < deadline:
        time.sleep(0.02)
    stop.set()
    thread.join(5)
    assert n_instances(database) == 1
