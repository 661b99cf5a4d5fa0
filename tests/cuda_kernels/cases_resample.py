"""Checks of the other ways to resample, for the CPU, simulator and GPU runs; see `cases`."""

from __future__ import annotations

from typing import Any

import numpy as np

from cuda_kernels.affine import resample_affine, resample_affine_reference
from cuda_kernels.axis import linear_axis
from cuda_kernels.bspline import prefilter, prefilter_reference
from cuda_kernels.nearest import resample_nearest, resample_nearest_reference
from cuda_kernels.taps import (
    antialiased_taps,
    cubic_taps,
    resample_taps,
    resample_taps_reference,
)

SHAPES = ((1, 1, 1), (1, 2, 9), (5, 3, 7))
TURNED = np.array(
    [[0.9, 0.2, -0.1, -0.4], [-0.3, 0.8, 0.15, 0.7], [0.1, 0.05, 1.1, -0.8], [0, 0, 0, 1]]
)


def check_resample_nearest(put: Any, get: Any) -> None:
    rng = np.random.default_rng(31)
    for shape in SHAPES:
        axes = tuple(
            linear_axis(n, n + 2, step) for n, step in zip(shape, (0.5, 0.7, 1.3), strict=True)
        )
        for dtype in (np.uint8, np.int16, np.float32):
            image = rng.integers(0, 200, shape).astype(dtype)
            found = get(resample_nearest(put(image), axes))
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, resample_nearest_reference(image, axes))


def check_prefilter(put: Any, get: Any) -> None:
    rng = np.random.default_rng(32)
    for shape in (*SHAPES, (2, 3, 60)):
        for dtype, size in ((np.float32, 1.0), (np.int16, 2000.0)):
            image = (rng.normal(size=shape) * size).astype(dtype)
            found = get(prefilter(put(image)))
            np.testing.assert_allclose(found, prefilter_reference(image), atol=1e-5 * size)


def check_resample_taps(put: Any, get: Any) -> None:
    rng = np.random.default_rng(33)
    for shape in SHAPES:
        for make in (antialiased_taps, cubic_taps):
            taps = tuple(
                make(n, max(1, round(n / step)), step)
                for n, step in zip(shape, (2.6, 0.7, 1.9), strict=True)
            )
            for dtype in (np.int16, np.float32):
                image = rng.integers(-1000, 1000, shape).astype(dtype)
                found = get(resample_taps(put(image), taps))
                # sums of up to 14 float32 products of values up to 1000, three times
                np.testing.assert_allclose(found, resample_taps_reference(image, taps), atol=2e-3)


def check_resample_affine(put: Any, get: Any) -> None:
    rng = np.random.default_rng(34)
    for shape in SHAPES:
        image = rng.integers(-1000, 1000, shape).astype(np.int16)
        out = (4, 3, 5)
        for matrix in (TURNED, np.diag([1.2, 0.6, -1.0, 1.0]) + np.eye(4, k=1) * 0.01):
            for order in ("nearest", "linear", "cubic"):
                for outside in (None, -7.0):
                    found = get(
                        resample_affine(put(image), matrix, out, order=order, outside=outside)
                    )
                    expected = resample_affine_reference(image, matrix, out, order, outside)
                    np.testing.assert_allclose(found, expected, atol=5e-3, err_msg=order)
