from __future__ import annotations

import json
from datetime import timedelta

import pytest
from sqlalchemy import text

from inference.domain import confirmation
from inference.domain.care_errors import (
    ConfirmationError,
    ProposalStateError,
    SoftLimitError,
)
from inference.domain.proposal import PatientKey, Proposal, ProposalState, shown_sha256
from inference.storage import audit, proposals
from inference.storage.database import Database
from inference.storage.errors import NotFoundError
from inference.storage.proposal_document import from_text, to_text
from tests.builders.care import NOW, PATIENT, nurse, proposal, rate
from tests.care.races import confirm, run_races


def kept(database: Database, one: Proposal) -> Proposal:
    with database.write() as connection:
        return proposals.store(connection, one, actor="model")


def stored(database: Database, one: Proposal) -> Proposal:
    with database.read() as connection:
        return proposals.get(connection, one.id)


def test_a_proposal_comes_back_as_it_was(database: Database) -> None:
    own = rate(0.1 + 0.2)  # a float that a careless text would change
    first = proposal(2.0 / 3.0, needs_two=True)
    whole = confirmation.modify(first, own, by=nurse(), shown=shown_sha256(first, own), now=NOW)
    assert from_text(to_text(whole)) == whole
    assert whole.confirmations
    assert stored(database, kept(database, proposal())).values == rate(2.0)
    with database.read() as connection, pytest.raises(NotFoundError):
        proposals.get(connection, "nothing")


def test_a_decision_is_stored_once_and_a_second_one_is_refused(database: Database) -> None:
    one = kept(database, proposal())
    with database.write() as connection:
        first = confirm(connection, one, "nurse a", seconds=1)
        again = confirm(connection, one, "nurse a", seconds=2)  # a double click
        other = confirm(connection, one, "nurse b", seconds=3)
    assert first.proposal_or_raise().state is ProposalState.ACCEPTED
    for outcome in (again, other):
        with pytest.raises(ProposalStateError):
            outcome.proposal_or_raise()
    assert [given.person for given in stored(database, one).confirmations] == ["nurse a"]


def test_a_change_computed_from_an_older_revision_finds_nothing(database: Database) -> None:
    one = kept(database, proposal(needs_two=True))
    with database.write() as connection:
        confirm(connection, one, "nurse a", seconds=1)

        def from_before(_: Proposal) -> Proposal:
            now = NOW + timedelta(seconds=2)
            shown = shown_sha256(one)
            return confirmation.confirm(one, by=nurse("b", now), shown=shown, now=now)

        # `decide` reads the row itself; the update is what must see that it moved meanwhile.
        moved = proposals.get(connection, one.id)
        connection.execute(
            text("UPDATE proposal SET revision = revision + 1 WHERE id = :id"), {"id": one.id}
        )
        outcome = proposals.decide(
            connection, one.id, from_before, actor="b", action="proposal.confirm", now=NOW
        )
    assert moved.revision == 1
    assert isinstance(outcome.refusal, ProposalStateError)


def test_every_attempt_is_audited_and_no_row_names_the_patient(database: Database) -> None:
    one = kept(database, proposal(5.0))
    with database.write() as connection:
        wrong = confirm(connection, one, "nurse a", seconds=1)  # without a reason
        late = confirm(connection, one, "nurse a", seconds=61)
        audit.verify(connection)
        every = connection.execute(
            text("SELECT action, detail FROM audit WHERE subject = :id ORDER BY seq"),
            {"id": one.id},
        ).all()
    assert isinstance(wrong.refusal, SoftLimitError)
    assert isinstance(late.refusal, ProposalStateError)
    assert [row.action for row in every] == [
        "proposal.proposed", "proposal.confirm", "proposal.expired", "proposal.confirm",
    ]  # fmt: skip
    assert [json.loads(row.detail).get("refused") for row in every] == [
        None, "soft_limit", None, "proposal_state",
    ]  # fmt: skip
    assert PATIENT.identifier not in " ".join(row.detail for row in every)


