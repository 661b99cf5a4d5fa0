"""What share of the GPU's memory bandwidth the CUDA kernels reach.

The bandwidth is measured on the same device by copying an array (bytes read and written). A kernel
is credited with the bytes that it must move at least: its input once and its output once. Answers
are checked against the references on a small case first. Needs a CUDA device.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numba import cuda

from benchmarks.timing import commit, machine, time_in_turns
from cuda_kernels.axis import linear_axis
from cuda_kernels.bits import labels_present, pack_masks
from cuda_kernels.edt import distance_transform
from cuda_kernels.interpolate_argmax import interpolate_argmax
from cuda_kernels.label_statistics import label_statistics
from cuda_kernels.nearest import resample_nearest
from cuda_kernels.normalise import clip_scale
from cuda_kernels.resample import resample
from tests.cuda_kernels.cases import CHECKS

RESULTS = Path(__file__).parent / "results"
FULL_SHAPE = (300, 512, 512)
AIM = 0.8
"""Share of the bandwidth that memory-bound kernels should reach."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A kernel's launch, and the bytes that it cannot do without."""

    run: Callable[[], object]
    least_bytes: int
    memory_bound: bool


def main() -> None:
    """Check, measure, print one JSON line per kernel, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--write", type=Path, default=RESULTS / "kernels_gpu.json")
    options = parser.parse_args()
    if not cuda.is_available():
        raise SystemExit("benchmarks.kernels_gpu needs a CUDA device, and numba finds none")
    for check in CHECKS.values():
        check(cuda.to_device, lambda array: array.copy_to_host())
    entries = measure(FULL_SHAPE, options.repeats)
    for entry in entries:
        sys.stdout.write(json.dumps(entry) + "\n")
    options.write.parent.mkdir(parents=True, exist_ok=True)
    options.write.write_text(json.dumps(entries, indent=2) + "\n")


def measure(shape: tuple[int, int, int], repeats: int) -> list[dict[str, object]]:
    """Return one entry a kernel."""
    launches = build(shape)
    seconds = time_in_turns(
        {name: launch.run for name, launch in launches.items()},
        repeats=repeats,
        finish=cuda.synchronize,
    )
    medians = {name: float(np.median(taken)) for name, taken in seconds.items()}
    bandwidth = launches["copy"].least_bytes / medians["copy"]
    common = {
        "shape": list(shape),
        "copy_gb_per_s": round(bandwidth / 1e9, 1),
        "repeats": repeats,
        "machine": machine() | {"device": str(cuda.get_current_device().name)},
        "versions": {name: version(name) for name in ("numba", "numpy")},
        "commit": commit(),
    }
    return [
        {
            "case": name,
            "median_ms": round(1000 * medians[name], 4),
            "p95_ms": round(1000 * float(np.percentile(seconds[name], 95)), 4),
            "share_of_bandwidth": round(launch.least_bytes / medians[name] / bandwidth, 3),
            "aim": AIM if launch.memory_bound else None,
            **common,
        }
        for name, launch in launches.items()
        if name != "copy"
    ]


def build(shape: tuple[int, int, int]) -> dict[str, Launch]:
    """Put the inputs on the device and return each kernel's launch."""
    rng = np.random.default_rng(0)
    n = shape[0] * shape[1] * shape[2]
    image = cuda.to_device(rng.integers(-1000, 1000, shape).astype(np.int16))
    labels_here = (np.arange(shape[1]) * 10 // shape[1] + 1).astype(np.uint8)
    labels_here = np.ascontiguousarray(np.broadcast_to(labels_here[:, None], shape))
    labels = cuda.to_device(labels_here)
    source = cuda.to_device(rng.random(shape, np.float32))
    target = cuda.device_array(shape, np.float32)
    coarse = tuple((size + 1) // 2 for size in shape)
    down: Any = tuple(linear_axis(a, b, 2.0) for a, b in zip(shape, coarse, strict=True))
    up: Any = tuple(linear_axis(b, a, 0.5) for a, b in zip(shape, coarse, strict=True))
    scores_here = np.zeros((2, *coarse), np.float32)
    scores_here[1, :, : coarse[1] // 2] = 1.0
    scores = cuda.to_device(scores_here)
    best = cuda.to_device(scores_here.argmax(axis=0).astype(np.uint16))
    out = cuda.device_array(shape, np.uint8)
    frames = [
        (k, z)
        for k in range(10)
        for z, present in enumerate(labels_present(labels_here, 11))
        if present[k + 1]
    ]
    n_coarse = coarse[0] * coarse[1] * coarse[2]
    return {
        "copy": Launch(
            run=lambda: target.copy_to_device(source), least_bytes=8 * n, memory_bound=True
        ),
        "resample linear": Launch(
            run=lambda: resample(image, down),
            least_bytes=2 * n + 4 * n_coarse,
            memory_bound=True,
        ),
        "resample nearest": Launch(
            run=lambda: resample_nearest(best, up),
            least_bytes=2 * n_coarse + 2 * n,
            memory_bound=True,
        ),
        "clip_scale to bf16": Launch(
            run=lambda: clip_scale(image, -160.0, 240.0, precision="bf16"),
            least_bytes=4 * n,
            memory_bound=True,
        ),
        "interpolate_argmax, 2 classes": Launch(
            run=lambda: interpolate_argmax(scores, best, up, out),
            least_bytes=2 * n_coarse + n,
            memory_bound=True,
        ),
        "pack_masks": Launch(
            run=lambda: pack_masks(labels, range(1, 11), frames),
            least_bytes=n + len(frames) * shape[1] * shape[2] // 8,
            memory_bound=True,
        ),
        "label_statistics": Launch(
            run=lambda: label_statistics(labels, image, 11), least_bytes=3 * n, memory_bound=False
        ),
        "distance_transform": Launch(
            run=lambda: distance_transform(out, (1.0, 0.75, 0.75)),
            least_bytes=5 * n,
            memory_bound=False,
        ),
    }


if __name__ == "__main__":
    main()
