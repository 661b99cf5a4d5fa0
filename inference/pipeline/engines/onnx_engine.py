"""Networks run by ONNX Runtime on the CPU, in fp32."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from torch import nn

from inference.domain.errors import InferenceError
from inference.pipeline.engine_spec import Engine
from inference.pipeline.engines.base import converting

MODEL_FILE = "model.onnx"
_OPSET = 18
_INPUT, _OUTPUT = "patches", "logits"


class OnnxEngine:
    """A converted network in an ONNX Runtime session."""

    def __init__(self, content: bytes, engine: Engine, *, threads: int) -> None:
        import onnxruntime

        self.engine, self.device = engine, torch.device("cpu")
        options: Any = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Workers that spin between windows would take the cores from merging and interpolation.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session: Any = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )

    def run(self, patches: torch.Tensor) -> torch.Tensor:
        """Run windows; see `ReadyEngine`."""
        try:
            logits = [
                self._session.run([_OUTPUT], {_INPUT: np.ascontiguousarray(patch.numpy())})[0]
                for patch in torch.split(patches, 1)
            ]
        except Exception as error:  # its errors share no other base
            raise InferenceError(
                f"ONNX Runtime failed on {tuple(patches.shape)}: {error}"
            ) from error
        return torch.from_numpy(logits[0] if len(logits) == 1 else np.concatenate(logits))


def convert(network: nn.Module, roi_size: tuple[int, int, int]) -> bytes:
    """Return a torch network as an ONNX file's content, for one window."""
    file: Any = io.BytesIO()  # taken by this exporter, whatever its signature says
    # The exporter that traces is called old by torch; the newer one needs two packages more. It
    # warns that instance normalisation takes its input's statistics: as these networks want it.
    with torch.no_grad(), converting():
        torch.onnx.export(
            network,
            (torch.zeros(1, 1, *roi_size),),
            file,
            dynamo=False,
            opset_version=_OPSET,
            input_names=[_INPUT],
            output_names=[_OUTPUT],
        )
    content: bytes = file.getvalue()
    return content
