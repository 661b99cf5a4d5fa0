"""Lines around a mask, filled again, are the mask: with holes, islands in holes, shared corners."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dicom_io.contours import fill
from dicom_io.rings import rings, without_holes


def nested() -> NDArray[np.bool_]:
    mask = np.zeros((21, 26), dtype=bool)
    mask[2:18, 3:22] = True
    mask[4:9, 5:9] = False
    mask[4:15, 12:20] = False
    mask[7:12, 14:18] = True  # an island in the second hole
    mask[9, 15] = False  # and a hole in the island
    mask[18, 22] = True  # touches the part at a corner only
    return mask


def noise(seed: int) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random((17, 23)) < 0.6


MASKS = [nested(), *(noise(seed) for seed in range(12))]


@pytest.mark.parametrize("mask", MASKS)
def test_all_lines_filled_by_the_even_odd_rule_are_the_mask(mask: NDArray[np.bool_]) -> None:
    filled = np.zeros_like(mask)
    for part in rings(mask):
        for line in part:
            np.testing.assert_array_equal(line[0], line[-1])
            filled ^= fill(line, mask.shape)
    np.testing.assert_array_equal(filled, mask)


@pytest.mark.parametrize("mask", MASKS)
def test_one_line_for_each_part_filled_is_the_mask(mask: NDArray[np.bool_]) -> None:
    filled = np.zeros_like(mask)
    for part in rings(mask):
        inside = fill(without_holes(part), mask.shape)
        assert not (filled & inside).any()
        filled |= inside
    np.testing.assert_array_equal(filled, mask)


def test_another_programs_polygon_fill_agrees() -> None:
    """Pillow's polygon fill, at 8 pixels for one so that its own rule for edges does not count."""
    mask, scale = nested(), 8
    image = Image.new("1", (mask.shape[1] * scale, mask.shape[0] * scale))
    for part in rings(mask):
        points = [tuple(point) for point in without_holes(part) * scale - 0.5]
        ImageDraw.Draw(image).polygon(points, fill=1)
    centres = np.array(image)[scale // 2 :: scale, scale // 2 :: scale]
    np.testing.assert_array_equal(centres, mask)
