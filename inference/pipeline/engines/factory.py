"""Make a network ready in the engine that its spec names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from inference.pipeline.engine import ReadyNetwork, use_all_cores
from inference.pipeline.engine_spec import Engine
from inference.pipeline.engines.base import EngineUnavailableError, ReadyEngine
from inference.pipeline.engines.cache import INT8_FORM, EngineCache
from inference.pipeline.engines.candidates import REFERENCE, require
from inference.pipeline.spec import ModelSpec


def ready_engine(
    network: nn.Module | ReadyEngine,
    spec: ModelSpec,
    device: torch.device,
    *,
    cache: EngineCache | None = None,
    calibration: Sequence[torch.Tensor] | None = None,
) -> ReadyEngine:
    """Return the network as the spec's engine runs it; one that is ready already, as it is.

    Parameters
    ----------
    network : from `load_network` (fp32), or ready
    cache : where conversions are kept; only for weights that are those the spec names
    calibration : windows, (1, 1, D, H, W) float32, from which int8 takes its ranges

    Raises
    ------
    EngineUnavailableError
        The engine cannot run on this machine, or int8 was never calibrated on it.
    """
    engine = spec.engine
    if not isinstance(network, nn.Module) or isinstance(network, ReadyNetwork):
        if network.engine == engine and network.device == device:
            return network
        if not isinstance(network, ReadyNetwork):
            raise EngineUnavailableError(
                engine=engine, missing=f"the network was made ready for {network.engine.label}"
            )
        network = network.network
    require(engine, device)
    roi = spec.window.roi_size
    match engine.kind:
        case "torch":
            return ReadyNetwork(network, engine, device)
        case "openvino":
            return _openvino(network, spec, cache, calibration)
        case "onnxruntime":
            return _onnx(network, spec, cache)
    from inference.pipeline.engines.torch_engines import (
        CompiledEngine,
        CudaGraphEngine,
        TensorRtEngine,
    )

    plain = ReadyNetwork(network, engine, device).network
    if engine.kind == "torch_compile":
        place = None if cache is None else str(cache.folder / "torch-compile")
        return CompiledEngine(plain, engine, device, roi, place)
    made = CudaGraphEngine if engine.kind == "cuda_graph" else TensorRtEngine
    return made(plain, engine, device, roi)


def _fp32(network: nn.Module) -> nn.Module:
    """Return what is converted: evaluation mode, norms folded, fp32."""
    return ReadyNetwork(network, REFERENCE, torch.device("cpu")).network


def _openvino(
    network: nn.Module,
    spec: ModelSpec,
    cache: EngineCache | None,
    calibration: Sequence[torch.Tensor] | None,
) -> ReadyEngine:
    from inference.pipeline.engines import openvino_engine as openvino

    def plain() -> Any:
        return openvino.convert(_fp32(network), spec.window.roi_size)

    def kept() -> Any:
        if cache is None:
            return plain()
        return openvino.load(cache.entry(spec, "openvino", lambda at: openvino.save(plain(), at)))

    if spec.engine.precision != "int8":
        model = kept()
    elif calibration is not None:
        _require_nncf(spec.engine)
        model = openvino.quantise(kept(), calibration)
        if cache is not None:
            cache.replace(spec, INT8_FORM, lambda at: openvino.save(model, at))
    elif cache is not None and cache.has(spec, INT8_FORM):
        model = openvino.load(cache.entry(spec, INT8_FORM, _never))
    else:
        raise EngineUnavailableError(
            engine=spec.engine, missing="it was not calibrated for these weights on this machine"
        )
    return openvino.OpenVinoEngine(
        model, spec.engine, n_classes=spec.n_classes, threads=use_all_cores()
    )


def _onnx(network: nn.Module, spec: ModelSpec, cache: EngineCache | None) -> ReadyEngine:
    from inference.pipeline.engines import onnx_engine as onnx

    def plain() -> bytes:
        return onnx.convert(_fp32(network), spec.window.roi_size)

    if cache is None:
        content = plain()
    else:
        place = cache.entry(spec, "onnx", lambda at: _write(at / onnx.MODEL_FILE, plain()))
        content = (place / onnx.MODEL_FILE).read_bytes()
    return onnx.OnnxEngine(content, spec.engine, threads=use_all_cores())


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _never(_: Path) -> None:
    raise AssertionError("the entry was there a moment ago")


def _require_nncf(engine: Engine) -> None:
    from importlib.util import find_spec

    if find_spec("nncf") is None:
        raise EngineUnavailableError(
            engine=engine, missing="the package nncf, which calibrates int8, is not installed"
        )
