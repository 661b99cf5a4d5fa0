"""A tiny random model, and one real Triton server that the tests of this folder share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dicom_io.volume import Volume
from inference.backends.triton import TritonPredictor
from inference.backends.triton_config import CONFIG_FILE, render_config
from inference.backends.triton_launch import TritonServerOptions
from inference.backends.triton_server import TritonServer
from inference.pipeline.network import build_network
from inference.pipeline.spec import SPEC_FILE, ModelSpec, parse_spec, write_spec

TINY = "mr_tiny_seg"
MANY = "mr_many_seg"
SCT = {"scheme": "SCT"}


def tiny_table(name: str, *, n_labels: int = 3, roi_size: int = 16) -> dict[str, Any]:
    """A `model.toml` for a small random network; every voxel gets some label."""
    label = {
        "category": {"value": "123037004", "meaning": "Anatomical Structure", **SCT},
        "type": {"value": "85756007", "meaning": "Tissue", **SCT},
        "color_rgb": [200, 100, 50],
    }
    return {
        "name": name,
        "version": "1.0.0",
        "title": "A random network",
        "status": "research",
        "intended_use": "Tests.",
        "scope": {
            "modalities": ["MR"],
            "slice_spacing_mm": [0.1, 20.0],
            "in_plane_spacing_mm": [0.1, 20.0],
            "min_extent_mm": [0.1, 0.1, 0.1],
        },
        "preprocessing": {
            "spacing_mm": [2.0, 1.5, 1.5],
            "intensity": {"kind": "clip_scale", "lower": -200.0, "upper": 200.0},
        },
        "window": {"roi_size": [roi_size] * 3, "overlap": 0.5},
        "network": {
            "class": "unet",
            "args": {"channels": [4, 8], "strides": [2]},
        },
        "weights": {"sha256": "0" * 64},
        "labels": [{"value": k, "name": f"structure {k}", **label} for k in range(1, n_labels + 1)],
        "training": {"data": "none: the weights are random"},
    }


def write_model(repo: Path, table: dict[str, Any], *, seed: int = 7) -> ModelSpec:
    """Write a model folder with random weights, as training would write it."""
    folder = repo / table["name"]
    (folder / "1").mkdir(parents=True)
    torch.manual_seed(seed)
    network = build_network(parse_spec(table))
    # Random logits are near a tie everywhere; wider ones give every label a place.
    tensors = {name: tensor * 3.0 for name, tensor in network.state_dict().items()}
    save_file(tensors, folder / "1" / "weights.safetensors")
    content = (folder / "1" / "weights.safetensors").read_bytes()
    table = table | {"weights": {"sha256": hashlib.sha256(content).hexdigest()}}
    spec = parse_spec(table)
    (folder / SPEC_FILE).write_text(write_spec(spec))
    (folder / CONFIG_FILE).write_text(render_config(spec))
    return spec


def noise_volume(shape: tuple[int, int, int], dtype: type[np.generic], *, seed: int = 3) -> Volume:
    """Smooth noise on a sagittal, oblique grid whose three spacings differ."""
    random = np.random.default_rng(seed)
    coarse = random.normal(0, 300, tuple(-(-size // 3) for size in shape))
    array = np.kron(coarse, np.ones((3, 3, 3)))[tuple(slice(size) for size in shape)]
    angle = 0.2
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    sagittal = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ sagittal * np.array([2.2, 0.8, 1.1])
    affine[:3, 3] = (-31.0, 12.0, 7.5)
    return Volume(array=array.astype(dtype), affine_lps=affine, modality="MR")


@pytest.fixture(scope="session")
def tiny_repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with a small model, and one of 300 labels."""
    repo = tmp_path_factory.mktemp("model_repo")
    write_model(repo, tiny_table(TINY))
    write_model(repo, tiny_table(MANY, n_labels=300))
    return repo


@pytest.fixture(scope="session")
def triton_server(
    tiny_repo: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    """A real server; tests that break one start their own."""
    options = TritonServerOptions(
        model_repo=tiny_repo,
        models=(TINY, MANY),
        data_dir=tmp_path_factory.mktemp("triton_data"),
    )
    with TritonServer(options) as server:
        yield server


@pytest.fixture(params=["shared memory", "bytes"])
def predictor(
    request: pytest.FixtureRequest, triton_server: TritonServer, tiny_repo: Path
) -> Iterator[TritonPredictor]:
    """A client of the shared server, once per way for a volume to travel."""
    by_memory = request.param == "shared memory"
    client = TritonPredictor(
        triton_server.address,
        model_repo=tiny_repo,
        secret=triton_server.secret if by_memory else None,
        shared_memory=by_memory,
        timeout_s=120.0,
    )
    yield client
    client.close()
