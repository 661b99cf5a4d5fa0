"""The gate: which agreement lets an engine serve, checked at hand-sized numbers."""

from __future__ import annotations

import numpy as np
import pytest

from inference.pipeline.engines.agreement import LabelCounts, problem_with


def test_dice_is_pooled_in_millilitres_over_cases() -> None:
    counts = LabelCounts(3)
    # Case 1, 1 ml voxels: reference 4, other 3, common 3. Case 2, 2 ml voxels: 1, 2, common 1.
    counts.add(np.array([[[1, 1, 1, 1, 0]]]), np.array([[[1, 1, 1, 0, 0]]]), 1.0)
    counts.add(np.array([[[1, 0, 0]]]), np.array([[[1, 1, 0]]]), 2.0)
    assert counts.dice(1) == pytest.approx(2 * (3 + 2) / ((4 + 3) + (2 + 4)))
    assert counts.volume_ml(1) == pytest.approx((4 + 2) / 2)
    assert counts.dice(2) is None
    assert counts.mean_dice() == pytest.approx(10 / 13)


def test_a_label_that_only_the_engine_finds_has_dice_zero() -> None:
    counts = LabelCounts(2)
    counts.add(np.zeros((1, 2, 2), np.uint8), np.ones((1, 2, 2), np.uint8), 1.0)
    assert counts.dice(1) == 0.0


@pytest.mark.parametrize(
    ("dice", "volume_ml", "passes"),
    [
        (0.999, 50.1, True),
        (0.9989, 50.1, False),
        (0.9989, 50.0, True),
        (0.995, 2.0, True),
        (0.9949, 2.0, False),
    ],
)
def test_large_structures_have_the_stricter_bound(
    dice: float, volume_ml: float, passes: bool
) -> None:
    problem = problem_with({"lung": 1.0, "box": dice}, {"lung": 900.0, "box": volume_ml})
    assert (problem is None) is passes
    if problem:
        assert problem.startswith("box: Dice ")


def test_the_mean_dice_with_reference_labels_may_drop_by_two_thousandths() -> None:
    dice, ml = {"box": 1.0}, {"box": 3.0}
    assert problem_with(dice, ml, mean_dice=0.8981, reference_mean_dice=0.9) is None
    problem = problem_with(dice, ml, mean_dice=0.8979, reference_mean_dice=0.9)
    assert problem is not None
    assert "drops by 0.0021" in problem
    assert problem_with(dice, ml, mean_dice=0.95, reference_mean_dice=0.9) is None


def test_without_any_label_nothing_passes() -> None:
    problem = problem_with({}, {})
    assert problem is not None
    assert "no label occurs" in problem
