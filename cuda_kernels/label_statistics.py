"""Count, sum, spread, extremes, percentiles, box and centroid of every label, in one pass.

int16: sums of whole numbers, so every figure is exact and the same on any number of cores;
percentiles come from a histogram filled in the same pass. float32: each slice is summed on its own
around its first value, and slices are combined in order (Chan, Golub and LeVeque 1983), so that a
large mean does not eat a small spread; percentiles sort each label's voxels afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cuda_kernels.errors import KernelInputError
from cuda_kernels.jit import (
    blocks,
    cuda,
    device_view,
    is_on_device,
    jit,
    jit_both,
    jit_cuda,
    n_threads,
    prange,
)
from cuda_kernels.label_table import (
    LabelStatistics,
    float_moments,
    label_boxes,
    label_statistics_reference,
    whole_moments,
)
from cuda_kernels.percentiles import LEVELS, histogram_percentiles, sorted_percentiles

Int64 = NDArray[np.int64]
__all__ = ["LabelStatistics", "label_statistics", "label_statistics_reference"]

HISTOGRAM_BYTES = 2**28
"""Most memory for histograms, 256 KiB a label and thread: more labels, fewer threads."""


def _note_run(box: Any, sums: Any, y: int, start: int, stop: int, is_new: bool) -> None:
    """Add a run of one label in a row to the label's box and its sums of rows and columns."""
    if is_new:
        box[0] = y
        box[2] = start
        box[3] = stop - 1
    box[1] = y
    box[2] = min(box[2], start)
    box[3] = max(box[3], stop - 1)
    sums[0] += y * (stop - start)
    sums[1] += (start + stop - 1) * (stop - start) // 2  # whole: one of the factors is even


_note_run_cpu, _note_run_cuda = jit_both(_note_run)


def _run_stop(row: Any, start: int) -> int:
    """Return where the run of equal labels that begins at ``start`` ends."""
    label = row[start]
    stop = start + 1
    while stop < row.size and row[stop] == label:
        stop += 1
    return stop


_run_stop_cpu, _run_stop_cuda = jit_both(_run_stop)


def _sum_whole(row: Any, start: int, stop: int, moments: Any, extremes: Any, is_new: bool) -> None:
    """Add a run of whole numbers to the label's sums and extremes."""
    total = 0
    squares = 0
    low = int(row[start])
    high = low
    for x in range(start, stop):
        value = int(row[x])
        total += value
        squares += value * value
        low = min(low, value)
        high = max(high, value)
    moments[0] += total
    moments[1] += squares
    extremes[0] = low if is_new else min(extremes[0], low)
    extremes[1] = high if is_new else max(extremes[1], high)


_sum_whole_cpu, _sum_whole_cuda = jit_both(_sum_whole)


def _sum_floats(
    row: Any, start: int, stop: int, shift: Any, moments: Any, extremes: Any, is_new: bool
) -> None:
    """Add a run to the label's sums around its first value in the slice, and to its extremes."""
    if is_new:
        shift[0] = row[start]
        extremes[0] = row[start]
        extremes[1] = row[start]
    middle = shift[0]
    total = moments[0]
    squares = moments[1]
    low = extremes[0]
    high = extremes[1]
    for x in range(start, stop):
        value = np.float64(row[x])
        away = value - middle
        total += away
        squares += away * away
        low = min(low, value)
        high = max(high, value)
    moments[0] = total
    moments[1] = squares
    extremes[0] = low
    extremes[1] = high


_sum_floats_cpu, _sum_floats_cuda = jit_both(_sum_floats)


