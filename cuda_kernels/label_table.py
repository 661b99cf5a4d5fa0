"""What is known of every label after one pass, and the plain reference that says what is meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    touches_border : (n,) whether a voxel lies in an outermost slice, row or column of the array
    percentiles : (n, p) those asked for, linear between neighbours in order of size (NumPy's
        "linear"); NaN without voxels
    """

    count: Int64
    mean: Float64
    m2: Float64
    minimum: Float64
    maximum: Float64
    first: Int64
    last: Int64
    centroid: Float64
    touches_border: NDArray[np.bool_]
    percentiles: Float64

    def volume_ml(self, voxel_volume_mm3: float) -> Float64:
        """Return (n,) millilitres: voxels times the volume of one."""
        return self.count * (voxel_volume_mm3 / 1000.0)

    def sd(self) -> Float64:
        """Return (n,) population standard deviations (divided by the count); NaN without voxels."""
        found: Float64 = np.sqrt(self.m2 / np.maximum(self.count, 1))
        return found


def label_statistics_reference(
    labels: NDArray[Any],
    image: NDArray[Any],
    n_labels: int,
    percentiles: Sequence[float] = (),
) -> LabelStatistics:
    """Say what the kernels must compute, label by label."""
    nan = np.full(n_labels, np.nan)
    box = np.full((n_labels, 3), -1, np.int64)
    result = LabelStatistics(
        count=np.zeros(n_labels, np.int64), mean=nan.copy(), m2=nan.copy(), minimum=nan.copy(),
        maximum=nan.copy(), first=box.copy(), last=box.copy(),
        centroid=np.full((n_labels, 3), np.nan), touches_border=np.zeros(n_labels, bool),
        percentiles=np.full((n_labels, len(percentiles)), np.nan),
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
        ends = (places == 0) | (places == np.array(labels.shape) - 1)
        result.touches_border[label] = ends.any()
        result.percentiles[label] = np.percentile(values, percentiles) if percentiles else []
    return result


def whole_moments(count: Int64, moments: Int64) -> tuple[Float64, Float64]:
    """Mean and m2 in whole numbers as long as Python's, so that nothing is rounded but the end."""
    mean, m2 = np.zeros(len(count)), np.zeros(len(count))
    for label in np.flatnonzero(count):
        n, total, squares = int(count[label]), *map(int, moments[:, label].sum(axis=0))
        mean[label] = total / n
        m2[label] = (n * squares - total * total) / n
    return mean, m2


def float_moments(counts: Int64, shift: Float64, moments: Float64) -> tuple[Float64, Float64]:
    """Join the slices' sums in slice order."""
    n_z, n_labels = counts.shape
    count = np.zeros(n_labels, np.int64)
    mean, m2 = np.zeros(n_labels), np.zeros(n_labels)
    for z in range(n_z):
        n = counts[z]
        n_safe = np.maximum(n, 1)
        slice_mean = shift[z] + moments[z, :, 0] / n_safe
        slice_m2 = np.maximum(moments[z, :, 1] - moments[z, :, 0] ** 2 / n_safe, 0)
        joined = np.maximum(count + n, 1)
        difference = slice_mean - mean
        m2 = np.where(n > 0, m2 + slice_m2 + difference**2 * count * n / joined, m2)
        mean = np.where(n > 0, mean + difference * n / joined, mean)
        count += n
    return mean, m2


def label_boxes(counts: Int64, boxes: Int64) -> tuple[Int64, Int64]:
    """Join the slices' boxes; both ends inside, -1 for a label without voxels."""
    n_z, n_labels = counts.shape
    seen = counts > 0
    first, last = np.full((n_labels, 3), -1, np.int64), np.full((n_labels, 3), -1, np.int64)
    first[:, 0] = seen.argmax(axis=0)
    last[:, 0] = n_z - 1 - seen[::-1].argmax(axis=0)
    for axis, (low, high) in enumerate(((0, 1), (2, 3)), start=1):
        first[:, axis] = np.where(seen, boxes[:, :, low], FAR).min(axis=0)
        last[:, axis] = np.where(seen, boxes[:, :, high], -1).max(axis=0)
    first[~seen.any(axis=0)] = last[~seen.any(axis=0)] = -1
    return first, last
