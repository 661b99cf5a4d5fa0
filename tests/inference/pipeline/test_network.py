"""Networks of the allow-list are built and run; weights are checked before they are used."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from inference.domain.errors import ModelSpecError, ModelWeightsError
from inference.pipeline.network import build_network, load_network
from inference.pipeline.spec import ModelSpec
from tests.inference.pipeline.built import spec_of

NETWORKS: list[dict[str, Any]] = [
    {"class": "unet", "args": {"channels": [4, 8, 8], "strides": [2, [1, 2, 2]], "norm": "BATCH"}},
    {
        "class": "dynunet",
        "args": {
            "kernel_size": [3, 3, 3],
            "strides": [1, 2, 2],
            "upsample_kernel_size": [2, 2],
            "filters": [4, 8, 8],
        },
    },
    {
        "class": "segresnet",
        "args": {"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]},
    },
]


@pytest.mark.parametrize("network", NETWORKS, ids=lambda table: table["class"])
def test_a_network_of_the_list_gives_one_channel_per_class(network: dict[str, Any]) -> None:
    spec = spec_of(network=network)
    with torch.inference_mode():
        logits = build_network(spec).eval()(torch.zeros(1, 1, *spec.window.roi_size))
    assert logits.shape == (1, 4, *spec.window.roi_size)


def test_arguments_that_monai_refuses_are_named() -> None:
    args = {"channels": [4, 8], "strides": [2], "act": "NOPE"}
    with pytest.raises(ModelSpecError) as caught:
        build_network(spec_of(network={"args": args}))
    assert caught.value.field == "network.args"


def _saved(folder: Path, **network: Any) -> tuple[ModelSpec, torch.nn.Module]:
    spec = spec_of(network=network) if network else spec_of()
    torch.manual_seed(1)
    network_made = build_network(spec)
    path = folder / "1" / "weights.safetensors"
    path.parent.mkdir(exist_ok=True)
    save_file(network_made.state_dict(), path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return spec_of(weights={"sha256": sha256}), network_made


def test_loaded_weights_are_the_saved_ones_and_frozen(tmp_path: Path) -> None:
    spec, saved = _saved(tmp_path)
    loaded = load_network(tmp_path, spec)
    assert not loaded.training
    for name, tensor in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_one_changed_byte_is_refused_with_both_hashes(tmp_path: Path) -> None:
    spec, _ = _saved(tmp_path)
    path = tmp_path / "1" / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelWeightsError, match=spec.weights.sha256):
        load_network(tmp_path, spec)


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelWeightsError, match="cannot be read"):
        load_network(tmp_path, spec_of())


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    path = tmp_path / "1" / "weights.safetensors"
    path.parent.mkdir()
    path.write_bytes(pickle.dumps({"model": [1, 2, 3]}))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(ModelWeightsError, match="not a safetensors file"):
        load_network(tmp_path, spec_of(weights={"sha256": sha256}))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    spec, _ = _saved(tmp_path, **{"class": "unet", "args": {"channels": [4, 16], "strides": [2]}})
    with pytest.raises(ModelWeightsError, match="does not fit"):
        load_network(tmp_path, spec)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    network = build_network(spec_of())
    next(network.parameters()).data[0] = torch.nan
    path = tmp_path / "1" / "weights.safetensors"
    path.parent.mkdir()
    save_file(network.state_dict(), path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(ModelWeightsError, match="NaN"):
        load_network(tmp_path, spec_of(weights={"sha256": sha256}))
