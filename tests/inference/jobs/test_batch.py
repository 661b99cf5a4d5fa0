"""A batch over built archives: every study gets one outcome, and a second run adds nothing."""

from __future__ import annotations

import csv
import threading
from pathlib import Path

import pydicom
import pytest

from inference.backends.fake import FakePredictor
from inference.domain.errors import BackendUnavailableError, InferenceError
from inference.domain.job import JobState, RetryPolicy
from inference.jobs.batch import Batch
from inference.jobs.batch_export import export
from inference.jobs.batch_outcome import BatchReport
from inference.jobs.batch_sources import BatchSourceError, FolderSource, read_study_uids
from inference.storage import audit, jobs, results, studies
from inference.storage.database import Database
from tests.builders.batching import GAPPED, MODEL, PoolHere, opened_batch, write_archive
from tests.builders.dicom import Identity
from tests.builders.two_boxes import (
    LEFT_BOX,
    SPACING_MM,
    BuiltStudy,
    empty_study,
    two_boxes_study,
    write,
)

QUICK = RetryPolicy(backoff_s=0.05, outage_s=0.05)
LEFT_ML = 7 * 8 * 6 * 4.0 * 1.5 * 2.0 / 1000
"""The left box has 7 x 8 x 6 voxels of 4 x 1.5 x 2 mm."""


def by_study(report: BatchReport) -> dict[str, tuple[str, str]]:
    assert len({line.study_uid for line in report.lines}) == len(report.lines)
    return {line.study_uid: (line.outcome, line.code) for line in report.lines}


def stored(database: Database) -> list[tuple[str, str]]:
    with database.read() as connection:
        return [
            (one.study_uid, one.key)
            for one in results.list_results(connection, current_only=False, limit=1000)
        ]


@pytest.fixture
def archive(tmp_path: Path) -> dict[str, BuiltStudy]:
    """Two whole studies, one in a zip, one with a gap, one empty, and a file that is no DICOM."""
    root = tmp_path / "archive"
    first, second = write_archive(root, 2)
    zipped = two_boxes_study(identity=Identity())
    (root / "old.zip").write_bytes(zipped.zipped())
    gapped = two_boxes_study(slices=GAPPED, identity=Identity())
    write(gapped, root / "deep" / "gapped")
    empty = empty_study()
    write(empty, root / "empty")
    (root / "README.txt").write_text("not an image" * 20)
    return {"first": first, "second": second, "zipped": zipped, "gapped": gapped, "empty": empty}


def test_every_study_of_an_archive_gets_its_outcome(
    archive: dict[str, BuiltStudy], tmp_path: Path
) -> None:
    with opened_batch(tmp_path, PoolHere()) as opened:
        report = opened.run(FolderSource(tmp_path / "archive"))
        assert by_study(report) == {
            archive["first"].study_uid: ("finding", ""),
            archive["second"].study_uid: ("finding", ""),
            archive["zipped"].study_uid: ("finding", ""),
            archive["gapped"].study_uid: ("refused", "slice_gap"),
            archive["empty"].study_uid: ("no_finding", ""),
        }
        assert report.left_alone == {"not_dicom": 1}
        assert (report.n_items, report.n_items_done, report.n_skipped) == (5, 5, 0)
        with opened.database.read() as connection:
            (made,) = results.list_results(connection, study_uid=archive["first"].study_uid)
            audit.verify(connection)
        assert (slice(2, 9), slice(4, 12), slice(16, 22)) == LEFT_BOX
        assert SPACING_MM == (4.0, 1.5, 2.0)
        left = next(one for one in made.summary["segments"] if one["name"] == "Left box")
        assert left["volume_ml"] == pytest.approx(LEFT_ML)
        assert {file.kind for file in made.files} == {"seg", "sr", "labels", "sheet", "result"}
        assert {"decode", "encode", "queue"} <= set(made.stages_s)
        assert made.peak_memory_mib is not None
        assert made.peak_memory_mib > 10


def test_a_second_run_skips_what_has_a_result_and_computes_nothing(
    archive: dict[str, BuiltStudy], tmp_path: Path
) -> None:
    predictor = FakePredictor((200.0, 500.0))
    with opened_batch(tmp_path, PoolHere(), predictor=predictor) as opened:
        first = opened.run(FolderSource(tmp_path / "archive"))
        before = stored(opened.database)
    n_calls = len(predictor.calls)
    assert n_calls == 4  # the one with a gap never reaches the network
    with opened_batch(tmp_path, PoolHere(), predictor=predictor) as opened:
        second = opened.run(FolderSource(tmp_path / "archive"))
        assert stored(opened.database) == before
    assert second.n_skipped == len(first.lines) == 5
    assert by_study(second) == by_study(first)
    assert len(predictor.calls) == n_calls


