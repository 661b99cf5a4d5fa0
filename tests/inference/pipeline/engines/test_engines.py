"""Every engine gives torch's own answer, is refused by name where it cannot run, and is cached."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from inference.domain.errors import InferenceError
from inference.pipeline.engine import run_network
from inference.pipeline.engine_spec import Engine
from inference.pipeline.engines.base import EngineUnavailableError, engine_name
from inference.pipeline.engines.cache import EngineCache, EngineCacheError
from inference.pipeline.engines.candidates import candidates, has_bf16, what_is_missing
from inference.pipeline.engines.factory import ready_engine
from inference.pipeline.spec import ModelSpec

CPU = torch.device("cpu")
TOLERANCE = {"fp32": 1e-4, "bf16": 0.05, "int8": 0.2}
"""Of logits of the order of 1: fp32 sums in another order, bf16 has 8 bits, int8 256 steps."""


def _with(spec: ModelSpec, **engine: object) -> ModelSpec:
    return spec.model_copy(update={"engine": Engine.model_validate(engine)})


def _windows(n: int) -> torch.Tensor:
    return torch.rand(n, 1, 16, 24, 20, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize(
    "engine",
    [
        {"kind": "torch"},
        {"kind": "torch", "precision": "bf16", "channels_last": True},
        pytest.param({"kind": "torch_compile"}, marks=pytest.mark.slow),  # g++ takes its time
        {"kind": "openvino"},
        {"kind": "openvino", "precision": "bf16"},
        {"kind": "openvino", "precision": "int8"},
        {"kind": "onnxruntime"},
    ],
    ids=lambda e: Engine.model_validate(e).label,
)
def test_the_answer_is_that_of_the_network(
    spec: ModelSpec, network: nn.Module, cache: EngineCache, engine: dict[str, object]
) -> None:
    asked = _with(spec, **engine)
    if engine == {"kind": "openvino", "precision": "bf16"} and not has_bf16():
        with pytest.raises(EngineUnavailableError, match="bf16"):
            ready_engine(network, asked, CPU, cache=cache)
        return
    patches = _windows(3)
    ready = ready_engine(network, asked, CPU, cache=cache, calibration=list(patches.split(1)))
    with torch.inference_mode():
        expected = network(patches)
    found = run_network(ready, patches, asked.engine)
    assert found.dtype == torch.float32
    assert found.is_contiguous()
    tolerance = TOLERANCE[asked.engine.precision]
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)
    kept = found.clone()
    again = run_network(ready, patches, asked.engine)
    assert torch.equal(again, kept)  # the same windows, the same bits
    run_network(ready, _windows(1) * 0, asked.engine)
    assert torch.equal(found, kept)  # an answer is the caller's


@pytest.mark.parametrize("kind", ["openvino", "onnxruntime"])
def test_a_windows_answer_does_not_depend_on_its_company(
    spec: ModelSpec, network: nn.Module, kind: str
) -> None:
    asked = _with(spec, kind=kind)
    ready = ready_engine(network, asked, CPU)
    three = _windows(3)
    together = run_network(ready, three, asked.engine)
    for k in range(3):
        assert torch.equal(run_network(ready, three[k : k + 1], asked.engine)[0], together[k])


@pytest.mark.parametrize(
    ("engine", "missing"),
    [
        ({"kind": "cuda_graph", "precision": "fp16"}, "CUDA device"),
        ({"kind": "tensorrt"}, "torch_tensorrt is not installed"),
        ({"kind": "torch", "precision": "fp16"}, "fp16 is for CUDA"),
        ({"kind": "openvino", "precision": "int8"}, "not calibrated"),
    ],
)
def test_what_cannot_run_here_is_refused_by_name(
    spec: ModelSpec, network: nn.Module, engine: dict[str, object], missing: str
) -> None:
    asked = _with(spec, **engine)
    with pytest.raises(EngineUnavailableError, match=missing) as caught:
        ready_engine(network, asked, CPU)
    assert caught.value.engine == asked.engine
    assert asked.engine.label in str(caught.value)


def test_candidates_begin_with_the_reference_and_say_what_others_lack() -> None:
    here = candidates(CPU)
    assert here[0].engine == Engine()
    assert here[0].missing is None
    there = {one.engine.label: one.missing for one in candidates(torch.device("cuda"))}
    assert there["tensorrt-fp16"] == "the package torch_tensorrt is not installed"
    assert what_is_missing(Engine(kind="openvino"), torch.device("cuda")) == "runs on the CPU only"


def test_a_ready_engine_is_not_made_twice_nor_turned_into_another(
    spec: ModelSpec, network: nn.Module
) -> None:
    asked = _with(spec, kind="onnxruntime")
    ready = ready_engine(network, asked, CPU)
    assert ready_engine(ready, asked, CPU) is ready
    with pytest.raises(EngineUnavailableError, match="made ready for onnxruntime-fp32"):
        ready_engine(ready, spec, CPU)


def test_a_wrong_window_is_an_inference_error(spec: ModelSpec, network: nn.Module) -> None:
    for kind in ("openvino", "onnxruntime"):
        asked = _with(spec, kind=kind)
        ready = ready_engine(network, asked, CPU)
        with pytest.raises(InferenceError, match="failed on"):
            run_network(ready, torch.zeros(1, 1, 8, 8, 8), asked.engine)


def test_a_conversion_is_kept_and_taken_again(
    spec: ModelSpec, network: nn.Module, cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inference.pipeline.engines import openvino_engine

    asked = _with(spec, kind="openvino")
    patches = _windows(1)
    first = run_network(ready_engine(network, asked, CPU, cache=cache), patches, asked.engine)

    def never(*_: object) -> None:
        raise AssertionError("converted again")

    monkeypatch.setattr(openvino_engine, "convert", never)
    second = run_network(ready_engine(network, asked, CPU, cache=cache), patches, asked.engine)
    assert torch.equal(first, second)
    other = asked.model_copy(
        update={"weights": asked.weights.model_copy(update={"sha256": "1" * 64})}
    )
    with pytest.raises(AssertionError, match="converted again"):
        ready_engine(network, other, CPU, cache=cache)


def test_a_damaged_conversion_is_refused(
    spec: ModelSpec, network: nn.Module, cache: EngineCache
) -> None:
    asked = _with(spec, kind="onnxruntime")
    ready_engine(network, asked, CPU, cache=cache)
    (place,) = cache.folder.iterdir()
    model = place / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\xff")
    with pytest.raises(EngineCacheError, match=r"model\.onnx has changed") as caught:
        ready_engine(network, asked, CPU, cache=cache)
    assert caught.value.path == place


def test_nothing_half_written_stays_when_a_conversion_fails(
    spec: ModelSpec, cache: EngineCache
) -> None:
    def fail(place: object) -> None:
        raise RuntimeError("no room")

    with pytest.raises(RuntimeError, match="no room"):
        cache.entry(spec, "openvino", fail)
    assert list(cache.folder.iterdir()) == []


def test_int8_comes_back_from_the_cache_without_windows(
    spec: ModelSpec, network: nn.Module, cache: EngineCache
) -> None:
    asked = _with(spec, kind="openvino", precision="int8")
    patches = _windows(2)
    calibration = list(patches.split(1))
    first = ready_engine(network, asked, CPU, cache=cache, calibration=calibration)
    second = ready_engine(network, asked, CPU, cache=cache)
    expected = run_network(first, patches, asked.engine)
    assert torch.equal(run_network(second, patches, asked.engine), expected)


def test_openvino_has_no_way_to_report_home(spec: ModelSpec, network: nn.Module) -> None:
    ready_engine(network, _with(spec, kind="openvino"), CPU)
    assert sys.modules["openvino_telemetry"] is None
    with pytest.raises(ImportError):
        __import__("openvino_telemetry")


def test_the_report_names_library_version_and_device() -> None:
    import openvino

    name = engine_name(Engine(kind="openvino"), CPU)
    assert name == f"openvino {openvino.__version__.split('-')[0]} cpu"
    assert engine_name(Engine(kind="torch_compile"), CPU).endswith("(torch compile) cpu")
