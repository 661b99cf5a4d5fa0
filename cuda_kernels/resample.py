"""Linear resampling of a volume to another axis-aligned grid, fused with clip, scale and cast.

int16 voxels become float32 at the new spacing without a float copy at the old one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cuda_kernels.axis import LinearAxis
from cuda_kernels.errors import KernelInputError
from cuda_kernels.jit import blocks, cuda, device_view, is_on_device, jit, jit_cuda, prange

Float32 = NDArray[np.float32]
Axes = tuple[LinearAxis, LinearAxis, LinearAxis]
DTYPES = ("int16", "float32")


def resample_reference(
    image: NDArray[Any], axes: Axes, lower: float | None = None, upper: float | None = None
) -> Float32:
    """Say what the kernels must compute: one axis after the other, in float64."""
    out: NDArray[Any] = image.astype(np.float64)
    for number, axis in enumerate(axes):
        shape = [1, 1, 1]
        shape[number] = len(axis)
        weight = axis.weight.astype(np.float64).reshape(shape)
        out = (1 - weight) * out.take(axis.low, number) + weight * out.take(axis.high, number)
    if lower is not None and upper is not None:
        out = np.clip((out - lower) / (upper - lower), 0, 1)
    return out.astype(np.float32)


@jit
def _resample_cpu(
    image: Any,
    out: Any,
    z_low: Any, z_high: Any, z_weight: Any,
    y_low: Any, y_high: Any, y_weight: Any,
    x_low: Any, x_high: Any, x_weight: Any,
    scaled: bool, lower: float, width: float,
) -> None:  # fmt: skip
    n_z, n_y, n_x = out.shape
    n_in = image.shape[2]
    for zy in prange(n_z * n_y):
        z = zy // n_y
        y = zy % n_y
        # The four input rows around this output row are blended first, then read along x.
        wz = z_weight[z]
        wy = y_weight[y]
        a = (np.float32(1) - wz) * (np.float32(1) - wy)
        b = (np.float32(1) - wz) * wy
        c = wz * (np.float32(1) - wy)
        d = wz * wy
        row_a = image[z_low[z], y_low[y]]
        row_b = image[z_low[z], y_high[y]]
        row_c = image[z_high[z], y_low[y]]
        row_d = image[z_high[z], y_high[y]]
        row = np.empty(n_in, np.float32)
        for x in range(n_in):
            row[x] = (
                a * np.float32(row_a[x])
                + b * np.float32(row_b[x])
                + c * np.float32(row_c[x])
                + d * np.float32(row_d[x])
            )
        target = out[z, y]
        for x in range(n_x):
            w = x_weight[x]
            value = (np.float32(1) - w) * row[x_low[x]] + w * row[x_high[x]]
            if scaled:
                value = (value - np.float32(lower)) / np.float32(width)
                value = min(max(value, np.float32(0)), np.float32(1))
            target[x] = value


@jit_cuda
def _resample_cuda(
    image: Any,
    out: Any,
    z_low: Any, z_high: Any, z_weight: Any,
    y_low: Any, y_high: Any, y_weight: Any,
    x_low: Any, x_high: Any, x_weight: Any,
    scaled: bool, lower: float, width: float,
) -> None:  # fmt: skip
    i = cuda.grid(1)
    n_y = out.shape[1]
    n_x = out.shape[2]
    if i >= out.shape[0] * n_y * n_x:
        return
    z = i // (n_y * n_x)
    y = (i // n_x) % n_y
    x = i % n_x
    value = np.float32(0)
    for corner in range(8):
        wz = z_weight[z] if corner & 4 else np.float32(1) - z_weight[z]
        wy = y_weight[y] if corner & 2 else np.float32(1) - y_weight[y]
        wx = x_weight[x] if corner & 1 else np.float32(1) - x_weight[x]
        iz = z_high[z] if corner & 4 else z_low[z]
        iy = y_high[y] if corner & 2 else y_low[y]
        ix = x_high[x] if corner & 1 else x_low[x]
        value += wz * wy * wx * np.float32(image[iz, iy, ix])
    if scaled:
        value = (value - np.float32(lower)) / np.float32(width)
        value = min(max(value, np.float32(0)), np.float32(1))
    out[z, y, x] = value


def resample(
    image: Any, axes: Axes, *, lower: float | None = None, upper: float | None = None
) -> Any:
    """Resample where the data is; with ``lower`` and ``upper``, clip to them and scale to [0, 1].

    Parameters
    ----------
    image : (slice, row, column), int16 or float32, any strides
        A NumPy array, or a device array (then a device array is returned, and the launch is
        asynchronous).
    axes : how each output index is made from input indices

    Returns
    -------
    float32, C-contiguous, of the axes' lengths

    Raises
    ------
    KernelInputError
    """
    if len(image.shape) != 3 or 0 in image.shape:
        raise KernelInputError(f"image: shape {image.shape} is not three axes of at least 1")
    if str(image.dtype).removeprefix("torch.") not in DTYPES:
        raise KernelInputError(f"image: dtype {image.dtype} is not one of {DTYPES}")
    if (lower is None) != (upper is None):
        raise KernelInputError("lower, upper: give both or neither")
    for size, axis in zip(image.shape, axes, strict=True):
        if len(axis) == 0 or axis.high.max() >= size or axis.low.min() < 0:
            raise KernelInputError(f"axes: an index lies outside an axis of {size}")
    scaled = lower is not None and upper is not None
    low = float(lower) if lower is not None else 0.0
    width = float(upper) - low if upper is not None else 1.0
    shape = (len(axes[0]), len(axes[1]), len(axes[2]))
    z, y, x = axes
    if not is_on_device(image):
        out = np.empty(shape, np.float32)
        _resample_cpu(
            image, out,
            z.low, z.high, z.weight, y.low, y.high, y.weight, x.low, x.high, x.weight,
            scaled, low, width,
        )  # fmt: skip
        return out
    on_device = cuda.device_array(shape, np.float32)
    tables = [cuda.to_device(t) for axis in axes for t in (axis.low, axis.high, axis.weight)]
    n = shape[0] * shape[1] * shape[2]
    source = device_view(image)
    _resample_cuda[blocks(n), 256](source, on_device, *tables, scaled, low, width)
    return on_device
