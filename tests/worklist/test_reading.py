"""Tasks, claims, deadlines, routing and critical results, on both databases, with a set clock."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from inference.domain.job import JobState, Priority, RetryPolicy
from inference.domain.reading import (
    Conclusion,
    Credential,
    Queue,
    Reader,
    ReadingRefusedError,
    Task,
)
from inference.domain.result import ResultState
from inference.domain.study_state import StudyState
from inference.domain.workitem import StepState, WorkitemError
from inference.gateways.ups import Ups
from inference.services.telemedicine import after_reading, listing, service, timers
from inference.storage import (
    audit,
    critical_results,
    jobs,
    readings,
    results,
    workitem_events,
    workitems,
    workitems_jobs,
)
from inference.storage.database import Database
from inference.storage.errors import NotFoundError
from tests.builders import rows
from tests.builders import workitems as workitem_builders
from tests.builders.clock import SetClock
from tests.builders.instances import study_uid
from tests.worklist.races import run_races


def clock_of(database: Database) -> SetClock:
    clock: SetClock = database.test_clock  # type: ignore[attr-defined]
    return clock


def tick(database: Database, seconds: float = 0) -> int:
    clock_of(database).advance(seconds)
    with database.write() as connection:
        return timers.run(connection, now=database.now(connection))


def receive(database: Database, number: int, priority: Priority = Priority.ROUTINE) -> Task:
    """A study that came in whole; its task."""
    with database.write() as connection:
        rows.receive(connection, database.now(connection), study=number, priority=priority)
    tick(database)
    with database.read() as connection:
        found = readings.open_tasks(connection)
    return next(one for one in found if one.study_uid == study_uid(number))


def put_queue(database: Database, **fields: object) -> None:
    with database.write() as connection:
        readings.put_queue(connection, Queue(name="chest", **fields))  # type: ignore[arg-type]


def claim(database: Database, task: Task, name: str) -> Task:
    with database.write() as connection:
        return service.claim(connection, task.id, by=name, now=database.now(connection))


def sign(database: Database, task: Task, name: str, *codes: str) -> Task:
    with database.write() as connection:
        return service.sign(
            connection, task.id, by=name, now=database.now(connection), report="seen",
            conclusion=Conclusion.FINDING if codes else Conclusion.NO_FINDING, finding_codes=codes,
        )  # fmt: skip


def actions(database: Database, task: Task) -> list[str]:
    with database.read() as connection:
        found = audit.events(connection, subject=f"reading:{task.id}", limit=1000)
    return [one.action.partition(".")[2] for one in found]


def test_a_study_becomes_a_task_once_and_a_claim_comes_back_to_its_place(
    database: Database,
) -> None:
    task = receive(database, 1)
    receive(database, 2)
    assert tick(database) == 0
    held = claim(database, task, "anna")
    with database.read() as connection:
        first = workitems.get(connection, held.reads[0].workitem_uid)
    assert first.state is StepState.IN_PROGRESS
    with pytest.raises(ReadingRefusedError) as caught:
        claim(database, task, "ben")
    assert caught.value.reason == "taken"
    clock_of(database).advance(1700)
    claim(database, task, "anna")  # again: kept for another half hour
    assert tick(database, 1700) == 0
    assert tick(database, 101) == 1
    with database.read() as connection:
        free = readings.get_task(connection, task.id)
        old = workitems.get(connection, first.uid)
        new = workitems.get(connection, free.reads[0].workitem_uid)
        rows_now = listing.reading_list(connection, name="ben", now=database.now(connection))
    assert (old.state, new.state) == (StepState.CANCELED, StepState.SCHEDULED)
    assert first.uid in json.loads(new.document)["00741224"]["Value"][0]["00081155"]["Value"]
    assert rows_now[0].task.id == task.id
    assert rows_now[0].standing == "open"
    with pytest.raises(ReadingRefusedError) as caught:
        sign(database, task, "anna")
    assert caught.value.reason == "not_held"
    claim(database, task, "ben")
    done = sign(database, task, "ben")
    assert done.done_at is not None
    assert actions(database, task) == [
        "made",
        "claimed",
        "claim_ended",
        "claimed",
        "signed",
        "done",
    ]
    with database.read() as connection:
        assert workitems.get(connection, done.reads[0].workitem_uid).state is StepState.COMPLETED
        assert audit.verify(connection) > 0


def test_who_may_read_what(database: Database) -> None:
    put_queue(database, modality="CT", subspecialty="chest", language="zh", jurisdiction="CN-31")
    task = receive(database, 1)
    now = clock_of(database).now()

    def refusal(**fields: object) -> str:
        with database.write() as connection:
            readings.put_reader(connection, Reader(name="anna", **fields), now=now)  # type: ignore[arg-type]
        with pytest.raises(ReadingRefusedError) as caught:
            claim(database, task, "anna")
        assert caught.value.reason == "not_eligible"
        return caught.value.problem

    assert "subspecialty chest" in refusal()
    assert "language zh" in refusal(subspecialties=("chest",))
    skills: dict[str, object] = {"subspecialties": ("chest",), "languages": ("zh",)}
    assert "licence for CN-31" in refusal(**skills)
    ended = Credential(jurisdiction="CN-31", valid_until=now)
    assert "ended on 2026-11-22" in refusal(credentials=(ended,), **skills)
    valid = Credential(jurisdiction="CN-31", valid_until=now + timedelta(seconds=1))
    with database.write() as connection:
        reader = Reader(name="anna", credentials=(ended, valid), **skills)  # type: ignore[arg-type]
        readings.put_reader(connection, reader, now=now)
    assert claim(database, task, "anna").reads[0].reader == "anna"
    with pytest.raises(ReadingRefusedError):
        claim(database, task, "nobody known")


def test_a_late_task_calls_its_deputies_one_by_one(database: Database) -> None:
    put_queue(database, urgent_s=600, escalation_s=60, deputies=("dora", "emil"))
    task = receive(database, 1, Priority.URGENT)

    def called() -> tuple[str, ...]:
        with database.read() as connection:
            return readings.get_task(connection, task.id).escalated_to

    assert (task.deadline_at - clock_of(database).now()).total_seconds() == 600
    assert (tick(database, 599), called()) == (0, ())
    assert (tick(database, 1), called()) == (1, ("dora",))
    assert (tick(database, 59), called()) == (0, ("dora",))
    assert (tick(database, 1), called()) == (1, ("dora", "emil"))
    assert tick(database, 86_400) == 0
    assert actions(database, task).count("escalated") == 2


def test_a_critical_result_is_told_until_somebody_takes_it(database: Database) -> None:
    task = receive(database, 1)
    claim(database, task, "anna")
    with database.write() as connection:
        now = database.now(connection)
        with pytest.raises(ReadingRefusedError):
            after_reading.raise_critical(
                connection, task.id, by="ben", text="bleed", chain=("ward",), now=now
            )
        raised = after_reading.raise_critical(
            connection, task.id, by="anna", text="bleed", chain=("ward", "chief"),
            acknowledge_s=600, now=now,
        )  # fmt: skip

    def acknowledge(name: str) -> critical_results.CriticalResult:
        with database.write() as connection:
            now = database.now(connection)
            return after_reading.acknowledge(connection, raised.id, by=name, now=now)

    with pytest.raises(ReadingRefusedError):
        acknowledge("chief")
    assert tick(database, 600) == 1
    taken = acknowledge("chief")
    assert (taken.told, taken.acknowledged_by) == (("ward", "chief"), "chief")
    with pytest.raises(ReadingRefusedError) as caught:
        acknowledge("ward")
    assert caught.value.reason == "acknowledged"
    assert tick(database, 6000) == 1  # the claim of the reading ran out, nothing else
    assert actions(database, task)[-3:] == ["escalated", "acknowledged", "claim_ended"]


def test_nobody_who_answers_is_told_again_and_it_stays_open(database: Database) -> None:
    task = receive(database, 1)
    claim(database, task, "anna")
    with database.write() as connection:
        after_reading.raise_critical(
            connection, task.id, by="anna", text="bleed", chain=("ward",), acknowledge_s=60,
            now=database.now(connection),
        )  # fmt: skip
    assert tick(database, 60) == 1
    assert tick(database, 60) == 0
    with database.read() as connection:
        found = after_reading.visible_critical_results(connection, name="x", open_only=True)
    assert [one.acknowledged_at for one in found] == [None]


def test_in_a_blinded_task_no_reader_is_told(database: Database) -> None:
    put_queue(database, needs_second=True)
    task = receive(database, 1)
    claim(database, task, "anna")
    now = clock_of(database).now()
    with database.write() as connection:
        readings.put_reader(connection, Reader(name="ben"), now=now)
        with pytest.raises(ReadingRefusedError) as caught:
            after_reading.raise_critical(
                connection, task.id, by="anna", text="bleed", chain=("ben",), now=now
            )
        assert caught.value.reason == "reader_in_chain"
        raised = after_reading.raise_critical(
            connection, task.id, by="anna", text="bleed", chain=("ward",), now=now
        )
        assert after_reading.visible_critical_results(connection, name="ben", open_only=True) == ()
        with pytest.raises(NotFoundError):
            after_reading.acknowledge(connection, raised.id, by="ben", now=now)
    with pytest.raises(ReadingRefusedError) as caught:
        claim(database, task, "ward")
    assert caught.value.reason == "not_eligible"
    claim(database, task, "carl")
    with database.write() as connection:
        found = after_reading.visible_critical_results(connection, name="carl", open_only=True)
    assert found == ()


def test_the_same_codes_agree_and_others_do_not(database: Database) -> None:
    put_queue(database, needs_second=True)
    for number, second, is_done in ((1, ("b", "a"), True), (2, ("a",), False), (3, (), False)):
        task = receive(database, number)
        claim(database, task, "anna")
        sign(database, task, "anna", "a", "b")
        claim(database, task, "ben")
        after = sign(database, task, "ben", *second)
        assert (after.done_at is not None) is is_done
        assert [one.role.value for one in after.reads][2:] == ([] if is_done else ["arbiter"])


def finish(database: Database, number: int, state: ResultState | None) -> None:
    """The study's job ends with one result, or with none of ours."""
    with database.write() as connection:
        now = database.now(connection)
        found = jobs.claim(connection, now=now, owner=f"w{number}", policy=RetryPolicy())
        assert found is not None
        if state is not None:
            filed = rows.filed(f"key-{found.study_uid}", state=state)
            results.store(connection, found, filed=[filed], now=now)
        jobs.finish(connection, found.id, owner=f"w{number}", now=now, state=JobState.DONE)


