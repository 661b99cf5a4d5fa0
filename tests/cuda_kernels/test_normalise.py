"""Casts equal torch's bit for bit; windows equal the fused resampling; what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cuda_kernels.axis import linear_axis
from cuda_kernels.errors import KernelInputError
from cuda_kernels.normalise import clip_scale, zscore
from cuda_kernels.resample import resample


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(6).integers(-1024, 3000, (5, 9, 13)).astype(np.int16)


def test_casts_are_those_of_torch(image: np.ndarray) -> None:
    wide = torch.from_numpy(zscore(image, 101.7, 333.3))
    half = zscore(image, 101.7, 333.3, precision="fp16")
    np.testing.assert_array_equal(half, wide.half().numpy())
    bits = torch.from_numpy(zscore(image, 101.7, 333.3, precision="bf16")).view(torch.bfloat16)
    assert torch.equal(bits, wide.bfloat16())


def test_a_window_alone_gives_the_bits_of_resampling_with_it(image: np.ndarray) -> None:
    axes = tuple(linear_axis(n, n, 1.0) for n in image.shape)
    expected = resample(image, axes, lower=-160.3, upper=240.7)
    np.testing.assert_array_equal(clip_scale(image, -160.3, 240.7), expected)


def test_zscore_in_place_is_numpy_step_by_step(image: np.ndarray) -> None:
    image[0] = 0
    given = image.astype(np.float32)
    expected = (np.clip(given, np.float32(-700), np.float32(900)) - np.float32(12.3)) / np.float32(
        45.6
    )
    expected[image == 0] = 0
    found = zscore(given, 12.3, 45.6, clip=(-700.0, 900.0), nonzero=True, out=given)
    assert found is given
    np.testing.assert_array_equal(found, expected)


def test_what_does_not_fit_is_refused(image: np.ndarray) -> None:
    with pytest.raises(KernelInputError, match="lower, upper"):
        clip_scale(image, 5.0, 5.0)
    with pytest.raises(KernelInputError, match="sd"):
        zscore(image, 0.0, 0.0)
    with pytest.raises(KernelInputError, match="clip"):
        zscore(image, 0.0, 1.0, clip=(2.0, 1.0))
    with pytest.raises(KernelInputError, match="dtype"):
        clip_scale(image.astype(np.float64), 0.0, 1.0)
    with pytest.raises(KernelInputError, match="precision"):
        clip_scale(image, 0.0, 1.0, precision="int8")
    with pytest.raises(KernelInputError, match="out"):
        zscore(image, 0.0, 1.0, precision="bf16", out=image.astype(np.float32))
