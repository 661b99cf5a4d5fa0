"""Add one window's logits, weighted by its importance map, into the slab they overlap."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cuda_kernels.errors import KernelInputError
from cuda_kernels.jit import blocks, cuda, device_view, is_on_device, jit, jit_cuda, prange

Float32 = NDArray[np.float32]
Shape3 = tuple[int, int, int]


def gaussian_map(roi_size: Shape3, sigma_scale: float) -> Float32:
    """Return the importance of a window's voxels: a Gaussian, SD ``sigma_scale * size`` per axis.

    Float32 throughout and never below 1e-3, as MONAI's `compute_importance_map`, so that merged
    values agree with its `SlidingWindowInferer`.
    """
    importance = np.ones((1, 1, 1), np.float32)
    for number, size in enumerate(roi_size):
        x = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
        sigma = sigma_scale * size
        shape = [1, 1, 1]
        shape[number] = size
        importance = importance * np.exp(x**2 / np.float32(-2 * sigma**2)).reshape(shape)
    floor = max(float(importance.min()), 1e-3)
    return np.maximum(importance, np.float32(floor))


def accumulate_reference(
    logits: Float32, importance: Float32, total: Float32, weight: Float32, start: Shape3
) -> None:
    """Say what the kernels must compute."""
    place = tuple(slice(a, a + n) for a, n in zip(start, importance.shape, strict=True))
    total[(slice(None), *place)] += logits * importance
    weight[place] += importance


@jit
def _accumulate_cpu(
    logits: Any, importance: Any, total: Any, weight: Any, z0: int, y0: int, x0: int
) -> None:
    n_classes, n_z, n_y, n_x = logits.shape
    for zy in prange(n_z * n_y):
        z = zy // n_y
        y = zy % n_y
        row = importance[z, y]
        weight_row = weight[z0 + z, y0 + y]
        for x in range(n_x):
            weight_row[x0 + x] += row[x]
        for c in range(n_classes):
            source = logits[c, z, y]
            target = total[c, z0 + z, y0 + y]
            for x in range(n_x):
                target[x0 + x] += source[x] * row[x]


@jit_cuda
def _accumulate_cuda(
    logits: Any, importance: Any, total: Any, weight: Any, z0: int, y0: int, x0: int
) -> None:
    # One thread per voxel of the window; each slab voxel has one writer, so no atomics.
    i = cuda.grid(1)
    n_y = importance.shape[1]
    n_x = importance.shape[2]
    if i >= importance.shape[0] * n_y * n_x:
        return
    z = i // (n_y * n_x)
    y = (i // n_x) % n_y
    x = i % n_x
    w = importance[z, y, x]
    weight[z0 + z, y0 + y, x0 + x] += w
    for c in range(logits.shape[0]):
        total[c, z0 + z, y0 + y, x0 + x] += logits[c, z, y, x] * w


def accumulate(logits: Any, importance: Any, total: Any, weight: Any, start: Shape3) -> None:
    """Add a window to the slab in place, where the data is.

    Parameters
    ----------
    logits : (class, d, h, w), float32
    importance : (d, h, w), float32
    total, weight : (class, D, H, W) and (D, H, W), float32
        Weighted sums of the logits, and sums of the weights; changed in place.
    start : place of the window's first voxel in the slab

    Raises
    ------
    KernelInputError
    """
    roi = tuple(importance.shape)
    if tuple(logits.shape[1:]) != roi:
        raise KernelInputError(f"logits: shape {tuple(logits.shape)} does not hold windows {roi}")
    if tuple(total.shape) != (logits.shape[0], *weight.shape):
        raise KernelInputError(f"total: shape {tuple(total.shape)} does not fit logits and weight")
    for a, n, size in zip(start, roi, weight.shape, strict=True):
        if a < 0 or a + n > size:
            raise KernelInputError(f"start: {start} puts a window {roi} outside the slab")
    if is_on_device(total):
        grid = blocks(roi[0] * roi[1] * roi[2]), 256
        arrays = [device_view(a) for a in (logits, importance, total, weight)]
        _accumulate_cuda[grid](*arrays, *start)
        return
    _accumulate_cpu(logits, importance, total, weight, start[0], start[1], start[2])
