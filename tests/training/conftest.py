"""A tiny training: synthetic crops, a tiny network, a few steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicom_io.nifti import write_nifti
from training.config import TrainConfig

CODES = {
    "category": {"value": "91723000", "scheme": "SCT", "meaning": "Anatomical Structure"},
    "type": {"value": "5366008", "scheme": "SCT", "meaning": "Hippocampus"},
}


def tiny_model() -> dict[str, Any]:
    return {
        "name": "mr_tiny_seg",
        "version": "0.1.0",
        "title": "Tiny",
        "status": "research",
        "intended_use": "Tests.",
        "scope": {
            "modalities": ["MR"],
            "slice_spacing_mm": [0.5, 3.0],
            "in_plane_spacing_mm": [0.5, 3.0],
            "min_extent_mm": [1.0, 1.0, 1.0],
        },
        "preprocessing": {
            "spacing_mm": [1.5, 1.0, 1.25],
            "intensity": {"kind": "zscore", "padding_value": 0.0},
        },
        "window": {"roi_size": [8, 16, 16], "overlap": 0.5},
        "network": {
            "class": "dynunet",
            "args": {
                "kernel_size": [3, 3, 3],
                "strides": [1, 2, 2],
                "upsample_kernel_size": [2, 2],
                "filters": [4, 8, 8],
            },
        },
        "labels": [
            {"value": 1, "name": "front blob", "color_rgb": [255, 0, 0], **CODES},
            {"value": 2, "name": "back blob", "color_rgb": [0, 0, 255], **CODES},
        ],
    }


def blob_case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two bright balls in noise, (slice, row, column), and their labels."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(np.arange(11), np.arange(17), np.arange(15), indexing="ij")
    labels = np.zeros(z.shape, np.uint8)
    for label, row in ((1, 4), (2, 12)):
        centre = np.array([5, row, 7]) + rng.uniform(-1, 1, 3)
        labels[np.hypot(np.hypot(z - centre[0], y - centre[1]), x - centre[2]) < 3.2] = label
    image = rng.normal(100, 10, z.shape) + 100.0 * (labels > 0) + 60.0 * (labels == 2)
    return image.astype(np.float32), labels


@pytest.fixture
def blob_data(tmp_path: Path) -> Path:
    """A folder with images/ and labels/ of eight cases."""
    root = tmp_path / "data"
    affine = np.diag([1.5, 1.0, 1.25, 1.0])[[2, 1, 0, 3]]
    for seed in range(8):
        image, labels = blob_case(seed)
        for name, array in (("images", image), ("labels", labels)):
            (root / name).mkdir(parents=True, exist_ok=True)
            write_nifti(root / name / f"case_{seed}.nii.gz", array, affine)
    return root


@pytest.fixture
def tiny_config(blob_data: Path) -> Callable[..., TrainConfig]:
    """Make a configuration over `blob_data`; keyword arguments change its ``fit`` table."""

    def make(**fit: Any) -> TrainConfig:
        return TrainConfig.model_validate(
            {
                "seed": 7,
                "data_root": str(blob_data),
                "model": tiny_model(),
                "data": [
                    {
                        "kind": "nifti_pairs",
                        "images": "images",
                        "labels": "labels",
                        "source": "built",
                        "licence": "Apache-2.0",
                    }
                ],
                "split": {"seed": 1, "n_test": 2, "n_validation": 1},
                "augment": {
                    "flip_axes": ["column"],
                    "spatial_probability": 0.3,
                    "elastic_probability": 0.1,
                    "intensity_probability": 0.1,
                },
                "fit": {
                    "steps": 6,
                    "validate_every": 3,
                    "checkpoint_every": 2,
                    "threads": 2,
                    "autocast_bf16": False,
                    **fit,
                },
            }
        )

    return make


class Recorder:
    """A watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.validations: list[tuple[int, dict[str, Any]]] = []
        self.stages: list[tuple[str, int, int]] = []

    def step(self, done: int, total: int, loss: float) -> None:
        self.losses.append(loss)

    def validated(self, step: int, figures: dict[str, Any]) -> None:
        self.validations.append((step, figures))

    def stage(self, name: str, done: int, total: int) -> None:
        self.stages.append((name, done, total))


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()