def test_a_finding_lifts_and_undoing_it_is_kept(database: Database) -> None:
    states = (ResultState.NO_FINDING, ResultState.REFUSED, ResultState.FAILED, ResultState.FINDING)
    for number, state in enumerate(states, start=1):
        receive(database, number)
        clock_of(database).advance(60)
        finish(database, number, state)
    receive(database, 5)  # pending

    def order(promoting: tuple[str, ...] = ()) -> list[listing.Row]:
        with database.read() as connection:
            now = database.now(connection)
            return listing.reading_list(
                connection, name="anna", now=now, promoting_models=promoting
            )

    lifted = order()
    assert [one.study.study_uid for one in lifted] == [study_uid(n) for n in (4, 1, 2, 3, 5)]
    assert (lifted[0].ai_state, lifted[0].lifted_by) == (StudyState.FINDING, 3)
    assert "ct_lung_seg 1.0.0" in lifted[0].reason
    assert [one.ai_state.value for one in lifted[1:]] == [
        "no_finding", "refused", "failed", "waiting",
    ]  # fmt: skip
    assert [one.lifted_by for one in order(("another_model",))] == [0] * 5
    with database.write() as connection:
        task = service.undo_promotion(
            connection, lifted[0].task.id, by="anna", reason="old fracture",
            now=database.now(connection),
        )  # fmt: skip
    assert [one.study.study_uid for one in order()] == [study_uid(n) for n in range(1, 6)]
    assert (task.promotion_undone_by, task.promotion_undone_reason) == ("anna", "old fracture")
    assert "promotion_undone" in actions(database, task)
    with database.write() as connection, pytest.raises(ReadingRefusedError):
        service.undo_promotion(
            connection, task.id, by="ben", reason="again", now=database.now(connection)
        )


