from __future__ import annotations

import pytest
from sqlalchemy import delete, insert, update

from inference.storage import audit
from inference.storage.audit import AuditChainError
from inference.storage.database import Database
from inference.storage.tables import audit as audit_table
from tests.builders.clock import SetClock


def fill(database: Database, clock: SetClock, n: int = 8) -> None:
    for number in range(n):
        clock.advance(0.25)
        with database.write() as connection:
            audit.append(
                connection, at=clock.now(), actor="a", action="did", subject=f"s{number % 2}",
                detail={"number": number, "name": "王^小东"},
            )  # fmt: skip


def test_events_come_back_in_order_and_by_subject(database: Database, clock: SetClock) -> None:
    fill(database, clock)
    with database.read() as connection:
        assert audit.verify(connection) == 8
        assert [event.seq for event in audit.events(connection)] == list(range(1, 9))
        some = audit.events(connection, subject="s1", after_seq=2, limit=2)
    assert [event.detail["number"] for event in some] == [3, 5]
    assert some[0].detail["name"] == "王^小东"


@pytest.mark.parametrize("seq", [1, 4, 8])
@pytest.mark.parametrize("column", ["actor", "action", "subject", "detail", "hash"])
def test_a_changed_row_is_found(database: Database, clock: SetClock, seq: int, column: str) -> None:
    fill(database, clock)
    with database.write() as connection:
        connection.execute(
            update(audit_table).where(audit_table.c.seq == seq).values({column: "{}"})
        )
    with database.read() as connection, pytest.raises(AuditChainError) as caught:
        audit.verify(connection)
    assert caught.value.seq == seq


def test_a_removed_row_and_a_cut_tail_are_found(database: Database, clock: SetClock) -> None:
    fill(database, clock)
    with database.read() as connection:
        known = audit.head(connection)
    with database.write() as connection:
        connection.execute(delete(audit_table).where(audit_table.c.seq == 8))
    with database.read() as connection:
        assert audit.verify(connection) == 7
        with pytest.raises(AuditChainError) as caught:
            audit.verify(connection, known_head=known)
        assert caught.value.seq == 8
    with database.write() as connection:
        connection.execute(delete(audit_table).where(audit_table.c.seq == 3))
    with database.read() as connection, pytest.raises(AuditChainError) as caught:
        audit.verify(connection)
    assert caught.value.seq == 3


def test_a_row_put_in_is_found(database: Database, clock: SetClock) -> None:
    fill(database, clock)
    with database.write() as connection:
        row = dict(
            connection.execute(audit_table.select().where(audit_table.c.seq == 8)).one()._mapping
        )
        connection.execute(insert(audit_table).values(**(row | {"seq": 9})))
    with database.read() as connection, pytest.raises(AuditChainError) as caught:
        audit.verify(connection)
    assert caught.value.seq == 9


def test_an_event_of_a_transaction_that_failed_is_not_there(
    database: Database, clock: SetClock
) -> None:
    def write_and_fail() -> None:
        with database.write() as connection:
            audit.append(connection, at=clock.now(), actor="a", action="did")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    with database.read() as connection:
        assert audit.head(connection) == (0, audit.FIRST_HASH)
