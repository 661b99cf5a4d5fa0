"""What a start puts in order, and what it leaves alone."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inference.domain.job import JobState, RetryPolicy
from inference.domain.study import Sender
from inference.jobs.intake import Intake
from inference.jobs.owner import is_gone, new_owner
from inference.jobs.sweep import DataFolderInUseError, data_folder_lock, sweep
from inference.storage import audit, jobs
from inference.storage.database import Database
from inference.storage.objects import ObjectStore
from tests.builders.clock import SetClock
from tests.builders.instances import ct_file


def old(path: Path) -> Path:
    long_ago = time.time() - 2 * 3600
    os.utime(path, (long_ago, long_ago))
    return path


def test_only_what_no_row_names_and_is_old_is_removed(
    intake: Intake, database: Database, objects: ObjectStore, sender: Sender
) -> None:
    kept = old(objects.path(intake.receive([ct_file()], sender=sender).sha256))
    orphan, young = objects.path("aa" + 62 * "0"), objects.path("ab" + 62 * "0")
    for path in (orphan, young, objects.new_temporary()):
        path.write_bytes(b"x")
    folder = objects.new_temporary("-job-1")
    folder.mkdir()
    (folder / "seg.dcm").write_bytes(b"x")
    old(orphan)
    report = sweep(database, objects)
    assert (report.n_temporary, report.n_unreferenced, report.n_rehashed) == (2, 1, 1)
    assert report.damaged == ()
    assert kept.exists()
    assert young.exists()
    assert not orphan.exists()
    assert list(objects.tmp.iterdir()) == []
    with database.read() as connection:
        assert audit.events(connection)[-1].action == "service.started"


def test_an_object_that_comes_again_is_young_again(
    objects: ObjectStore, database: Database, tmp_path: Path
) -> None:
    source = tmp_path / "file"
    source.write_bytes(b"abc")
    old(objects.put(source).path)
    objects.put(source)
    assert sweep(database, objects).n_unreferenced == 0


def test_damage_of_what_came_last_is_found(
    intake: Intake, database: Database, objects: ObjectStore, sender: Sender
) -> None:
    receipt = intake.receive([ct_file()], sender=sender)
    path = objects.path(receipt.sha256)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert sweep(database, objects).damaged == (receipt.sha256,)


def _finished_process_owner() -> str:
    code = "from inference.jobs.owner import new_owner; print(new_owner('gone'))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_jobs_of_a_dead_process_wait_no_longer_and_those_of_a_live_one_stay(
    intake: Intake, database: Database, objects: ObjectStore, sender: Sender, clock: SetClock
) -> None:
    policy = RetryPolicy()
    for study, owner in ((1, _finished_process_owner()), (2, new_owner("alive"))):
        intake.receive([ct_file(study=study)], sender=sender)
        clock.advance(5)
        with database.write() as connection:
            jobs.claim(connection, now=clock.now(), owner=owner, policy=policy)
    assert sweep(database, objects, policy=policy).n_leases_released == 1
    with database.read() as connection:
        alive, dead = jobs.list_jobs(connection)
    assert (dead.state, dead.losses, dead.run_after) == (JobState.QUEUED, 1, clock.now())
    assert alive.state is JobState.LEASED


def test_an_owner_on_another_host_is_judged_by_its_lease_alone() -> None:
    assert not is_gone("elsewhere|1|0.00|worker|00")
    assert not is_gone(new_owner("me"))


def _hold(folder: str, ready: object, end: object) -> None:
    with data_folder_lock(Path(folder)):
        ready.set()  # type: ignore[attr-defined]
        end.wait(20)  # type: ignore[attr-defined]


def test_one_service_holds_a_data_folder_until_it_dies(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, end = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(str(tmp_path), ready, end))
    process.start()
    assert ready.wait(20)
    with pytest.raises(DataFolderInUseError) as caught, data_folder_lock(tmp_path):
        pass
    assert caught.value.folder == tmp_path
    process.kill()
    process.join()
    with data_folder_lock(tmp_path):
        pass
