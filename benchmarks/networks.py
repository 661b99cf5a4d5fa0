"""Model specs with random weights, as large as those that segment whole bodies."""

from __future__ import annotations

import copy
from typing import Any

from inference.pipeline.spec import ModelSpec, parse_spec

_CODE = {"value": "91723000", "scheme": "SCT", "meaning": "Anatomical Structure"}
_TABLE: dict[str, Any] = {
    "name": "ct_random_seg",
    "version": "0.0.1",
    "title": "Random weights",
    "status": "research",
    "intended_use": "Measuring",
    "scope": {
        "modalities": ["CT"],
        "slice_spacing_mm": [0.1, 20.0],
        "in_plane_spacing_mm": [0.1, 20.0],
        "min_extent_mm": [1.0, 1.0, 1.0],
    },
    "preprocessing": {
        "spacing_mm": [1.5, 1.5, 1.5],
        "intensity": {"kind": "clip_scale", "lower": -57.0, "upper": 164.0},
    },
    "weights": {"sha256": "0" * 64},
    "training": {"data": "none"},
}
NETWORKS: dict[str, dict[str, Any]] = {
    "unet 16..256": {
        "class": "unet",
        "args": {
            "channels": [16, 32, 64, 128, 256],
            "strides": [2, 2, 2, 2],
            "num_res_units": 2,
            "norm": "BATCH",
        },
    },
    "dynunet 32..320": {
        "class": "dynunet",
        "args": {
            "kernel_size": [3] * 5,
            "strides": [1, 2, 2, 2, 2],
            "upsample_kernel_size": [2] * 4,
            "filters": [32, 64, 128, 256, 320],
        },
    },
}
"""The network of MONAI's spleen bundle, and one like nnU-Net's full resolution."""


def random_spec(
    network: str, *, n_classes: int, roi_size: int = 96, overlap: float = 0.5, **engine: Any
) -> ModelSpec:
    """Return a whole spec; weights are those of `build_network` after `torch.manual_seed`."""
    table = copy.deepcopy(_TABLE)
    table["network"] = NETWORKS[network]
    table["window"] = {"roi_size": [roi_size] * 3, "overlap": overlap}
    table["engine"] = engine
    table["labels"] = [
        {
            "value": k,
            "name": f"structure {k}",
            "category": _CODE,
            "type": _CODE,
            "color_rgb": [k % 256, 0, 9],
        }
        for k in range(1, n_classes)
    ]
    return parse_spec(table)
