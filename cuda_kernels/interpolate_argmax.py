"""From class scores on the model's grid to labels on the scanner's: interpolation and argmax.

Nothing of classes x voxels is made at full resolution. Where the eight surrounding scores agree on
the best class, so does every weighted mean of them; only voxels at a boundary are interpolated.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cuda_kernels.axis import LinearAxis
from cuda_kernels.errors import KernelInputError
from cuda_kernels.half import HalfType, half_values
from cuda_kernels.jit import (
    blocks,
    cuda,
    device_view,
    is_on_device,
    jit,
    jit_both,
    jit_cuda,
    prange,
)

Float32 = NDArray[np.float32]
Axes = tuple[LinearAxis, LinearAxis, LinearAxis]


def interpolate_argmax_reference(scores: Float32, axes: Axes) -> NDArray[np.uint16]:
    """Say what the kernels must compute: every class interpolated in float64, first of equals."""
    out: NDArray[Any] = scores.astype(np.float64)
    for number, axis in enumerate(axes, start=1):
        shape = [1, 1, 1, 1]
        shape[number] = len(axis)
        weight = axis.weight.astype(np.float64).reshape(shape)
        out = (1 - weight) * out.take(axis.low, number) + weight * out.take(axis.high, number)
    labels: NDArray[np.uint16] = out.argmax(axis=0).astype(np.uint16)
    return labels


def _best_class(
    scores: Any,
    z0: int, z1: int, y0: int, y1: int, x0: int, x1: int,
    w00: Any, w01: Any, w10: Any, w11: Any, wx: Any,
) -> int:  # fmt: skip
    """Interpolate every class between eight scores; the first of the highest."""
    highest = np.float32(-np.inf)
    label = 0
    for k in range(scores.shape[0]):
        left = (
            w00 * scores[k, z0, y0, x0]
            + w01 * scores[k, z0, y1, x0]
            + w10 * scores[k, z1, y0, x0]
            + w11 * scores[k, z1, y1, x0]
        )
        right = (
            w00 * scores[k, z0, y0, x1]
            + w01 * scores[k, z0, y1, x1]
            + w10 * scores[k, z1, y0, x1]
            + w11 * scores[k, z1, y1, x1]
        )
        value = (np.float32(1) - wx) * left + wx * right
        if value > highest:
            highest = value
            label = k
    return label


_best_class_cpu, _best_class_cuda = jit_both(_best_class)


def _best_of_halves(
    scores: Any, values: Any,
    z0: int, z1: int, y0: int, y1: int, x0: int, x1: int,
    w00: Any, w01: Any, w10: Any, w11: Any, wx: Any,
) -> int:  # fmt: skip
    """Do the same with scores of 16 bits, by the table of their values."""
    highest = np.float32(-np.inf)
    label = 0
    for k in range(scores.shape[0]):
        left = (
            w00 * values[scores[k, z0, y0, x0]]
            + w01 * values[scores[k, z0, y1, x0]]
            + w10 * values[scores[k, z1, y0, x0]]
            + w11 * values[scores[k, z1, y1, x0]]
        )
        right = (
            w00 * values[scores[k, z0, y0, x1]]
            + w01 * values[scores[k, z0, y1, x1]]
            + w10 * values[scores[k, z1, y0, x1]]
            + w11 * values[scores[k, z1, y1, x1]]
        )
        value = (np.float32(1) - wx) * left + wx * right
        if value > highest:
            highest = value
            label = k
    return label


_best_of_halves_cpu, _best_of_halves_cuda = jit_both(_best_of_halves)


@jit
def _interpolate_argmax_cpu(
    scores: Any,
    halves: Any,
    values: Any,
    best: Any,
    out: Any,
    z_low: Any, z_high: Any, z_weight: Any,
    y_low: Any, y_high: Any, y_weight: Any,
    x_low: Any, x_high: Any, x_weight: Any,
) -> None:  # fmt: skip
    n_z, n_y, n_x = out.shape
    n_in = best.shape[2]
    for zy in prange(n_z * n_y):
        z = zy // n_y
        y = zy % n_y
        z0 = z_low[z]
        z1 = z_high[z]
        y0 = y_low[y]
        y1 = y_high[y]
        agreed = np.empty(n_in, np.int32)  # the label of the four rows here, or -1
        a = best[z0, y0]
        b = best[z0, y1]
        c = best[z1, y0]
        d = best[z1, y1]
        for x in range(n_in):
            same = (a[x] == b[x]) and (a[x] == c[x]) and (a[x] == d[x])
            agreed[x] = a[x] if same else -1
        wz = z_weight[z]
        wy = y_weight[y]
        w00 = (np.float32(1) - wz) * (np.float32(1) - wy)
        w01 = (np.float32(1) - wz) * wy
        w10 = wz * (np.float32(1) - wy)
        w11 = wz * wy
        target = out[z, y]
        for x in range(n_x):
            x0 = x_low[x]
            x1 = x_high[x]
            label = agreed[x0]
            if label < 0 or label != agreed[x1]:
                if values.size == 0:
                    label = _best_class_cpu(
                        scores, z0, z1, y0, y1, x0, x1, w00, w01, w10, w11, x_weight[x]
                    )
                else:
                    label = _best_of_halves_cpu(
                        halves, values, z0, z1, y0, y1, x0, x1, w00, w01, w10, w11, x_weight[x]
                    )
            target[x] = label


@jit_cuda
def _interpolate_argmax_cuda(
    scores: Any,
    halves: Any,
    values: Any,
    best: Any,
    out: Any,
    z_low: Any, z_high: Any, z_weight: Any,
    y_low: Any, y_high: Any, y_weight: Any,
    x_low: Any, x_high: Any, x_weight: Any,
) -> None:  # fmt: skip
    # One thread per output voxel.
    i = cuda.grid(1)
    n_y = out.shape[1]
    n_x = out.shape[2]
    if i >= out.shape[0] * n_y * n_x:
        return
    z = i // (n_y * n_x)
    y = (i // n_x) % n_y
    x = i % n_x
    z0 = z_low[z]
    z1 = z_high[z]
    y0 = y_low[y]
    y1 = y_high[y]
    x0 = x_low[x]
    x1 = x_high[x]
    label = best[z0, y0, x0]
    if not (
        label == best[z0, y0, x1]
        and label == best[z0, y1, x0]
        and label == best[z0, y1, x1]
        and label == best[z1, y0, x0]
        and label == best[z1, y0, x1]
        and label == best[z1, y1, x0]
        and label == best[z1, y1, x1]
    ):
        wz = z_weight[z]
        wy = y_weight[y]
        w00 = (np.float32(1) - wz) * (np.float32(1) - wy)
        w01 = (np.float32(1) - wz) * wy
        w10 = wz * (np.float32(1) - wy)
        w11 = wz * wy
        wx = x_weight[x]
        if values.size == 0:
            label = _best_class_cuda(scores, z0, z1, y0, y1, x0, x1, w00, w01, w10, w11, wx)
        else:
            label = _best_of_halves_cuda(
                halves, values, z0, z1, y0, y1, x0, x1, w00, w01, w10, w11, wx
            )
    out[z, y, x] = label


def interpolate_argmax(
    scores: Any, best: Any, axes: Axes, out: Any, *, half: HalfType | None = None
) -> None:
    """Write the label of each output voxel, where the data is.

    Parameters
    ----------
    scores : (class, D, H, W), float32, float16, or uint16 views of the type that ``half`` names;
        finite
    best : (D, H, W), uint16: the argmax of ``scores`` over classes
    axes : how each output index is interpolated from the scores' grid
    out : of the axes' lengths, uint8 or uint16, any strides (a flipped or transposed view too)

    Raises
    ------
    KernelInputError
    """
    dtype = str(scores.dtype).removeprefix("torch.")
    if dtype == "float16" and half is None and not is_on_device(scores):
        scores, dtype, half = scores.view(np.uint16), "uint16", "fp16"
    if dtype != ("float32" if half is None else "uint16"):
        raise KernelInputError(
            f"scores: dtype {dtype} with half {half}: give float32, or fp16 and bf16 as uint16"
        )
    if tuple(scores.shape[1:]) != tuple(best.shape):
        raise KernelInputError(f"best: shape {tuple(best.shape)} is not {tuple(scores.shape[1:])}")
    if tuple(out.shape) != tuple(len(axis) for axis in axes):
        raise KernelInputError(f"out: shape {tuple(out.shape)} is not the axes' lengths")
    if 0 in out.shape:
        return
    for size, axis in zip(best.shape, axes, strict=True):
        if axis.low.min() < 0 or axis.high.max() >= size:
            raise KernelInputError(f"axes: an index lies outside an axis of {size}")
    z, y, x = axes
    values = np.empty(0, np.float32) if half is None else half_values(half)
    # A kernel has one argument for each type of scores, and the other stays empty.
    nothing = np.empty((0, 0, 0, 0), np.uint16 if half is None else np.float32)
    if is_on_device(scores):
        tables = [cuda.to_device(t) for a in axes for t in (a.low, a.high, a.weight)]
        given, best_there, out_there = (device_view(a) for a in (scores, best, out))
        empty = cuda.to_device(nothing)
        pair = (given, empty) if half is None else (empty, given)
        n = out.shape[0] * out.shape[1] * out.shape[2]
        _interpolate_argmax_cuda[blocks(n), 256](
            *pair, cuda.to_device(values), best_there, out_there, *tables
        )
        return
    wide, narrow = (scores, nothing) if half is None else (nothing, scores)
    _interpolate_argmax_cpu(
        wide, narrow, values, best, out,
        z.low, z.high, z.weight, y.low, y.high, y.weight, x.low, x.high, x.weight,
    )  # fmt: skip
