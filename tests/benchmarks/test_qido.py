"""Short form of the search benchmark: it fills, checks every answer and says what it measured."""

from __future__ import annotations

from pathlib import Path

from benchmarks import qido


def test_every_kind_of_search_answers_right_on_a_small_index(tmp_path: Path) -> None:
    lines = qido.run(tmp_path, n_instances=1000, repeats=1)
    assert [line["case"] for line in lines[:-1]] == list(
        qido.searches(qido.Filled(n_studies=10, per_series=33))
    )
    assert lines[-1]["n_instances"] == 1000
    assert all(line["p95_ms"] > 0 for line in lines)
