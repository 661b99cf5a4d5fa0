"""Specs, phantoms and stand-in networks that the pipeline's tests are built from."""

from __future__ import annotations

import copy
from itertools import permutations, product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from inference.pipeline.spec import ModelSpec, parse_spec

CODE = {"value": "39607008", "scheme": "SCT", "meaning": "Lung"}
TABLE: dict[str, Any] = {
    "name": "ct_box_seg",
    "version": "0.1.0",
    "title": "Boxes in a built volume",
    "status": "research",
    "intended_use": "Tests",
    "scope": {
        "modalities": ["CT"],
        "slice_spacing_mm": [0.1, 20.0],
        "in_plane_spacing_mm": [0.1, 20.0],
        "min_extent_mm": [1.0, 1.0, 1.0],
    },
    "preprocessing": {
        "spacing_mm": [2.0, 1.5, 1.0],
        "intensity": {"kind": "clip_scale", "lower": -100.0, "upper": 300.0},
    },
    "window": {"roi_size": [16, 24, 20], "overlap": 0.5},
    "network": {"class": "unet", "args": {"channels": [4, 8], "strides": [2]}},
    "weights": {"sha256": "0" * 64},
    "labels": [
        {"value": k, "name": f"box {k}", "category": CODE, "type": CODE, "color_rgb": [k, 0, 9]}
        for k in (1, 2, 3)
    ],
    "training": {"data": "none"},
}


def spec_table(**tables: Any) -> dict[str, Any]:
    """Return a whole `model.toml` table; tables given replace or extend those of the same name."""
    table = copy.deepcopy(TABLE)
    for name, value in tables.items():
        if isinstance(value, dict) and isinstance(table.get(name), dict):
            table[name] = {**table[name], **value}
        else:
            table[name] = value
    return table


def spec_of(**tables: Any) -> ModelSpec:
    return parse_spec(spec_table(**tables))


class Levels(nn.Module):
    """A network whose answer is known: class ``k`` where the input is nearest to ``k / 4``.

    Every voxel is judged on its own, so labels must come back exactly where intensities were.
    """

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.n_classes = n_classes

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        levels = torch.arange(self.n_classes, dtype=patches.dtype) / 4
        return -400 * (patches - levels.view(1, -1, 1, 1, 1)) ** 2


HU_OF_LABEL = np.array([-100, 0, 100, 200], np.int16)
"""Values that clip_scale(-100, 300) turns into 0, 1/4, 2/4, 3/4."""

BOXES_MM = (
    (1, (-14.0, 3.0), (-16.0, -5.0), (-13.0, 9.0)),
    (2, (5.0, 12.0), (-9.0, 14.0), (-4.0, 15.0)),
    (3, (-15.0, -6.0), (1.0, 8.0), (-10.0, 2.0)),
)
"""Label and its range along L, P and S: no two sizes or places equal, so no flip goes unseen."""


def boxes(points_lps: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the label at each patient point; the truth about the phantom, without a grid."""
    labels = np.zeros(points_lps.shape[:-1], np.uint8)
    for label, *ranges in BOXES_MM:
        inside = np.ones(labels.shape, bool)
        for axis, (low, high) in enumerate(ranges):
            inside &= (points_lps[..., axis] >= low) & (points_lps[..., axis] < high)
        labels[inside] = label
    return labels


def centres(shape: tuple[int, ...], affine_lps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the patient point of every voxel centre, (..., 3)."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    return index @ affine_lps[:3, :3].T + affine_lps[:3, 3]


def grid(
    directions: NDArray[np.float64],
    spacing_mm: tuple[float, float, float],
    shape: tuple[int, int, int],
) -> NDArray[np.float64]:
    """Return the affine of a grid whose middle is the patient's origin, nearly."""
    affine = np.eye(4)
    affine[:3, :3] = directions * np.asarray(spacing_mm)
    affine[:3, 3] = -affine[:3, :3] @ (np.asarray(shape) // 2) + (0.25, 0.15, 0.35)
    return affine


def all_orientations() -> list[NDArray[np.float64]]:
    """48 signed permutations: 24 rotations, each with slices in both file orders."""
    found = []
    for order, signs in product(permutations(range(3)), product((1.0, -1.0), repeat=3)):
        directions = np.zeros((3, 3))
        for column, (row, sign) in enumerate(zip(order, signs, strict=True)):
            directions[row, column] = sign
        found.append(directions)
    return found


def rotation(axis: tuple[float, float, float], degrees: float) -> NDArray[np.float64]:
    """Return a rotation matrix (Rodrigues)."""
    x, y, z = np.asarray(axis) / np.linalg.norm(axis)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    turned: NDArray[np.float64] = np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k
    return turned


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))
