from __future__ import annotations

from dataclasses import asdict

import pytest
from sqlalchemy import Connection

from inference.domain.change import Acquisition, Match
from inference.domain.job import JobState, RetryPolicy
from inference.domain.result import ResultState
from inference.storage import jobs, priors, results, studies
from inference.storage.database import Database
from inference.storage.studies import InstanceConflictError
from tests.builders.clock import SetClock
from tests.builders.instances import study_uid
from tests.builders.rows import description, filed, instance

ACQUISITION = asdict(Acquisition(modality="CT", slice_spacing_mm=1.0, kernel="B", contrast=""))
SEGMENT = {"label": 1, "name": "Lung", "volume_ml": 10.0, "long_axis_mm": 20.0}


def result_of(
    connection: Connection, clock: SetClock, study: int, *, model: str = "m", **who: str
) -> int:
    """One study with one result; the id."""
    described = description(study, **({"patient_id": "77"} | who))
    studies.add_instance(connection, instance(clock.now(), study=study), described)
    job_id = jobs.collect(
        connection, study_uid(study), now=clock.now(), run_after=clock.now(),
        priority=jobs.Priority.ROUTINE,
    )  # fmt: skip
    taken = jobs.claim(connection, now=clock.now(), owner="a", policy=RetryPolicy())
    assert taken is not None
    assert taken.id == job_id
    jobs.finish(connection, job_id, owner="a", now=clock.now(), state=JobState.DONE)
    one = filed(f"{study}/{model}", model=model, state=ResultState.FINDING)
    one.draft.summary.update(acquisition=ACQUISITION, segments=[SEGMENT])  # type: ignore[attr-defined]
    (row_id,) = results.store(connection, taken, filed=[one], now=clock.now()).new
    return row_id


def test_priors_are_of_the_same_number_of_the_same_issuer_and_earlier(
    database: Database, clock: SetClock
) -> None:
    with database.write() as connection:
        north = {"issuer_of_patient_id": "NORTH"}
        first = result_of(connection, clock, 1, study_date="20260101", **north)
        second = result_of(connection, clock, 2, study_date="20260301", **north)
        result_of(connection, clock, 3, study_date="20260102", issuer_of_patient_id="SOUTH")
        result_of(connection, clock, 4, study_date="20260102")
        result_of(connection, clock, 5, study_date="", **north)
        result_of(connection, clock, 6, study_date="20260102", patient_id="78", **north)
        result_of(connection, clock, 7, study_date="20260102", model="other", **north)
        now = result_of(connection, clock, 8, study_date="20260601", **north)
        assert [one.result_id for one in priors.priors_of(connection, now)] == [second, first]
        assert priors.priors_of(connection, first) == ()
        nobody = result_of(connection, clock, 9, study_date="20260701", patient_id="")
        result_of(connection, clock, 10, study_date="20260102", patient_id="")
        assert priors.priors_of(connection, nobody) == ()


def test_a_result_that_was_taken_back_is_no_prior(database: Database, clock: SetClock) -> None:
    with database.write() as connection:
        first = result_of(connection, clock, 1, study_date="20260101")
        now = result_of(connection, clock, 2, study_date="20260601")
        assert len(priors.priors_of(connection, now)) == 1
        results.take_back(connection, first, reason="wrong", reason_code="rejected")
        assert priors.priors_of(connection, now) == ()


def test_a_study_never_changes_the_issuer_of_its_patient(
    database: Database, clock: SetClock
) -> None:
    with database.write() as connection:
        studies.add_instance(connection, instance(clock.now()), description())
        told = description(issuer_of_patient_id="NORTH")
        studies.add_instance(connection, instance(clock.now(), slice_number=2), told)
        assert studies.get_study(connection, study_uid(1)).issuer_of_patient_id == "NORTH"
        studies.add_instance(connection, instance(clock.now(), slice_number=3), description())
        other = description(issuer_of_patient_id="SOUTH")
        with pytest.raises(InstanceConflictError) as caught:
            studies.add_instance(connection, instance(clock.now(), slice_number=4), other)
    assert caught.value.field == "IssuerOfPatientID (0010,0021)"


def test_one_structure_has_one_partner(database: Database, clock: SetClock) -> None:
    with database.write() as connection:
        first = result_of(connection, clock, 1, study_date="20260101")
        now = result_of(connection, clock, 2, study_date="20260601")
        for label in (1, 2):
            priors.decide_match(
                connection, result_id=now, label=1, prior_result_id=first, prior_label=label,
                is_confirmed=True, by="dr.lin", now=clock.now(),
            )  # fmt: skip
        found = priors.matches_between(connection, now, first)
    assert found == {(1, 1): Match.REJECTED, (1, 2): Match.CONFIRMED}
