"""Measure the engines of this machine on a model's own windows, and choose one.

Every engine labels every case; its labels are compared with those of torch fp32 before its speed
counts. Of the engines that agree, the one with the smallest median time per window is chosen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from inference.domain.errors import ClinferError, RefusedError
from inference.pipeline.engine import use_all_cores
from inference.pipeline.engines.agreement import LabelCounts, problem_with
from inference.pipeline.engines.base import ReadyEngine
from inference.pipeline.engines.cache import EngineCache
from inference.pipeline.engines.candidates import REFERENCE, Candidate
from inference.pipeline.engines.choice import (
    Evidence,
    Machine,
    TunedChoice,
    computing_sha256,
    versions_of,
)
from inference.pipeline.engines.factory import ready_engine
from inference.pipeline.preprocess import preprocess
from inference.pipeline.segment import segment_volume
from inference.pipeline.spec import ModelSpec
from inference.pipeline.windows import only_value, padded, plan_windows

N_WINDOWS = 12
"""Windows that are timed and that int8 takes its ranges from."""
N_WARM_UP = 2
N_TIMED = 24
MIN_TIMED, TIME_LIMIT_S = 8, 30.0
"""A slow engine is timed on fewer windows: no more once the limit has passed."""

Progress = Callable[[str], None]
"""Told what begins: an engine and what is done with it."""


@dataclass(frozen=True, kw_only=True)
class TuningCase:
    """A volume, (slice, row, column), and ``reference`` labels of its grid where there are some."""

    id: str
    array: NDArray[Any]
    affine_lps: NDArray[np.float64]
    reference: NDArray[Any] | None = None

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel."""
        return abs(float(np.linalg.det(self.affine_lps[:3, :3]))) / 1000


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What engines are measured with: the model, the cases, and where conversions are kept."""

    spec: ModelSpec
    network: nn.Module
    cases: Sequence[TuningCase]
    device: torch.device
    cache: EngineCache
    progress: Progress = lambda what: None

    def with_engine(self, candidate: Candidate) -> ModelSpec:
        """Return the spec as this engine would serve it."""
        return self.spec.model_copy(update={"engine": candidate.engine})


def tune(bench: Bench, engines: Sequence[Candidate], machine: Machine, *, data: str) -> TunedChoice:
    """Measure engines and choose the fastest that agrees with torch fp32.

    Parameters
    ----------
    engines : from `candidates`; torch fp32 is measured first, listed or not
    data : what the cases are, for the file

    Raises
    ------
    RefusedError
        There is no case, or no label occurs in any.
    """
    if not bench.cases:
        raise RefusedError("tune: no case to measure on")
    use_all_cores()
    windows = real_windows(bench.spec, bench.cases, N_WINDOWS)
    reference = Candidate(engine=REFERENCE, missing=None)
    first, labels = _measure(bench, reference, windows, None)
    if not first.dice:
        raise RefusedError(f"tune: {problem_with(first.dice, first.volume_ml)}")
    found = [first]
    found += [
        _measured_or_why_not(bench, candidate, windows, labels, first)
        for candidate in engines
        if candidate.engine != REFERENCE
    ]
    passed = [one for one in found if one.passed and one.median_ms is not None]
    best = min(passed, key=lambda one: one.median_ms or np.inf)
    why = (
        f"{best.engine.label}, {best.median_ms:.1f} ms a window, is the fastest of {len(passed)}"
        f" engines that agree with fp32 ({first.median_ms:.1f} ms)"
    )
    return TunedChoice(
        model=bench.spec.name,
        model_version=bench.spec.version,
        weights_sha256=bench.spec.weights.sha256,
        computing_sha256=computing_sha256(bench.spec),
        tuned_at=datetime.now(UTC),
        data=data,
        cases=tuple(case.id for case in bench.cases),
        labelled_cases=tuple(case.id for case in bench.cases if case.reference is not None),
        engine=best.engine,
        why=why,
        machine=machine,
        versions=versions_of(best.engine),
        evidence=tuple(found),
    )


def real_windows(
    spec: ModelSpec, cases: Sequence[TuningCase], n_windows: int
) -> list[torch.Tensor]:
    """Take windows evenly from the cases, (1, 1, D, H, W) each; those of one value are left out.

    Raises
    ------
    RefusedError
        Every window of every case has only one value.
    """
    found: list[torch.Tensor] = []
    share = -(-n_windows // len(cases))
    for case in cases:
        prepared = preprocess(case.array, case.affine_lps, spec)
        plan = plan_windows(prepared.grid.shape, spec.window)
        image = padded(prepared.array, plan, spec.preprocessing.intensity.padding_value)
        d, h, w = plan.roi_size
        of_case = [
            start for start in plan.starts if only_value(_at(image, start, (d, h, w))) is None
        ]
        picked = np.linspace(0, len(of_case) - 1, min(share, len(of_case))).round().astype(int)
        found += [
            torch.from_numpy(_at(image, of_case[k], (d, h, w)).copy())[None, None] for k in picked
        ]
    if not found:
        raise RefusedError("tune: every window of the cases has only one value")
    return found[:n_windows]


def _measured_or_why_not(
    bench: Bench,
    candidate: Candidate,
    windows: Sequence[torch.Tensor],
    labels: Sequence[NDArray[Any]],
    first: Evidence,
) -> Evidence:
    """Measure one engine; one that is missing or fails stays out, and the file says why."""
    if candidate.missing is not None:
        return Evidence(engine=candidate.engine, passed=False, reason=candidate.missing)
    try:
        found, _ = _measure(bench, candidate, windows, labels)
    except (ClinferError, RuntimeError, ImportError, ValueError, OSError) as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return Evidence(engine=candidate.engine, passed=False, reason=reason)
    problem = problem_with(
        found.dice,
        found.volume_ml,
        mean_dice=found.mean_dice,
        reference_mean_dice=first.mean_dice,
    )
    if problem is None:
        return found
    return found.model_copy(update={"passed": False, "reason": problem})


def _measure(
    bench: Bench,
    candidate: Candidate,
    windows: Sequence[torch.Tensor],
    labels: Sequence[NDArray[Any]] | None,
) -> tuple[Evidence, list[NDArray[Any]]]:
    """Time one engine and label every case; ``labels`` None means that this is the reference."""
    spec, name = bench.with_engine(candidate), candidate.engine.label
    bench.progress(f"{name}: preparing")
    began = time.monotonic()
    engine = ready_engine(bench.network, spec, bench.device, cache=bench.cache, calibration=windows)
    prepare_s = time.monotonic() - began
    bench.progress(f"{name}: timing")
    times_ms = _times_ms(engine, windows)
    agreement, truth = LabelCounts(spec.n_classes), LabelCounts(spec.n_classes)
    made: list[NDArray[Any]] = []
    for number, case in enumerate(bench.cases):
        bench.progress(f"{name}: labelling {case.id}")
        result = segment_volume(case.array, case.affine_lps, spec, engine, device=bench.device)
        agreement.add(
            result.labels if labels is None else labels[number], result.labels, case.voxel_ml
        )
        if case.reference is not None:
            truth.add(case.reference, result.labels, case.voxel_ml)
        if labels is None:
            made.append(result.labels)
    dice = {
        label.name: round(value, 6)
        for label in spec.labels
        if (value := agreement.dice(label.value)) is not None
    }
    mean_dice = truth.mean_dice()
    evidence = Evidence(
        engine=candidate.engine,
        passed=True,
        reason="the reference" if labels is None else "agrees with fp32",
        median_ms=round(float(np.median(times_ms)), 3),
        p95_ms=round(float(np.percentile(times_ms, 95)), 3),
        n_timed=len(times_ms),
        prepare_s=round(prepare_s, 2),
        dice=dice,
        volume_ml={
            label.name: round(agreement.volume_ml(label.value), 3)
            for label in spec.labels
            if label.name in dice
        },
        mean_dice=None if mean_dice is None else round(mean_dice, 6),
    )
    return evidence, made


def _times_ms(engine: ReadyEngine, windows: Sequence[torch.Tensor]) -> list[float]:
    """Return milliseconds of single windows, warm-up left out."""
    there = [window.to(engine.device) for window in windows]
    for window in there[:N_WARM_UP]:
        engine.run(window)
    times_ms: list[float] = []
    until = time.monotonic() + TIME_LIMIT_S
    for k in range(N_TIMED):
        if k >= MIN_TIMED and time.monotonic() > until:
            break
        began = time.perf_counter()
        engine.run(there[k % len(there)])
        if engine.device.type == "cuda":
            torch.cuda.synchronize(engine.device)
        times_ms.append(1000 * (time.perf_counter() - began))
    return times_ms


def _at(
    image: NDArray[np.float32], start: tuple[int, int, int], size: tuple[int, int, int]
) -> NDArray[np.float32]:
    (z, y, x), (d, h, w) = start, size
    return image[z : z + d, y : y + h, x : x + w]
