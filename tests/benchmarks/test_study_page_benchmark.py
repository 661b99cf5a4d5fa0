"""The benchmark of the study page runs and checks its picture, at a tiny size."""

from __future__ import annotations

from pathlib import Path

from benchmarks.study_page import N_SEGMENTS, Case, boxes, run


def test_a_tiny_study_is_opened_scrolled_and_measured(tmp_path: Path) -> None:
    case = Case(slices=42, size=64, n_scrolled=6, n_segments=20)
    entries = run(tmp_path, case, drawings=("without WebGL",))
    (entry,) = entries
    assert entry["shape"] == [42, 64, 64]
    assert entry["has_webgl"] is False
    for opened in (entry["cold_s"], entry["warm_s"]):
        assert 0 < opened["page-script"] <= opened["first-overlay"] <= opened["all-labels"]
    assert entry["frames_per_s"] > 0
    assert entry["page_memory_mib"] > 10


def test_every_box_is_there_and_none_touches_another() -> None:
    labels = boxes((42, 64, 64))
    assert set(labels.ravel().tolist()) == set(range(N_SEGMENTS + 1))