@jit
def _whole_cpu(labels: Any, image: Any, tables: Any, histograms: Any, per_part: int) -> None:
    counts, moments, extremes, boxes, sums, outside = tables
    n_z, n_y, n_x = labels.shape
    for part in prange((n_z + per_part - 1) // per_part):
        for z in range(part * per_part, min((part + 1) * per_part, n_z)):
            for y in range(n_y):
                row = image[z, y]
                start = 0
                while start < n_x:
                    label = labels[z, y, start]
                    stop = _run_stop_cpu(labels[z, y], start)
                    if label >= counts.shape[1]:
                        outside[z] = 1
                    else:
                        is_new = counts[z, label] == 0
                        counts[z, label] += stop - start
                        _sum_whole_cpu(
                            row, start, stop, moments[z, label], extremes[z, label], is_new
                        )
                        _note_run_cpu(boxes[z, label], sums[z, label], y, start, stop, is_new)
                        if histograms.shape[2] > 0:
                            levels = histograms[part, label]
                            for x in range(start, stop):
                                levels[int(row[x]) + 32768] += 1
                    start = stop


@jit
def _floats_cpu(labels: Any, image: Any, tables: Any, shifts: Any) -> None:
    counts, moments, extremes, boxes, sums, outside = tables
    n_z, n_y, n_x = labels.shape
    for z in prange(n_z):
        for y in range(n_y):
            row = image[z, y]
            start = 0
            while start < n_x:
                label = labels[z, y, start]
                stop = _run_stop_cpu(labels[z, y], start)
                if label >= counts.shape[1]:
                    outside[z] = 1
                else:
                    is_new = counts[z, label] == 0
                    counts[z, label] += stop - start
                    _sum_floats_cpu(
                        row, start, stop, shifts[z, label], moments[z, label],
                        extremes[z, label], is_new,
                    )  # fmt: skip
                    _note_run_cpu(boxes[z, label], sums[z, label], y, start, stop, is_new)
                start = stop


@jit_cuda
def _statistics_cuda(
    labels: Any, image: Any, counts: Any, moments: Any, extremes: Any, boxes: Any, sums: Any,
    outside: Any, shifts: Any, whole: bool,
) -> None:  # fmt: skip
    # One thread per slice: each has its own row of every table, so no atomics and one order.
    z = cuda.grid(1)
    if z >= labels.shape[0]:
        return
    for y in range(labels.shape[1]):
        row = image[z, y]
        start = 0
        while start < labels.shape[2]:
            label = labels[z, y, start]
            stop = _run_stop_cuda(labels[z, y], start)
            if label >= counts.shape[1]:
                outside[z] = 1
            else:
                is_new = counts[z, label] == 0
                counts[z, label] += stop - start
                if whole:
                    _sum_whole_cuda(row, start, stop, moments[z, label], extremes[z, label], is_new)
                else:
                    _sum_floats_cuda(
                        row, start, stop, shifts[z, label], moments[z, label],
                        extremes[z, label], is_new,
                    )  # fmt: skip
                _note_run_cuda(boxes[z, label], sums[z, label], y, start, stop, is_new)
            start = stop


@jit_cuda
def _histogram_cuda(labels: Any, image: Any, histogram: Any) -> None:
    # One thread per voxel; whole numbers add up the same in any order.
    i = cuda.grid(1)
    n_y = labels.shape[1]
    n_x = labels.shape[2]
    if i >= labels.shape[0] * n_y * n_x:
        return
    z = i // (n_y * n_x)
    y = (i // n_x) % n_y
    x = i % n_x
    label = labels[z, y, x]
    if label < histogram.shape[0]:
        cuda.atomic.add(histogram, (label, int(image[z, y, x]) + 32768), 1)


def label_statistics(
    labels: Any, image: Any, n_labels: int, *, percentiles: Sequence[float] = ()
) -> LabelStatistics:
    """Statistics of ``image`` under each label 0 to ``n_labels - 1``, computed where the data is.

    Parameters
    ----------
    labels : (slice, row, column), uint8 or uint16
    image : the same shape, int16 or float32
    percentiles : each 0 to 100. int16: exact, from histograms of 256 KiB a label, at most one a
        thread. float32: exact too, by sorting the label's voxels after the pass (4 bytes each,
        and a copy in host memory where the image is on a device).

    Raises
    ------
    KernelInputError
        Shapes differ, a dtype is not one of those, a percentile lies outside, or a label is
        ``n_labels`` or more.
    """
    if tuple(labels.shape) != tuple(image.shape) or len(labels.shape) != 3:
        raise KernelInputError(f"labels: shape {labels.shape} is not the image's, {image.shape}")
    dtype = str(image.dtype).removeprefix("torch.")
    if dtype not in ("int16", "float32"):
        raise KernelInputError(f"image: dtype {image.dtype} is neither int16 nor float32")
    if not all(0 <= p <= 100 for p in percentiles):
        raise KernelInputError(f"percentiles: {list(percentiles)} are not all within 0 to 100")
    whole = dtype == "int16"
    n_z = labels.shape[0]
    number = np.int64 if whole else np.float64
    tables: tuple[NDArray[Any], ...] = (
        np.zeros((n_z, n_labels), np.int64),
        np.zeros((n_z, n_labels, 2), number),
        np.zeros((n_z, n_labels, 2), number),
        np.zeros((n_z, n_labels, 4), np.int64),
        np.zeros((n_z, n_labels, 2), np.int64),
        np.zeros(n_z, np.uint8),
    )
    shifts = np.zeros((n_z, n_labels, 1))
    histogram = np.zeros((0, 0), np.int64)
    if is_on_device(labels):
        there = [cuda.to_device(table) for table in tables]
        arrays = device_view(labels), device_view(image)
        shifts_there = cuda.to_device(shifts)
        _statistics_cuda[blocks(n_z), 256](*arrays, *there, shifts_there, whole)
        tables = tuple(table.copy_to_host() for table in there)
        shifts = shifts_there.copy_to_host()
        if whole and percentiles:
            levels = cuda.to_device(np.zeros((n_labels, LEVELS), np.int64))
            n = n_z * labels.shape[1] * labels.shape[2]
            _histogram_cuda[blocks(n), 256](*arrays, levels)
            histogram = levels.copy_to_host()
    elif whole:
        histogram = _run_whole(labels, image, tables, with_histogram=bool(percentiles))
    else:
        _floats_cpu(labels, image, tables, shifts)
    counts, moments, extremes, boxes, sums, outside = tables
    if outside.any():
        raise KernelInputError(f"labels: a value is {n_labels} or more")
    count = counts.sum(axis=0)
    mean, m2 = (
        whole_moments(count, moments) if whole else float_moments(counts, shifts[:, :, 0], moments)
    )
    first, last = label_boxes(counts, boxes)
    if not percentiles:
        found = np.empty((n_labels, 0))
    elif whole:
        found = histogram_percentiles(histogram, percentiles)
    else:
        found = sorted_percentiles(_host(labels), _host(image), first, last, percentiles)
    seen = counts > 0  # (slice, label)
    nan = np.where(count > 0, 0.0, np.nan)
    slices = (counts * np.arange(n_z)[:, None]).sum(axis=0)
    places = np.stack([slices, *sums.sum(axis=0).T], axis=1)
    edge = np.array(labels.shape) - 1
    return LabelStatistics(
        count=count,
        mean=mean + nan,
        m2=m2 + nan,
        minimum=np.where(seen, extremes[:, :, 0], np.inf).min(axis=0) + nan,
        maximum=np.where(seen, extremes[:, :, 1], -np.inf).max(axis=0) + nan,
        first=first,
        last=last,
        centroid=places / np.maximum(count, 1)[:, None] + nan[:, None],
        touches_border=(count > 0) & ((first == 0) | (last == edge)).any(axis=1),
        percentiles=found,
    )


def _run_whole(
    labels: Any, image: Any, tables: tuple[NDArray[Any], ...], *, with_histogram: bool
) -> Int64:
    """Fill the tables on the CPU; return the histogram, (label, level), empty if not wanted."""
    n_z, n_labels = tables[0].shape
    if not with_histogram:
        _whole_cpu(labels, image, tables, np.zeros((n_z, n_labels, 0), np.uint32), 1)
        return np.zeros((0, 0), np.int64)
    fitting = HISTOGRAM_BYTES // (n_labels * LEVELS * 4)
    n_parts = max(1, min(n_threads(), n_z, fitting))
    per_part = -(-n_z // n_parts)
    histograms = np.zeros((n_parts, n_labels, LEVELS), np.uint32)
    _whole_cpu(labels, image, tables, histograms, per_part)
    joined: Int64 = histograms.sum(axis=0, dtype=np.int64)
    return joined


def _host(array: Any) -> NDArray[Any]:
    found: NDArray[Any] = device_view(array).copy_to_host() if is_on_device(array) else array
    return found
