"""Counts of each label on slices of three axes are those of NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from cuda_kernels.label_areas import label_areas, label_areas_reference


@pytest.mark.parametrize("shape", [(1, 1, 1), (9, 1, 5), (11, 7, 13)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_kernel_counts_what_its_reference_counts(
    shape: tuple[int, int, int], dtype: type
) -> None:
    labels = np.random.default_rng(3).integers(0, 6, shape).astype(dtype)
    for found, expected in zip(
        label_areas(labels, 6), label_areas_reference(labels, 6), strict=True
    ):
        expected[:, 0] = 0  # background is not counted
        np.testing.assert_array_equal(found, expected)
