"""Networks run by OpenVINO on the CPU: fp32, bf16, and int8 calibrated on real windows."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from inference.domain.errors import InferenceError
from inference.pipeline.engine_spec import Engine
from inference.pipeline.engines.base import EngineUnavailableError, converting

MODEL_FILE = "model.xml"
_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}


class OpenVinoEngine:
    """A converted network, compiled for this machine's cores."""

    def __init__(self, model: Any, engine: Engine, *, n_classes: int, threads: int) -> None:
        openvino = quiet_openvino()
        self.engine, self.device = engine, torch.device("cpu")
        self._n_classes = n_classes
        self._tensor = openvino.Tensor
        hint = _HINTS[engine.precision]
        compiled = openvino.Core().compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": hint,
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": 1,
                # Models in other processes share the cores; the scheduler of the system decides.
                "ENABLE_CPU_PINNING": False,
            },
        )
        used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if used != hint:
            raise EngineUnavailableError(engine=engine, missing=f"OpenVINO computes in {used} here")
        self._request = compiled.create_infer_request()

    def run(self, patches: torch.Tensor) -> torch.Tensor:
        """Run windows; see `ReadyEngine`."""
        n, _, *roi = patches.shape
        # OpenVINO writes into this array itself, so nothing is copied and nothing is reused.
        logits = np.empty((n, self._n_classes, *roi), np.float32)
        windows = np.ascontiguousarray(patches.numpy())
        try:
            # One at a time: in a batch its sums, and so the labels, would depend on the company.
            for k in range(n):
                answer = self._tensor(logits[k : k + 1], shared_memory=True)
                self._request.set_output_tensor(answer)
                self._request.infer({0: windows[k : k + 1]}, share_inputs=True)
        except RuntimeError as error:
            raise InferenceError(f"OpenVINO failed on {tuple(patches.shape)}: {error}") from error
        return torch.from_numpy(logits)


def quiet_openvino() -> Any:
    """Import OpenVINO without its telemetry.

    The package `openvino_telemetry` comes with it and reports conversions to its maker without
    asking. A module that is None in ``sys.modules`` cannot be imported; OpenVINO and NNCF then take
    the stubs that they bring for that case.
    """
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino


def convert(network: nn.Module, roi_size: tuple[int, int, int]) -> Any:
    """Return an OpenVINO model of a torch network in fp32, for one window."""
    example = torch.zeros(1, 1, *roi_size)
    with torch.no_grad(), converting():
        return quiet_openvino().convert_model(
            network, example_input=example, input=[(1, 1, *roi_size)]
        )


def quantise(model: Any, windows: Sequence[torch.Tensor]) -> Any:
    """Return the model in int8, its ranges taken from real windows, (1, 1, D, H, W) each."""
    quiet_openvino()
    # NNCF draws progress bars of its own on standard output.
    with converting(), redirect_stdout(io.StringIO()):
        import nncf

        nncf.set_log_level(logging.WARNING)
        data = nncf.Dataset([window.numpy() for window in windows])
        return nncf.quantize(model, data, subset_size=len(windows))


def save(model: Any, folder: Path) -> None:
    """Write a model into a folder, weights in full precision."""
    quiet_openvino().save_model(model, folder / MODEL_FILE, compress_to_fp16=False)


def load(folder: Path) -> Any:
    """Read what `save` wrote."""
    return quiet_openvino().Core().read_model(folder / MODEL_FILE)
