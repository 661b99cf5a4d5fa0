"""Ten kills of the real service; `make chaos` does fifty."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from inference.backends.triton_install import find_triton
from inference.domain.errors import ClinferError


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_kills_lose_nothing_and_leave_one_result_per_study(repository: Path) -> None:
    command = [
        sys.executable, "-m", "tests.chaos.run", "--kills", "10", "--studies", "6",
        "--slices", "8", "--backend", _backend(),
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=repository, capture_output=True, text=True, timeout=850, check=False
    )
    report = json.loads(done.stdout.splitlines()[-1]) if done.stdout else {}
    assert report.get("problems") == [], done.stderr[-2000:]
    assert done.returncode == 0
    assert report["acknowledged"] == 48
    assert report["current_results"] == 6
    assert report["kills_between_first_and_last_acknowledgement"] >= 6


def _backend() -> str:
    try:
        find_triton()
    except ClinferError:
        return "local"
    return "triton"