def test_a_stat_priority_moves_task_and_deadline(database: Database) -> None:
    receive(database, 1)
    task = receive(database, 2)
    with database.write() as connection:
        now = database.now(connection)
        service.set_priority(connection, task.id, Priority.STAT, by="anna", now=now)
        rows_now = listing.reading_list(connection, name="anna", now=now)
    assert rows_now[0].task.id == task.id
    assert (rows_now[0].task.deadline_at - now).total_seconds() == 3600


def test_of_two_claims_at_once_exactly_one_wins(database: Database, tmp_path: Path) -> None:
    """The short form; `make races` runs 10,000 on each database."""
    other = Database.open(database.engine.url.render_as_string(hide_password=False))
    count = run_races(database, other, 60)
    other.close()
    assert count.broken == []
    assert count.ends["won"] == 60
    assert set(count.ends) == {"won", "C302", "taken"}


def test_a_reading_is_claimed_cancelled_and_completed_over_ups(database: Database) -> None:
    put_queue(database, subspecialty="chest")
    task = receive(database, 1)
    ups = Ups(database=database)

    def free_uid() -> str:
        with database.read() as connection:
            return readings.get_task(connection, task.id).reads[0].workitem_uid

    def move(wanted: str) -> int:
        return ups.change_state(free_uid(), wanted, transaction_uid="1.2.3", by="WS1")

    with pytest.raises(WorkitemError) as caught:
        move("IN PROGRESS")
    assert caught.value.status == 0x0124
    with database.write() as connection:
        reader = Reader(name="WS1", subspecialties=("chest",))
        readings.put_reader(connection, reader, now=database.now(connection))
    with pytest.raises(WorkitemError) as caught:
        ups.request_cancel(free_uid(), {}, by="PACS")
    assert caught.value.status == 0xC313
    first = free_uid()
    assert move("IN PROGRESS") == 0x0000
    ups.update(first, workitem_builders.cancelled(), transaction_uid="1.2.3", by="WS1")
    assert move("CANCELED") == 0x0000
    assert free_uid() != first
    second = free_uid()
    assert move("IN PROGRESS") == 0x0000
    with database.read() as connection:
        assert readings.get_task(connection, task.id).reads[0].reader == "WS1"
    ups.update(second, workitem_builders.performed(), transaction_uid="1.2.3", by="WS1")
    assert move("COMPLETED") == 0x0000
    with database.read() as connection:
        done = readings.get_task(connection, task.id)
    assert (done.done_at is not None, done.reads[0].conclusion) == (True, "elsewhere")


