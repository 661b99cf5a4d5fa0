"""Sliding windows over the model's grid: where they stand, in the order they are run."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from inference.pipeline.spec import Window

Shape3 = tuple[int, int, int]


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
