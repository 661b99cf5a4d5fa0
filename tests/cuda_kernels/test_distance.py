"""Distances against hand-sized cases, SciPy and MONAI's metrics; what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import (
    compute_average_surface_distance,
    compute_hausdorff_distance,
    compute_surface_dice,
)

from cuda_kernels.edt import distance_transform
from cuda_kernels.errors import KernelInputError
from cuda_kernels.surface_distance import SurfaceDistances, surface_distances

SPACING_MM = (2.5, 0.7, 0.9)


def ball(centre: tuple[float, float, float], radius: float) -> np.ndarray:
    grid = np.meshgrid(np.arange(17), np.arange(29), np.arange(23), indexing="ij")
    return sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) < radius**2


def test_a_slab_is_as_deep_as_its_spacing_says() -> None:
    mask = np.zeros((7, 5, 6), bool)
    mask[2:5] = True
    found = distance_transform(mask, SPACING_MM)
    assert found[:, 2, 3].tolist() == [0, 0, 2.5, 5.0, 2.5, 0, 0]
    squared = distance_transform(mask, SPACING_MM, squared=True)
    assert squared[:, 0, 0].tolist() == [0, 0, 6.25, 25.0, 6.25, 0, 0]
    mask[:5] = True  # the border of the array is no outside
    assert distance_transform(mask, SPACING_MM)[:, 0, 0].tolist() == [12.5, 10, 7.5, 5, 2.5, 0, 0]


def test_a_flipped_and_transposed_view_gives_the_same_distances() -> None:
    mask = ball((8, 13, 11), 7.3)
    expected = distance_transform(mask, SPACING_MM)
    turned = distance_transform(mask.transpose(2, 0, 1)[::-1], (0.9, 2.5, 0.7))
    # The squares are added in another order.
    np.testing.assert_allclose(turned[::-1].transpose(1, 2, 0), expected, rtol=1e-6)


# MONAI's surface Dice hands its own helper an argument that the helper calls deprecated.
@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy.*:FutureWarning")
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (ball((8, 13, 11), 6.3), ball((9, 12, 12), 7.1)),
        (ball((2, 13, 11), 6.3), ball((0, 3, 20), 5.1)),  # cut by the array's border
    ],
)
def test_figures_are_those_of_monai(first: np.ndarray, second: np.ndarray) -> None:
    found = surface_distances(first, second, SPACING_MM)
    one, other = (torch.from_numpy(mask)[None, None].float() for mask in (first, second))
    options = {"include_background": True, "spacing": list(SPACING_MM)}
    assd = compute_average_surface_distance(one, other, symmetric=True, **options)
    assert found.assd_mm() == pytest.approx(float(assd), rel=1e-6)
    hd95 = compute_hausdorff_distance(one, other, percentile=95, **options)
    assert found.hausdorff_mm() == pytest.approx(float(hd95), rel=1e-6)
    hd = compute_hausdorff_distance(one, other, **options)
    assert found.hausdorff_mm(100) == pytest.approx(float(hd), rel=1e-6)
    for tolerance_mm in (0.0, 1.0, 2.0):
        expected = compute_surface_dice(one, other, class_thresholds=[tolerance_mm], **options)
        assert found.surface_dice(tolerance_mm) == pytest.approx(float(expected), rel=1e-6)


def test_figures_by_hand() -> None:
    found = SurfaceDistances(there=np.array([0, 1, 2], np.float32), back=np.array([5], np.float32))
    assert found.assd_mm() == 2.0
    assert found.hausdorff_mm() == 5.0
    assert found.surface_dice(1.0) == 0.5


def test_what_does_not_fit_is_refused() -> None:
    mask = np.ones((3, 4, 5), bool)
    with pytest.raises(KernelInputError, match="dtype"):
        distance_transform(mask.astype(np.int16), SPACING_MM)
    with pytest.raises(KernelInputError, match="shape"):
        distance_transform(mask[0], SPACING_MM)
    with pytest.raises(KernelInputError, match="spacing_mm"):
        distance_transform(mask, (1.0, 0.0, 1.0))
    with pytest.raises(KernelInputError, match="shape"):
        surface_distances(mask, mask[1:], SPACING_MM)
    with pytest.raises(KernelInputError, match="dtype"):
        surface_distances(mask, mask.astype(np.int16), SPACING_MM)
    with pytest.raises(KernelInputError, match="no voxel"):
        surface_distances(mask, ~mask, SPACING_MM)
    with pytest.raises(KernelInputError, match="both masks are empty"):
        surface_distances(~mask, ~mask, SPACING_MM)
    with pytest.raises(KernelInputError, match="tolerance_mm"):
        surface_distances(mask, mask, SPACING_MM).surface_dice(-1.0)
