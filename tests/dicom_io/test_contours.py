"""An outline filled is the mask it was drawn from, in DICOM's image coordinates."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from dicom_io.contours import enclosed_area, fill, outlines


def test_a_single_pixel_is_the_square_around_its_centre() -> None:
    """PS3.3 C.18.6.1.1: the pixel in row 1, column 2 has its corners at (2, 1) and (3, 2)."""
    mask = np.zeros((4, 5), dtype=bool)
    mask[1, 2] = True
    (outline,) = outlines(mask, at_most=3)
    assert {tuple(point) for point in outline.points} == {(2, 1), (3, 1), (3, 2), (2, 2)}
    np.testing.assert_array_equal(outline.points[0], outline.points[-1])
    assert outline.n_pixels == enclosed_area(outline.points) == 1


def test_a_whole_slice_is_outlined_by_its_corners() -> None:
    (outline,) = outlines(np.ones((3, 7), dtype=bool), at_most=1)
    assert outline.points.tolist() == [[0, 0], [7, 0], [7, 3], [0, 3], [0, 0]]


def test_a_hole_is_counted_and_not_drawn() -> None:
    mask = np.ones((5, 6), dtype=bool)
    mask[2, 2:4] = False
    (outline,) = outlines(mask, at_most=1)
    assert (outline.n_pixels, outline.n_hole_pixels) == (28, 2)
    assert enclosed_area(outline.points) == 30


def test_pixels_that_touch_at_a_corner_are_two_parts() -> None:
    mask = np.eye(2, dtype=bool)
    assert [outline.n_pixels for outline in outlines(mask, at_most=5)] == [1, 1]


def test_a_part_that_touches_itself_at_a_corner_is_walked_once() -> None:
    ring = np.ones((3, 3), dtype=bool)
    ring[1, 1] = ring[2, 2] = False  # the hole touches the outside at a corner
    (outline,) = outlines(ring, at_most=1)
    assert np.array_equal(fill(outline.points, (3, 3)), ndimage.binary_fill_holes(ring))
    assert enclosed_area(outline.points) == outline.n_pixels + outline.n_hole_pixels


def test_only_the_largest_parts_are_outlined_largest_first() -> None:
    mask = np.zeros((9, 9), dtype=bool)
    mask[0, 0] = True
    mask[2:4, 2:4] = True
    mask[6:9, 5:9] = True
    assert [outline.n_pixels for outline in outlines(mask, at_most=2)] == [12, 4]
    assert outlines(np.zeros((3, 3), dtype=bool), at_most=2) == ()


@pytest.mark.parametrize("density", [0.2, 0.5, 0.7, 0.95])
def test_outlines_filled_are_the_mask_with_its_holes_filled(density: float) -> None:
    """Against scipy's own labelling and hole filling, on random masks of odd shapes."""
    random = np.random.default_rng(int(density * 100))
    for _ in range(60):
        shape = tuple(int(size) for size in random.integers(1, 23, 2))
        mask = random.random(shape) < density
        parts, n_parts = ndimage.label(mask)
        found = outlines(mask, at_most=1000)
        assert len(found) == n_parts
        together = np.zeros(shape, dtype=bool)
        for outline in found:
            filled = fill(outline.points, shape)  # type: ignore[arg-type]
            n_enclosed = outline.n_pixels + outline.n_hole_pixels
            assert filled.sum() == n_enclosed == enclosed_area(outline.points)
            assert (outline.points >= 0).all()
            assert (outline.points <= [shape[1], shape[0]]).all()
            together |= filled
        expected = np.zeros(shape, dtype=bool)
        for number in range(1, n_parts + 1):
            expected |= ndimage.binary_fill_holes(parts == number)
        np.testing.assert_array_equal(together, expected)
