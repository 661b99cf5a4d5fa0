"""The state machine, every state with every event; and what each confirmation must be."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from inference.domain import confirmation
from inference.domain.care_errors import (
    CareRefusedError,
    ConfirmationError,
    HardLimitError,
    ProposalStateError,
    QuantityError,
    SoftLimitError,
)
from inference.domain.proposal import (
    Event,
    PatientKey,
    Proposal,
    ProposalState,
    shown_sha256,
)
from inference.domain.quantities import Quantity
from inference.domain.readback import DeviceReport, Expected, ReadBackState, compare
from tests.builders.care import NOW, PATIENT, RATE, nurse, proposal, rate

LATER = NOW + timedelta(seconds=30)


def fire(one: Proposal, event: Event, now: datetime = LATER) -> Proposal:
    """Do the event as a well-behaved person would."""
    match event:
        case Event.CONFIRM:
            shown = shown_sha256(one, one.modified_values)
            return confirmation.confirm(one, by=nurse(at=now), shown=shown, now=now)
        case Event.MODIFY:
            own = rate(3.0)
            shown = shown_sha256(one, own)
            return confirmation.modify(one, own, by=nurse(at=now), shown=shown, now=now)
        case Event.REJECT:
            return confirmation.reject(one, by=nurse(at=now), reason="not now", now=now)
        case Event.EXPIRE:
            return confirmation.expire(one, now=now)
        case Event.SUPERSEDE:
            return confirmation.supersede(one, by_id="other", now=now)


AFTER = {
    Event.CONFIRM: ProposalState.ACCEPTED,
    Event.MODIFY: ProposalState.MODIFIED,
    Event.REJECT: ProposalState.REJECTED,
    Event.EXPIRE: ProposalState.EXPIRED,
    Event.SUPERSEDE: ProposalState.SUPERSEDED,
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(ProposalState, Event)))
def test_every_state_with_every_event(state: ProposalState, event: Event) -> None:
    one = replace(proposal(), state=state)
    if state is ProposalState.PROPOSED:
        changed = fire(one, event)
        assert changed.state is AFTER[event]
        assert changed.state.is_final
        assert (changed.revision, changed.decided_at) == (1, LATER)
    else:
        with pytest.raises(ProposalStateError) as caught:
            fire(one, event)
        assert (caught.value.state, caught.value.event) == (state.value, event.value)


@pytest.mark.parametrize("events", list(itertools.product(Event, repeat=3)))
def test_no_sequence_of_events_decides_twice(events: tuple[Event, ...]) -> None:
    """With two persons needed, so that confirm leaves a half-confirmed state between."""
    one, decided = proposal(needs_two=True), []
    for number, event in enumerate(events):
        by = nurse(f"person {number}", at=LATER)
        try:
            if event is Event.CONFIRM:
                shown = shown_sha256(one, one.modified_values)
                one = confirmation.confirm(one, by=by, shown=shown, now=LATER)
            elif event is Event.MODIFY:
                own = rate(3.0)
                shown = shown_sha256(one, own)
                one = confirmation.modify(one, own, by=by, shown=shown, now=LATER)
            else:
                one = fire(one, event)
        except ProposalStateError:
            continue
        if one.state.is_final:
            decided.append(event)
    assert len(decided) <= 1
    if one.state.is_decided_for:
        assert len({given.person for given in one.confirmations}) == 2


def refused(act: Callable[[], Proposal], kind: type[CareRefusedError] = ConfirmationError) -> str:
    with pytest.raises(kind) as caught:
        act()
    return getattr(caught.value, "reason", "")


def confirm(one: Proposal, by=None, now: datetime = LATER, **changed) -> Proposal:
    asked = {"shown": shown_sha256(one, one.modified_values)} | changed
    return confirmation.confirm(one, by=by or nurse(at=now), now=now, **asked)


def test_confirmation_is_over_exactly_what_was_shown() -> None:
    one = proposal()
    for altered in (
        replace(one, values=rate(2.0000000001)),
        replace(one, patient=PatientKey(identifier="4712", assigning_authority="urn:oid:1.2.3")),
        replace(one, patient=PatientKey(identifier="4711", assigning_authority="urn:oid:9")),
        replace(one, explanation="something else"),
        replace(one, library_sha256="d" * 64),
    ):
        shown = shown_sha256(altered)
        assert refused(lambda shown=shown: confirm(one, shown=shown)) == "shown"
    assert refused(lambda: confirm(one, shown="")) == "shown"
    assert confirm(one).state is ProposalState.ACCEPTED


def test_an_expired_proposal_is_not_confirmable_at_its_very_end() -> None:
    one = proposal(valid_s=60)
    end = NOW + timedelta(seconds=60)
    assert refused(lambda: confirm(one, nurse(at=end), end)) == "expired"
    assert confirm(one, nurse(at=end), end - timedelta(milliseconds=1)).state.is_decided_for


def test_a_clock_that_was_set_back_confirms_nothing() -> None:
    before = NOW - timedelta(seconds=6)
    assert refused(lambda: confirm(proposal(), nurse(at=before), before)) == "clock"


@pytest.mark.parametrize("seconds", [61, -6])
def test_a_confirmation_follows_its_own_authentication(seconds: float) -> None:
    stale = nurse(at=LATER - timedelta(seconds=seconds))
    assert refused(lambda: confirm(proposal(valid_s=600), stale)) == "authentication"


def test_a_role_without_the_right_neither_confirms_nor_rejects() -> None:
    visitor = nurse("visitor", at=LATER, may_confirm=False)
    assert refused(lambda: confirm(proposal(), visitor)) == "role"
    reject = confirmation.reject
    assert refused(lambda: reject(proposal(), by=visitor, reason="no", now=LATER)) == "role"


def test_a_rejection_says_why() -> None:
    reject = confirmation.reject
    assert refused(lambda: reject(proposal(), by=nurse(), reason=" ", now=LATER)) == "reason"


def test_two_persons_means_two_different_ones_and_not_the_author() -> None:
    one = proposal(needs_two=True, author="dr a")
    assert refused(lambda: confirm(one, nurse("dr a", LATER))) == "author"
    half = confirm(one, nurse("nurse b", LATER))
    assert half.state is ProposalState.PROPOSED
    assert refused(lambda: confirm(half, nurse("nurse b", LATER))) == "same_person"
    assert confirm(half, nurse("nurse c", LATER)).state is ProposalState.ACCEPTED


def test_who_changes_the_values_is_one_of_the_two() -> None:
    half = confirm(proposal(needs_two=True), nurse("nurse a", LATER))
    own = rate(3.0)
    changed = confirmation.modify(
        half, own, by=nurse("nurse b", LATER), shown=shown_sha256(half, own), now=LATER
    )
    assert [given.person for given in changed.confirmations] == ["nurse b"]
    assert refused(lambda: confirm(changed, nurse("nurse b", LATER))) == "same_person"
    assert refused(lambda: confirm(changed, nurse("c", LATER), shown=shown_sha256(half))) == "shown"
    done = confirm(changed, nurse("nurse a", LATER))
    assert (done.state, done.agreed_values) == (ProposalState.MODIFIED, own)


@pytest.mark.parametrize(
    ("own", "kind"),
    [
        (rate(6.1), HardLimitError),
        (rate(2.0, "ug/kg/min"), QuantityError),
        ({"other": Quantity(value=1.0, unit="mg/kg/h")}, ConfirmationError),
        ({}, ConfirmationError),
    ],
)
def test_a_persons_own_values_keep_the_same_hard_limits(own, kind) -> None:
    one = proposal()
    refused(
        lambda: confirmation.modify(
            one, own, by=nurse(at=LATER), shown=shown_sha256(one, own), now=LATER
        ),
        kind,
    )


def test_the_ten_times_key_entry_is_refused() -> None:
    """41.7 typed for 4.17."""
    one = proposal()
    own = rate(41.7)
    with pytest.raises(HardLimitError) as caught:
        confirmation.modify(one, own, by=nurse(), shown=shown_sha256(one, own), now=LATER)
    assert (caught.value.value, caught.value.high) == (41.7, 6.0)


def test_beyond_a_soft_limit_needs_a_listed_reason() -> None:
    one = proposal(5.0)
    assert one.beyond_soft == (RATE,)
    for reason in ("", "because"):
        refused(lambda reason=reason: confirm(one, override_reason=reason), SoftLimitError)
    done = confirm(one, override_reason="titrated_to_effect")
    assert done.confirmations[0].override_reason == "titrated_to_effect"


@pytest.mark.parametrize("value", [6.1, 700.0, -1.0])
def test_no_proposal_is_made_outside_a_hard_limit(value: float) -> None:
    with pytest.raises(HardLimitError):
        proposal(value)


def test_no_proposal_is_made_from_stale_input_or_without_a_patient() -> None:
    assert refused(lambda: proposal(valid_s=0)) == "stale_input"
    for wrong in (("", "urn:oid:1"), ("4711", " ")):
        with pytest.raises(ConfirmationError):
            PatientKey(identifier=wrong[0], assigning_authority=wrong[1])


def accepted() -> Proposal:
    return confirm(proposal())


def report(value: float = 2.0, **changed) -> DeviceReport:
    fields = {
        "device_id": "pump 1", "patient": PATIENT, "drug_code": "N01AX10", "values": rate(value),
        "reported_at": LATER + timedelta(seconds=2),
    }  # fmt: skip
    return DeviceReport(**fields | changed)


EXPECTED = Expected(device_id="pump 1", drug_code="N01AX10")


def test_the_device_reports_what_was_agreed() -> None:
    found = compare(accepted(), EXPECTED, report(), now=LATER + timedelta(seconds=2))
    assert (found.state, found.alarms) == (ReadBackState.SAME, ())


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"values": rate(20.0)}, RATE),
        ({"values": rate(2.0, "ug/kg/min")}, RATE),
        ({"values": {}}, RATE),
        ({"drug_code": "N01AH06"}, "drug"),
        ({"device_id": "pump 2"}, "device"),
        ({"patient": PatientKey(identifier="9", assigning_authority="urn:oid:1.2.3")}, "patient"),
    ],
)
def test_a_difference_in_the_read_back_alarms(changed, field: str) -> None:
    found = compare(accepted(), EXPECTED, report(**changed), now=LATER + timedelta(seconds=2))
    assert found.state is ReadBackState.DIFFERENT
    assert field in {alarm.field for alarm in found.alarms}


def test_no_answer_is_unknown_with_an_alarm_within_ten_seconds() -> None:
    early = compare(accepted(), EXPECTED, None, now=LATER + timedelta(seconds=9.9))
    late = compare(accepted(), EXPECTED, None, now=LATER + timedelta(seconds=10))
    assert early.state is ReadBackState.WAITING
    assert (late.state, len(late.alarms)) == (ReadBackState.UNKNOWN, 1)
    old = report(reported_at=LATER - timedelta(seconds=1))
    now = LATER + timedelta(seconds=10)
    assert compare(accepted(), EXPECTED, old, now=now).state is ReadBackState.UNKNOWN


def test_nothing_is_read_back_that_nobody_decided() -> None:
    for state in set(ProposalState) - {ProposalState.ACCEPTED, ProposalState.MODIFIED}:
        with pytest.raises(ProposalStateError):
            compare(replace(proposal(), state=state), EXPECTED, report(), now=LATER)
