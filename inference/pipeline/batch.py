"""Windows through the network, several at a time, whoever they belong to.

A convolution may sum in another order when the batch has another size: in fp32 on a CPU, logits of
batches of 1 and of 2 differ in their last bits (tests/inference/pipeline/test_batch.py). So a model
always gets batches of the same size; one that is not full is filled with zeros. Then a window's
logits depend on nothing but the window: not on its neighbours, not on its place.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import nn

from inference.domain.errors import InferenceError
from inference.pipeline.engine import run_network, use_all_cores
from inference.pipeline.engines.base import ReadyEngine
from inference.pipeline.engines.factory import ready_engine
from inference.pipeline.spec import ModelSpec

BATCH_SIZE_CPU = 1
"""One window already keeps all cores busy. Per window of mr_hippocampus_seg (40 x 56 x 40, bf16)
on 2 cores: 36.4, 35.3, 34.7 ms in batches of 1, 2, 4; of ct_lung_seg (24 x 128 x 128): 238, 236,
265 ms."""

BATCH_SIZE_CUDA = 4
"""Enough to fill a GPU with windows of 96^3; not measured here: set ``window.batch_size`` where a
measurement says otherwise."""


def batch_size_on(spec: ModelSpec, device: torch.device) -> int:
    """Return how many windows the network is given at a time: as the model says, or the device."""
    if spec.window.batch_size is not None:
        return spec.window.batch_size
    return BATCH_SIZE_CUDA if device.type == "cuda" else BATCH_SIZE_CPU


class BatchRunner:
    """A model's network, ready to run on batches of one size.

    Attributes
    ----------
    size : windows in a batch
    last_s : how long the network ran for the last one
    """

    def __init__(
        self, network: nn.Module | ReadyEngine, spec: ModelSpec, device: torch.device
    ) -> None:
        self._network = ready_engine(network, spec, device)
        self._spec, self._device = spec, device
        self.size = batch_size_on(spec, device)
        self.last_s = 0.0

    def run(self, patches: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return the logits of each window.

        Parameters
        ----------
        patches : 1 to ``size`` times (1, 1, D, H, W), float32, on the device

        Returns
        -------
        (1, classes, D, H, W) each, float32

        Raises
        ------
        InferenceError
            The network failed, or there are more windows than fit into a batch.
        """
        if not 1 <= len(patches) <= self.size:
            raise InferenceError(f"{len(patches)} windows for a batch of 1 to {self.size}")
        use_all_cores()
        began = time.monotonic()
        batch = patches[0] if self.size == 1 else self._filled(patches)
        logits = run_network(self._network, batch, self._spec.engine)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self.last_s = time.monotonic() - began
        return [logits[row : row + 1] for row in range(len(patches))]

    def try_out(self) -> None:
        """Run one batch of nothing, so that what is made at first use is made now.

        Raises
        ------
        InferenceError
        """
        window = torch.zeros((1, 1, *self._spec.window.roi_size), device=self._device)
        self.run([window])

    def _filled(self, patches: Sequence[torch.Tensor]) -> torch.Tensor:
        n_empty = self.size - len(patches)
        empty = torch.zeros((n_empty, *patches[0].shape[1:]), device=self._device)
        return torch.cat([*patches, empty])  # (size, 1, D, H, W)
