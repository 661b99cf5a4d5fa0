from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select, update

from inference.domain.job import JobState, Priority, RetryPolicy
from inference.domain.result import ResultState
from inference.domain.study_state import StudyState
from inference.storage import jobs, results, states, studies
from inference.storage.database import Database
from inference.storage.errors import NotFoundError
from inference.storage.tables import job, result, study
from tests.builders.clock import SetClock
from tests.builders.instances import study_uid
from tests.builders.rows import description, filed, instance, receive

OUTCOMES = [one for one in ResultState if one is not ResultState.SUPERSEDED]
MODELS = ("lungs", "liver", "spleen")


def finished(
    connection: Connection,
    clock: SetClock,
    outcomes: dict[str, ResultState],
    *,
    slice_number: int = 1,
    study_number: int = 1,
) -> None:
    """One more instance comes, and a job makes these results of it, by model."""
    receive(connection, clock.now(), slice_number=slice_number, study=study_number)
    taken = jobs.claim(connection, now=clock.now(), owner="a", policy=RetryPolicy())
    assert taken is not None
    jobs.finish(connection, taken.id, owner="a", now=clock.now(), state=JobState.DONE)
    results.store(
        connection,
        taken,
        filed=[
            filed(f"{taken.id}/{model}", model=model, state=outcome)
            for model, outcome in outcomes.items()
        ],
        now=clock.now(),
    )


def said(connection: Connection, number: int = 1) -> tuple[StudyState, list[StudyState]]:
    standing = states.standing_of(connection, study_uid(number))
    assert states.state_of(connection, study_uid(number)) is standing.state
    assert standing.parts[0].state is standing.state
    return standing.state, [part.state for part in standing.parts]


def test_a_study_waits_then_runs_then_says_what_was_found(
    database: Database, clock: SetClock
) -> None:
    with database.write() as connection:
        receive(connection, clock.now(), wait_s=5)
        assert said(connection)[0] is StudyState.WAITING
        clock.advance(5)
        taken = jobs.claim(connection, now=clock.now(), owner="a", policy=RetryPolicy())
        assert said(connection)[0] is StudyState.RUNNING
        jobs.finish(connection, taken.id, owner="a", now=clock.now(), state=JobState.DONE)
        results.store(connection, taken, filed=[filed("a")], now=clock.now())
        assert said(connection) == (StudyState.FINDING, [StudyState.FINDING])


def test_a_finding_speaks_and_the_failure_beside_it_stays_visible(
    database: Database, clock: SetClock
) -> None:
    with database.write() as connection:
        finished(
            connection, clock,
            {"lungs": ResultState.NO_FINDING, "liver": ResultState.FAILED,
             "spleen": ResultState.FINDING},
        )  # fmt: skip
        standing = states.standing_of(connection, study_uid(1))
    assert standing.state is StudyState.FINDING
    assert standing.is_partial
    assert [(part.model, part.state) for part in standing.parts] == [
        ("spleen", StudyState.FINDING),
        ("liver", StudyState.FAILED),
        ("lungs", StudyState.NO_FINDING),
    ]


def test_later_instances_make_a_finding_out_of_date_until_they_are_read(
    database: Database, clock: SetClock
) -> None:
    with database.write() as connection:
        finished(connection, clock, {"lungs": ResultState.FINDING})
        receive(connection, clock.now(), slice_number=2)
        assert said(connection) == (
            StudyState.SUPERSEDED, [StudyState.SUPERSEDED, StudyState.WAITING]
        )  # fmt: skip
        taken = jobs.claim(connection, now=clock.now(), owner="b", policy=RetryPolicy())
        jobs.finish(connection, taken.id, owner="b", now=clock.now(), state=JobState.DONE)
        reused = [results.ReusedResult(key=f"{taken.id - 1}/lungs")]
        results.store(connection, taken, filed=[], reused=reused, now=clock.now())
        assert said(connection) == (StudyState.FINDING, [StudyState.FINDING])
        jobs.request(connection, study_uid(1), now=clock.now(), priority=Priority.ROUTINE)
        assert said(connection) == (StudyState.FINDING, [StudyState.FINDING, StudyState.WAITING])


def test_a_failure_that_is_tried_again_waits(database: Database, clock: SetClock) -> None:
    with database.write() as connection:
        finished(connection, clock, {"lungs": ResultState.FAILED, "liver": ResultState.NO_FINDING})
        assert said(connection)[0] is StudyState.FAILED
        jobs.request(
            connection, study_uid(1), now=clock.now(), priority=Priority.STAT, model="lungs"
        )
        assert said(connection) == (StudyState.WAITING, [StudyState.WAITING, StudyState.NO_FINDING])
        jobs.request(
            connection, study_uid(1), now=clock.now(), priority=Priority.STAT, model="spleen"
        )


