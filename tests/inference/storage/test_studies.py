from __future__ import annotations

from dataclasses import replace

import pytest

from inference.domain.study_state import StudyState
from inference.storage import studies
from inference.storage.database import Database
from inference.storage.errors import NotFoundError
from inference.storage.studies import InstanceConflictError
from tests.builders.clock import SetClock
from tests.builders.instances import instance_uid, series_uid, study_uid
from tests.builders.rows import SENDER, description, instance, receive, sha256_of


def test_an_exact_repetition_adds_no_row(database: Database, clock: SetClock) -> None:
    one = instance(clock.now())
    with database.write() as connection:
        assert studies.add_instance(connection, one, description())
        resent = replace(one, sha256=sha256_of("other file meta"), received_at=clock.now())
        assert not studies.add_instance(connection, resent, description())
        assert studies.list_instances(connection, study_uid(1)) == (one,)


def test_other_content_under_the_same_uid_is_a_conflict(
    database: Database, clock: SetClock
) -> None:
    with database.write() as connection:
        studies.add_instance(connection, instance(clock.now()), description())
        with pytest.raises(InstanceConflictError) as caught:
            studies.add_instance(connection, instance(clock.now(), content="b"), description())
    assert caught.value.field == "SOPInstanceUID (0008,0018)"
    assert caught.value.instance_uid == instance_uid(1, 1)


def test_a_study_does_not_change_its_patient(database: Database, clock: SetClock) -> None:
    with database.write() as connection:
        studies.add_instance(connection, instance(clock.now()), description())
        with pytest.raises(InstanceConflictError) as caught:
            studies.add_instance(
                connection,
                instance(clock.now(), slice_number=2),
                description(patient_id="SOMEBODY-ELSE"),
            )
    assert caught.value.field == "PatientID (0010,0020)"


def test_a_study_is_listed_with_counts_and_state(database: Database, clock: SetClock) -> None:
    with database.write() as connection:
        receive(connection, clock.now(), study=1, slice_number=1, wait_s=5)
        receive(connection, clock.now(), study=1, slice_number=2, wait_s=5)
        clock.advance(1)
        studies.add_instance(connection, instance(clock.now(), study=2), description(2))
        newest, oldest = studies.list_studies(connection)
        (series,) = studies.list_series(connection, study_uid(1))
        assert studies.list_studies(connection, patient_id="PATIENT-2") == (newest,)
        with pytest.raises(NotFoundError):
            studies.get_study(connection, "1.2.3")
        assert studies.list_studies(connection, state=StudyState.WAITING) == (oldest,)
    assert newest.study_uid == study_uid(2)
    assert (oldest.n_instances, oldest.n_series) == (2, 1)
    assert oldest.modalities == ("CT",)
    assert (series.series_uid, series.n_instances) == (series_uid(1), 2)


def test_metacharacters_are_stored_as_they_are(database: Database, clock: SetClock) -> None:
    nasty = "'; drop table job;--"
    with database.write() as connection:
        studies.add_instance(
            connection, instance(clock.now()), description(study_description=nasty)
        )
        assert studies.get_study(connection, study_uid(1)).description == nasty


def test_the_quarantine_counts_the_bytes_it_holds(database: Database, clock: SetClock) -> None:
    with database.write() as connection:
        for kept in (sha256_of("a"), None):
            studies.add_quarantined(
                connection, code="damaged_file", reason="cut off", instance_uid="", study_uid="",
                sha256=kept, size_bytes=70, sender=SENDER, at=clock.now(),
            )  # fmt: skip
        assert studies.quarantined_bytes(connection) == 70
        newest, oldest = studies.list_quarantined(connection)
        assert studies.is_referenced(connection, sha256_of("a"))
    assert (newest.sha256, oldest.sha256) == (None, sha256_of("a"))
    assert oldest.sender == SENDER


def test_recent_objects_are_named_last_first(database: Database, clock: SetClock) -> None:
    old = instance(clock.now())
    with database.write() as connection:
        studies.add_instance(connection, old, description())
        clock.advance(10)
        young = instance(clock.now(), slice_number=2)
        studies.add_instance(connection, young, description())
        assert studies.received_since(connection, old.received_at) == (young.sha256, old.sha256)
        assert studies.received_since(connection, young.received_at) == (young.sha256,)
