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
from inference.pipeline.engine import engine_name, use_all_cores
from inference.pipeline.postprocess import postprocess
from inference.pipeline.preprocess import preprocess, to_canonical
from inference.pipeline.slab import Slab
from inference.pipeline.spec import ModelSpec
from inference.pipeline.windows import plan_windows

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
        total), ``n_windows``, ``batch_size``, ``engine``, ``precision``, ``device``, ``threads``,
        ``peak_memory_mib`` (of the process, so far), ``model_grid_shape``, ``model``,
        ``model_version``, ``weights_sha256``
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
    `inference.pipeline.batch.BatchRunner` computes them together.

    Raises
    ------
    RefusedError
        No result may be made from this volume by this model.
    """

    def __init__(
        self,
        array: NDArray[Any],
        affine_lps: Float64,
        spec: ModelSpec,
        *,
        device: torch.device | None = None,
        probability_of: int | None = None,
    ) -> None:
        self._began = time.monotonic()
        self._spec = spec
        self._device = device or torch.device("cpu")
        self._affine_lps = affine_lps
        view = to_canonical(array, affine_lps)
        problem = geometry_problem(spec.scope, view.array.shape, view.spacing_mm)
        if problem is not None:
            raise RefusedError(problem)
        prepared = preprocess(array, affine_lps, spec)
        plan = plan_windows(prepared.grid.shape, spec.window)
        self._image = _padded(prepared.array, plan, spec.preprocessing.intensity.padding_value)
        self._labels: Labels = (
            np.zeros(array.shape, np.uint8)
            if spec.n_classes <= 256
            else np.zeros(array.shape, np.uint16)
        )
        self._grid, self._plan = prepared.grid, plan
        axes = prepared.grid.axes
        self._probability: NDArray[np.float32] | None = None
        wanted = None
        if probability_of is not None:
            _check_probability(spec, probability_of)
            self._probability = np.zeros(array.shape, np.float32)
            wanted = (probability_of, axes.view(self._probability))
        self._slab = Slab(
            spec,
            prepared.grid,
            plan,
            axes.view(self._labels),
            self._device,
            probability=wanted,
        )
        self._handed_out = self._next = 0
        self._resample_s = time.monotonic() - self._began
        self._network_s = 0.0

    @property
    def n_windows(self) -> int:
        """Windows of the whole volume."""
        return len(self._plan.starts)

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
        """Windows not handed out yet."""
        return self.n_windows - self._handed_out

    def next_patch(self) -> torch.Tensor:
        """Hand out the next window's voxels: (1, 1, D, H, W), float32, on the device."""
        z, y, x = self._plan.starts[self._handed_out]
        self._handed_out += 1
        d, h, w = self._plan.roi_size
        patch = torch.from_numpy(self._image[z : z + d, y : y + h, x : x + w])
        return patch[None, None].to(self._device)

    def accept(self, logits: torch.Tensor, *, network_s: float) -> None:
        """Merge the logits, (1, classes, D, H, W), of the oldest window that is out.

        ``network_s`` is this window's share of the time that the network ran.

        Raises
        ------
        InferenceError
            Wrong shape, or values that are not finite.
        """
        expected = (1, self._spec.n_classes, *self._plan.roi_size)
        if tuple(logits.shape) != expected:
            raise InferenceError(f"the network gave {tuple(logits.shape)}, expected {expected}")
        self._network_s += network_s
        self._slab.add(logits[0], self._plan.starts[self._next])
        self._next += 1
        if self.is_done:
            self._slab.finish_until(self._plan.padded_shape[0])
        else:
            self._slab.finish_until(self._plan.starts[self._next][0])

    def finish(self) -> SegmentedVolume:
        """Remove what the spec says is too small, and return the labels."""
        if not self.is_done:
            raise InferenceError(f"only {self._next} of {self.n_windows} windows were run")
        began = time.monotonic()
        postprocess(self._labels, self._affine_lps, self._spec.postprocessing)
        ended = time.monotonic()
        timings = {
            "resample": self._resample_s,
            "network": self._network_s,
            "merge": self._slab.merge_s,
            "interpolate": self._slab.interpolate_s,
            "postprocess": ended - began,
            "total": ended - self._began,
        }
        report = {
            "model": self._spec.name,
            "model_version": self._spec.version,
            "weights_sha256": self._spec.weights.sha256,
            "timings_s": {stage: round(seconds, 4) for stage, seconds in timings.items()},
            "n_windows": self.n_windows,
            "batch_size": batch_size_on(self._spec, self._device),
            "engine": engine_name(self._device),
            "precision": self._spec.engine.precision,
            "device": str(self._device),
            "threads": torch.get_num_threads(),
            "peak_memory_mib": round(_peak_memory_mib(), 1),
            "model_grid_shape": list(self._grid.shape),
        }
        return SegmentedVolume(labels=self._labels, report=report, probability=self._probability)


def segment_volume(
    array: NDArray[Any],
    affine_lps: Float64,
    spec: ModelSpec,
    network: nn.Module,
    *,
    progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    device: torch.device | None = None,
    probability_of: int | None = None,
) -> SegmentedVolume:
    """Run the whole model on one volume.

    Parameters
    ----------
    array : (slice, row, column), int16 or float32, any orientation
    affine_lps : (4, 4), index to LPS millimetres
    network : from `load_network`; converted to the spec's engine if it is not yet
    progress : called with (windows done, windows in all) after each
    should_stop : asked before each window
    probability_of : a label value whose probability is wanted too (4 bytes per voxel)

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
        array, affine_lps, spec, device=where, probability_of=probability_of
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


def _padded(image: NDArray[np.float32], plan: Any, value: float) -> NDArray[np.float32]:
    """Pad an image smaller than a window; others are returned as they are."""
    if image.shape == plan.padded_shape:
        return image
    pads = [
        (before, wide - size - before)
        for before, wide, size in zip(plan.pad_before, plan.padded_shape, image.shape, strict=True)
    ]
    return np.pad(image, pads, constant_values=np.float32(value))


def _peak_memory_mib() -> float:
    """Return the largest resident memory of this process since it began."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes there, KiB here
