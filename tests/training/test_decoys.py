"""Decoys: air that is not lung, painted where no label is near."""

from __future__ import annotations

import torch

from training.decoys import DecoyConfig, paint_decoys
from training.random_source import RandomSource

SHAPE = (12, 40, 48)
MARGIN = 2


def window() -> tuple[torch.Tensor, torch.Tensor]:
    """A body of tissue (0.8) in open air (0) with a labelled lung (0.1) in it."""
    image = torch.zeros(1, *SHAPE)
    image[:, :, 8:32, 8:40] = 0.8
    labels = torch.zeros(SHAPE, dtype=torch.int64)
    labels[3:9, 14:24, 12:22] = 1
    image[0][labels > 0] = 0.1
    return image, labels


def painted(seed: int) -> torch.Tensor:
    random = RandomSource(torch.Generator().manual_seed(seed))
    return paint_decoys(*window(), DecoyConfig(margin_voxels=MARGIN), random)


def test_lungs_and_their_surroundings_stay_as_they_are() -> None:
    image, _ = window()
    near = (slice(3 - MARGIN, 9 + MARGIN), slice(14 - MARGIN, 24 + MARGIN), slice(10, 24))
    for seed in range(8):
        torch.testing.assert_close(painted(seed)[0][near], image[0][near], rtol=0, atol=0)


def test_some_windows_get_cloth_outside_and_some_gas_inside() -> None:
    image, _ = window()
    tissue = image[0] > 0.6
    changes = [(painted(seed)[0] - image[0]) for seed in range(12)]
    assert any((change[~tissue] > 0.05).any() for change in changes)
    assert any((change[tissue] < -0.4).any() for change in changes)
    assert all(float(change[tissue].max()) <= 0 for change in changes)


def test_the_window_that_was_handed_in_is_not_changed_and_the_seed_decides() -> None:
    image, labels = window()
    before = image.clone()
    first = paint_decoys(image, labels, DecoyConfig(), RandomSource(torch.Generator()))
    torch.testing.assert_close(image, before, rtol=0, atol=0)
    again = paint_decoys(image, labels, DecoyConfig(), RandomSource(torch.Generator()))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
