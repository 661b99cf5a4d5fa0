"""Separable resampling by weighted neighbours: cubic B-spline and antialiased linear.

Each output index of an axis is a weighted sum of a few input indices; axes are worked on one after
the other, the one that shrinks most first. Plain linear has a faster kernel, in `resample`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cuda_kernels.axis import linear_axis
from cuda_kernels.errors import KernelInputError
from cuda_kernels.jit import blocks, cuda, device_view, is_on_device, jit, jit_cuda, prange

Float32 = NDArray[np.float32]
TRUNCATE = 4.0
"""Where the Gaussian ends, in standard deviations (SciPy's and scikit-image's)."""


@dataclass(frozen=True, kw_only=True)
class AxisTaps:
    """Output ``i`` is the sum over ``k`` of ``weight[i, k] * input[index[i, k]]``.

    Attributes
    ----------
    index : (n_out, taps), int32
    weight : (n_out, taps), float32
    """

    index: NDArray[np.int32]
    weight: Float32

    def __len__(self) -> int:
        return len(self.index)


Taps = tuple[AxisTaps, AxisTaps, AxisTaps]


def antialiased_taps(n_in: int, n_out: int, step: float) -> AxisTaps:
    """Linear interpolation at 0, step, 2 step, ... of the axis smoothed by a Gaussian.

    Its standard deviation is ``(step - 1) / 2`` input voxels where ``step`` is above 1, the rule of
    scikit-image's `resize` and MONAI's `Resize`; an axis that does not shrink is not smoothed.
    Beyond the border there is the border's value.
    """
    axis = linear_axis(n_in, n_out, step)
    sigma = max(0.0, (step - 1) / 2)
    radius = int(TRUNCATE * sigma + 0.5)
    kernel = np.ones(1)
    if radius > 0:
        kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
        kernel /= kernel.sum()
    at_low, at_high = np.pad(kernel, (0, 1)), np.pad(kernel, (1, 0))
    weight = axis.weight.astype(np.float64)[:, None]
    offsets = np.arange(-radius, radius + 2)
    return AxisTaps(
        index=np.clip(axis.low[:, None] + offsets, 0, n_in - 1).astype(np.int32),
        weight=((1 - weight) * at_low + weight * at_high).astype(np.float32),
    )


def cubic_taps(n_in: int, n_out: int, step: float) -> AxisTaps:
    """Cubic B-spline at 0, step, 2 step, ...; to be applied to `bspline.prefilter`'s coefficients.

    Places past the border take the border's value, as `linear_axis`; coefficients past it are
    mirrored, as the prefilter's are.
    """
    axis = linear_axis(n_in, n_out, step)
    t = axis.weight.astype(np.float64)
    weight = np.stack(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1
    )
    index = axis.low[:, None].astype(np.int64) + np.arange(-1, 3)
    if n_in > 1:
        period = 2 * (n_in - 1)
        index = np.abs(index) % period
        index = np.minimum(index, period - index)
    return AxisTaps(
        index=np.clip(index, 0, n_in - 1).astype(np.int32),
        weight=(weight / 6).astype(np.float32),
    )


def resample_taps_reference(image: NDArray[Any], taps: Taps) -> Float32:
    """Say what the kernels must compute: one axis after the other, in float64."""
    out: NDArray[Any] = image.astype(np.float64)
    for number, axis in enumerate(taps):
        gathered = np.moveaxis(out, number, 0)[axis.index]  # (n_out, taps, ...)
        summed = np.einsum("ik,ik...->i...", axis.weight.astype(np.float64), gathered)
        out = np.moveaxis(summed, 0, number)
    return out.astype(np.float32)


@jit
def _middle_cpu(image: Any, out: Any, index: Any, weight: Any) -> None:
    n_out = out.shape[1]
    for ai in prange(out.shape[0] * n_out):
        a = ai // n_out
        i = ai % n_out
        target = out[a, i]
        target[:] = 0
        for k in range(index.shape[1]):
            w = weight[i, k]
            if w != 0:
                source = image[a, index[i, k]]
                for b in range(target.size):
                    target[b] += w * np.float32(source[b])


@jit
def _last_cpu(image: Any, out: Any, index: Any, weight: Any) -> None:
    for a in prange(out.shape[0]):
        source = image[a]
        for i in range(out.shape[1]):
            summed = np.float32(0)
            for k in range(index.shape[1]):
                summed += weight[i, k] * np.float32(source[index[i, k]])
            out[a, i] = summed


@jit_cuda
def _middle_cuda(image: Any, out: Any, index: Any, weight: Any) -> None:
    # One thread per output value; neighbours in the last axis read neighbours.
    i = cuda.grid(1)
    n_out = out.shape[1]
    n_b = out.shape[2]
    if i >= out.shape[0] * n_out * n_b:
        return
    a = i // (n_out * n_b)
    o = (i // n_b) % n_out
    b = i % n_b
    summed = np.float32(0)
    for k in range(index.shape[1]):
        summed += weight[o, k] * np.float32(image[a, index[o, k], b])
    out[a, o, b] = summed


def resample_taps(image: Any, taps: Taps) -> Any:
    """Resample by weighted neighbours along each axis, where the data is.

    Parameters
    ----------
    image : (slice, row, column), int16 or float32; a view that is not contiguous is copied first

    Returns
    -------
    float32, C-contiguous, of the taps' lengths. Besides it, one float32 array between two axes is
    alive at a time.

    Raises
    ------
    KernelInputError
    """
    if len(image.shape) != 3 or 0 in image.shape:
        raise KernelInputError(f"image: shape {image.shape} is not three axes of at least 1")
    if str(image.dtype).removeprefix("torch.") not in ("int16", "float32"):
        raise KernelInputError(f"image: dtype {image.dtype} is neither int16 nor float32")
    for size, axis in zip(image.shape, taps, strict=True):
        if len(axis) == 0 or axis.index.min() < 0 or axis.index.max() >= size:
            raise KernelInputError(f"taps: an index lies outside an axis of {size}")
    on_device = is_on_device(image)
    current = device_view(image) if on_device else np.ascontiguousarray(image)
    shape = list(image.shape)
    for number in sorted(range(3), key=lambda k: len(taps[k]) / shape[k]):
        before = int(np.prod(shape[:number], dtype=np.int64))
        after = int(np.prod(shape[number + 1 :], dtype=np.int64))
        axis = taps[number]
        n_in, n_out = shape[number], len(axis)
        shape[number] = n_out
        if on_device:
            found = cuda.device_array((before, n_out, after), np.float32)
            tables = cuda.to_device(axis.index), cuda.to_device(axis.weight)
            source = current.reshape((before, n_in, after))
            _middle_cuda[blocks(before * n_out * after), 256](source, found, *tables)
        elif number == 2:
            found = np.empty((before, n_out), np.float32)
            _last_cpu(current.reshape((before, n_in)), found, axis.index, axis.weight)
        else:
            found = np.empty((before, n_out, after), np.float32)
            _middle_cpu(current.reshape((before, n_in, after)), found, axis.index, axis.weight)
        current = found.reshape(tuple(shape))
    return current
