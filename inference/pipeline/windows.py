"""Sliding windows over the model's grid: where they stand, in the order they are run."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from cuda_kernels.axis import LinearAxis
from inference.pipeline.spec import Window

Float32 = NDArray[np.float32]
Shape3 = tuple[int, int, int]
Range = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class WindowPlan:
    """Windows over one volume.

    Attributes
    ----------
    padded_shape : the model grid's shape, padded to at least one window
    pad_before : voxels added before the first one on each axis
    starts : first voxel of each window in the padded grid, slice axis slowest
    """

    roi_size: Shape3
    padded_shape: Shape3
    pad_before: Shape3
    starts: tuple[Shape3, ...]


@dataclass(frozen=True, kw_only=True)
class Strip:
    """A range of rows that is merged on its own.

    Attributes
    ----------
    native_rows : first and end row of the canonical view of the volume that it labels
    model_rows : first and end row of the padded model grid that they are interpolated from
    starts : the windows that touch those, in the plan's order
    """

    native_rows: Range
    model_rows: Range
    starts: tuple[Shape3, ...]


def plan_strips(plan: WindowPlan, rows: LinearAxis, n_strips: int) -> tuple[Strip, ...]:
    """Cut a volume into strips of rows; one strip is the whole plane.

    Every row is the sum of the same windows in the same order as without strips, so labels do not
    change; windows that touch two strips are run for each.

    Parameters
    ----------
    rows : how native rows are interpolated from the model grid's (before padding)
    n_strips : 1 to the number of native rows
    """
    pad, roi = plan.pad_before[1], plan.roi_size[1]
    if n_strips == 1:
        whole = (0, plan.padded_shape[1])
        return (Strip(native_rows=(0, len(rows)), model_rows=whole, starts=plan.starts),)
    cuts = np.linspace(0, len(rows), n_strips + 1).round().astype(int).tolist()
    strips = []
    for first, end in pairwise(cuts):
        low, high = int(rows.low[first]) + pad, int(rows.high[end - 1]) + pad + 1
        starts = tuple(s for s in plan.starts if s[1] < high and s[1] + roi > low)
        strips.append(Strip(native_rows=(first, end), model_rows=(low, high), starts=starts))
    return tuple(strips)


def plan_windows(shape: Shape3, window: Window) -> WindowPlan:
    """Place windows as MONAI's `SlidingWindowInferer` does.

    Steps of ``int(roi * (1 - overlap))``; the last window of an axis is moved back inside; an axis
    shorter than the window is padded on both sides, the odd voxel after.
    """
    padded = [max(n, roi) for n, roi in zip(shape, window.roi_size, strict=True)]
    before = [(wide - n) // 2 for wide, n in zip(padded, shape, strict=True)]
    z, y, x = (
        _axis_starts(wide, roi, window.overlap)
        for wide, roi in zip(padded, window.roi_size, strict=True)
    )
    return WindowPlan(
        roi_size=window.roi_size,
        padded_shape=(padded[0], padded[1], padded[2]),
        pad_before=(before[0], before[1], before[2]),
        starts=tuple(product(z, y, x)),
    )


def _axis_starts(size: int, roi: int, overlap: float) -> list[int]:
    step = roi if roi == size else max(1, int(roi * (1 - overlap)))
    starts = [0]
    while starts[-1] + roi < size:
        starts.append(min(starts[-1] + step, size - roi))
    return starts


def only_value(voxels: Float32) -> float | None:
    """Return the value that every voxel has; None where two differ."""
    first = float(voxels[0, 0, 0])
    if voxels[-1, -1, -1] != first or not (voxels == first).all():
        return None
    return first


def padded(image: Float32, plan: WindowPlan, value: float) -> Float32:
    """Pad an image smaller than a window; others are returned as they are."""
    if image.shape == plan.padded_shape:
        return image
    pads = [
        (before, wide - size - before)
        for before, wide, size in zip(plan.pad_before, plan.padded_shape, image.shape, strict=True)
    ]
    return np.pad(image, pads, constant_values=np.float32(value))
