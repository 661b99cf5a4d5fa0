"""The DICOMweb index: filled with what is received, and afterwards with what was there before."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from sqlalchemy import delete, select

from inference.domain.study import Channel, Sender
from inference.jobs.index_backfill import IndexBackfill
from inference.jobs.intake import Intake
from inference.storage import dicom_index
from inference.storage.database import Database
from inference.storage.dicom_search import Level, Search, search
from inference.storage.dicomweb_tables import (
    dicom_instance,
    dicom_request,
    dicom_series,
    dicom_study,
)
from inference.storage.objects import ObjectStore
from tests.builders.instances import ct_file, instance_uid, study_uid

SENDER = Sender(channel=Channel.FOLDER)
TABLES = (dicom_instance, dicom_request, dicom_series, dicom_study)


@pytest.fixture
def opened(tmp_path: Path) -> tuple[Database, ObjectStore, Intake]:
    database = Database.open(tmp_path / "data" / "clinfer.sqlite3")
    objects = ObjectStore(tmp_path / "data", reserve_bytes=0)
    return database, objects, Intake(database=database, objects=objects)


def indexed(database: Database) -> list[dict[str, object]]:
    with database.read() as connection:
        rows = connection.execute(select(dicom_instance).order_by(dicom_instance.c.instance_uid))
        return [dict(row._mapping) for row in rows]


def test_what_was_there_before_is_indexed_by_the_next_start(
    opened: tuple[Database, ObjectStore, Intake],
) -> None:
    database, objects, intake = opened
    for number in range(1, 6):
        intake.receive([ct_file(study=1, slice_number=number)], sender=SENDER)
    as_received = indexed(database)
    with database.write() as connection:
        for table in TABLES:
            connection.execute(delete(table))
    lost = as_received[2]
    objects.path(str(lost["sha256"])).write_bytes(b"damaged")
    backfill = IndexBackfill(database, objects)
    assert not backfill.is_done
    backfill.run(threading.Event())
    assert backfill.is_done
    assert (backfill.n_indexed, backfill.n_unreadable) == (4, 1)
    assert indexed(database) == [row for row in as_received if row != lost]
    again = IndexBackfill(database, objects)
    again.run(threading.Event())
    assert again.n_indexed == 0
    database.close()


def test_a_stopped_backfill_does_not_call_itself_done(
    opened: tuple[Database, ObjectStore, Intake],
) -> None:
    database, objects, _ = opened
    stop = threading.Event()
    stop.set()
    backfill = IndexBackfill(database, objects)
    backfill.run(stop)
    assert not backfill.is_done
    database.close()


def test_a_study_keeps_what_its_first_instance_left_blank(
    opened: tuple[Database, ObjectStore, Intake],
) -> None:
    database, _, intake = opened
    intake.receive([ct_file(study=1, StudyDescription="", StudyID="")], sender=SENDER)
    intake.receive([ct_file(study=1, slice_number=2, StudyDescription="later")], sender=SENDER)
    intake.receive([ct_file(study=1, slice_number=3, StudyDescription="other")], sender=SENDER)
    with database.read() as connection:
        (found,) = search(connection, Search(level=Level.STUDY)).items
    assert found.study["00081030"]["Value"] == ["later"]
    assert (found.study_uid, found.n_instances) == (study_uid(1), 3)
    database.close()


def test_a_repeated_instance_is_indexed_once(
    opened: tuple[Database, ObjectStore, Intake],
) -> None:
    database, _, intake = opened
    for _ in range(2):
        intake.receive([ct_file(study=1)], sender=SENDER)
    assert [row["instance_uid"] for row in indexed(database)] == [instance_uid(1, 1)]
    database.close()


@pytest.mark.parametrize(
    ("text", "stored"),
    [("20240131", "20240131"), ("2024.01.31", "20240131"), ("2024", ""), ("", ""), ("x", "")],
)
def test_dates_are_kept_as_they_are_compared(text: str, stored: str) -> None:
    assert dicom_index.indexed_date(text) == stored


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("0915", "091500.000000"),
        ("09:15:30", "091530.000000"),
        ("235959.5", "235959.500000"),
        ("9", ""),
        ("noon", ""),
    ],
)
def test_times_are_kept_as_they_are_compared(text: str, stored: str) -> None:
    assert dicom_index.indexed_time(text) == stored


def test_names_are_folded() -> None:
    assert dicom_index.folded_name("MÜLLER^Änne^^^ ") == "muller^anne"
    assert dicom_index.folded_name("王^小东") == "王^小东"
    assert dicom_index.folded_name("ガ") == "ガ"  # a mark that makes another sound is no accent
