"""Dice and HD95 against hand-sized cases and an independent implementation."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK

from training.metrics import agreement, dice, hd95_mm


def ball(centre: tuple[float, float, float], radius: float) -> np.ndarray:
    grid = np.meshgrid(np.arange(21), np.arange(25), np.arange(23), indexing="ij")
    return sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) < radius**2


def test_dice_of_a_hand_sized_case() -> None:
    first = np.zeros((1, 2, 3), bool)
    second = first.copy()
    first[0, 0] = True  # 3 voxels
    second[0, :, 0] = True  # 2 voxels, one shared
    assert dice(first, second) == pytest.approx(2 * 1 / 5)


def test_shifting_a_mask_by_one_slice_moves_its_surface_by_the_slice_spacing() -> None:
    first = np.zeros((9, 12, 15), bool)
    first[2:5, 3:9, 4:11] = True
    affine = np.diag([2.5, 0.7, 0.9, 1.0])[[2, 1, 0, 3]]
    # Each face voxel of one end is 2.5 mm from the other mask; inner surface voxels are at 0.
    assert hd95_mm(first, np.roll(first, 1, axis=0), affine) == pytest.approx(2.5)


def test_figures_equal_simpleitk() -> None:
    first, second = ball((10, 12, 11), 6.3), ball((11, 10, 12.4), 7.1)
    spacing = (2.0, 0.8, 1.3)
    affine = np.diag([*spacing, 1.0])[[2, 1, 0, 3]]
    images = []
    for mask in (first, second):
        image = SimpleITK.GetImageFromArray(mask.astype(np.uint8))
        image.SetSpacing(spacing[::-1])
        images.append(image)
    overlap = SimpleITK.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*images)
    assert dice(first, second) == pytest.approx(overlap.GetDiceCoefficient())
    directed = []
    for one, other in (images, images[::-1]):
        distance = SimpleITK.GetArrayFromImage(
            SimpleITK.SignedMaurerDistanceMap(SimpleITK.LabelContour(other), False, False, True)
        )
        surface = SimpleITK.GetArrayFromImage(SimpleITK.LabelContour(one)) > 0
        directed.append(np.percentile(np.abs(distance[surface]), 95))
    assert hd95_mm(first, second, affine) == pytest.approx(max(directed), abs=1e-4)


def test_distances_follow_the_grid_when_it_is_oblique() -> None:
    first, second = ball((10, 12, 11), 5), ball((12, 12, 11), 5)
    straight = np.diag([2.0, 1.0, 1.5, 1.0])
    angle = 0.4
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turned = hd95_mm(first, second, turn @ straight)
    assert turned == pytest.approx(hd95_mm(first, second, straight))


def test_empty_masks_give_no_free_score() -> None:
    empty, full = np.zeros((3, 4, 5), bool), np.ones((3, 4, 5), bool)
    both = agreement(empty, empty, np.eye(4))
    assert (both.dice, both.hd95_mm) == (None, None)
    one = agreement(full, empty, np.eye(4))
    assert (one.dice, one.hd95_mm) == (0.0, None)
    assert one.predicted_ml == pytest.approx(0.06)


def test_a_sheared_grid_is_measured_by_its_points() -> None:
    first, second = ball((10, 12, 11), 5), ball((12, 11, 11), 6)
    straight = np.diag([2.0, 1.0, 1.5, 1.0])
    sheared, nearly = straight.copy(), straight.copy()
    sheared[1, 0] = 1.2
    nearly[1, 0] = 1e-5  # past the limit, and worth a hundred-thousandth of a slice
    by_distance_transform = hd95_mm(first, second, straight)
    assert hd95_mm(first, second, nearly) == pytest.approx(by_distance_transform, rel=1e-5)
    assert hd95_mm(first, second, sheared) != pytest.approx(by_distance_transform, rel=1e-2)
