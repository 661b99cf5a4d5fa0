"""Patients, orders, messages and the outbox of reports, on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, update

from inference.domain.job import Priority
from inference.domain.order import OrderDraft, OrderStatus
from inference.domain.patient import Demographics, PatientIdentifier
from inference.domain.report import Hl7Destination, ReportStep
from inference.domain.result import DeliveryState
from inference.gateways.fhir.holdings import HOLDINGS, Wanted
from inference.storage import (
    fhir_resources,
    hl7_messages,
    jobs,
    orders,
    patients,
    report_deliveries,
    report_events,
    results,
)
from inference.storage.database import Database
from inference.storage.errors import LeaseLostError, NotFoundError
from inference.storage.fhir_resources import IdentifierTakenError
from inference.storage.patients import PatientConflictError, StudyIdentity
from inference.storage.tables import study
from tests.builders.clock import SetClock
from tests.builders.instances import study_uid
from tests.builders.rows import filed, receive

TO = Hl7Destination(name="his", host="h", port=1)


def number(value: str, authority: str = "urn:oid:1") -> PatientIdentifier:
    return PatientIdentifier(value=value, authority=authority)


def owned(connection: Connection, clock: SetClock, row: int, study_number: int = 1) -> int:
    """A study of a patient with a result; the result's id."""
    receive(connection, clock.now(), study=study_number)
    patients.set_study(
        connection,
        StudyIdentity(
            study_uid=study_uid(study_number),
            patient_row=row,
            identifier=number("1"),
            study_time="",
        ),
    )
    job = jobs.claim(connection, now=clock.now(), owner="w", policy=jobs.RetryPolicy())
    assert job is not None
    stored = results.store(connection, job, filed=[filed(f"key-{study_number}")], now=clock.now())
    return stored.new[0]


def test_merges_chain_and_come_apart(database: Database, clock: SetClock) -> None:
    now = clock.now()
    with database.write() as connection:
        a, b, c = (patients.ensure(connection, [number(one)], now=now) for one in "abc")
        first = patients.merge(connection, old=a, surviving=b, actor="x", now=now)
        second = patients.merge(connection, old=b, surviving=c, actor="x", now=now)
        assert first is not None
        assert second is not None
        assert patients.find(connection, number("a")) == c
        assert set(patients.family(connection, a)) == {a, b, c}
        values = [one.value for one in patients.get_patient(connection, a).identifiers]
        assert values[0] == "c", "the survivor's own number stands first"
        assert patients.merge(connection, old=a, surviving=c, actor="x", now=now) is None
        with pytest.raises(PatientConflictError):
            patients.merge(connection, old=c, surviving=a, actor="x", now=now)
        patients.undo_merge(connection, first.id, actor="y", reason="r", now=now)
        assert patients.find(connection, number("a")) == a
        assert patients.find(connection, number("b")) == c
        with pytest.raises(NotFoundError):
            patients.undo_merge(connection, first.id, actor="y", reason="r", now=now)


def test_nobody_without_a_number_is_anybody_else(database: Database, clock: SetClock) -> None:
    with database.write() as connection:
        first, second = (patients.ensure(connection, [], now=clock.now()) for _ in range(2))
    assert first != second


def test_what_a_message_leaves_empty_stays(database: Database, clock: SetClock) -> None:
    with database.write() as connection:
        row = patients.ensure(connection, [number("a")], now=clock.now())
        known = Demographics(name="A^B", birth_date="19800101", sex="F")
        patients.describe(connection, row, demographics=known, now=clock.now())
        patients.describe(connection, row, demographics=Demographics(name="C^D"), now=clock.now())
        found = patients.get_patient(connection, row).demographics
    assert found == Demographics(name="C^D", birth_date="19800101", sex="F")


def test_an_order_fits_by_number_and_patient_the_newest_first(
    database: Database, clock: SetClock
) -> None:
    with database.write() as connection:
        row = patients.ensure(connection, [number("a")], now=clock.now())
        other = patients.ensure(connection, [number("b")], now=clock.now())
        owned(connection, clock, row)
        for placer, owner in (("P1", row), ("P2", other), ("P3", row)):
            clock.advance(1)
            draft = OrderDraft(placer_number=placer, placer_authority="", accession_number="A1")
            orders.put(connection, draft, patient_row=owner, now=clock.now())
        found = orders.of_study(connection, study_uid(1))
        assert found is not None
        assert found.placer_number == "P3"
        assert orders.studies_of(connection, found) == (study_uid(1),)
        older = orders.find(connection, "P1", "")
        assert older is not None
        assert orders.studies_of(connection, older) == ()
        change = OrderDraft(
            placer_number="P3", placer_authority="", priority=Priority.STAT,
            status=OrderStatus.REVOKED,
        )  # fmt: skip
        changed = orders.put(connection, change, patient_row=row, now=clock.now())
        assert (changed.accession_number, changed.priority) == ("A1", Priority.STAT)
        with pytest.raises(PatientConflictError):
            orders.put(connection, change, patient_row=other, now=clock.now())
        connection.execute(update(study).values(accession_number=""))
        assert orders.of_study(connection, study_uid(1)) is None, "no number fits no number"


