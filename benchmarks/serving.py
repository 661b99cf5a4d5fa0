"""What the serving benchmarks share: built studies, a running server, one study DICOM to SEG."""

from __future__ import annotations

import gzip
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.timing import commit, machine
from dicom_io.series import scan
from inference.backends.triton import TritonPredictor
from inference.backends.triton_launch import TritonServerOptions
from inference.backends.triton_server import TritonServer
from inference.domain.job import Priority
from inference.domain.ports import Predictor
from inference.jobs.analysis import Analysis, analyse_series
from inference.pipeline.spec import load_spec
from tests.builders.dicom import write_series
from training.phantoms import thorax_phantom

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results"
MODEL_REPO = ROOT / "model_repo"
MODEL = "ct_lung_seg"
FULL_SHAPE = (300, 512, 512)
SPACING_MM = (1.0, 0.75, 0.75)

Shape = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Done:
    """One study from its DICOM folder to its written results."""

    wall_s: float
    analysis: Analysis

    @property
    def labels(self) -> bytes:
        """The label map as it was written."""
        return gzip.decompress(self.analysis.files["labels"].read_bytes())


def write_study(folder: Path, shape: Shape, *, seed: int) -> Path:
    """Write a built thorax of the full size in millimetres, on a grid of this shape."""
    spacing = tuple(
        mm * full / n for mm, full, n in zip(SPACING_MM, FULL_SHAPE, shape, strict=True)
    )
    array, _, affine_lps = thorax_phantom(seed=seed, shape=shape, spacing_mm=spacing)
    write_series(folder, array, affine_lps, modality="CT")
    return folder


@contextmanager
def triton(folder: Path) -> Iterator[TritonPredictor]:
    """Give a client of a server that runs the model, both on this machine."""
    options = TritonServerOptions(model_repo=MODEL_REPO, models=(MODEL,), data_dir=folder)
    with TritonServer(options) as server:
        client = TritonPredictor(
            server.address, model_repo=MODEL_REPO, secret=server.secret, shared_memory=True
        )
        try:
            yield client
        finally:
            client.close()


def run_study(
    study: Path, predictor: Predictor, out: Path, *, priority: Priority = Priority.ROUTINE
) -> Done:
    """Read, predict, measure, encode, check and write, as the service's workers do.

    Raises
    ------
    ValueError
        The model did not apply, or nothing was found: no time is worth telling.
    """
    began = time.perf_counter()
    (series,) = scan(sorted(study.iterdir())).series
    outcome = analyse_series(
        series, (load_spec(MODEL_REPO / MODEL),), predictor, out, priority=priority
    )
    wall_s = time.perf_counter() - began
    if len(outcome.analyses) != 1 or not outcome.analyses[0].has_finding:
        raise ValueError(f"{study}: no finding: {outcome.refusals or outcome.not_applicable}")
    return Done(wall_s=wall_s, analysis=outcome.analyses[0])


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return median, p95 and p99 in seconds."""
    return {
        "s_median": round(statistics.median(seconds), 4),
        "s_p95": round(float(np.percentile(seconds, 95)), 4),
        "s_p99": round(float(np.percentile(seconds, 99)), 4),
        "n": len(seconds),
    }


def write_lines(path: Path, lines: list[dict[str, object]]) -> None:
    """Print one JSON line per case and write the result file; each says where it was measured."""
    common = {
        "model": MODEL,
        "machine": machine(),
        "versions": {name: version(name) for name in ("torch", "numba", "nvidia-pytriton")},
        "commit": commit(),
    }
    whole = [line | common for line in lines]
    for line in whole:
        sys.stdout.write(json.dumps(line) + "\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole, indent=2) + "\n")
