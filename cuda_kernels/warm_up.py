"""Compile the CPU kernels for the arrays that volumes usually are, so that no request waits."""

from __future__ import annotations

import numpy as np

from cuda_kernels.accumulate import accumulate, gaussian_map
from cuda_kernels.axis import linear_axis
from cuda_kernels.bits import labels_present, pack_masks
from cuda_kernels.interpolate_argmax import interpolate_argmax
from cuda_kernels.label_areas import label_areas
from cuda_kernels.label_statistics import label_statistics
from cuda_kernels.merge import merge
from cuda_kernels.normalise import zscore
from cuda_kernels.resample import resample
from cuda_kernels.surface_distance import surface_distances


def warm_up() -> None:
    """Run every CPU kernel once on tiny arrays, as they lie in memory and as flipped views.

    Some 20 s the first time on a machine; under a second from the cache beside the sources.
    """
    axis = linear_axis(4, 4, 1.0)
    axes = (axis, axis, axis)
    for image in (np.zeros((4, 4, 4), np.int16), np.zeros((4, 4, 4), np.float32)):
        for view in (image, image[::-1]):
            resample(view, axes, lower=0.0, upper=1.0)
        label_statistics(np.zeros((4, 4, 4), np.uint8), image, 2, percentiles=(50.0,))
    total, weight = np.zeros((2, 4, 4, 4), np.float32), np.zeros((4, 4, 4), np.float32)
    best = np.zeros((4, 4, 4), np.uint16)
    accumulate(total.copy(), gaussian_map((4, 4, 4), 0.125), total, weight, (0, 0, 0))
    merge(total, weight, best, first=0, last=4, softmax=True)
    out = np.zeros((4, 4, 4), np.uint8)
    for labels in (out, out[::-1]):
        interpolate_argmax(total, best, axes, labels)
    zscore(weight, 0.0, 1.0, out=weight)
    labels_present(out, 1)
    label_areas(out, 1)
    pack_masks(out, [0], [(0, 0)])
    surface_distances(out == 0, out == 0, (1.0, 1.0, 1.0))
