"""Networks from the allow-list, and their weights: safetensors only, checked by SHA-256."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import nn

from inference.domain.errors import ModelSpecError, ModelWeightsError
from inference.pipeline.monai_networks import DynUNet, SegResNet, UNet
from inference.pipeline.network_spec import DynUNetArgs, NetworkSpec, SegResNetArgs, UNetArgs
from inference.pipeline.spec import SPEC_FILE, ModelSpec


def build_network(spec: ModelSpec) -> nn.Module:
    """Make the network that a spec describes, with fresh weights, in training mode.

    It maps (N, 1, D, H, W) to logits (N, classes, D, H, W), background first.

    Raises
    ------
    ModelSpecError
        MONAI does not accept the arguments together.
    """
    return network_of(spec.network, n_classes=spec.n_classes)


def network_of(network: NetworkSpec, *, n_classes: int) -> nn.Module:
    """Make the network of a `[network]` table; see :func:`build_network`."""
    args = network.args
    common: dict[str, Any] = {"spatial_dims": 3, "in_channels": 1, "out_channels": n_classes}
    try:
        match args:
            case UNetArgs():
                return UNet(**common, **args.model_dump())
            case DynUNetArgs():
                return DynUNet(**common, **args.model_dump(), deep_supervision=False)
            case SegResNetArgs():
                return SegResNet(**common, **args.model_dump())
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ModelSpecError(path=SPEC_FILE, field="network.args", problem=str(error)) from error


def load_network(folder: Path, spec: ModelSpec) -> nn.Module:
    """Make the network with the folder's weights, ready to run (evaluation mode, float32).

    The file is read once: the bytes that were hashed are the bytes that are loaded.

    Raises
    ------
    ModelWeightsError
        Missing, not the file that the spec names, not safetensors, or not fitting the network.
    """
    path = folder / spec.weights.file
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelWeightsError(f"{path}: cannot be read: {error.strerror}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != spec.weights.sha256:
        raise ModelWeightsError(
            f"{path}: SHA-256 is {found}, {SPEC_FILE} says {spec.weights.sha256}"
        )
    try:
        tensors = load_safetensors(content)
    except SafetensorError as error:
        raise ModelWeightsError(f"{path}: not a safetensors file: {error}") from error
    network = build_network(spec)
    try:
        network.load_state_dict({name: t.float() for name, t in tensors.items()}, strict=True)
    except RuntimeError as error:
        raise ModelWeightsError(f"{path}: does not fit {SPEC_FILE}'s network: {error}") from error
    if not all(torch.isfinite(parameter).all() for parameter in network.parameters()):
        raise ModelWeightsError(f"{path}: some weights are NaN or infinite")
    return network.eval().requires_grad_(False)
