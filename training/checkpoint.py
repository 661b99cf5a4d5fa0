"""Checkpoints of a run: safetensors and JSON in a folder, never pickle; written whole or not.

::

    RUN/checkpoint/weights.safetensors     the network as it is trained
    RUN/checkpoint/averaged.safetensors    the moving average of the weights: what is exported
    RUN/checkpoint/optimizer.safetensors   AdamW's moments, by parameter name
    RUN/checkpoint/state.json              step, hash of the configuration, history
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from training.errors import CheckpointError

FOLDER = "checkpoint"
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass
class RunState:
    """Where a run stands, next to its tensors."""

    config_sha256: str
    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


def save_checkpoint(
    run: Path,
    state: RunState,
    network: nn.Module,
    averaged: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write a checkpoint beside the last one, then put it in its place."""
    fresh = run / f"{FOLDER}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    save_file(_tensors(network), fresh / "weights.safetensors")
    save_file(_tensors(averaged), fresh / "averaged.safetensors")
    save_file(_moments(network, optimizer), fresh / "optimizer.safetensors")
    (fresh / "state.json").write_text(json.dumps(vars(state), indent=1) + "\n")
    current, old = run / FOLDER, run / f"{FOLDER}.old"
    shutil.rmtree(old, ignore_errors=True)
    if current.exists():
        current.replace(old)
    fresh.replace(current)
    shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(
    run: Path,
    config_sha256: str,
    network: nn.Module,
    averaged: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> RunState:
    """Fill network, average and optimizer from the run's checkpoint, and return its state.

    Raises
    ------
    CheckpointError
        None is there, it is damaged, or it belongs to another configuration.
    """
    folder = run / FOLDER
    if not folder.is_dir() and (run / f"{FOLDER}.old").is_dir():
        folder = run / f"{FOLDER}.old"  # stopped between the two renames
    try:
        state = RunState(**json.loads((folder / "state.json").read_text()))
        if state.config_sha256 != config_sha256:
            raise CheckpointError(
                f"{folder}: belongs to another configuration"
                f" ({state.config_sha256[:12]}, not {config_sha256[:12]}); train without --resume"
            )
        network.load_state_dict(load_file(folder / "weights.safetensors"))
        averaged.load_state_dict(load_file(folder / "averaged.safetensors"))
        _restore_moments(network, optimizer, load_file(folder / "optimizer.safetensors"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder}: no checkpoint to resume: {error.filename}") from error
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: cannot be resumed: {error}") from error
    return state


def load_averaged(run: Path, network: nn.Module) -> None:
    """Fill a network with the averaged weights of the run's checkpoint.

    Raises
    ------
    CheckpointError
    """
    path = run / FOLDER / "averaged.safetensors"
    try:
        network.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be loaded: {error}") from error


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    # Cloned, because a DynUNet names each of its tensors twice and safetensors shares none.
    return {name: t.detach().cpu().clone() for name, t in network.state_dict().items()}


def _moments(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, parameter in network.named_parameters():
        state = optimizer.state.get(parameter, {})
        for moment in (*MOMENTS, "step"):
            if moment in state:
                value = torch.as_tensor(state[moment]).detach().cpu().contiguous()
                tensors[f"{moment}/{name}"] = value
    return tensors


def _restore_moments(
    network: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]
) -> None:
    for name, parameter in network.named_parameters():
        if f"step/{name}" not in tensors:
            continue  # a parameter that never had a gradient
        state = {moment: tensors[f"{moment}/{name}"].to(parameter.device) for moment in MOMENTS}
        optimizer.state[parameter] = {**state, "step": tensors[f"step/{name}"]}