def test_a_blinded_reading_is_no_workitem_for_others(database: Database) -> None:
    put_queue(database, needs_second=True)
    task = receive(database, 1)
    ups = Ups(database=database)
    keys = {"00741204": {"vr": "LO", "Value": ["Reading"]}}
    uid = task.reads[0].workitem_uid
    for attempt in (
        lambda: ups.get(uid),
        lambda: ups.change_state(uid, "IN PROGRESS", transaction_uid="1.2", by="X"),
        lambda: ups.update(uid, {}, transaction_uid="1.2", by="X"),
        lambda: ups.request_cancel(uid, {}, by="X"),
        lambda: ups.subscribe(uid, "X", by="X"),
    ):
        with pytest.raises(WorkitemError) as caught:
            attempt()
        assert caught.value.status == 0xC307
    assert ups.search(keys, limit=10) == []
    for name in ("anna", "ben"):
        claim(database, task, name)
        sign(database, task, name)
    assert len(ups.search(keys, limit=10)) == 2


def test_watchers_hear_of_jobs_and_only_once(database: Database) -> None:
    ups = Ups(database=database)
    keys = {"00741204": {"vr": "LO", "Value": ["AI analysis"]}}
    ups.subscribe("1.2.840.10008.5.1.4.34.5.1", "WATCHER", keys=keys, by="WATCHER")
    task = receive(database, 1)

    def heard() -> list[str]:
        with database.write() as connection:
            workitems_jobs.report_changes(connection, now=database.now(connection))
            events = workitem_events.pending(connection, "WATCHER")
            workitem_events.delivered(connection, [one.id for one in events])
        return [one.document["00741000"]["Value"][0] for one in events]

    assert heard() == ["SCHEDULED"]
    assert heard() == []
    finish(database, 1, ResultState.FINDING)
    assert heard() == ["COMPLETED"]
    found = ups.search({"0020000D": {"vr": "UI", "Value": [task.study_uid]}} | keys, limit=5)
    assert [one["00741000"]["Value"] for one in found] == [["COMPLETED"]]
