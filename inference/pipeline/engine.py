"""How a network is run: device, precision, memory layout and threads, decided in one place."""

from __future__ import annotations

import copy
import os
from typing import Any, cast

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cuda_kernels.jit import set_threads
from inference.domain.errors import InferenceError
from inference.pipeline.engine_spec import Engine
from inference.pipeline.engines.base import ReadyEngine
from inference.pipeline.engines.torch_engines import DTYPES
from inference.pipeline.monai_networks import Convolution


def use_all_cores() -> int:
    """Let torch and the kernels use every core this process may run on; return how many.

    Convolutions may sum in another order with another number of threads, so every process that
    runs models calls this: that is what makes their labels equal, voxel for voxel.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = cores or 1
    if torch.get_num_threads() != cores:
        torch.set_num_threads(cores)
    set_threads(cores)
    return cores


class ReadyNetwork(nn.Module):
    """A network as an engine runs it: evaluation mode, precision, layout, device, norms folded.

    Made from a copy; the network it comes from is untouched.
    """

    def __init__(self, network: nn.Module, engine: Engine, device: torch.device) -> None:
        super().__init__()
        self.engine, self.device = engine, device
        converted = copy.deepcopy(network).eval().requires_grad_(False)
        _fold_batch_norm(converted)
        converted = converted.to(device=device, dtype=DTYPES[engine.precision])
        if engine.channels_last:
            converted.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.network = converted

    def forward(self, patches: torch.Tensor) -> Any:
        """Return the network's answer in its own precision."""
        return self.network(patches)

    def run(self, patches: torch.Tensor) -> torch.Tensor:
        """Run windows; see `ReadyEngine`."""
        return run_network(self, patches, self.engine)


def ready_network(network: nn.Module, engine: Engine, device: torch.device) -> ReadyNetwork:
    """Return the network as the engine runs it; one that is ready already, as it is."""
    if isinstance(network, ReadyNetwork) and network.engine == engine and network.device == device:
        return network
    raw = network.network if isinstance(network, ReadyNetwork) else network
    return ReadyNetwork(raw, engine, device)


def _fold_batch_norm(network: nn.Module) -> None:
    """Put each batch normalisation into the convolution before it: the same map, one pass less."""
    for block in network.modules():
        if not isinstance(block, Convolution):
            continue
        convolution, rest = block.get_submodule("conv"), getattr(block, "adn", None)
        first = next(iter(rest.named_children()), None) if isinstance(rest, nn.Module) else None
        if rest is None or first is None or not isinstance(first[1], nn.BatchNorm3d):
            continue
        is_transposed = isinstance(convolution, nn.ConvTranspose3d)
        folded: nn.Module = fuse_conv_bn_eval(
            cast("nn.Conv3d", convolution), first[1], transpose=is_transposed
        )
        block.conv = folded
        setattr(rest, first[0], nn.Identity())


def run_network(
    network: nn.Module | ReadyEngine, patches: torch.Tensor, engine: Engine
) -> torch.Tensor:
    """Run a ready network on windows, whatever engine runs it.

    Parameters
    ----------
    patches : (N, 1, D, H, W), float32

    Returns
    -------
    (N, classes, D, H, W), float32, contiguous

    Raises
    ------
    InferenceError
        The network failed, or its output has another shape.
    """
    try:
        if isinstance(network, nn.Module):
            layout = torch.channels_last_3d if engine.channels_last else torch.contiguous_format
            with torch.inference_mode():
                logits = network(patches.to(dtype=DTYPES[engine.precision], memory_format=layout))
        else:
            logits = network.run(patches)
    except (RuntimeError, ValueError) as error:  # torch raises both for shapes and for memory
        raise InferenceError(f"the network failed on {tuple(patches.shape)}: {error}") from error
    if not isinstance(logits, torch.Tensor) or logits.shape[2:] != patches.shape[2:]:
        raise InferenceError("the network's output is not one tensor of the windows' size")
    return logits.to(dtype=torch.float32, memory_format=torch.contiguous_format)
