"""A server that misbehaves: what it sends is checked, and nobody waits for it for ever."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from inference.backends import triton as client_module
from inference.backends.triton import TritonPredictor
from inference.backends.triton_contract import DeadlineError, error_from_text, error_text
from inference.domain.errors import (
    BackendUnavailableError,
    ClinferError,
    InferenceError,
    ModelError,
    ModelWeightsError,
    RefusedError,
)
from inference.pipeline.spec import load_spec
from tests.inference.backends.conftest import MANY, TINY, noise_volume

SHAPE = (3, 4, 5)
Answers = Iterator[Any]


class Misbehaving(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers each request with what ``answers`` gives; counts requests."""

    def __init__(self) -> None:
        self.answers: Callable[[], Answers] = lambda: iter(())
        self.n_requests = 0

    def ModelStreamInfer(self, request_iterator: Any, context: Any) -> Answers:  # noqa: N802
        next(request_iterator)
        self.n_requests += 1
        yield from self.answers()


@pytest.fixture
def fake() -> Iterator[tuple[Misbehaving, str]]:
    servicer = Misbehaving()
    with ThreadPoolExecutor(8) as pool:
        server = grpc.server(pool)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield servicer, f"127.0.0.1:{port}"
        server.stop(grace=None).wait()


def answer(
    repo: Path,
    *,
    labels: bytes = bytes(60),
    datatype: str = "UINT8",
    shape: tuple[int, ...] = SHAPE,
    names: tuple[str, str] = ("labels", "report"),
    report: dict[str, Any] | bytes | None = None,
) -> Any:
    """A right answer of the tiny model, but for what is changed."""
    spec = load_spec(repo / TINY)
    told = {"model": TINY, "model_version": spec.version, "weights_sha256": spec.weights.sha256}
    if not isinstance(report, bytes):
        text = json.dumps(told | (report or {})).encode()
        report = len(text).to_bytes(4, "little") + text
    response = service_pb2.ModelStreamInferResponse()
    inner = response.infer_response
    inner.outputs.add(name=names[0], datatype=datatype, shape=shape)
    inner.outputs.add(name=names[1], datatype="BYTES", shape=[1])
    inner.raw_output_contents.extend([labels, report])
    return response


def ask(address: str, repo: Path, **limits: Any) -> np.ndarray[Any, Any]:
    deadline_s = limits.pop("deadline_s", None)
    client = TritonPredictor(address, model_repo=repo, shared_memory=False, **limits)
    try:
        volume = noise_volume(SHAPE, np.int16)
        return client.predict(TINY, volume, deadline_s=deadline_s).labels
    finally:
        client.close()


class TestAnswer:
    def test_that_is_right_is_believed(
        self, fake: tuple[Misbehaving, str], tiny_repo: Path
    ) -> None:
        servicer, address = fake
        labels = bytes([0, 1, 2, 3] * 15)
        servicer.answers = lambda: iter([answer(tiny_repo, labels=labels)])
        assert ask(address, tiny_repo).tobytes() == labels

    @pytest.mark.parametrize(
        ("change", "raises", "says"),
        [
            ({"labels": bytes(59)}, InferenceError, "59 bytes, not 60"),
            ({"labels": bytes(61)}, InferenceError, "61 bytes, not 60"),
            ({"labels": b""}, InferenceError, "0 bytes, not 60"),
            ({"datatype": "INT8"}, InferenceError, "INT8"),
            ({"datatype": "FP32", "labels": bytes(240)}, InferenceError, "FP32"),
            ({"datatype": "UINT16", "labels": bytes(120)}, InferenceError, "UINT16"),
            ({"shape": (5, 4, 3)}, InferenceError, r"\(5, 4, 3\), not uint8 \(3, 4, 5\)"),
            ({"shape": (60,)}, InferenceError, r"\(60,\)"),
            ({"names": ("labels", "other")}, InferenceError, "outputs are"),
            ({"labels": bytes([4] * 60)}, InferenceError, "label 4, the model has 3"),
            ({"report": b"\x09\x00\x00\x00{}"}, InferenceError, "not one string"),
            ({"report": b"\x02\x00\x00\x00{]"}, InferenceError, "not JSON"),
            ({"report": b"\x02\x00\x00\x00[]"}, InferenceError, "not a JSON object"),
            ({"report": {"weights_sha256": "other"}}, ModelError, "weights_sha256"),
            ({"report": {"model_version": "9.9.9"}}, ModelError, "model_version"),
            ({"report": {"model": MANY}}, ModelError, "model is"),
        ],
    )
    def test_that_is_wrong_is_refused(
        self,
        fake: tuple[Misbehaving, str],
        tiny_repo: Path,
        change: dict[str, Any],
        raises: type[ClinferError],
        says: str,
    ) -> None:
        servicer, address = fake
        servicer.answers = lambda: iter([answer(tiny_repo, **change)])
        with pytest.raises(raises, match=says):
            ask(address, tiny_repo)

    def test_with_swapped_output_names_is_refused(
        self, fake: tuple[Misbehaving, str], tiny_repo: Path
    ) -> None:
        servicer, address = fake
        servicer.answers = lambda: iter([answer(tiny_repo, names=("report", "labels"))])
        with pytest.raises(InferenceError, match="labels are BYTES"):
            ask(address, tiny_repo)

    def test_that_never_comes_is_an_error(
        self, fake: tuple[Misbehaving, str], tiny_repo: Path
    ) -> None:
        with pytest.raises(InferenceError, match="ended without labels"):
            ask(fake[1], tiny_repo)


