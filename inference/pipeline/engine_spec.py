"""The `[engine]` table: which library runs a network, and in which precision."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

EngineKind = Literal["torch", "torch_compile", "openvino", "onnxruntime", "cuda_graph", "tensorrt"]
Precision = Literal["fp32", "bf16", "fp16", "int8"]

PRECISIONS: dict[str, tuple[Precision, ...]] = {
    "torch": ("fp32", "bf16", "fp16"),
    "torch_compile": ("fp32", "bf16", "fp16"),
    "openvino": ("fp32", "bf16", "int8"),
    "onnxruntime": ("fp32",),
    "cuda_graph": ("fp32", "bf16", "fp16"),
    "tensorrt": ("fp32", "fp16"),
}
"""Precisions of each kind; which of them a machine can run is `engines.candidates`' question."""

LAYOUT_KINDS = ("torch", "torch_compile", "cuda_graph")
"""Kinds to which a memory layout means something; the others choose their own."""


class Engine(BaseModel):
    """How the network is run where nothing else was measured to be faster and as good."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: EngineKind = "torch"
    precision: Precision = "fp32"
    channels_last: bool = False

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        known = PRECISIONS[self.kind]
        if self.precision not in known:
            raise ValueError(
                f"precision: {self.precision} is not one of {self.kind}'s: {', '.join(known)}"
            )
        if self.channels_last and self.kind not in LAYOUT_KINDS:
            raise ValueError(f"channels_last: {self.kind} chooses its own memory layout")
        return self

    @property
    def label(self) -> str:
        """Its name in tables and on the command line, e.g. ``torch-bf16-channels-last``."""
        layout = "-channels-last" if self.channels_last else ""
        return f"{self.kind.replace('_', '-')}-{self.precision}{layout}"
