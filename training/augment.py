"""Random changes of a training case: place, shape, brightness and blur, in one pass.

A sample is drawn from the prepared volume by one resampling that does rotation, scale, shear,
elastic deformation, flips and the crop together, so nothing is interpolated twice. All randomness
comes from the generator handed in: the same generator state gives the same sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from training.decoys import DecoyConfig, paint_decoys
from training.random_source import RandomSource

AXES = ("slice", "row", "column")


class AugmentConfig(BaseModel):
    """How far samples may be changed; a probability or an amplitude of 0 turns a change off.

    ``flip_axes`` are canonical axes (slice, row, column). ``flip_column_swaps`` lists pairs of
    labels that trade places when left and right are exchanged.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    flip_axes: tuple[str, ...] = ()
    flip_column_swaps: tuple[tuple[int, int], ...] = ()
    spatial_probability: float = Field(default=0.8, ge=0, le=1)
    rotation_deg: float = Field(default=15.0, ge=0, le=180)
    scale_fraction: float = Field(default=0.15, ge=0, lt=1)
    axis_scale_fraction: float = Field(default=0.0, ge=0, lt=1)
    shear: float = Field(default=0.0, ge=0, lt=1)
    elastic_probability: float = Field(default=0.3, ge=0, le=1)
    elastic_voxels: float = Field(default=2.0, ge=0)
    elastic_control_points: int = Field(default=5, ge=3, le=32)
    shift_voxels: float = Field(default=0.0, ge=0)
    thin_slab_probability: float = Field(default=0.0, ge=0, le=1)
    thin_slab_voxels: tuple[int, int] = (8, 24)
    intensity_probability: float = Field(default=0.5, ge=0, le=1)
    gain_fraction: float = Field(default=0.15, ge=0, lt=1)
    offset: float = Field(default=0.1, ge=0)
    gamma_fraction: float = Field(default=0.3, ge=0, lt=1)
    bias_field: float = Field(default=0.0, ge=0)
    noise_sd: float = Field(default=0.1, ge=0)
    blur_probability: float = Field(default=0.2, ge=0, le=1)
    coarse_probability: float = Field(default=0.2, ge=0, le=1)
    clip: tuple[float, float] | None = None
    decoys: DecoyConfig | None = None


def draw_sample(
    image: Tensor,
    labels: Tensor,
    centre: Sequence[float],
    roi_size: Sequence[int],
    config: AugmentConfig,
    random: RandomSource,
    *,
    padding_value: float,
) -> tuple[Tensor, Tensor]:
    """Draw one changed window.

    Parameters
    ----------
    image : (D, H, W) float32, prepared as in serving
    labels : (D, H, W) integers
    centre : voxel index that the window is centred on, before the random shift
    roi_size : shape of the window

    Returns
    -------
    image (1, *roi_size) float32 and labels (*roi_size) int64
    """
    flips = [axis for axis in AXES if axis in config.flip_axes and random.chance(0.5)]
    points = _sampling_points(centre, roi_size, config, random)
    for axis in flips:
        points = points.flip(AXES.index(axis))
    shape = torch.tensor(image.shape, dtype=torch.float32)
    grid = (2.0 * points / (shape - 1).clamp(min=1.0) - 1.0).flip(-1)[None]  # x, y, z order
    sampled = functional.grid_sample(
        image[None, None] - padding_value, grid, mode="bilinear", align_corners=True
    )[0]
    drawn = sampled + padding_value  # (1, D, H, W)
    drawn_labels = _sample_labels(labels, grid)
    if "column" in flips:
        drawn_labels = swap_labels(drawn_labels, dict(config.flip_column_swaps))
    if config.decoys is not None and random.chance(config.decoys.probability):
        drawn = paint_decoys(drawn, drawn_labels, config.decoys, random)
    if random.chance(config.thin_slab_probability):
        drawn, drawn_labels = _thin_slab(drawn, drawn_labels, config, random, padding_value)
    return change_intensity(drawn, config, random), drawn_labels


def swap_labels(labels: Tensor, swaps: Mapping[int, int]) -> Tensor:
    """Exchange the labels of each pair; other labels stay."""
    swapped = labels.clone()
    for first, second in swaps.items():
        swapped[labels == first] = second
        swapped[labels == second] = first
    return swapped


def _sampling_points(
    centre: Sequence[float], roi_size: Sequence[int], config: AugmentConfig, random: RandomSource
) -> Tensor:
    """Voxel indices (D, H, W, 3) in the source volume of each voxel of the window."""
    half = [(size - 1) / 2.0 for size in roi_size]
    axes = [
        torch.arange(size, dtype=torch.float32) - h for size, h in zip(roi_size, half, strict=True)
    ]
    offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    if random.chance(config.spatial_probability):
        offsets = offsets @ _random_matrix(config, random).T
    if config.elastic_voxels and random.chance(config.elastic_probability):
        count = config.elastic_control_points
        coarse = random.normal((1, 3, count, count, count)) * random.uniform(
            0.2, config.elastic_voxels
        )
        field = functional.interpolate(
            coarse, size=tuple(roi_size), mode="trilinear", align_corners=True
        )
        offsets = offsets + field[0].permute(1, 2, 3, 0)
    shift = [random.uniform(-config.shift_voxels, config.shift_voxels) for _ in range(3)]
    return offsets + torch.tensor(
        [c + s for c, s in zip(centre, shift, strict=True)], dtype=torch.float32
    )