def test_a_study_that_grew_is_analysed_again_and_only_that_one(
    tmp_path: Path,
) -> None:
    grown, other = two_boxes_study(identity=Identity()), two_boxes_study(identity=Identity())
    paths = write(grown, tmp_path / "archive" / "grown")
    write(other, tmp_path / "archive" / "other")
    last = paths[-1].read_bytes()
    paths[-1].unlink()
    with opened_batch(tmp_path, PoolHere()) as opened:
        opened.run(FolderSource(tmp_path / "archive"))
    paths[-1].write_bytes(last)
    with opened_batch(tmp_path, PoolHere()) as opened:
        report = opened.run(FolderSource(tmp_path / "archive"))
        was_there = {line.study_uid: line.was_there for line in report.lines}
        assert was_there == {grown.study_uid: False, other.study_uid: True}
        with opened.database.read() as connection:
            (current,) = results.list_results(connection, study_uid=grown.study_uid)
            assert studies.get_study(connection, grown.study_uid).n_instances == 14
        assert current.study_version == 2


def test_files_travel_by_content_where_the_pool_does_not_see_our_disk(tmp_path: Path) -> None:
    (study,) = write_archive(tmp_path / "archive", 1)
    with opened_batch(tmp_path, PoolHere(sees_our_disk=False)) as opened:
        report = opened.run(FolderSource(tmp_path / "archive"))
        with opened.database.read() as connection:
            (far,) = results.list_results(connection)
    assert by_study(report) == {study.study_uid: ("finding", "")}
    with opened_batch(tmp_path / "near", PoolHere()) as opened:
        opened.run(FolderSource(tmp_path / "archive"))
        with opened.database.read() as connection:
            (near,) = results.list_results(connection)
    assert (far.key, far.summary["segments"]) == (near.key, near.summary["segments"])


def test_a_failed_study_is_recorded_by_name_and_the_rest_goes_on(tmp_path: Path) -> None:
    built = write_archive(tmp_path / "archive", 3)
    policy = RetryPolicy(max_tries=1)
    predictor = FakePredictor((200.0, 500.0), failures=(InferenceError("the network is ill"),))
    with opened_batch(tmp_path, PoolHere(), predictor=predictor, policy=policy) as opened:
        report = opened.run(FolderSource(tmp_path / "archive"))
        found = sorted(by_study(report).values())
        assert found == [("failed", "inference"), ("finding", ""), ("finding", "")]
        with opened.database.read() as connection:
            dead = jobs.list_jobs(connection, state=JobState.DEAD)
        assert len(dead) == 1
    with opened_batch(tmp_path, PoolHere(), predictor=predictor, policy=policy) as opened:
        again = opened.run(FolderSource(tmp_path / "archive"))
    assert again.n_skipped == 2
    assert set(by_study(again).values()) == {("finding", "")}
    assert len(built) == len(again.lines)


def test_a_backend_that_is_away_for_a_while_is_waited_for(tmp_path: Path) -> None:
    write_archive(tmp_path / "archive", 2)
    failures = (BackendUnavailableError("gone"),) * 3
    predictor = FakePredictor((200.0, 500.0), failures=failures)
    with opened_batch(tmp_path, PoolHere(), predictor=predictor, policy=QUICK) as opened:
        report = opened.run(FolderSource(tmp_path / "archive"))
        with opened.database.read() as connection:
            losses = [job.losses for job in jobs.list_jobs(connection)]
        assert len(stored(opened.database)) == 2
    assert set(by_study(report).values()) == {("finding", "")}
    assert sum(losses) == 3


def test_a_backend_that_stays_away_ends_the_waiting(tmp_path: Path) -> None:
    write_archive(tmp_path / "archive", 1)
    predictor = FakePredictor((200.0,), failures=(BackendUnavailableError("gone"),) * 99)
    policy = RetryPolicy(max_losses=3, outage_s=0.05)
    with opened_batch(tmp_path, PoolHere(), predictor=predictor, policy=policy) as opened:
        report = opened.run(FolderSource(tmp_path / "archive"))
    assert list(by_study(report).values()) == [("failed", "backend_unavailable")]
    assert len(predictor.calls) == 3


class Crash(BaseException):
    """What no handler expects: the process is going down."""


def test_a_batch_that_died_is_gone_on_with(tmp_path: Path) -> None:
    built = write_archive(tmp_path / "archive", 4)
    with opened_batch(tmp_path, PoolHere(), n_workers=1) as opened:
        dying = Batch(FolderSource(tmp_path / "archive"), opened.parts)

        def told(report: BatchReport) -> None:
            if report.lines:
                raise Crash

        with pytest.raises(Crash):
            dying.run(told)
        n_before = len(stored(opened.database))
        assert n_before >= 1
    predictor = FakePredictor((200.0, 500.0))
    with opened_batch(tmp_path, PoolHere(), predictor=predictor) as opened:
        report = opened.run(FolderSource(tmp_path / "archive"))
        made = stored(opened.database)
    assert by_study(report) == {study.study_uid: ("finding", "") for study in built}
    assert len(made) == len(set(made)) == 4
    assert len(predictor.calls) == 4 - n_before


