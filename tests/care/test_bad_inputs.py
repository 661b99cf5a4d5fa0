"""Inputs a device suggestion must survive; compared with the shared list where that is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from inference.domain import confirmation
from inference.domain.care_errors import (
    CareRefusedError,
    ConfirmationError,
    LimitMissingError,
    ProposalStateError,
    QuantityError,
    StepError,
)
from inference.domain.limits import Person, find_limit
from inference.domain.population import Range
from inference.domain.proposal import shown_sha256
from inference.domain.quantities import Quantity, quantity
from inference.domain.readback import DeviceReport, Expected, ReadBackState, compare
from inference.domain.readings import Neutral, Reading, ReadingRule, check_inputs
from inference.domain.step_limits import PastValue, check_step
from inference.storage import proposals
from inference.storage.database import Database
from tests.builders.care import NOW, PATIENT, RATE, bound, library, nurse, proposal, rate
from tests.care.races import confirm

SHARED = Path(__file__).resolve().parents[3] / "shared" / "reference" / "bad_inputs.json"
WEIGHT = ReadingRule(
    field="weight", possible=Range(low=2, high=350, unit="kg"), max_age_s=86_400 * 7
)


def weight_missing_zero_huge_or_pounds(_: Path) -> None:
    assert isinstance(check_inputs({}, [WEIGHT], now=NOW), Neutral)
    for value in (0.0, 700.0):
        seen = Reading(quantity=Quantity(value=value, unit="kg"), measured_at=NOW, device_id="s")
        assert isinstance(check_inputs({"weight": [seen]}, [WEIGHT], now=NOW), Neutral)
    pounds = Reading(quantity=Quantity(value=154.0, unit="[lb_av]"), measured_at=NOW, device_id="s")
    with pytest.raises(QuantityError):
        check_inputs({"weight": [pounds]}, [WEIGHT], now=NOW)
    person = Person(weight_kg=154, age_a=50)  # typed as kilograms: the library covers no such one
    with pytest.raises(LimitMissingError):
        find_limit(library(), RATE, care_area="icu", person=person, now=NOW)


def vitals_older_than_their_window(_: Path) -> None:
    rule = ReadingRule(field="map", possible=Range(low=10, high=250, unit="mm[Hg]"), max_age_s=60)
    old = Reading(
        quantity=Quantity(value=70.0, unit="mm[Hg]"),
        measured_at=NOW - timedelta(seconds=61),
        device_id="monitor",
    )
    found = check_inputs({"map": [old]}, [rule], now=NOW)
    assert isinstance(found, Neutral)
    assert found.alarms[0].kind == "stale"
    one, late = proposal(valid_s=60), NOW + timedelta(seconds=60)
    with pytest.raises(ConfirmationError) as caught:
        confirmation.confirm(one, by=nurse(at=late), shown=shown_sha256(one), now=late)
    assert caught.value.reason == "expired"


def double_click_replay_expiry_role_and_author(folder: Path) -> None:
    database = Database.open(folder / "one.sqlite")
    one = proposal(needs_two=True, author="author")
    with database.write() as connection:
        proposals.store(connection, one, actor="model")
        seconds_and_persons = [
            (1, "author"), (1, "nurse a"), (1, "nurse a"), (2, "nurse b"), (2, "nurse b"),
            (61, "nurse c"),
        ]  # fmt: skip
        outcomes = [confirm(connection, one, who, seconds=s) for s, who in seconds_and_persons]
        n_audited = connection.exec_driver_sql(
            "SELECT count(*) FROM audit WHERE action = 'proposal.confirm'"
        ).scalar_one()
    database.close()
    assert [outcome.refusal is None for outcome in outcomes] == [
        False, True, False, True, False, False,
    ]  # fmt: skip
    assert n_audited == 6
    visitor = nurse("visitor", may_confirm=False)
    with pytest.raises(ConfirmationError):
        confirmation.confirm(proposal(), by=visitor, shown="", now=NOW)


def text_other_than_was_displayed(_: Path) -> None:
    one = proposal()
    shown = shown_sha256(replace(one, values=rate(2.1)))
    with pytest.raises(ConfirmationError) as caught:
        confirmation.confirm(one, by=nurse(), shown=shown, now=NOW)
    assert caught.value.reason == "shown"


def wrong_pairing_or_drug(_: Path) -> None:
    one = proposal()
    done = confirmation.confirm(one, by=nurse(), shown=shown_sha256(one), now=NOW)
    report = DeviceReport(
        device_id="pump 2", patient=replace(PATIENT, identifier="9"), drug_code="N01AH06",
        values=rate(2.0), reported_at=NOW,
    )  # fmt: skip
    expected = Expected(device_id="pump 1", drug_code="N01AX10")
    found = compare(done, expected, report, now=NOW)
    assert found.state is ReadBackState.DIFFERENT
    assert {alarm.field for alarm in found.alarms} == {"device", "patient", "drug"}


def large_or_swinging_steps(_: Path) -> None:
    past = [PastValue(at=NOW - timedelta(seconds=200), value=1.0)]
    with pytest.raises(StepError):
        check_step(3.5, past, bound()[RATE], now=NOW)
    swing = [
        PastValue(at=NOW - timedelta(seconds=s), value=v)
        for s, v in ((1500, 2.0), (1100, 2.5), (700, 2.0), (320, 2.5))
    ]
    with pytest.raises(StepError):
        check_step(2.0, swing, bound()[RATE], now=NOW)


def restart_with_an_open_suggestion(folder: Path) -> None:
    one = proposal()
    before = Database.open(folder / "two.sqlite")
    with before.write() as connection:
        proposals.store(connection, one, actor="model")
    before.close()
    after = Database.open(folder / "two.sqlite")
    with after.write() as connection:
        proposals.expire_open(connection, now=NOW + timedelta(seconds=5))
        outcome = confirm(connection, one, "nurse", seconds=6)
    after.close()
    assert isinstance(outcome.refusal, ProposalStateError)


CASES: dict[str, Callable[[Path], None]] = {
    "dev-002": weight_missing_zero_huge_or_pounds,
    "dev-003": vitals_older_than_their_window,
    "dev-004": double_click_replay_expiry_role_and_author,
    "dev-005": text_other_than_was_displayed,
    "dev-007": wrong_pairing_or_drug,
    "dev-008": large_or_swinging_steps,
    "dev-009": restart_with_an_open_suggestion,
}


@pytest.mark.parametrize("case", list(CASES), ids=list(CASES))
def test_a_bad_device_suggestion_is_withheld(case: str, tmp_path: Path) -> None:
    CASES[case](tmp_path)


def test_every_device_case_of_the_shared_list_is_built_here() -> None:
    if not SHARED.is_file():
        pytest.skip("the list of bad inputs is not beside the checkout")
    listed = json.loads(SHARED.read_text())["inputs"]
    wanted = {row["id"] for row in listed if row["area"] == "device_suggestion"}
    assert wanted
    assert wanted <= set(CASES)


@pytest.mark.parametrize(
    ("value", "unit"),
    [(1e999, "mg"), (float("nan"), "mg"), ("12,5", "mg"), ("1e5", "mg"), (5.0, ""), (5.0, "MG")],
)
def test_an_observation_that_says_nothing_certain_is_refused(value, unit: str) -> None:
    """1e999, NaN, a decimal comma, a missing or misspelt unit."""
    with pytest.raises(CareRefusedError):
        quantity("observation", value, unit)
