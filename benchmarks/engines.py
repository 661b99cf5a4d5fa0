"""Time of one window of 96 x 96 x 96 voxels in each engine, on two networks.

The answer is checked first: each engine's classes with those of torch fp32, as a share of voxels
(random weights put many voxels near a tie, so lower precisions reach less here than trained
networks do; `clinfer models tune` is the gate for those).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.networks import NETWORKS, random_spec
from benchmarks.timing import commit, machine
from inference.pipeline.engine import use_all_cores
from inference.pipeline.engines.base import ReadyEngine, engine_name
from inference.pipeline.engines.candidates import candidates
from inference.pipeline.engines.factory import ready_engine
from inference.pipeline.network import build_network

RESULTS = Path(__file__).parent / "results"
REPEATS, WARM_UP = 10, 2
MIN_SAME = {"fp32": 0.999, "bf16": 0.95, "fp16": 0.98, "int8": 0.5}
"""Share of voxels with the class of torch fp32 below which a time is not worth telling."""


def main() -> None:
    """Measure, print one JSON line per case, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--roi", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--network", choices=list(NETWORKS), action="append")
    parser.add_argument("--engine", action="append", help="only these, by name")
    parser.add_argument("--write", type=Path, default=RESULTS / "engines.json")
    options = parser.parse_args()
    lines = []
    for network in options.network or NETWORKS:
        for line in measure(network, options.roi, options.repeats, options.engine):
            lines.append(line)
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
    options.write.parent.mkdir(parents=True, exist_ok=True)
    options.write.write_text(json.dumps(lines, indent=2) + "\n")


def measure(
    network: str, roi: int, repeats: int, only: list[str] | None
) -> list[dict[str, object]]:
    """Return one entry an engine; torch fp32 first, the others with how many times faster."""
    threads = use_all_cores()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    spec = random_spec(network, n_classes=2, roi_size=roi)
    raw = build_network(spec).eval().requires_grad_(False)
    patch = torch.rand(1, 1, roi, roi, roi, device=device)
    expected: torch.Tensor | None = None
    plain_ms = 0.0
    lines: list[dict[str, object]] = []
    for candidate in candidates(device):
        engine = candidate.engine
        line: dict[str, object] = {"network": network, "engine": engine.label, "roi": roi}
        lines.append(line)
        if candidate.missing is not None or (
            expected is not None and only and engine.label not in only
        ):
            line["left_out"] = candidate.missing or "not asked for"
            continue
        ready = ready_engine(
            raw, spec.model_copy(update={"engine": engine}), device, calibration=[patch.cpu()]
        )
        labels = ready.run(patch).argmax(dim=1)
        expected = labels if expected is None else expected
        same = float((labels == expected).float().mean())
        if same < MIN_SAME[engine.precision]:
            line["left_out"] = f"only {same:.4f} of the voxels have fp32's class"
            continue
        times_ms = _times_ms(ready, patch, repeats)
        median_ms = float(np.median(times_ms))
        plain_ms = plain_ms or median_ms
        line |= {
            "library": engine_name(engine, device),
            "ms_median": round(median_ms, 2),
            "ms_p95": round(float(np.percentile(times_ms, 95)), 2),
            "times_faster": round(plain_ms / median_ms, 2),
            "same_class": round(same, 5),
            "repeats": repeats,
            "threads": threads,
            "machine": machine() | {"device": str(device)},
            "commit": commit(),
        }
    return lines


def _times_ms(engine: ReadyEngine, patch: torch.Tensor, repeats: int) -> list[float]:
    times_ms = []
    for k in range(WARM_UP + repeats):
        began = time.perf_counter()
        engine.run(patch)
        if patch.is_cuda:
            torch.cuda.synchronize()
        if k >= WARM_UP:
            times_ms.append(1000 * (time.perf_counter() - began))
    return times_ms


if __name__ == "__main__":
    main()
