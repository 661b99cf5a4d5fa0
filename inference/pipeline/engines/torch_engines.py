"""Networks that torch runs in another way than operation by operation.

Those for CUDA devices were written without one at hand; `clinfer models tune` compares their
labels with fp32 before any of them may serve.
"""

from __future__ import annotations

import os
from typing import Any, cast

import torch
from torch import nn

from inference.pipeline.engine_spec import Engine
from inference.pipeline.engines.base import converting

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class CompiledEngine:
    """A network compiled by torch.compile for one window; several are run one after another.

    A new number of windows would mean a new compilation of some 20 s amid a study.
    """

    def __init__(
        self,
        network: nn.Module,
        engine: Engine,
        device: torch.device,
        roi_size: tuple[int, int, int],
        cache_dir: str | None,
    ) -> None:
        if cache_dir is not None:  # torch reads it once, at its first compilation
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", cache_dir)
        self.engine, self.device = engine, device
        with converting():
            self._compiled: Any = torch.compile(network, dynamic=False)
            self.run(torch.zeros(1, 1, *roi_size, device=device))

    def run(self, patches: torch.Tensor) -> torch.Tensor:
        """Run windows; see `ReadyEngine`."""
        with torch.inference_mode():
            rows = torch.split(_in_precision(patches, self.engine), 1)
            return torch.cat([self._compiled(row).float() for row in rows])


class CudaGraphEngine:
    """A network recorded once as a CUDA graph for one window, and replayed."""

    def __init__(
        self,
        network: nn.Module,
        engine: Engine,
        device: torch.device,
        roi_size: tuple[int, int, int],
    ) -> None:
        self.engine, self.device = engine, device
        empty = torch.zeros(1, 1, *roi_size, device=device)
        self._input = _in_precision(empty, engine)
        aside: Any = cast("Any", torch.cuda).Stream(device)
        aside.wait_stream(torch.cuda.current_stream(device))
        with torch.inference_mode(), torch.cuda.stream(aside):
            for _ in range(3):  # libraries choose their algorithms before the recording
                network(self._input)
        torch.cuda.current_stream(device).wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(self._graph):
            self._output = network(self._input)

    def run(self, patches: torch.Tensor) -> torch.Tensor:
        """Run windows; see `ReadyEngine`."""
        found = []
        with torch.inference_mode():
            for patch in torch.split(patches, 1):
                self._input.copy_(patch)
                self._graph.replay()
                found.append(self._output.float().clone())
            return torch.cat(found)


class TensorRtEngine:
    """A network built by Torch-TensorRT for one window."""

    def __init__(
        self,
        network: nn.Module,
        engine: Engine,
        device: torch.device,
        roi_size: tuple[int, int, int],
    ) -> None:
        with converting():
            import torch_tensorrt

        self.engine, self.device = engine, device
        example = torch_tensorrt.Input(shape=(1, 1, *roi_size), dtype=DTYPES[engine.precision])
        with converting():
            self._built: Any = torch_tensorrt.compile(
                network,
                ir="dynamo",
                inputs=[example],
                enabled_precisions={DTYPES[engine.precision]},
            )

    def run(self, patches: torch.Tensor) -> torch.Tensor:
        """Run windows; see `ReadyEngine`."""
        rows = torch.split(patches.to(DTYPES[self.engine.precision]), 1)
        with torch.inference_mode():
            return torch.cat([self._built(row).float() for row in rows])


def _in_precision(patches: torch.Tensor, engine: Engine) -> torch.Tensor:
    layout = torch.channels_last_3d if engine.channels_last else torch.contiguous_format
    return patches.to(dtype=DTYPES[engine.precision], memory_format=layout)
