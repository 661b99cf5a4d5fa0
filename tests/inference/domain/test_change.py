from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.domain.change import (
    Acquisition,
    Judgement,
    Limits,
    Match,
    Measured,
    TimePoint,
    change_of,
    compare,
    why_not_comparable,
)

ACQUISITION = Acquisition(modality="CT", slice_spacing_mm=1.25, kernel="B30f", contrast="")
PRIOR = TimePoint(
    result_id=1,
    study_uid="1.2.1",
    study_date="20260101",
    model="ct_lung_seg",
    model_version="1.1.0",
    weights_sha256="w",
    acquisition=ACQUISITION,
    segments=(
        Measured(label=1, name="Left lung", volume_ml=2000.0, long_axis_mm=180.0),
        Measured(label=2, name="Right lung", volume_ml=0.0, long_axis_mm=None),
    ),
)
NOW = replace(
    PRIOR,
    result_id=2,
    study_uid="1.2.2",
    study_date="20260601",
    segments=(
        Measured(label=1, name="Left lung", volume_ml=2300.0, long_axis_mm=171.0),
        Measured(label=2, name="Right lung", volume_ml=50.0, long_axis_mm=40.0),
    ),
)
LIMITS = {"Left lung": Limits(volume_percent=10.0, long_axis_percent=None)}


def test_a_change_is_absolute_and_in_percent_of_the_earlier_value() -> None:
    found = compare(NOW, PRIOR, limits=LIMITS, matches={})
    assert found.is_comparable
    left, right = found.changes
    # By hand: 300 of 2000 ml is 15 %; of the mean, 2150, it is 13.95 %, more than 10.
    assert (left.volume_ml.difference, left.volume_ml.percent) == (300.0, 15.0)
    assert left.volume_ml.judgement is Judgement.BEYOND_LIMITS
    assert (left.long_axis_mm.difference, left.long_axis_mm.percent) == (-9.0, -5.0)
    assert left.long_axis_mm.judgement is Judgement.LIMITS_UNKNOWN
    assert right.volume_ml.percent is None
    assert right.long_axis_mm is None
    assert {left.match, right.match} == {Match.PROPOSED}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "other"}, "model other"),
        ({"model_version": "1.0.0"}, "version 1.0.0"),
        ({"weights_sha256": "x"}, "version"),
        ({"acquisition": None}, "of the prior were acquired"),
        ({"acquisition": replace(ACQUISITION, modality="MR")}, "modality MR before, CT now"),
        ({"acquisition": replace(ACQUISITION, slice_spacing_mm=1.4)}, "1.40 mm before, 1.25"),
        ({"acquisition": replace(ACQUISITION, kernel="B70f")}, "kernel B70f before, B30f now"),
        ({"acquisition": replace(ACQUISITION, kernel="")}, "not stated"),
        ({"acquisition": replace(ACQUISITION, contrast="ULTRAVIST")}, "before, not now"),
    ],
)
def test_what_is_not_comparable_says_why_and_gives_no_figure(
    changes: dict[str, object], said: str
) -> None:
    found = compare(NOW, replace(PRIOR, **changes), limits=LIMITS, matches={})
    assert said in found.reason
    assert found.changes == ()


def test_rounding_of_the_spacing_is_no_difference() -> None:
    near = replace(PRIOR, acquisition=replace(ACQUISITION, slice_spacing_mm=1.3))
    assert why_not_comparable(NOW, near) == ""


def test_the_readers_word_moves_or_removes_a_pair() -> None:
    crossed = {(1, 1): Match.REJECTED, (2, 1): Match.CONFIRMED}
    left, right = compare(NOW, PRIOR, limits={}, matches=crossed).changes
    assert (left.match, left.volume_ml, left.long_axis_mm) == (Match.REJECTED, None, None)
    assert right.match is Match.CONFIRMED
    assert right.volume_ml.earlier == 2000.0


@given(earlier=st.floats(0.001, 1e5), later=st.floats(0.001, 1e5), limit=st.floats(0.01, 100))
def test_a_judgement_does_not_depend_on_which_came_first(
    earlier: float, later: float, limit: float
) -> None:
    forth, back = change_of(earlier, later, limit), change_of(later, earlier, limit)
    assert forth.difference == -back.difference
    assert forth.judgement is back.judgement
    assert change_of(earlier, earlier, limit).judgement is Judgement.WITHIN_LIMITS