def test_a_later_proposal_supersedes_the_open_one_of_the_same_patient_only(
    database: Database,
) -> None:
    elsewhere = PatientKey(identifier=PATIENT.identifier, assigning_authority="urn:oid:9")
    first, other = kept(database, proposal()), kept(database, proposal(patient=elsewhere))
    second = kept(database, proposal(3.0))
    assert stored(database, first).state is ProposalState.SUPERSEDED
    assert stored(database, first).reason == f"superseded by {second.id}"
    assert stored(database, other).state is ProposalState.PROPOSED
    with database.write() as connection:
        outcome = confirm(connection, first, "nurse", seconds=1)
        listed = proposals.list_for(connection, PATIENT)
    assert isinstance(outcome.refusal, ProposalStateError)
    assert {one.id for one in listed} == {first.id, second.id}


def test_the_database_itself_refuses_two_open_ones(database: Database) -> None:
    from sqlalchemy.exc import IntegrityError

    one = kept(database, proposal())
    with pytest.raises(IntegrityError), database.write() as connection:
        connection.execute(
            text(
                "INSERT INTO proposal SELECT 'copy', service, patient_identifier,"
                " assigning_authority, state, revision, document, override_reason, reason,"
                " created_at, valid_until, decided_at FROM proposal WHERE id = :id"
            ),
            {"id": one.id},
        )


def test_after_a_restart_nothing_that_was_open_can_be_confirmed(database: Database) -> None:
    one = kept(database, proposal())
    with database.write() as connection:
        assert proposals.expire_open(connection, now=NOW + timedelta(seconds=5)) == (one.id,)
        outcome = confirm(connection, one, "nurse", seconds=6)
    assert isinstance(outcome.refusal, ProposalStateError)
    assert stored(database, one).reason == "the service was restarted"


def test_the_sweep_expires_what_is_due_and_nothing_else(database: Database) -> None:
    due = kept(database, proposal(valid_s=60))
    other = PatientKey(identifier="5", assigning_authority="urn:oid:1")
    open_one = kept(database, proposal(valid_s=61, patient=other))
    with database.write() as connection:
        assert proposals.expire_due(connection, now=NOW + timedelta(seconds=60)) == (due.id,)
        counts = proposals.count_by_state(connection)
    assert (counts[ProposalState.EXPIRED], counts[ProposalState.PROPOSED]) == (1, 1)
    assert stored(database, open_one).state is ProposalState.PROPOSED


def test_override_reasons_are_counted_where_somebody_decided_so(database: Database) -> None:
    for number, reason in enumerate(
        ["titrated_to_effect", "titrated_to_effect", "palliative_care"]
    ):
        patient = PatientKey(identifier=str(number), assigning_authority="urn:oid:1")
        one = kept(database, proposal(5.0, patient=patient))
        with database.write() as connection:
            proposals.decide(
                connection, one.id,
                lambda s, reason=reason, one=one: confirmation.confirm(
                    s, by=nurse(), shown=shown_sha256(one), now=NOW, override_reason=reason
                ),
                actor="nurse", action="proposal.confirm", now=NOW,
            )  # fmt: skip
    kept(database, proposal(5.0))
    with database.read() as connection:
        found = proposals.count_overrides(connection)
    assert found == {"titrated_to_effect": 2, "palliative_care": 1}


def test_a_tampered_display_is_refused_with_the_row_unchanged(database: Database) -> None:
    one = kept(database, proposal())
    with database.write() as connection:
        outcome = proposals.decide(
            connection, one.id,
            lambda s: confirmation.confirm(s, by=nurse(), shown="0" * 64, now=NOW),
            actor="nurse", action="proposal.confirm", now=NOW,
        )  # fmt: skip
    assert isinstance(outcome.refusal, ConfirmationError)
    assert outcome.refusal.reason == "shown"
    assert stored(database, one) == one


def test_every_race_has_exactly_one_decision(database: Database) -> None:
    """The short form; `make fuzz` runs 10,000."""
    url = database.engine.url.render_as_string(hide_password=False)
    other = Database.open(url)
    try:
        count = run_races(database, other, 48, cross_every=9)
    finally:
        other.close()
    assert count.broken == []
    assert sum(count.ends.values()) == 48
    assert set(count.ends) >= {"accepted", "expired", "rejected"}
