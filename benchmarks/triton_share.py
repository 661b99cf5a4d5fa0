"""Ask what Triton costs a study, and what two studies at one time save.

The same study from its DICOM folder to SEG, SR and labels on disk, once with the network in this
process and once in the server, both warm; then two studies at one time against one. Answers first:
the label maps must be the same bytes whichever way, alone or side by side.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.serving import (
    FULL_SHAPE,
    MODEL_REPO,
    RESULTS,
    Shape,
    percentiles,
    run_study,
    triton,
    write_lines,
    write_study,
)
from inference.backends.local_torch import LocalPredictor
from inference.domain.ports import Predictor


def main() -> None:
    """Measure, print one JSON line per case, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=FULL_SHAPE[0])
    parser.add_argument("--matrix", type=int, default=FULL_SHAPE[1])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--write", type=Path, default=RESULTS / "triton_share.json")
    options = parser.parse_args()
    shape = (options.slices, options.matrix, options.matrix)
    with tempfile.TemporaryDirectory() as scratch:
        lines = compare(Path(scratch), shape, options.repeats)
    write_lines(options.write, lines)


def compare(scratch: Path, shape: Shape, repeats: int) -> list[dict[str, object]]:
    """Return one entry for Triton against this process, one for two studies against one.

    Raises
    ------
    ValueError
        Two ways gave different labels.
    """
    studies = [write_study(scratch / f"study-{seed}", shape, seed=seed) for seed in (2026, 2027)]
    local = LocalPredictor(MODEL_REPO)
    with triton(scratch / "triton") as server:
        _check_answers(studies, local, server, scratch)
        alone: dict[str, list[float]] = {"local": [], "triton": [], "two at one time": []}
        for number in range(repeats):
            out = scratch / f"run-{number}"
            # In turns, so that whatever else the machine does falls on all.
            alone["local"].append(run_study(studies[0], local, out / "local").wall_s)
            alone["triton"].append(run_study(studies[0], server, out / "triton").wall_s)
            alone["two at one time"].append(_two_at_one_time(studies, server, out))
    medians = {case: statistics.median(found) for case, found in alone.items()}
    common = {"shape": list(shape), "repeats": repeats}
    return [
        {
            "question": "DICOM folder to SEG on disk, Triton against this process, both warm",
            "local": percentiles(alone["local"]),
            "triton": percentiles(alone["triton"]),
            "triton_share": round((medians["triton"] - medians["local"]) / medians["triton"], 4),
            **common,
        },
        {
            "question": "two studies at one time against one, through Triton",
            "one": percentiles(alone["triton"]),
            "two": percentiles(alone["two at one time"]),
            "times_one": round(medians["two at one time"] / medians["triton"], 3),
            **common,
        },
    ]


def _two_at_one_time(studies: list[Path], server: Predictor, out: Path) -> float:
    began = time.perf_counter()
    with ThreadPoolExecutor(len(studies)) as pool:
        runs = [pool.submit(run_study, study, server, out / study.name) for study in studies]
        for run in runs:
            run.result()
    return time.perf_counter() - began


def _check_answers(studies: list[Path], local: Predictor, server: Predictor, scratch: Path) -> None:
    """Compare every way's labels; this also warms both up."""
    with ThreadPoolExecutor(len(studies)) as pool:
        runs = [
            pool.submit(run_study, study, server, scratch / f"with-{study.name}")
            for study in studies
        ]
        together = [run.result() for run in runs]
    for study, other in zip(studies, together, strict=True):
        expected = run_study(study, local, scratch / f"local-{study.name}").labels
        alone = run_study(study, server, scratch / f"alone-{study.name}").labels
        if not expected == alone == other.labels:
            raise ValueError(f"{study.name}: the labels differ between the ways of computing")


if __name__ == "__main__":
    main()
