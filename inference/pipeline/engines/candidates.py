"""Which engines this machine can run, and what the others lack."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from inference.pipeline.engine_spec import Engine
from inference.pipeline.engines.base import PACKAGES, EngineUnavailableError

if TYPE_CHECKING:
    import torch

BF16_FLAGS = ("avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16")
"""Any of them in the CPU's flags: it multiplies bfloat16 itself (x86 and ARM names)."""

CPU_ENGINES = (
    Engine(),
    Engine(precision="bf16"),
    Engine(precision="bf16", channels_last=True),
    Engine(kind="torch_compile"),
    Engine(kind="torch_compile", precision="bf16", channels_last=True),
    Engine(kind="openvino"),
    Engine(kind="openvino", precision="bf16"),
    Engine(kind="openvino", precision="int8"),
    Engine(kind="onnxruntime"),
)
CUDA_ENGINES = (
    Engine(),
    Engine(precision="bf16", channels_last=True),
    Engine(precision="fp16", channels_last=True),
    Engine(kind="cuda_graph", precision="bf16", channels_last=True),
    Engine(kind="cuda_graph", precision="fp16", channels_last=True),
    Engine(kind="torch_compile", precision="fp16", channels_last=True),
    Engine(kind="tensorrt"),
    Engine(kind="tensorrt", precision="fp16"),
)
REFERENCE = Engine()
"""What the others are compared with: torch in fp32."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An engine, and what it lacks here (None: it can run)."""

    engine: Engine
    missing: str | None


def candidates(device: torch.device) -> tuple[Candidate, ...]:
    """List the engines that are worth measuring on a device, the reference first."""
    engines = CUDA_ENGINES if device.type == "cuda" else CPU_ENGINES
    return tuple(Candidate(engine=one, missing=what_is_missing(one, device)) for one in engines)


def require(engine: Engine, device: torch.device) -> None:
    """Refuse an engine that cannot run here.

    Raises
    ------
    EngineUnavailableError
    """
    missing = what_is_missing(engine, device)
    if missing is not None:
        raise EngineUnavailableError(engine=engine, missing=missing)


def what_is_missing(engine: Engine, device: torch.device) -> str | None:
    """Return what an engine lacks on this machine; None where it can run."""
    for package in PACKAGES[engine.kind]:
        if find_spec(package) is None:
            return f"the package {package} is not installed"
    on_cuda = device.type == "cuda"
    if engine.kind in ("cuda_graph", "tensorrt") and not on_cuda:
        return "needs a CUDA device"
    if engine.kind in ("openvino", "onnxruntime") and on_cuda:
        return "runs on the CPU only"
    if engine.kind == "onnxruntime" and find_spec("onnx") is None:
        return "the package onnx, which writes its files, is not installed"
    if engine.kind == "torch_compile" and shutil.which("g++") is None:
        return "torch.compile needs the compiler g++"
    if engine.precision == "fp16" and not on_cuda:
        return "fp16 is for CUDA devices"
    if engine.kind == "openvino" and engine.precision == "bf16" and not has_bf16():
        return f"the CPU has none of {', '.join(BF16_FLAGS)}, and OpenVINO would run fp32"
    return None


def has_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 itself."""
    return not cpu_flags().isdisjoint(BF16_FLAGS)


def cpu_flags() -> frozenset[str]:
    """Return the CPU's feature flags; empty where the system does not list them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()
