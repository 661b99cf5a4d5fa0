"""Rows by version, and patients that never change role."""

from __future__ import annotations

from collections import Counter

import pytest

from inference.domain.result import ReusedResult
from inference.domain.review import (
    AlreadyDecidedError,
    Decision,
    Effort,
    Review,
    Scanner,
    Shown,
    SplitRole,
)
from inference.storage import jobs, results, review_drafts, reviews, training_set
from inference.storage.database import Database
from tests.builders.clock import SetClock
from tests.builders.rows import filed, receive

SHOWN = Shown(result_sha256="a", overlay_sha256="b", view={"index": 3}, page_version="1")


def decided(database: Database, clock: SetClock, study: int) -> tuple[int, Review]:
    """A study with one result, accepted."""
    with database.write() as connection:
        job_id = receive(connection, clock.now(), study=study)
        job = jobs.get_job(connection, job_id)
        stored = results.store(connection, job, filed=[filed(f"key-{study}")], now=clock.now())
        result = results.get_result(connection, stored.new[0])
        review = reviews.record(
            connection, result, decision=Decision.ACCEPT, person="dr.weber", shown=SHOWN,
            scanner=Scanner(), now=clock.now(),
        )  # fmt: skip
    return result.id, review


def add(database: Database, clock: SetClock, review: Review, patient: str, series: str) -> int:
    with database.write() as connection:
        key = training_set.patient_key(connection, patient, "", now=clock.now())
        row = training_set.add(
            connection, review, result_id=review.result_id, series_uid=series, key=key,
            effort=Effort.UNTOUCHED, dice={}, labels_sha256="c" * 64, machine_sha256="c" * 64,
            now=clock.now(),
        )  # fmt: skip
    return row.added_in


def test_a_version_lists_the_same_rows_for_ever(database: Database, clock: SetClock) -> None:
    made = [decided(database, clock, study)[1] for study in (1, 2, 3)]
    assert [add(database, clock, one, f"P{k}", f"1.{k % 2}") for k, one in enumerate(made)] == [
        1, 2, 3,
    ]  # fmt: skip
    with database.read() as connection:
        by_version = [
            [row.review_id for row in training_set.list_rows(connection, version=version)]
            for version in range(4)
        ]
    first, second, third = (one.id for one in made)
    # The third is of the first's series: it takes its place in version 3 only.
    assert by_version == [[], [first], [first, second], [second, third]]


def test_a_rejected_series_leaves_the_set(database: Database, clock: SetClock) -> None:
    add(database, clock, decided(database, clock, 1)[1], "P1", "1.1")
    with database.write() as connection:
        model = training_set.list_rows(connection)[0].model
        assert training_set.remove(connection, series_uid="1.1", model=model)
        assert training_set.list_rows(connection) == ()
        assert len(training_set.list_rows(connection, version=1)) == 1


def test_a_patient_keeps_the_role_whatever_the_shares_become(
    database: Database, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.write() as connection:
        keys = [
            training_set.patient_key(connection, f"P{k}", "A", now=clock.now()) for k in range(300)
        ]
        before = [training_set.role_of(connection, key, now=clock.now()) for key in keys]
        monkeypatch.setattr(training_set, "TEST_SHARE", 0.9)
        after = [training_set.role_of(connection, key, now=clock.now()) for key in keys]
        other = training_set.patient_key(connection, "P1", "B", now=clock.now())
    assert before == after
    counts = Counter(before)
    assert 30 < counts[SplitRole.TEST] < 90  # 60 expected
    assert 10 < counts[SplitRole.VALIDATION] < 55  # 30 expected
    assert other != keys[1]  # equal numbers of two authorities are two patients


def test_a_second_decision_is_told_of_the_first(database: Database, clock: SetClock) -> None:
    result_id, first = decided(database, clock, 1)
    with database.write() as connection:
        result = results.get_result(connection, result_id)
        with pytest.raises(AlreadyDecidedError) as caught:
            reviews.record(
                connection, result, decision=Decision.REJECT, person="dr.ito", shown=SHOWN,
                scanner=Scanner(), now=clock.now(),
            )  # fmt: skip
    assert caught.value.review == first


def test_a_draft_is_each_persons_own_and_replaced_slice_by_slice(
    database: Database, clock: SetClock
) -> None:
    result_id, _ = decided(database, clock, 1)
    with database.write() as connection:
        for content in (b"old", b"new"):
            review_drafts.save(connection, result_id, "weber", {4: content}, now=clock.now())
        review_drafts.save(connection, result_id, "weber", {9: b"more"}, now=clock.now())
        review_drafts.save(connection, result_id, "ito", {4: b"other"}, now=clock.now())
        assert review_drafts.load(connection, result_id, "weber") == {4: b"new", 9: b"more"}
        assert review_drafts.discard(connection, result_id, "weber") == 2
        assert review_drafts.load(connection, result_id, "ito") == {4: b"other"}


def test_an_analysis_repeated_does_not_push_a_correction_aside(
    database: Database, clock: SetClock
) -> None:
    with database.write() as connection:
        job = jobs.get_job(connection, receive(connection, clock.now()))
        stored = results.store(connection, job, filed=[filed("machine")], now=clock.now())
        machine = results.get_result(connection, stored.new[0])
        new_id = results.store_correction(connection, machine, filed("machine/r2"), now=clock.now())
        reviews.record(
            connection, machine, decision=Decision.CORRECT, person="dr.weber", shown=SHOWN,
            scanner=Scanner(), new_result_id=new_id, now=clock.now(),
        )  # fmt: skip
        again = results.store(
            connection, job, filed=[], reused=[ReusedResult(key="machine")], now=clock.now()
        )
        (current,) = results.list_results(connection)
        assert (current.id, again.kept) == (new_id, (new_id,))
        assert results.get_result(connection, machine.id).superseded_by == new_id
        assert reviews.review_behind(connection, new_id) is not None
        assert reviews.next_undecided(connection) is None
