"""The kernel benchmark still runs, at a tiny size, and the one for GPUs says what it lacks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest


def test_every_way_still_runs_and_agrees(tmp_path: Path, repository: Path) -> None:
    out = tmp_path / "kernels.json"
    run = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.kernels", "--slices", "12", "--matrix", "40"),
            *("--repeats", "1", "--write", str(out)),
        ],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    entries = json.loads(out.read_text())
    assert [entry["case"] for entry in entries] == [
        "resample",
        "interpolate_argmax_2",
        "interpolate_argmax_14",
        "label_statistics",
        "distance_transform",
        "seg_encode",
    ]
    for entry in entries:
        assert set(entry["aims"]) <= set(entry["times_faster"])
        assert entry["checked"]


def test_an_answer_that_differs_is_not_timed(tmp_path: Path) -> None:
    from benchmarks import kernel_cases

    ways = kernel_cases.statistics_ways((3, 40, 40), tmp_path)
    found = {name: run() for name, run in ways.runs.items()}
    assert ways.check(found)
    found["clinfer"].mean[3] += 1.0
    with pytest.raises(ValueError, match="label 3"):
        ways.check(found)


def test_without_a_gpu_the_benchmark_for_gpus_says_so(repository: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.kernels_gpu"],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"PATH": "", "CUDA_VISIBLE_DEVICES": "", "HOME": str(repository.parent)},
    )
    assert run.returncode == 1
    assert "needs a CUDA device" in run.stderr


@pytest.mark.gpu
def test_shares_of_bandwidth_are_measured_on_a_gpu() -> None:
    from benchmarks.kernels_gpu import measure

    for entry in measure((64, 256, 256), repeats=3):
        assert np.isfinite(entry["share_of_bandwidth"])
        assert 0 < entry["share_of_bandwidth"] < 1.5, entry["case"]
