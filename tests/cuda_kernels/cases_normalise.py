"""Checks of window, z-score and cast, for the CPU, simulator and GPU runs; see `cases`."""

from __future__ import annotations

from typing import Any

import numpy as np

from cuda_kernels.normalise import (
    bits_reference,
    clip_scale,
    clip_scale_reference,
    zscore,
    zscore_reference,
)


def check_normalise(put: Any, get: Any) -> None:
    rng = np.random.default_rng(41)
    for shape in ((1, 1, 1), (1, 1, 257), (3, 5, 7)):
        for dtype in (np.int16, np.float32):
            image = (rng.normal(size=shape) * 400).astype(dtype)
            image[0, 0, 0] = 0
            found = get(clip_scale(put(image), -160.0, 240.0))
            np.testing.assert_allclose(found, clip_scale_reference(image, -160, 240), atol=2e-7)
            for nonzero in (True, False):
                given = {"clip": (-500.0, 300.0), "nonzero": nonzero}
                found = get(zscore(put(image), 12.5, 371.0, **given))
                expected = zscore_reference(image, 12.5, 371.0, **given)
                np.testing.assert_allclose(found, expected, atol=5e-7)


def check_casts(put: Any, get: Any) -> None:
    """Every kind of number: normal, subnormal, ties, signed zeros, and past the largest."""
    rng = np.random.default_rng(42)
    exponents = rng.integers(-40, 18, 500)
    image = np.ldexp(rng.normal(size=500), exponents).astype(np.float32)
    ties = np.array([1 + 2.0**-11, 1 + 3 * 2.0**-11, 1 + 2.0**-8, 1 + 3 * 2.0**-8, 65519, 65520])
    small = np.array([2.0**-24, 2.0**-25, 3 * 2.0**-26, 2.0**-14, 2.0**-15, 0.0, -0.0])
    image = np.concatenate([image, ties, -ties, small, -small]).astype(np.float32)[None, None]
    same = get(zscore(put(image), 0.0, 1.0))
    with np.errstate(over="ignore"):
        for precision in ("fp16", "bf16"):
            found = get(zscore(put(image), 0.0, 1.0, precision=precision)).view(np.uint16)
            expected = bits_reference(same, precision).view(np.uint16)
            np.testing.assert_array_equal(found, expected, err_msg=precision)
