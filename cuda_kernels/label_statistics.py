"""Count, sum, spread, extremes, bounding box and centroid of every label, in one pass.

Each slice is summed on its own around its first value, and slices are combined in order (Chan,
Golub and LeVeque 1983), so that the result is the same on any number of cores, and a large mean
does not eat a small spread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cuda_kernels.errors import KernelInputError
from cuda_kernels.jit import blocks, cuda, device_view, is_on_device, jit, jit_cuda, prange

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
FAR = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class LabelStatistics:
    """Statistics by label value; index 0 is the background.

    Attributes
    ----------
    count : (n,) voxels
    mean, m2 : (n,) mean, and sum of squared differences from it; NaN where there is no voxel
    minimum, maximum : (n,) NaN where there is no voxel
    first, last : (n, 3) bounding box in (slice, row, column), both ends inside; -1 without voxels
    centroid : (n, 3) mean index; NaN without voxels
    """

    count: Int64
    mean: Float64
    m2: Float64
    minimum: Float64
    maximum: Float64
    first: Int64
    last: Int64
    centroid: Float64


def label_statistics_reference(
    labels: NDArray[Any], image: NDArray[Any], n_labels: int
) -> LabelStatistics:
    """Say what the kernels must compute, label by label."""
    nan = np.full(n_labels, np.nan)
    box = np.full((n_labels, 3), -1, np.int64)
    result = LabelStatistics(
        count=np.zeros(n_labels, np.int64), mean=nan.copy(), m2=nan.copy(), minimum=nan.copy(),
        maximum=nan.copy(), first=box.copy(), last=box.copy(),
        centroid=np.full((n_labels, 3), np.nan),
    )  # fmt: skip
    for label in range(n_labels):
        places = np.argwhere(labels == label)
        if len(places) == 0:
            continue
        values = image[labels == label].astype(np.float64)
        result.count[label] = len(places)
        result.mean[label] = values.mean()
        result.m2[label] = ((values - values.mean()) ** 2).sum()
        result.minimum[label], result.maximum[label] = values.min(), values.max()
        result.first[label], result.last[label] = places.min(axis=0), places.max(axis=0)
        result.centroid[label] = places.mean(axis=0)
    return result


@jit
def _label_statistics_cpu(
    labels: Any, image: Any, counts: Any, shift: Any, moments: Any, extremes: Any, boxes: Any,
    sums: Any, outside: Any,
) -> None:  # fmt: skip
    n_z, n_y, n_x = labels.shape
    n_labels = counts.shape[1]
    for z in prange(n_z):
        for y in range(n_y):
            for x in range(n_x):
                label = labels[z, y, x]
                if label >= n_labels:
                    outside[z] = 1
                    continue
                value = np.float64(image[z, y, x])
                if counts[z, label] == 0:
                    shift[z, label] = value
                    extremes[z, label, 0] = value
                    extremes[z, label, 1] = value
                    boxes[z, label, 0] = y
                    boxes[z, label, 2] = x
                    boxes[z, label, 3] = x
                counts[z, label] += 1
                away = value - shift[z, label]
                moments[z, label, 0] += away
                moments[z, label, 1] += away * away
                if value < extremes[z, label, 0]:
                    extremes[z, label, 0] = value
                if value > extremes[z, label, 1]:
                    extremes[z, label, 1] = value
                boxes[z, label, 1] = y
                if x < boxes[z, label, 2]:
                    boxes[z, label, 2] = x
                if x > boxes[z, label, 3]:
                    boxes[z, label, 3] = x
                sums[z, label, 0] += y
                sums[z, label, 1] += x


@jit_cuda
def _label_statistics_cuda(
    labels: Any, image: Any, counts: Any, shift: Any, moments: Any, extremes: Any, boxes: Any,
    sums: Any, outside: Any,
) -> None:  # fmt: skip
    # One thread per slice: each has its own row of every table, so no atomics and one order.
    z = cuda.grid(1)
    if z >= labels.shape[0]:
        return
    n_labels = counts.shape[1]
    for y in range(labels.shape[1]):
        for x in range(labels.shape[2]):
            label = labels[z, y, x]
            if label >= n_labels:
                outside[z] = 1
                continue
            value = np.float64(image[z, y, x])
            if counts[z, label] == 0:
                shift[z, label] = value
                extremes[z, label, 0] = value
                extremes[z, label, 1] = value
                boxes[z, label, 0] = y
                boxes[z, label, 2] = x
                boxes[z, label, 3] = x
            counts[z, label] += 1
            away = value - shift[z, label]
            moments[z, label, 0] += away
            moments[z, label, 1] += away * away
            extremes[z, label, 0] = min(extremes[z, label, 0], value)
            extremes[z, label, 1] = max(extremes[z, label, 1], value)
            boxes[z, label, 1] = y
            boxes[z, label, 2] = min(boxes[z, label, 2], x)
            boxes[z, label, 3] = max(boxes[z, label, 3], x)
            sums[z, label, 0] += y
            sums[z, label, 1] += x


def label_statistics(labels: Any, image: Any, n_labels: int) -> LabelStatistics:
    """Statistics of ``image`` under each label 0 to ``n_labels - 1``, computed where the data is.

    Parameters
    ----------
    labels : (slice, row, column), uint8 or uint16
    image : the same shape, int16 or float32

    Raises
    ------
    KernelInputError
        Shapes differ, or a label is ``n_labels`` or more.
    """
    if tuple(labels.shape) != tuple(image.shape) or len(labels.shape) != 3:
        raise KernelInputError(f"labels: shape {labels.shape} is not the image's, {image.shape}")
    n_z = labels.shape[0]
    tables: tuple[NDArray[Any], ...] = (
        np.zeros((n_z, n_labels), np.int64),
        np.zeros((n_z, n_labels)),
        np.zeros((n_z, n_labels, 2)),
        np.zeros((n_z, n_labels, 2)),
        np.zeros((n_z, n_labels, 4), np.int64),
        np.zeros((n_z, n_labels, 2), np.int64),
        np.zeros(n_z, np.uint8),
    )
    if is_on_device(labels):
        there = [cuda.to_device(table) for table in tables]
        arrays = device_view(labels), device_view(image)
        _label_statistics_cuda[blocks(n_z), 256](*arrays, *there)
        tables = tuple(table.copy_to_host() for table in there)
    else:
        _label_statistics_cpu(labels, image, *tables)
    if tables[-1].any():
        raise KernelInputError(f"labels: a value is {n_labels} or more")
    return _combine(*tables[:-1])


def _combine(
    counts: Int64, shift: Float64, moments: Float64, extremes: Float64, boxes: Int64, sums: Int64
) -> LabelStatistics:
    """Join the slices' tables in slice order."""
    n_z, n_labels = counts.shape
    count = np.zeros(n_labels, np.int64)
    mean, m2 = np.zeros(n_labels), np.zeros(n_labels)
    for z in range(n_z):
        n = counts[z]
        here = n > 0
        n_safe = np.maximum(n, 1)
        slice_mean = shift[z] + moments[z, :, 0] / n_safe
        slice_m2 = np.maximum(moments[z, :, 1] - moments[z, :, 0] ** 2 / n_safe, 0)
        joined = np.maximum(count + n, 1)
        difference = slice_mean - mean
        m2 = np.where(here, m2 + slice_m2 + difference**2 * count * n / joined, m2)
        mean = np.where(here, mean + difference * n / joined, mean)
        count += n
    found = count > 0
    seen = counts > 0  # (slice, label)
    first, last = np.full((n_labels, 3), -1, np.int64), np.full((n_labels, 3), -1, np.int64)
    first[:, 0] = seen.argmax(axis=0)
    last[:, 0] = n_z - 1 - seen[::-1].argmax(axis=0)
    for axis, (low, high) in enumerate(((0, 1), (2, 3)), start=1):
        first[:, axis] = np.where(seen, boxes[:, :, low], FAR).min(axis=0)
        last[:, axis] = np.where(seen, boxes[:, :, high], -1).max(axis=0)
    first[~found] = last[~found] = -1
    slices = (counts * np.arange(n_z)[:, None]).sum(axis=0)
    places = np.stack([slices, *sums.sum(axis=0).T], axis=1)
    nan = np.where(found, 0.0, np.nan)
    return LabelStatistics(
        count=count,
        mean=mean + nan,
        m2=m2 + nan,
        minimum=np.where(seen, extremes[:, :, 0], np.inf).min(axis=0) + nan,
        maximum=np.where(seen, extremes[:, :, 1], -np.inf).max(axis=0) + nan,
        first=first,
        last=last,
        centroid=places / np.maximum(count, 1)[:, None] + nan[:, None],
    )