def test_no_more_studies_are_received_than_a_few_ahead_of_the_work(tmp_path: Path) -> None:
    write_archive(tmp_path / "archive", 9)
    goes_on = threading.Event()
    most_open = 0

    class SlowPredictor(FakePredictor):
        def predict(self, *arguments: object, **options: object):  # type: ignore[no-untyped-def]
            assert goes_on.wait(60)
            return super().predict(*arguments, **options)  # type: ignore[arg-type]

    with opened_batch(
        tmp_path, PoolHere(), predictor=SlowPredictor((200.0,)), n_workers=1
    ) as opened:

        def told(report: BatchReport) -> None:
            nonlocal most_open
            with opened.database.read() as connection:
                waiting = [job for job in jobs.list_jobs(connection) if not job.state.is_final]
            most_open = max(most_open, len(waiting))
            if most_open >= 2:
                goes_on.set()

        report = Batch(FolderSource(tmp_path / "archive"), opened.parts).run(told)
    assert len(report.lines) == 9
    assert most_open <= 3  # two of one worker, and the one being received


def test_a_model_that_fits_nothing_says_why(tmp_path: Path) -> None:
    study = two_boxes_study(slices=(0, 1), identity=Identity())
    write(study, tmp_path / "archive")
    with opened_batch(tmp_path, PoolHere()) as opened:
        report = opened.run(FolderSource(tmp_path / "archive"))
    (line,) = report.lines
    assert (line.outcome, line.code) == ("not_applicable", "no_applicable_model")
    assert "slices: 2 along the body axis, the model needs 3" in line.reason


def test_files_are_copied_out_once_with_a_list(
    archive: dict[str, BuiltStudy], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with opened_batch(tmp_path, PoolHere()) as opened:
        report = opened.run(FolderSource(tmp_path / "archive"))
        assert export(report, opened.parts, out) == 4
        (seg,) = (out / MODEL / archive["first"].study_uid).glob("*/seg.dcm")
        assert pydicom.dcmread(seg).StudyInstanceUID == archive["first"].study_uid
        before = seg.stat().st_mtime_ns
        assert export(report, opened.parts, out) == 4
        assert seg.stat().st_mtime_ns == before
    with (out / MODEL / "studies.csv").open() as file:
        rows = {row["StudyInstanceUID"]: row for row in csv.DictReader(file)}
    assert rows[archive["gapped"].study_uid]["code"] == "slice_gap"
    assert len(rows) == 5


def test_a_file_that_is_damaged_is_refused_on_record(tmp_path: Path) -> None:
    (study,) = write_archive(tmp_path / "archive", 1)
    damaged = tmp_path / "archive" / "s0" / "IM0005.dcm"
    damaged.write_bytes(damaged.read_bytes()[:-200])
    with opened_batch(tmp_path, PoolHere()) as opened:
        report = opened.run(FolderSource(tmp_path / "archive"))
        with opened.database.read() as connection:
            (kept,) = studies.list_quarantined(connection)
    assert report.refused_files == {"damaged_file": 1}
    assert kept.code == "damaged_file"
    outcome = by_study(report)[study.study_uid]
    assert outcome == ("refused", "slice_gap")  # the missing slice is not guessed


@pytest.mark.parametrize(
    ("text", "uids"),
    [
        ("StudyInstanceUID,site\n1.2.3,a\n1.2.4,b\n1.2.3,a\n", ("1.2.3", "1.2.4")),
        ("1.2.3\n\n1.2.4\n", ("1.2.3", "1.2.4")),
        ("\ufeffStudyInstanceUID\r\n1.2.3\r\n", ("1.2.3",)),
    ],
)
def test_a_list_of_studies_is_read(tmp_path: Path, text: str, uids: tuple[str, ...]) -> None:
    path = tmp_path / "list.csv"
    path.write_text(text, encoding="utf-8")
    assert read_study_uids(path) == uids


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("uid,site\n1.2.3,a\n", "no column StudyInstanceUID"),
        ("StudyInstanceUID\n../../etc\n", "row 1"),
        ("StudyInstanceUID\n", "lists no study"),
        ("", "no column"),
    ],
)
def test_a_list_that_is_none_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "list.csv"
    path.write_text(text)
    with pytest.raises(BatchSourceError, match=problem):
        read_study_uids(path)


def test_a_folder_without_anything_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BatchSourceError, match="is not there"):
        FolderSource(tmp_path / "nowhere")
    with opened_batch(tmp_path, PoolHere()) as opened, pytest.raises(BatchSourceError):
        opened.run(FolderSource(tmp_path / "empty"))
