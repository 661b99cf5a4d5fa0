"""How many times faster than MONAI, SimpleITK, SciPy, edt and highdicom are the kernels.

Each case checks the answer against the usual way first, then times both in turns in one process:
ratios of medians, not seconds. Warm-up is left out. `edt` is wanted for this benchmark only.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks import kernel_cases
from benchmarks.timing import commit, machine, time_in_turns

RESULTS = Path(__file__).parent / "results"
FULL_SHAPE = (300, 512, 512)
LIBRARIES = ("numba", "numpy", "scipy", "torch", "monai", "SimpleITK", "edt", "highdicom")


@dataclass(frozen=True, kw_only=True)
class Case:
    """What to build, and the ratio to each other way that is aimed at."""

    name: str
    build: Callable[[tuple[int, int, int], Path], kernel_cases.Ways]
    aims: dict[str, float]


CASES = (
    Case(
        name="resample",
        build=kernel_cases.resample_ways,
        aims={"SimpleITK": 1.0, "MONAI Spacing": 3.0},
    ),
    Case(
        name="interpolate_argmax_2",
        build=lambda shape, folder: kernel_cases.argmax_ways(shape, folder, n_classes=2),
        aims={"MONAI inverse": 40.0},
    ),
    Case(
        name="interpolate_argmax_14",
        build=lambda shape, folder: kernel_cases.argmax_ways(shape, folder, n_classes=14),
        aims={"MONAI inverse": 15.0},
    ),
    Case(
        name="label_statistics",
        build=kernel_cases.statistics_ways,
        aims={"SimpleITK LabelStatistics": 10.0},
    ),
    Case(name="distance_transform", build=kernel_cases.distance_ways, aims={"edt": 1.0}),
    Case(name="seg_encode", build=kernel_cases.seg_ways, aims={"highdicom": 3.0}),
)


def main() -> None:
    """Measure, print one JSON line per case, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=FULL_SHAPE[0])
    parser.add_argument("--matrix", type=int, default=FULL_SHAPE[1])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", action="append", choices=[case.name for case in CASES])
    parser.add_argument("--write", type=Path, default=RESULTS / "kernels.json")
    options = parser.parse_args()
    shape = (options.slices, options.matrix, options.matrix)
    chosen = [case for case in CASES if options.only is None or case.name in options.only]
    entries = []
    for case in chosen:
        entries.append(measure(case, shape, options.repeats))
        sys.stdout.write(json.dumps(entries[-1]) + "\n")
        sys.stdout.flush()
    options.write.parent.mkdir(parents=True, exist_ok=True)
    options.write.write_text(json.dumps(entries, indent=2) + "\n")


def measure(case: Case, shape: tuple[int, int, int], repeats: int) -> dict[str, object]:
    """Check one case's answers, time its ways in turns, and say how they compare.

    Raises
    ------
    ValueError
        An answer differs from the usual way's, so that no time is worth telling.
    """
    with tempfile.TemporaryDirectory() as folder:
        ways = case.build(shape, Path(folder))
        found = {name: run() for name, run in ways.runs.items()}
        checked = ways.check(found)
        del found
        gc.collect()
        seconds = time_in_turns(ways.runs, repeats=repeats)
    ours = float(np.median(seconds["clinfer"]))
    ratios = {
        name: round(float(np.median(taken)) / ours, 2)
        for name, taken in seconds.items()
        if name != "clinfer"
    }
    return {
        "case": case.name,
        "shape": list(shape),
        "dtype": ways.dtype,
        "checked": checked,
        "median_s": {name: round(float(np.median(taken)), 4) for name, taken in seconds.items()},
        "p95_s": {
            name: round(float(np.percentile(taken, 95)), 4) for name, taken in seconds.items()
        },
        "times_faster": ratios,
        "aims": case.aims,
        "reached": all(ratios[name] >= aim for name, aim in case.aims.items()),
        "repeats": repeats,
        "machine": machine(),
        "versions": {name: version(name) for name in LIBRARIES},
        "commit": commit(),
    }


if __name__ == "__main__":
    main()