def test_a_destination_is_told_from_its_first_day_on_in_order(
    database: Database, clock: SetClock
) -> None:
    with database.write() as connection:
        now = clock.now()
        row = patients.ensure(connection, [number("a")], now=now)
        owned(connection, clock, row, 1)
        report_deliveries.begin(connection, "his")
        later = owned(connection, clock, row, 2)
        report_events.note(connection, later, ReportStep.ACCEPTED, now=now, actor="anna")
        assert report_events.note(connection, later, ReportStep.ACCEPTED, now=now) is None
        assert report_deliveries.fan_out(connection, TO, now=now) == 2
        assert report_deliveries.fan_out(connection, TO, now=now) == 0
        first = report_deliveries.claim(
            connection, now=now, destination="his", owner="o1", lease_s=10
        )
        assert first is not None
        assert first.event.step is ReportStep.PRELIMINARY
        waits = report_deliveries.claim(
            connection, now=now, destination="his", owner="o2", lease_s=10
        )
        assert waits is None, "the second of the patient waits for the first"
        with pytest.raises(LeaseLostError):
            report_deliveries.acknowledge(connection, first.id, owner="o2", now=now)
        assert report_deliveries.release(connection, ["o1"], now=now) == 1
        again = report_deliveries.claim(
            connection, now=now, destination="his", owner="o3", lease_s=10
        )
        assert again is not None
        assert again.id == first.id
        report_deliveries.acknowledge(connection, first.id, owner="o3", now=now)
        second = report_deliveries.claim(
            connection, now=now, destination="his", owner="o4", lease_s=10
        )
        assert second is not None
        report_deliveries.record_failure(
            connection, second.id, owner="o4", error="no", next_at=None
        )
        dead = report_deliveries.list_deliveries(connection, state=DeliveryState.DEAD)
        assert [one.id for one in dead] == [second.id]


def test_a_retracted_result_stays_retracted(database: Database, clock: SetClock) -> None:
    with database.write() as connection:
        row = patients.ensure(connection, [number("a")], now=clock.now())
        one = owned(connection, clock, row)
        report_events.note(connection, one, ReportStep.RETRACTED, now=clock.now())
        assert report_events.note(connection, one, ReportStep.SIGNED, now=clock.now()) is None
        assert report_events.latest(connection, [one])[one].step is ReportStep.RETRACTED


def test_one_identifier_is_one_resource(database: Database, clock: SetClock) -> None:
    with database.write() as connection:
        row = patients.ensure(connection, [number("a")], now=clock.now())
        given = {"type": "Observation", "body": {"a": 1}, "patient_row": row, "actor": "x"}
        made = fhir_resources.add(connection, **given, now=clock.now(), identifiers=[("s", "v")])
        with pytest.raises(IdentifierTakenError) as caught:
            fhir_resources.add(connection, **given, now=clock.now(), identifiers=[("s", "v")])
        assert caught.value.resource_id == made.id
        fhir_resources.add(connection, **given, now=clock.now(), identifiers=[("t", "v")])
        newer = fhir_resources.replace(connection, made, body={"a": 2}, actor="y", now=clock.now())
        assert (newer.version, newer.body) == (2, {"a": 2})


def test_a_message_that_was_put_aside_may_be_taken_later(
    database: Database, clock: SetClock
) -> None:
    given = {"sender": "RIS|H", "control_id": "1", "type": "ORM^O01", "sha256": "0" * 64}
    with database.write() as connection:
        hl7_messages.put(connection, **given, outcome="AE", body=b"MSH", now=clock.now())
        assert len(hl7_messages.list_refused(connection)) == 1
        hl7_messages.put(connection, **given, outcome="AA", now=clock.now())
        assert hl7_messages.list_refused(connection) == ()
        found = hl7_messages.find(connection, "RIS|H", "1")
        assert found is not None
        assert found.body is None


def test_every_type_of_resource_is_walked(database: Database, clock: SetClock) -> None:
    with database.write() as connection:
        row = patients.ensure(connection, [number("a")], now=clock.now())
        one = owned(connection, clock, row)
        draft = OrderDraft(placer_number="P", placer_authority="", accession_number="A1")
        orders.put(connection, draft, patient_row=row, now=clock.now())
        body = {"status": "final"}
        fhir_resources.add(
            connection, type="Observation", body=body, patient_row=row, actor="x", now=clock.now()
        )
        report_events.note(connection, one, ReportStep.SIGNED, now=clock.now(), actor="anna")
    with database.read() as connection:
        for wanted in (Wanted(), Wanted(rows=frozenset({row}))):
            for type, holding in HOLDINGS.items():
                found = [resource["id"] for _, resource in holding.walk(connection, wanted)]
                assert found or type == "Basic", type  # the built result has no segments
        nobody = Wanted(rows=frozenset({row + 99}))
        with pytest.raises(Exception, match="No row"):
            list(HOLDINGS["Task"].walk(connection, nobody))
