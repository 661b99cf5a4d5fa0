"""The slab: merged scores of only those planes that windows still change, and the labels behind it.

Windows come in order of the slice axis. Once none to come touches a plane, the plane is final: its
labels are written to the scanner's grid and the slab moves on. Memory is classes x one window's
depth x one plane, whatever the length of the scan; where even that is too much, a slab holds a
strip of the plane's rows, and the scan is gone through once per strip.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cuda_kernels.accumulate import accumulate, gaussian_map
from cuda_kernels.interpolate_argmax import interpolate_argmax
from cuda_kernels.merge import merge
from cuda_kernels.resample import resample
from inference.domain.errors import InferenceError
from inference.pipeline.preprocess import ModelGrid
from inference.pipeline.spec import ModelSpec
from inference.pipeline.windows import Strip, WindowPlan

Labels = NDArray[np.uint8] | NDArray[np.uint16]


class Slab:
    """Merges windows of one volume and writes final labels into ``out``.

    Plane 0 of the arrays holds the last final plane, which the next ones are interpolated with;
    planes 1 and up are still being summed; plane 1 is plane ``base`` of the padded model grid.
    """

    def __init__(
        self,
        spec: ModelSpec,
        grid: ModelGrid,
        plan: WindowPlan,
        out: Labels,
        device: torch.device,
        strip: Strip,
        *,
        probability: tuple[int, NDArray[np.float32]] | None = None,
    ) -> None:
        self._first_row, self._end_row = strip.model_rows
        self._rows = slice(*strip.native_rows)
        depth, width = 1 + plan.roi_size[0], plan.padded_shape[2]
        height = self._end_row - self._first_row
        self._total = torch.zeros((spec.n_classes, depth, height, width), device=device)
        self._weight = torch.zeros((depth, height, width), device=device)
        self._best = torch.zeros((depth, height, width), dtype=torch.uint16, device=device)
        importance = gaussian_map(plan.roi_size, spec.window.sigma_scale)
        self._importance = torch.from_numpy(importance).to(device)
        self._softmax = spec.network.interpolate == "probabilities"
        self._plan = plan
        self._out = out  # the canonical view of the native labels
        self._probability = probability  # a label, and the canonical view of where it goes
        z, y, x = grid.axes_to_native()
        pad_z, pad_y, pad_x = plan.pad_before
        self._z = z.part(0, len(z), shift=-pad_z)
        self._y = y.part(*strip.native_rows, shift=self._first_row - pad_y)
        self._x = x.part(0, len(x), shift=-pad_x)
        self._base = 0
        self._written = 0  # native planes done
        self.merge_s = 0.0
        self.interpolate_s = 0.0

    def add(self, logits: torch.Tensor, start: tuple[int, int, int]) -> None:
        """Add one window's logits, (classes, d, h, w) float32, at its place in the padded grid."""
        began = time.monotonic()
        # Only the window's rows inside the strip; all of them where the strip is the whole plane.
        first = max(self._first_row - start[1], 0)
        end = min(self._end_row - start[1], self._plan.roi_size[1])
        accumulate(
            _array(logits[:, :, first:end]),
            _array(self._importance[:, first:end]),
            _array(self._total),
            _array(self._weight),
            (start[0] - self._base + 1, start[1] + first - self._first_row, start[2]),
        )
        self.merge_s += time.monotonic() - began

    def finish_until(self, plane: int) -> None:
        """Say that no window to come touches planes below ``plane`` of the padded grid.

        Raises
        ------
        InferenceError
            A merged score is not finite.
        """
        n_final = plane - self._base
        if n_final <= 0:
            return
        began = time.monotonic()
        total, best = _array(self._total), _array(self._best)
        finite = merge(
            total,
            _array(self._weight),
            best,
            first=1,
            last=1 + n_final,
            softmax=self._softmax,
        )
        if not finite:
            raise InferenceError("the network gave values that are not finite")
        merged = time.monotonic()
        self.merge_s += merged - began
        self._write(total, best, last_final=plane - 1)
        self.interpolate_s += time.monotonic() - merged
        self._shift(n_final)

    def _write(self, total: Any, best: Any, *, last_final: int) -> None:
        """Write every native plane between final model planes."""
        stop = int(np.searchsorted(self._z.high, last_final, side="right"))
        if stop <= self._written:
            return
        axes = (self._z.part(self._written, stop, shift=self._base - 1), self._y, self._x)
        target = self._out[self._written : stop, self._rows]
        if self._total.is_cuda:
            labels = torch.empty(
                target.shape, dtype=_TORCH[str(target.dtype)], device=self._total.device
            )
            interpolate_argmax(total, best, axes, labels)
            target[...] = labels.cpu().numpy()
        else:
            interpolate_argmax(total, best, axes, target)
        if self._probability is not None:
            label, where = self._probability
            wanted = resample(total[label], axes)
            if self._total.is_cuda:
                wanted = wanted.copy_to_host()
            where[self._written : stop, self._rows] = wanted
        self._written = stop

    def _shift(self, n_final: int) -> None:
        """Move the planes so that the first one still being summed is plane 1."""
        depth = self._weight.shape[0]
        for array in (*self._total, self._weight, self._best):
            for k in range(n_final, depth):
                array[k - n_final].copy_(array[k])
            array[depth - n_final :].zero_()
        self._base += n_final


_TORCH = {"uint8": torch.uint8, "uint16": torch.uint16}


def _array(tensor: torch.Tensor) -> Any:
    """Return what kernels take: a NumPy view of host memory, or the tensor on the device."""
    return tensor if tensor.is_cuda else tensor.numpy()
