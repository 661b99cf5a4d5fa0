"""A short soak in the default run; `make soak` does 1000 cycles."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.run import MAX_GROWTH_BYTES, WARM_UP_CYCLES, Soaked, soak

N_CYCLES = 30


@pytest.mark.slow
@pytest.mark.timeout(1200)  # each cycle starts a process that imports torch
def test_load_infer_unload_gives_the_memory_back(tmp_path: Path) -> None:
    seen: list[int] = []
    soaked = soak(N_CYCLES, tmp_path, lambda cycle, n_bytes: seen.append(cycle))
    assert seen == list(range(1, N_CYCLES + 1))
    assert min(soaked.after_cycle) > 1_000_000, "a server that runs holds something"
    assert soaked.growth_bytes < MAX_GROWTH_BYTES


def test_growth_counts_after_the_warm_up_only() -> None:
    warm_up = range(1000, 1000 + WARM_UP_CYCLES)
    assert Soaked(after_cycle=(*warm_up, 50, 40, 90, 60)).growth_bytes == 40
