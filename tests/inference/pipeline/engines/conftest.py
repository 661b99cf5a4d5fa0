"""A tiny model folder that every engine can run in a second."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from inference.pipeline.engines.cache import EngineCache
from inference.pipeline.network import build_network
from inference.pipeline.spec import ModelSpec, write_spec
from tests.inference.pipeline.built import spec_of, spec_table


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(2)
    return build_network(spec_of()).eval().requires_grad_(False)


@pytest.fixture
def folder(tmp_path: Path, network: nn.Module) -> Path:
    """A whole model folder, named as its model."""
    place = tmp_path / "repo" / "ct_box_seg"
    (place / "1").mkdir(parents=True)
    weights = place / "1" / "weights.safetensors"
    save_file(network.state_dict(), weights)
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    text = write_spec(spec_table(weights={"sha256": sha256}))
    (place / "model.toml").write_text(text, encoding="utf-8")
    return place


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "cache")


@pytest.fixture
def spec() -> ModelSpec:
    return spec_of()
