from __future__ import annotations

from tests.care.fuzz import run_outputs


def test_no_random_output_outside_a_hard_limit_is_confirmed() -> None:
    """The short form; `make fuzz` sends 100,000."""
    found = run_outputs(5000, seed=3)
    assert found.escaped == []
    assert {"hard_limit", "quantity", "limit_missing", "accepted", "modified"} <= set(found.ends)
    assert found.ends["accepted"] + found.ends["modified"] > 100
