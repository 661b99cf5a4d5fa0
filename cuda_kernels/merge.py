"""Finish merged planes in place: divide by the weights, softmax, and name the best class."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cuda_kernels.errors import KernelInputError
from cuda_kernels.jit import blocks, cuda, device_view, is_on_device, jit, jit_cuda, prange

Float32 = NDArray[np.float32]


def merge_reference(
    total: Float32, weight: Float32, *, softmax: bool
) -> tuple[Float32, NDArray[np.uint16]]:
    """Say what the kernels must compute: the scores and their argmax (first of equals)."""
    scores = total.astype(np.float64) / weight
    if softmax:
        scores = np.exp(scores - scores.max(axis=0))
        scores /= scores.sum(axis=0)
    return scores.astype(np.float32), total.argmax(axis=0).astype(np.uint16)


@jit
def _merge_cpu(
    total: Any, weight: Any, labels: Any, first: int, last: int, softmax: bool, bad: Any
) -> None:
    n_classes = total.shape[0]
    n_y = total.shape[2]
    n_x = total.shape[3]
    for zy in prange((last - first) * n_y):
        z = first + zy // n_y
        y = zy % n_y
        best = np.empty(n_x, np.float32)
        sums = np.zeros(n_x, np.float32)
        for x in range(n_x):
            best[x] = total[0, z, y, x]
            labels[z, y, x] = 0
        for c in range(1, n_classes):
            for x in range(n_x):
                value = total[c, z, y, x]
                if value > best[x]:
                    best[x] = value
                    labels[z, y, x] = c
        for c in range(n_classes):
            for x in range(n_x):
                value = (total[c, z, y, x] - (best[x] if softmax else np.float32(0))) / weight[
                    z, y, x
                ]
                if not np.isfinite(value):
                    bad[z] = 1
                if softmax:
                    value = np.exp(value)
                    sums[x] += value
                total[c, z, y, x] = value
        if softmax:
            for c in range(n_classes):
                for x in range(n_x):
                    total[c, z, y, x] /= sums[x]


@jit_cuda
def _merge_cuda(
    total: Any, weight: Any, labels: Any, first: int, last: int, softmax: bool, bad: Any
) -> None:
    # One thread per voxel of the finished planes.
    i = cuda.grid(1)
    n_y = total.shape[2]
    n_x = total.shape[3]
    if i >= (last - first) * n_y * n_x:
        return
    z = first + i // (n_y * n_x)
    y = (i // n_x) % n_y
    x = i % n_x
    best = total[0, z, y, x]
    label = 0
    for c in range(1, total.shape[0]):
        if total[c, z, y, x] > best:
            best = total[c, z, y, x]
            label = c
    labels[z, y, x] = label
    summed = np.float32(0)
    for c in range(total.shape[0]):
        value = (total[c, z, y, x] - (best if softmax else np.float32(0))) / weight[z, y, x]
        if not -np.inf < value < np.inf:
            bad[z] = 1
        if softmax:
            value = math.exp(value)
            summed += value
        total[c, z, y, x] = value
    if softmax:
        for c in range(total.shape[0]):
            total[c, z, y, x] /= summed


def merge(total: Any, weight: Any, labels: Any, *, first: int, last: int, softmax: bool) -> bool:
    """Finish planes ``first`` to ``last`` (excluded) in place, where the data is.

    Parameters
    ----------
    total : (class, D, H, W), float32; weighted sums in, probabilities (or mean logits) out
    weight : (D, H, W), float32, above 0 on those planes
    labels : (D, H, W), uint16; the best class of each voxel is written

    Returns
    -------
    Whether every value was finite.
    """
    shape = tuple(total.shape)
    if shape[1:] != tuple(weight.shape) or shape[1:] != tuple(labels.shape):
        raise KernelInputError(f"total: shape {shape} does not fit weight and labels")
    if not 0 <= first <= last <= shape[1]:
        raise KernelInputError(f"first, last: {first}, {last} are not planes of {shape[1]}")
    bad = np.zeros(shape[1], np.uint8)
    if not is_on_device(total):
        _merge_cpu(total, weight, labels, first, last, softmax, bad)
        return not bad.any()
    n = (last - first) * shape[2] * shape[3]
    bad_there = cuda.to_device(bad)
    arrays = [device_view(a) for a in (total, weight, labels)]
    _merge_cuda[blocks(n), 256](*arrays, first, last, softmax, bad_there)
    return not bad_there.copy_to_host().any()
