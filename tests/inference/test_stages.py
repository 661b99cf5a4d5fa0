"""Finer timings are counted under eight stages, and none is lost on the way."""

from __future__ import annotations

import pytest

from inference.domain.stages import STAGE_MEANING, STAGES, stage_of, stages_of


def test_the_stages_are_those_that_results_promise() -> None:
    assert STAGES == (
        "receive", "decode", "resample", "queue", "network", "merge", "encode", "deliver",
    )  # fmt: skip
    assert set(STAGE_MEANING) == {*STAGES, "other"}


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("read", "decode"),
        ("interpolate", "merge"),
        ("queue and transfer", "queue"),
        ("wait for a core", "queue"),
        ("check placement", "encode"),
        ("network", "network"),
        ("a name nobody knows", "other"),
    ],
)
def test_each_timing_has_its_stage(name: str, stage: str) -> None:
    assert stage_of(name) == stage


def test_seconds_are_summed_and_none_is_lost() -> None:
    timings = {
        "read": 1.5, "resample": 0.25, "network": 4.0, "merge": 0.5, "interpolate": 0.75,
        "measure": 0.125, "encode": 1.0, "unheard of": 2.0, "queue and transfer": 0.5,
        "total": 99.0,
    }  # fmt: skip
    stages = stages_of(timings, receive_s=3.0, queue_s=10.0)
    assert stages == {
        "receive": 3.0, "decode": 1.5, "resample": 0.25, "queue": 10.5, "network": 4.0,
        "merge": 1.25, "encode": 1.125, "other": 2.0,
    }  # fmt: skip


def test_a_stage_that_took_no_time_is_absent() -> None:
    assert stages_of({"read": 0.0, "total": 0.0}) == {}
