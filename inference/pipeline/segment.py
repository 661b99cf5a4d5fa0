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
from inference.pipeline.engine import run_network, use_all_cores
from inference.pipeline.engines.base import ReadyEngine, engine_name
from inference.pipeline.engines.factory import ready_engine
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
        ``engine``, ``precision``, ``engine_table`` (as `[engine]` says it), ``device``,
        ``threads``, ``memory`` (predicted, budget, strips), ``peak_memory_mib`` (of the process,
        so far), ``model_grid_shape``, ``model``, ``model_version``, ``weights_sha256``
    probability : float32 in [0, 1] on the same grid, of the one label that was asked for; before
        small parts are removed
    """

    labels: Labels
    report: dict[str, Any]
    probability: NDArray[np.float32] | None = None


class Segmentation:
    """One volume on its way through one model, a window at a time.

    ``while not s.is_done: s.accept(run_network(network, s.next_patch(), engine))``, then
    ``s.finish()``. Windows of one volume are in order; several volumes may be interleaved.

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
        self._constant: tuple[float, torch.Tensor] | None = None
        self._n_reused = 0
        self._next = 0
        self._resample_s = time.monotonic() - self._began
        self._network_s = 0.0
        self._asked = self._began

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

    def next_patch(self) -> torch.Tensor:
        """Return the next window's voxels: (1, 1, D, H, W), float32, on the device."""
        self._asked = time.monotonic()
        return torch.from_numpy(self._voxels(self._next))[None, None].to(self._device)

    def accept(self, logits: torch.Tensor) -> None:
        """Merge the logits, (1, classes, D, H, W), of the window that was handed out last.

        Raises
        ------
        InferenceError
            Wrong shape, or values that are not finite.
        """
        expected = (1, self._spec.n_classes, *self._plan.roi_size)
        if tuple(logits.shape) != expected:
            raise InferenceError(f"the network gave {tuple(logits.shape)}, expected {expected}")
        self._network_s += time.monotonic() - self._asked
        if self._constant is None and self._memory.keep_constant:
            value = only_value(self._voxels(self._next))
            if value is not None:
                self._constant = (value, logits.clone())
        self._merge(logits)
        while self._constant is not None and not self.is_done:
            value, answer = self._constant
            if only_value(self._voxels(self._next)) != value:
                break
            self._merge(answer)
            self._n_reused += 1

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
        self._slab = self._constant = None
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
            "n_windows_reused": self._n_reused,
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
    ready = ready_engine(network, spec, where)
    segmentation = Segmentation(
        array,
        affine_lps,
        spec,
        device=where,
        probability_of=probability_of,
        memory_budget_mib=memory_budget_mib,
    )
    while not segmentation.is_done:
        if should_stop is not None and should_stop():
            raise StoppedError(
                f"stopped before window {segmentation.n_done + 1} of {segmentation.n_windows}"
            )
        segmentation.accept(run_network(ready, segmentation.next_patch(), spec.engine))
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
