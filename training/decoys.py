"""Air that is not lung, painted into CT windows: clothes and blankets outside, gas inside.

One chest has one blanket and one stomach. These random sheets and bubbles stand for those of
others, so that a network does not learn "air with something around it" as lung. Labels stay.
Values are those of windows scaled to [0, 1] by the model's intensity rule.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from training.random_source import RandomSource


class DecoyConfig(BaseModel):
    """How often decoys are painted, and what counts as empty and as solid.

    ``empty_below`` is the value under which background is open air, ``solid_above`` the value over
    which it is tissue. ``margin_voxels`` around every label stay untouched.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    probability: float = Field(default=0.5, ge=0, le=1)
    empty_below: float = 0.1
    solid_above: float = 0.6
    margin_voxels: int = Field(default=2, ge=1, le=8)
    sheet_value: tuple[float, float] = (0.05, 0.55)
    bubble_value: tuple[float, float] = (0.0, 0.4)


def paint_decoys(
    image: Tensor, labels: Tensor, config: DecoyConfig, random: RandomSource
) -> Tensor:
    """Return a window, (1, D, H, W), with sheets in open air, bubbles in tissue, or both."""
    image = image.clone()
    background = _away_from_labels(labels, config.margin_voxels)
    kind = random.integer(0, 2)
    if kind != 1:
        _paint_sheets(image[0], background, config, random)
    if kind != 0:
        _paint_bubbles(image[0], background, config, random)
    return image


def _paint_sheets(
    image: Tensor, background: Tensor, config: DecoyConfig, random: RandomSource
) -> None:
    """Paint folds of cloth: thin shells around levels of a smooth random field."""
    field = _smooth_field(image, random.uniform(10, 28), random)
    slope = _steepness(field)
    for _ in range(random.integer(1, 3)):
        level = random.uniform(-1.2, 1.2)
        half_voxels = random.uniform(0.3, 0.9)
        share = (1.2 - (field - level).abs() / slope.clamp(min=1e-3) / half_voxels).clamp(0, 1)
        share = share * background * (image < config.empty_below)
        image += share * (random.uniform(*config.sheet_value) - image)
    if random.chance(0.5):  # air under cloth is seldom quite empty
        haze = (field > random.uniform(-0.5, 1.0)) & background & (image < config.empty_below)
        image += haze * random.uniform(0.0, 0.08)


def _paint_bubbles(
    image: Tensor, background: Tensor, config: DecoyConfig, random: RandomSource
) -> None:
    """Paint gas, with or without stool in it: the peaks of a smooth random field."""
    field = _smooth_field(image, random.uniform(4, 11), random)
    peak = random.uniform(1.1, 1.9)
    tissue = background * (image > config.solid_above)
    share = ((field - peak) / _steepness(field).clamp(min=1e-3) + 0.5).clamp(0, 1) * tissue
    if random.chance(0.6):
        value = torch.full_like(image, random.uniform(0.0, 0.06))
    else:
        low, high = config.bubble_value
        mottle = _smooth_field(image, random.uniform(1.5, 4), random)
        value = (random.uniform(low, high) + 0.12 * mottle).clamp(0, 0.6)
    image += share * (value - image)


def _away_from_labels(labels: Tensor, margin_voxels: int) -> Tensor:
    """Return where no label lies within the margin, (D, H, W) bool."""
    near = functional.max_pool3d(
        (labels > 0).float()[None, None], 2 * margin_voxels + 1, stride=1, padding=margin_voxels
    )
    return near[0, 0] == 0


def _smooth_field(image: Tensor, scale_voxels: float, random: RandomSource) -> Tensor:
    """Return smooth noise of about unit SD that changes over ``scale_voxels``."""
    coarse = [max(3, round(size / scale_voxels) + 1) for size in image.shape]
    field = functional.interpolate(
        random.normal((1, 1, *coarse)),
        size=tuple(image.shape),
        mode="trilinear",
        align_corners=True,
    )[0, 0]
    return field / field.std().clamp(min=1e-3)


def _steepness(field: Tensor) -> Tensor:
    """Return how much a field changes from voxel to voxel."""
    steps = torch.gradient(field)
    return torch.stack([step * step for step in steps]).sum(dim=0).sqrt()
