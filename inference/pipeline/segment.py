"""A volume in, labels out: the whole model, the same in every backend.

Canonical axes, spacing and intensity; windows through the network; Gaussian merge; interpolation
and argmax straight to the scanner's grid; small parts removed. A caller with several volumes at
hand steps a :class:`Segmentation` window by window; :func:`segment_volume` runs one to its end.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from inference.domain.errors import InferenceError, RefusedError
from inference.domain.ports import Labels
from inference.pipeline.applicability import geometry_problem
from inference.pipeline.batch import BatchRunner, batch_size_on
from inference.pipeline.engine import use_all_cores
from inference.pipeline.engines.base import ReadyEngine, engine_name
from inference.pipeline.memory import plan_memory
from inference.pipeline.postprocess import postprocess
from inference.pipeline.preprocess import model_grid, preprocess, to_canonical
from inference.pipeline.slab import Slab
from inference.pipeline.spec import ModelSpec
from inference.pipeline.windows import (
    Shape3,
    Strip,
    only_value,
    padded,
    plan_strips,
    plan_windows,
)

Float64 = NDArray[np.float64]


class StoppedError(InferenceError):
    """The caller asked to stop between two windows; nothing is wrong with model or volume."""

    code = "stopped"


@dataclass(frozen=True, kw_only=True)
class SegmentedVolume:
    """Labels of every voxel on the volume's own grid, and how they were made.

    Attributes
    ----------
    labels : (slice, row, column) of the input, uint8 (uint16 with more than 255 labels)
    report : JSON-ready: ``timings_s`` (resample, network, merge, interpolate, postprocess,
        total), ``n_windows``, ``n_windows_reused`` (constant ones that took an earlier answer),
        ``batch_size``, ``engine``, ``precision``, ``engine_table`` (as `[engine]` says it),
        ``device``, ``threads``, ``memory`` (predicted, budget, strips), ``peak_memory_mib`` (of the
        process, so far), ``model_grid_shape``, ``model``, ``model_version``, ``weights_sha256``
    probability : float32 in [0, 1] on the same grid, of the one label that was asked for; before
        small parts are removed
    """

    labels: Labels
    report: dict[str, Any]
    probability: NDArray[np.float32] | None = None


class Segmentation:
    """One volume on its way through one model, a window at a time.

    `next_patch` hands windows out in order, `accept` takes their logits back in that order, and
    `finish` ends it. Several may be out at one time, and several volumes may be interleaved: an
    `inference.pipeline.batch.BatchRunner` computes them together. A constant window that takes an
    earlier one's answer is never handed out.

    Raises
    ------
    RefusedError
        No result may be made from this volume by this model, or ``memory_budget_mib`` (None: 80 %
        of the machine's) does not hold it.
    """

    def __init__(
        self,
        array: NDArray[Any],
        affine_lps: Float64,
        spec: ModelSpec,
        *,
        device: torch.device | None = None,
        probability_of: int | None = None,
        memory_budget_mib: float | None = None,
        caller_mib: float = 0.0,
    ) -> None:
        self._began = time.monotonic()
        self._spec = spec
        self._device = device or torch.device("cpu")
        self._affine_lps = affine_lps
        view = to_canonical(array, affine_lps)
        problem = geometry_problem(spec.scope, view.array.shape, view.spacing_mm)
        if problem is not None:
            raise RefusedError(problem)
        self._memory = plan_memory(
            model_grid(view, spec.preprocessing),
            spec,
            budget_mib=memory_budget_mib,
            caller_mib=caller_mib,
            with_probability=probability_of is not None,
        )
        prepared = preprocess(array, affine_lps, spec)
        plan = plan_windows(prepared.grid.shape, spec.window)
        self._image = padded(prepared.array, plan, spec.preprocessing.intensity.padding_value)
        self._labels: Labels = (
            np.zeros(array.shape, np.uint8)
            if spec.n_classes <= 256
            else np.zeros(array.shape, np.uint16)
        )
        self._grid, self._plan = prepared.grid, plan
        self._probability: NDArray[np.float32] | None = None
        self._wanted: tuple[int, NDArray[np.float32]] | None = None
        if probability_of is not None:
            _check_probability(spec, probability_of)
            self._probability = np.zeros(array.shape, np.float32)
            self._wanted = (probability_of, prepared.grid.axes.view(self._probability))
        rows = prepared.grid.axes_to_native()[1]
        self._strips = plan_strips(plan, rows, self._memory.n_strips)
        self._windows: list[tuple[Strip, Shape3]] = [
            (strip, start) for strip in self._strips for start in strip.starts
        ]
        self._slab: Slab | None = None
        self._slab_of: Strip | None = None
        self._merge_s = self._interpolate_s = 0.0
        self._to_run, self._first_constant = self._plan_reuse()
        self._handed_out = self._n_accepted = 0  # of those in _to_run
        self._answer: torch.Tensor | None = None  # of the first constant window
        self._next = 0  # window to be merged
        self._resample_s = time.monotonic() - self._began
        self._network_s = 0.0

    @property
    def n_windows(self) -> int:
        """Windows of the whole volume; those that touch two strips count twice."""
        return len(self._windows)

    @property
    def n_done(self) -> int:
        """Windows already merged."""
        return self._next

    @property
    def is_done(self) -> bool:
        """Whether every window was merged."""
        return self._next == self.n_windows

    @property
    def n_left(self) -> int:
        """Windows for the network that are not handed out yet."""
        return len(self._to_run) - self._handed_out

    def next_patch(self) -> torch.Tensor:
        """Hand out the next window's voxels: (1, 1, D, H, W), float32, on the device."""
        number = self._to_run[self._handed_out]
        self._handed_out += 1
        return torch.from_numpy(self._voxels(number))[None, None].to(self._device)

    def accept(self, logits: torch.Tensor, *, network_s: float) -> None:
        """Merge the logits, (1, classes, D, H, W), of the oldest window that is out.

        ``network_s`` is this window's share of the time that the network ran. Constant windows
        that follow it and take an earlier answer are merged with it.

        Raises
        ------
        InferenceError
            Wrong shape, or values that are not finite.
        """
        expected = (1, self._spec.n_classes, *self._plan.roi_size)
        if tuple(logits.shape) != expected:
            raise InferenceError(f"the network gave {tuple(logits.shape)}, expected {expected}")
        self._network_s += network_s
        if self._next == self._first_constant:
            self._answer = logits.clone()
        self._merge(logits)
        self._n_accepted += 1
        is_last = self._n_accepted == len(self._to_run)
        stop = self.n_windows if is_last else self._to_run[self._n_accepted]
        while self._next < stop:
            assert self._answer is not None, "only windows behind a constant one are left out"
            self._merge(self._answer)

    def _plan_reuse(self) -> tuple[list[int], int | None]:
        """Return the windows that the network runs, and the first whose answer others take."""
        everything = list(range(self.n_windows))
        if not self._memory.keep_constant:
            return everything, None
        values = [only_value(self._voxels(number)) for number in everything]
        first = next((number for number in everything if values[number] is not None), None)
        if first is None:
            return everything, None
        to_run = [n for n in everything if n == first or values[n] != values[first]]
        return to_run, first

    def _voxels(self, number: int) -> NDArray[np.float32]:
        """Return a window's voxels, (D, H, W), without copying them."""
        z, y, x = self._windows[number][1]
        d, h, w = self._plan.roi_size
        return self._image[z : z + d, y : y + h, x : x + w]

    def _merge(self, logits: torch.Tensor) -> None:
        """Add the next window's logits to its strip's slab; label what is final."""
        strip, start = self._windows[self._next]
        if self._slab is None or self._slab_of is not strip:
            self._slab = None  # the last strip's memory is free before this one's is taken
            self._slab_of = strip
            self._slab = Slab(
                self._spec,
                self._grid,
                self._plan,
                self._grid.axes.view(self._labels),
                self._device,
                strip,
                probability=self._wanted,
            )
        slab = self._slab
        merged, interpolated = slab.merge_s, slab.interpolate_s
        slab.add(logits[0], start)
        self._next += 1
        if self.is_done or self._windows[self._next][0] is not strip:
            slab.finish_until(self._plan.padded_shape[0])
        else:
            slab.finish_until(self._windows[self._next][1][0])
        self._merge_s += slab.merge_s - merged
        self._interpolate_s += slab.interpolate_s - interpolated

    def finish(self) -> SegmentedVolume:
        """Remove what the spec says is too small, and return the labels."""
        if not self.is_done:
            raise InferenceError(f"only {self._next} of {self.n_windows} windows were run")
        began = time.monotonic()
        self._slab = self._answer = None
        postprocess(self._labels, self._affine_lps, self._spec.postprocessing)
        ended = time.monotonic()
        timings = {
            "resample": self._resample_s,
            "network": self._network_s,
            "merge": self._merge_s,
            "interpolate": self._interpolate_s,
            "postprocess": ended - began,
            "total": ended - self._began,
        }
        report = {
            "model": self._spec.name,
            "model_version": self._spec.version,
            "weights_sha256": self._spec.weights.sha256,
            "timings_s": {stage: round(seconds, 4) for stage, seconds in timings.items()},
            "n_windows": self.n_windows,
            "n_windows_reused": self.n_windows - len(self._to_run),
            "batch_size": batch_size_on(self._spec, self._device),
            "engine": engine_name(self._spec.engine, self._device),
            "precision": self._spec.engine.precision,
            "engine_table": self._spec.engine.model_dump(mode="json"),
            "device": str(self._device),
            "threads": torch.get_num_threads(),
            "memory": self._memory.as_json(),
            "peak_memory_mib": round(_peak_memory_mib(), 1),
            "model_grid_shape": list(self._grid.shape),
        }
        return SegmentedVolume(labels=self._labels, report=report, probability=self._probability)


def segment_volume(
    array: NDArray[Any],
    affine_lps: Float64,
    spec: ModelSpec,
    network: nn.Module | ReadyEngine,
    *,
    progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    device: torch.device | None = None,
    probability_of: int | None = None,
    memory_budget_mib: float | None = None,
    caller_mib: float = 0.0,
) -> SegmentedVolume:
    """Run the whole model on one volume.

    Parameters
    ----------
    array : (slice, row, column), int16 or float32, any orientation
    affine_lps : (4, 4), index to LPS millimetres
    network : from `load_network`, made ready for the spec's engine if it is not yet
    progress : called with (windows done, windows in all) after each
    should_stop : asked before each window
    probability_of : a label value whose probability is wanted too (4 bytes per voxel)
    memory_budget_mib : what the process may use in all; None: 80 % of the machine's memory
    caller_mib : how much of that another process holds, which waits for this one's answer

    Raises
    ------
    RefusedError
        The volume is empty, not a grid, or outside the model's scope.
    InferenceError
        The network failed or gave values that are not finite.
    StoppedError
        ``should_stop`` said so.
    """
    use_all_cores()
    where = device or torch.device("cpu")
    runner = BatchRunner(network, spec, where)
    segmentation = Segmentation(
        array,
        affine_lps,
        spec,
        device=where,
        probability_of=probability_of,
        memory_budget_mib=memory_budget_mib,
        caller_mib=caller_mib,
    )
    while not segmentation.is_done:
        if should_stop is not None and should_stop():
            raise StoppedError(
                f"stopped before window {segmentation.n_done + 1} of {segmentation.n_windows}"
            )
        n_out = min(runner.size, segmentation.n_left)
        for logits in runner.run([segmentation.next_patch() for _ in range(n_out)]):
            segmentation.accept(logits, network_s=runner.last_s / n_out)
        if progress is not None:
            progress(segmentation.n_done, segmentation.n_windows)
    return segmentation.finish()


def _check_probability(spec: ModelSpec, label: int) -> None:
    if not 0 <= label < spec.n_classes:
        raise RefusedError(f"probability_of: {label} is not a label of 0 to {spec.n_classes - 1}")
    if spec.network.interpolate != "probabilities":
        raise RefusedError("probability_of: this model interpolates logits, not probabilities")


def _peak_memory_mib() -> float:
    """Return the largest resident memory of this process since it began."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes there, KiB here
