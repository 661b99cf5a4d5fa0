"""Nearest-voxel resampling to another axis-aligned grid: what keeps labels whole."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cuda_kernels.axis import LinearAxis, nearest_indices
from cuda_kernels.errors import KernelInputError
from cuda_kernels.jit import blocks, cuda, device_view, is_on_device, jit, jit_cuda, prange

Axes = tuple[LinearAxis, LinearAxis, LinearAxis]


def resample_nearest_reference(image: NDArray[Any], axes: Axes) -> NDArray[Any]:
    """Say what the kernels must compute."""
    found: NDArray[Any] = image[np.ix_(*(nearest_indices(axis) for axis in axes))]
    return found


@jit
def _nearest_cpu(image: Any, out: Any, z: Any, y: Any, x: Any) -> None:
    n_y = out.shape[1]
    for zy in prange(out.shape[0] * n_y):
        source = image[z[zy // n_y], y[zy % n_y]]
        target = out[zy // n_y, zy % n_y]
        for i in range(target.size):
            target[i] = source[x[i]]


@jit_cuda
def _nearest_cuda(image: Any, out: Any, z: Any, y: Any, x: Any) -> None:
    # One thread per output voxel.
    i = cuda.grid(1)
    n_y, n_x = out.shape[1], out.shape[2]
    if i < out.shape[0] * n_y * n_x:
        k, j = i // (n_y * n_x), (i // n_x) % n_y
        out[k, j, i % n_x] = image[z[k], y[j], x[i % n_x]]


def resample_nearest(image: Any, axes: Axes) -> Any:
    """Take the nearest voxel, where the data is; a tie takes the lower index.

    Parameters
    ----------
    image : (slice, row, column), whole numbers, floats or bool, any strides
    axes : the places, as for `resample`

    Returns
    -------
    C-contiguous, of the axes' lengths and the image's dtype

    Raises
    ------
    KernelInputError
    """
    if len(image.shape) != 3 or 0 in image.shape:
        raise KernelInputError(f"image: shape {image.shape} is not three axes of at least 1")
    for size, axis in zip(image.shape, axes, strict=True):
        if len(axis) == 0 or axis.high.max() >= size or axis.low.min() < 0:
            raise KernelInputError(f"axes: an index lies outside an axis of {size}")
    tables = [nearest_indices(axis) for axis in axes]
    shape = (len(axes[0]), len(axes[1]), len(axes[2]))
    if is_on_device(image):
        source = device_view(image)
        on_device = cuda.device_array(shape, source.dtype)
        n = shape[0] * shape[1] * shape[2]
        _nearest_cuda[blocks(n), 256](source, on_device, *(cuda.to_device(t) for t in tables))
        return on_device
    if image.dtype.kind not in "biuf" or not image.dtype.isnative or image.dtype == np.float16:
        raise KernelInputError(f"image: dtype {image.dtype} is not one that the kernel reads")
    out = np.empty(shape, image.dtype)
    _nearest_cpu(image, out, *tables)
    return out
