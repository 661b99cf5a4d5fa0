"""Shapes between two drawn slices: as wide as in between, and nothing from nothing."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from inference.domain.errors import RefusedError
from inference.pipeline.between import fill_between, signed_distance_mm

SPACING_MM = (0.7, 1.3)


def ellipse(radius_mm: float, shape: tuple[int, int] = (61, 37)) -> NDArray[np.bool_]:
    """A disc in millimetres on pixels that are not square."""
    rows, columns = (np.arange(size) - size // 2 for size in shape)
    distance2 = (rows[:, None] * SPACING_MM[0]) ** 2 + (columns[None] * SPACING_MM[1]) ** 2
    return np.asarray(distance2 <= radius_mm**2)


def test_between_two_discs_lie_discs_of_radii_in_between() -> None:
    filled = fill_between(ellipse(6.0), ellipse(14.0), 3, SPACING_MM)
    pixel_mm2 = SPACING_MM[0] * SPACING_MM[1]
    radii = [float(np.sqrt(one.sum() * pixel_mm2 / np.pi)) for one in filled]
    assert radii == pytest.approx([8.0, 10.0, 12.0], abs=0.7)  # half a pixel


def test_equal_slices_are_repeated() -> None:
    mask = ellipse(9.0)
    assert all(np.array_equal(one, mask) for one in fill_between(mask, mask, 2, SPACING_MM))


def test_the_distance_is_that_of_scipy() -> None:
    mask = ellipse(9.0)
    inside = ndimage.distance_transform_edt(mask, SPACING_MM)
    outside = ndimage.distance_transform_edt(~mask, SPACING_MM)
    expected = np.where(mask, inside - 0.35, 0.35 - outside)
    np.testing.assert_allclose(signed_distance_mm(mask, SPACING_MM), expected, rtol=1e-5)


def test_an_empty_slice_is_refused() -> None:
    with pytest.raises(RefusedError, match="at least one drawn pixel"):
        fill_between(ellipse(5.0), np.zeros((61, 37), bool), 2, SPACING_MM)