class TestWaiting:
    def hang(self) -> Answers:
        time.sleep(3)
        yield from ()

    def test_ends_a_second_after_the_deadline(
        self, fake: tuple[Misbehaving, str], tiny_repo: Path
    ) -> None:
        servicer, address = fake
        servicer.answers = self.hang
        began = time.monotonic()
        with pytest.raises(BackendUnavailableError, match="no answer in time"):
            ask(address, tiny_repo, deadline_s=0.2)
        assert 1.0 < time.monotonic() - began < 2.5

    def test_ends_when_there_is_no_sign_of_life(
        self, fake: tuple[Misbehaving, str], tiny_repo: Path
    ) -> None:
        servicer, address = fake
        servicer.answers = self.hang
        with pytest.raises(BackendUnavailableError, match=r"no sign of life for 0\.5 s"):
            ask(address, tiny_repo, silence_s=0.5)

    def test_goes_on_while_there_are_heartbeats(
        self, fake: tuple[Misbehaving, str], tiny_repo: Path
    ) -> None:
        servicer, address = fake

        def beat_and_answer() -> Answers:
            for _ in range(6):
                beat = service_pb2.ModelStreamInferResponse()
                beat.infer_response.outputs.add(name="report", datatype="BYTES", shape=[1])
                beat.infer_response.raw_output_contents.append(b"\x02\x00\x00\x00{}")
                yield beat
                time.sleep(0.3)
            yield answer(tiny_repo)

        servicer.answers = beat_and_answer
        assert ask(address, tiny_repo, silence_s=1.0).shape == SHAPE

    def test_is_short_where_there_is_no_server(self, tiny_repo: Path) -> None:
        began = time.monotonic()
        with pytest.raises(BackendUnavailableError):
            ask("127.0.0.1:1", tiny_repo)
        assert time.monotonic() - began < 10.0


class TestDeadProcess:
    def dead(self) -> Any:
        return service_pb2.ModelStreamInferResponse(
            error_message="Stub process 'mr_tiny_seg_0_0' is not healthy."
        )

    @pytest.fixture(autouse=True)
    def short_pause(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(client_module, "_RETRY_PAUSE_S", 0.01)

    def test_is_asked_once_more(self, fake: tuple[Misbehaving, str], tiny_repo: Path) -> None:
        servicer, address = fake
        both = iter([self.dead(), answer(tiny_repo)])
        servicer.answers = lambda: iter([next(both)])
        assert ask(address, tiny_repo).shape == SHAPE
        assert servicer.n_requests == 2

    def test_is_unavailable_when_it_stays_dead(
        self, fake: tuple[Misbehaving, str], tiny_repo: Path
    ) -> None:
        servicer, address = fake
        servicer.answers = lambda: iter([self.dead()])
        with pytest.raises(BackendUnavailableError, match="not healthy"):
            ask(address, tiny_repo)
        assert servicer.n_requests == 2


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        (RefusedError("the slices are too few"), RefusedError),
        (ModelWeightsError("SHA-256 differs"), ModelWeightsError),
        (BackendUnavailableError("stopping"), BackendUnavailableError),
        (InferenceError("NaN: not a number"), InferenceError),
        (DeadlineError("0.5 s passed"), DeadlineError),
    ],
)
def test_errors_travel_with_code_and_message(
    sent: ClinferError, received: type[ClinferError]
) -> None:
    for prefix in ("", "[request id: 7] ", "Internal: TritonModelException: "):
        found = error_from_text(prefix + error_text(sent))
        assert type(found) is received
        assert str(found) == str(sent)


def test_tritons_own_errors_are_told_apart() -> None:
    assert isinstance(error_from_text("Request for unknown model: 'x' is not found"), ModelError)
    assert isinstance(
        error_from_text("Unable to find shared memory region: 'x'"), BackendUnavailableError
    )
    found = error_from_text("[request id: 1] unexpected shape for input")
    assert isinstance(found, InferenceError)
    assert "unexpected shape" in str(found)
