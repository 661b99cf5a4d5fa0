"""Agreement by group, and an alarm only where chance does not explain it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from scipy.stats import binom

from inference.domain.concordance import ALARM_PROBABILITY, binomial_tail, concordance
from inference.domain.review import Decision, Effort, Review, Scanner, Shown, effort_of


def review(number: int, decision: Decision, *, scanner: str = "Alpha") -> Review:
    is_corrected = decision is Decision.CORRECT
    return Review(
        id=number,
        result_id=number,
        study_uid="1.2",
        model="ct_lung_seg",
        model_version="1.0.0",
        decision=decision,
        reason_code="",
        comment="",
        person="dr.weber",
        shown=Shown(result_sha256="", overlay_sha256="", view={}, page_version=""),
        scanner=Scanner(manufacturer="Maker", model=scanner),
        effort=Effort.EDITED if is_corrected else None,
        lowest_dice=0.9 if is_corrected else None,
        changed_ml=2.0 if is_corrected else None,
        new_result_id=None,
        decided_at=datetime(2026, 11, 24, tzinfo=UTC),
    )


def history(overrides: list[bool]) -> list[Review]:
    return [
        review(number, Decision.CORRECT if one else Decision.ACCEPT)
        for number, one in enumerate(overrides, start=1)
    ]


@pytest.mark.parametrize(("k", "n", "p"), [(0, 30, 0.1), (3, 30, 0.1), (12, 30, 0.05)])
def test_the_tail_is_that_of_scipy(k: int, n: int, p: float) -> None:
    assert binomial_tail(k, n, p) == pytest.approx(binom.sf(k - 1, n, p), rel=1e-9)


def test_a_sudden_rise_of_overrides_is_an_alarm() -> None:
    steady = [number % 10 == 0 for number in range(100)]
    (calm,) = concordance(history(steady + steady[:30]), "model")
    assert (calm.drift, calm.n_corrected) == ("steady", 13)
    (risen,) = concordance(history(steady + [number % 2 == 0 for number in range(30)]), "model")
    assert risen.drift == "alarm"
    assert risen.recent_rate == 0.5
    assert risen.probability is not None
    assert risen.probability < ALARM_PROBABILITY


def test_few_decisions_raise_no_alarm_and_say_so() -> None:
    (group,) = concordance(history([False] * 49 + [True] * 30), "model")
    assert (group.drift, group.probability) == ("too_few", None)


def test_groups_are_apart_by_scanner() -> None:
    found = concordance(
        [review(1, Decision.ACCEPT), review(2, Decision.REJECT, scanner="Beta"),
         review(3, Decision.CORRECT)],
        "scanner",
    )  # fmt: skip
    assert [(one.name, one.n) for one in found] == [("Maker Alpha", 2), ("Maker Beta", 1)]
    assert (found[0].mean_dice, found[0].mean_changed_ml) == (0.9, 2.0)
    assert found[1].override_rate == 1.0


@pytest.mark.parametrize(
    ("dice", "effort"),
    [
        ({}, Effort.UNTOUCHED),
        ({1: 1.0, 2: 1.0}, Effort.UNTOUCHED),
        ({1: 1.0, 2: 0.6}, Effort.EDITED),
        ({1: 1.0, 2: 0.599}, Effort.REDRAWN),
        ({1: 0.0}, Effort.REDRAWN),
    ],
)
def test_effort_goes_by_the_lowest_dice(dice: dict[int, float], effort: Effort) -> None:
    assert effort_of(dice) is effort
