"""Which window of which case is drawn at which step; decided by (seed, step) and nothing else.

So a resumed training draws exactly what an uninterrupted one would have drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from training.augment import AugmentConfig, draw_sample
from training.cases import PreparedCase
from training.random_source import RandomSource

LARGEST_SEED = 2**63 - 1


def step_generator(seed: int, step: int) -> torch.Generator:
    """Return the generator of one step."""
    mixed = (seed * 1_000_003 + step * 7_919 + 12_345) % LARGEST_SEED
    return torch.Generator().manual_seed(mixed)


class WindowSampler:
    """Draws batches of changed windows from prepared cases."""

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        roi_size: tuple[int, int, int],
        augment: AugmentConfig,
        *,
        seed: int,
        batch_size: int,
        foreground: float,
        padding_value: float,
    ) -> None:
        self._cases = tuple(cases)
        self._weights = torch.tensor([case.weight for case in cases], dtype=torch.float64)
        self._roi_size = roi_size
        self._augment = augment
        self._seed = seed
        self._batch_size = batch_size
        self._foreground = foreground
        self._padding_value = padding_value

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return images (N, 1, D, H, W) float32 and labels (N, 1, D, H, W) int64 of a step."""
        generator = step_generator(self._seed, step)
        random = RandomSource(generator)
        chosen = torch.multinomial(
            self._weights, self._batch_size, replacement=True, generator=generator
        )
        samples = [self._sample(self._cases[int(index)], random) for index in chosen]
        images = torch.stack([image for image, _ in samples])
        labels = torch.stack([labels for _, labels in samples])[:, None]  # (N, 1, D, H, W)
        return images, labels

    def _sample(self, case: PreparedCase, random: RandomSource) -> tuple[Tensor, Tensor]:
        return draw_sample(
            case.image,
            case.labels,
            self._centre(case, random),
            self._roi_size,
            self._augment,
            random,
            padding_value=self._padding_value,
        )

    def _centre(self, case: PreparedCase, random: RandomSource) -> list[float]:
        """Centre of the window: near a labelled voxel, or anywhere; never needlessly outside."""
        wanted: list[float] | None = None
        if random.chance(self._foreground) and case.foreground:
            labels = sorted(case.foreground)
            wanted = _labelled_voxel(
                case.foreground[labels[random.integer(0, len(labels) - 1)]], random
            )
        centre = []
        for axis, (size, roi) in enumerate(zip(case.image.shape, self._roi_size, strict=True)):
            low, high = (roi - 1) / 2, size - 1 - (roi - 1) / 2
            if high <= low:
                centre.append((size - 1) / 2)
            elif wanted is None:
                centre.append(random.uniform(low, high))
            else:
                centre.append(min(max(wanted[axis], low), high))
        return centre


def _labelled_voxel(voxels: Tensor, random: RandomSource) -> list[float]:
    """Pick a slice, then a voxel on it: thin ends of a structure come as often as its middle."""
    slices = voxels[:, 0].contiguous()  # ascending, as `nonzero` lists them
    low, high = int(slices[0]), int(slices[-1])
    first = int(torch.searchsorted(slices, random.integer(low, high)))
    last = int(torch.searchsorted(slices, int(slices[first]), right=True)) - 1
    picked: list[float] = voxels[random.integer(first, last)].tolist()
    return picked
