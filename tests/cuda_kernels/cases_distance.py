"""Checks of distances and surfaces, for the CPU, simulator and GPU runs; see `cases`."""

from __future__ import annotations

from typing import Any

import numpy as np

from cuda_kernels.edt import distance_transform, distance_transform_reference
from cuda_kernels.surface_distance import (
    away_from_surface,
    surface_distances,
    surface_distances_reference,
    surface_reference,
)


def check_distance_transform(put: Any, get: Any) -> None:
    rng = np.random.default_rng(21)
    for shape in ((1, 1, 1), (1, 1, 257), (5, 7, 3), (4, 9, 35)):
        for share in (0.3, 0.97, 1.0):  # 1.0: nothing is outside, all infinite
            mask = rng.random(shape) < share
            for spacing in ((1.0, 1.0, 1.0), (2.5, 0.7, 0.9)):
                found = get(distance_transform(put(mask.astype(np.uint8)), spacing))
                expected = distance_transform_reference(mask, spacing)
                # float32 squares and one root against float64
                np.testing.assert_allclose(found, expected, rtol=1e-6, err_msg=f"{shape} {share}")


def check_surface_distances(put: Any, get: Any) -> None:
    rng = np.random.default_rng(22)
    for shape in ((1, 1, 1), (3, 5, 7), (6, 9, 8)):
        first, second = np.ones(shape, np.uint8), np.ones(shape, np.uint8)
        if shape[0] > 1:
            first, second = ((rng.random(shape) < 0.6).astype(np.uint8) for _ in range(2))
        away = get(away_from_surface(put(first)))
        np.testing.assert_array_equal(away == 0, surface_reference(first))
        found = surface_distances(put(first), put(second), (2.5, 0.7, 0.9))
        expected = surface_distances_reference(first, second, (2.5, 0.7, 0.9))
        np.testing.assert_allclose(found.there, expected.there, rtol=1e-6)
        np.testing.assert_allclose(found.back, expected.back, rtol=1e-6)