def _random_matrix(config: AugmentConfig, random: RandomSource) -> Tensor:
    """Rotation about each axis, one common scale, one scale per axis, and shear."""
    matrix = torch.eye(3)
    for first, second in ((1, 2), (0, 2), (0, 1)):
        angle = torch.tensor(random.uniform(-config.rotation_deg, config.rotation_deg)).deg2rad()
        turn = torch.eye(3)
        turn[first, first] = turn[second, second] = torch.cos(angle)
        turn[first, second], turn[second, first] = -torch.sin(angle), torch.sin(angle)
        matrix = turn @ matrix
    scale = 1.0 + random.uniform(-config.scale_fraction, config.scale_fraction)
    stretch = [
        scale * (1.0 + random.uniform(-config.axis_scale_fraction, config.axis_scale_fraction))
        for _ in range(3)
    ]
    shear = torch.eye(3)
    for row, column in ((0, 1), (0, 2), (1, 2)):
        shear[row, column] = random.uniform(-config.shear, config.shear)
    return matrix @ shear @ torch.diag(torch.tensor(stretch))


def _sample_labels(labels: Tensor, grid: Tensor) -> Tensor:
    """Resample a label map: each label's mask linearly, then the largest; ties go to the lowest."""
    highest = int(labels.max())
    if highest == 0:
        return torch.zeros(grid.shape[1:4], dtype=torch.int64)
    masks = torch.stack([labels == value for value in range(1, highest + 1)])[None].float()
    weights = functional.grid_sample(masks, grid, mode="bilinear", align_corners=True)[0]
    background = 1.0 - weights.sum(dim=0, keepdim=True)
    return torch.cat([background, weights]).argmax(dim=0)


def _thin_slab(
    image: Tensor,
    labels: Tensor,
    config: AugmentConfig,
    random: RandomSource,
    padding_value: float,
) -> tuple[Tensor, Tensor]:
    """Keep a few neighbouring slices, as a short series has; the rest is padding on both sides."""
    depth = image.shape[1]
    kept = min(depth, random.integer(*config.thin_slab_voxels))
    first = random.integer(0, depth - kept)
    slab = torch.full_like(image, padding_value)
    slab_labels = torch.zeros_like(labels)
    start = (depth - kept) // 2
    slab[:, start : start + kept] = image[:, first : first + kept]
    slab_labels[start : start + kept] = labels[first : first + kept]
    return slab, slab_labels


def change_intensity(image: Tensor, config: AugmentConfig, random: RandomSource) -> Tensor:
    """Change gain, offset, gamma, shading, noise and sharpness of one (1, D, H, W) window."""
    if random.chance(config.coarse_probability):
        image = _coarser(image, random)
    if random.chance(config.blur_probability):
        image = _blurred(image, random.uniform(0.4, 1.0))
    if config.gamma_fraction and random.chance(config.intensity_probability):
        low, high = image.amin(), image.amax()
        exponent = 1.0 + random.uniform(-config.gamma_fraction, config.gamma_fraction)
        span = (high - low).clamp(min=1e-6)
        image = ((image - low) / span).clamp(0, 1) ** exponent * span + low
    if random.chance(config.intensity_probability):
        image = image * (1.0 + random.uniform(-config.gain_fraction, config.gain_fraction))
        image = image + random.uniform(-config.offset, config.offset)
    if config.bias_field and random.chance(config.intensity_probability):
        field = functional.interpolate(
            random.normal((1, 1, 3, 3, 3)) * config.bias_field,
            size=tuple(image.shape[1:]),
            mode="trilinear",
            align_corners=True,
        )
        image = image * (1.0 + field[0].clamp(-0.5, 0.5))
    if config.noise_sd and random.chance(config.intensity_probability):
        image = image + random.normal(image.shape) * random.uniform(0.0, config.noise_sd)
    return image if config.clip is None else image.clamp(*config.clip)


def _coarser(image: Tensor, random: RandomSource) -> Tensor:
    """Imitate a coarser scan: down to 0.5 to 0.9 of the resolution and back, by axis at random."""
    factors = [random.uniform(0.5, 0.9) if random.chance(0.6) else 1.0 for _ in range(3)]
    size = [max(2, round(length * f)) for length, f in zip(image.shape[1:], factors, strict=True)]
    small = functional.interpolate(image[None], size=size, mode="trilinear", align_corners=False)
    return functional.interpolate(
        small, size=tuple(image.shape[1:]), mode="trilinear", align_corners=False
    )[0]


def _blurred(image: Tensor, sigma_voxels: float) -> Tensor:
    """Gaussian blur, separable, edges repeated."""
    radius = 2
    positions = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (positions / sigma_voxels) ** 2)
    kernel = kernel / kernel.sum()
    blurred = image[None]
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = 2 * radius + 1
        padding = [0] * 6
        padding[2 * (2 - axis)] = padding[2 * (2 - axis) + 1] = radius
        blurred = functional.conv3d(
            functional.pad(blurred, padding, mode="replicate"), kernel.reshape(shape)
        )
    return blurred[0]
