"""What every engine is: a network ready to run, and the names that a report gives to it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Protocol

from inference.domain.errors import BackendError
from inference.pipeline.engine_spec import Engine

if TYPE_CHECKING:  # processes that only ask which engine serves do not load torch
    import torch

PACKAGES: dict[str, tuple[str, ...]] = {
    "torch": ("torch",),
    "torch_compile": ("torch",),
    "openvino": ("openvino",),
    "onnxruntime": ("onnxruntime",),
    "cuda_graph": ("torch",),
    "tensorrt": ("torch_tensorrt", "tensorrt"),
}
"""Packages that compute in each kind; the first one names the engine."""


class EngineUnavailableError(BackendError):
    """An engine that was asked for cannot run here; ``missing`` says what it lacks."""

    code = "engine_unavailable"

    def __init__(self, *, engine: Engine, missing: str) -> None:
        self.engine, self.missing = engine, missing
        super().__init__(
            f"engine {engine.label}: {missing}; choose another [engine] in model.toml, or run"
            " `clinfer models tune`"
        )


class ReadyEngine(Protocol):
    """A network as one engine runs it; made by `engines.factory.ready_engine`."""

    engine: Engine
    device: torch.device

    def run(self, patches: torch.Tensor) -> torch.Tensor:
        """Run windows: (N, 1, D, H, W) float32 to (N, classes, D, H, W) float32.

        The answer's memory is the caller's: the next call does not write into it.
        """
        ...


@contextmanager
def converting() -> Iterator[None]:
    """Keep to themselves what libraries say about their own old ways while they convert.

    The answer is compared with torch's by `clinfer models tune`, which a warning is not.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def engine_name(engine: Engine, device: torch.device) -> str:
    """Return what computes, for the report: ``openvino 2026.4.1 cpu``."""
    package = PACKAGES[engine.kind][0]
    found = installed_version(package)
    mode = "" if engine.kind == package else f" ({engine.kind.replace('_', ' ')})"
    return f"{package} {found}{mode} {device.type}"


def installed_version(package: str) -> str | None:
    """Return a package's version without its build tag; None where it is not installed."""
    try:
        return version(package).split("+")[0]
    except PackageNotFoundError:
        return None
