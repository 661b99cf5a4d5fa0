"""Augmentation: seeded, in place, and honest about sides."""

from __future__ import annotations

import pytest
import torch

from training.augment import AugmentConfig, draw_sample, swap_labels
from training.random_source import RandomSource

NOTHING = AugmentConfig(
    spatial_probability=0,
    elastic_probability=0,
    intensity_probability=0,
    blur_probability=0,
    coarse_probability=0,
)


def random(seed: int = 0) -> RandomSource:
    return RandomSource(torch.Generator().manual_seed(seed))


def sample(
    config: AugmentConfig, seed: int = 0, roi: tuple[int, int, int] = (5, 7, 9)
) -> tuple[torch.Tensor, torch.Tensor]:
    image = torch.arange(5 * 7 * 9, dtype=torch.float32).reshape(5, 7, 9)
    labels = (image.long() % 9 >= 5).long() + (image.long() % 9 >= 7).long()
    return draw_sample(image, labels, (2, 3, 4), roi, config, random(seed), padding_value=-5.0)


def test_without_changes_the_window_is_the_volume() -> None:
    image, labels = sample(NOTHING)
    expected = torch.arange(5 * 7 * 9, dtype=torch.float32).reshape(1, 5, 7, 9)
    torch.testing.assert_close(image, expected, atol=1e-3, rtol=0)
    assert labels[0, 0].tolist() == [0, 0, 0, 0, 0, 1, 1, 2, 2]


def test_outside_the_volume_there_is_padding_and_background() -> None:
    image, labels = sample(NOTHING, roi=(5, 7, 13))
    assert image[0, :, :, :2].unique().tolist() == [-5.0]
    assert labels[:, :, :2].unique().tolist() == [0]
    torch.testing.assert_close(image[0, 0, 0, 2:11], torch.arange(9.0), atol=1e-3, rtol=0)


def test_a_mirrored_patient_keeps_left_labels_on_the_left() -> None:
    config = NOTHING.model_copy(update={"flip_axes": ("column",), "flip_column_swaps": ((1, 2),)})
    plain = [sample(config, seed)[1][0, 0].tolist() for seed in range(12)]
    assert [0, 0, 0, 0, 0, 1, 1, 2, 2] in plain
    assert [1, 1, 2, 2, 0, 0, 0, 0, 0] in plain  # mirrored, and each pair renamed


def test_labels_of_a_pair_change_places() -> None:
    labels = torch.tensor([0, 1, 2, 3, 1])
    assert swap_labels(labels, {1: 2}).tolist() == [0, 2, 1, 3, 2]


def test_a_thin_slab_is_centred_and_padded() -> None:
    config = NOTHING.model_copy(update={"thin_slab_probability": 1.0, "thin_slab_voxels": (2, 2)})
    image, labels = sample(config)
    assert [float(plane.max()) == -5.0 for plane in image[0]] == [True, False, False, True, True]
    assert labels[0].max() == 0
    assert labels[3:].max() == 0


def test_the_same_seed_gives_the_same_sample_and_another_one_does_not() -> None:
    config = AugmentConfig(flip_axes=("column",), bias_field=0.1)
    first, again, other = sample(config, 3), sample(config, 3), sample(config, 4)
    torch.testing.assert_close(first[0], again[0], atol=0, rtol=0)
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("seed", range(3))
def test_clipping_keeps_the_range_that_serving_gives(seed: int) -> None:
    config = AugmentConfig(clip=(0.0, 1.0), noise_sd=2.0, intensity_probability=1.0)
    image, _ = sample(config, seed)
    assert float(image.min()) >= 0
    assert float(image.max()) <= 1