def test_a_result_taken_back_is_superseded_until_another_takes_its_place(
    database: Database, clock: SetClock
) -> None:
    with database.write() as connection:
        finished(connection, clock, {"lungs": ResultState.FINDING, "liver": ResultState.NO_FINDING})
        connection.execute(
            update(result)
            .where(result.c.model == "lungs")
            .values(is_current=False, state=ResultState.SUPERSEDED.value)
        )
        assert said(connection)[0] is StudyState.SUPERSEDED
        jobs.request(
            connection, study_uid(1), now=clock.now(), priority=Priority.STAT, model="lungs"
        )
        taken = jobs.claim(connection, now=clock.now(), owner="b", policy=RetryPolicy())
        jobs.finish(connection, taken.id, owner="b", now=clock.now(), state=JobState.DONE)
        again = filed("again", model="lungs", state=ResultState.NO_FINDING)
        results.store(connection, taken, filed=[again], now=clock.now())
        assert said(connection)[0] is StudyState.NO_FINDING


def test_a_study_without_images_is_for_nobody_but_the_reader(
    database: Database, clock: SetClock
) -> None:
    with database.write() as connection:
        report = instance(clock.now())
        object.__setattr__(report, "is_image", False)
        studies.add_instance(connection, report, description())
        studies.add_instance(connection, instance(clock.now(), study=2), description(2))
        standing = states.standing_of(connection, study_uid(1))
        assert (standing.state, standing.reason_code) == (StudyState.NOT_APPLICABLE, "no_image")
        forgotten = states.standing_of(connection, study_uid(2))
        assert (forgotten.state, forgotten.reason_code) == (StudyState.FAILED, "never_analysed")


def test_an_unknown_study_has_no_state(database: Database) -> None:
    with database.read() as connection:
        assert states.states_of(connection, ["1.2.3"]) == {}
        with pytest.raises(NotFoundError):
            states.state_of(connection, "1.2.3")
        with pytest.raises(NotFoundError):
            states.standing_of(connection, "1.2.3")


def test_studies_can_be_filtered_by_state_in_the_database(
    database: Database, clock: SetClock
) -> None:
    with database.write() as connection:
        for number, outcome in enumerate(OUTCOMES, start=1):
            finished(connection, clock, {"lungs": outcome}, study_number=number)
        for number, outcome in enumerate(OUTCOMES, start=1):
            query = select(study.c.study_uid).where(states.state_column() == outcome.value)
            assert connection.execute(query).scalars().all() == [study_uid(number)]


@pytest.fixture(scope="module")
def one_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    folder: Path = tmp_path_factory.mktemp("states")
    opened = Database.open(folder / "a.sqlite")
    yield opened
    opened.close()


class _UndoError(Exception):
    pass


@given(
    outcomes=st.dictionaries(st.sampled_from(MODELS), st.sampled_from(OUTCOMES), min_size=1),
    taken_back=st.sets(st.sampled_from(MODELS)),
    pending=st.dictionaries(
        st.sampled_from(("", *MODELS)), st.sampled_from(["same", "newer"]), max_size=2
    ),
    running=st.booleans(),
)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_nothing_that_is_missing_is_hidden(
    one_database: Database,
    outcomes: dict[str, ResultState],
    taken_back: set[str],
    pending: dict[str, str],
    running: bool,
) -> None:
    clock = SetClock()
    try:
        with one_database.write() as connection:
            finished(connection, clock, outcomes)
            gone = taken_back & set(outcomes)
            connection.execute(
                update(result)
                .where(result.c.model.in_(gone))
                .values(is_current=False, state=ResultState.SUPERSEDED.value)
            )
            for number, (model, version) in enumerate(pending.items(), start=2):
                clock.advance(1)
                asked = {"now": clock.now(), "priority": Priority.ROUTINE, "model": model}
                if version == "newer":
                    studies.add_instance(
                        connection, instance(clock.now(), slice_number=number), description()
                    )
                    jobs.collect(connection, study_uid(1), run_after=clock.now(), **asked)
                else:
                    jobs.request(connection, study_uid(1), **asked)
            if running:
                jobs.claim(connection, now=clock.now(), owner="b", policy=RetryPolicy())
            _check(connection, {m: o for m, o in outcomes.items() if m not in gone}, pending, gone)
            raise _UndoError
    except _UndoError:
        pass


def _check(
    connection: Connection,
    held: dict[str, ResultState],
    pending: dict[str, str],
    gone: set[str],
) -> None:
    state, parts = said(connection)
    versions = {
        row.model: row.study_version
        for row in connection.execute(select(job).where(job.c.state.in_(states.PENDING)))
    }
    covering = {
        model: [version for name, version in versions.items() if name in ("", model)]
        for model in held
    }
    fresh = {
        model: outcome
        for model, outcome in held.items()
        if all(version <= 1 for version in covering[model])
    }
    if ResultState.FINDING in fresh.values():
        assert state is StudyState.FINDING
    untried = {outcome for model, outcome in held.items() if not covering[model]}
    if untried & {ResultState.FAILED, ResultState.REFUSED}:
        assert state in (StudyState.FINDING, StudyState.FAILED, StudyState.REFUSED)
        assert {StudyState.FAILED, StudyState.REFUSED} & set(parts)
    if gone or pending:
        assert state not in (StudyState.NO_FINDING, StudyState.NOT_APPLICABLE)
    if state is StudyState.NO_FINDING:
        assert set(held.values()) <= {ResultState.NO_FINDING, ResultState.NOT_APPLICABLE}
    if ResultState.FINDING in held.values():
        assert state in (
            StudyState.FINDING, StudyState.FAILED, StudyState.REFUSED, StudyState.SUPERSEDED
        )  # fmt: skip
