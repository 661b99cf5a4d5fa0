"""The real server: the same labels as in-process, and a clear answer to what is wrong."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from inference.backends.local_torch import LocalPredictor
from inference.backends.shared_memory import SHARED_MEMORY_FOLDER
from inference.backends.triton import TritonPredictor
from inference.backends.triton_channel import TritonChannel
from inference.backends.triton_contract import DeadlineError
from inference.backends.triton_server import TritonServer
from inference.domain.errors import (
    BackendUnavailableError,
    InferenceError,
    ModelError,
    RefusedError,
)
from inference.domain.job import Priority
from inference.pipeline.spec import SPEC_FILE
from tests.inference.backends.conftest import (
    MANY,
    TINY,
    noise_volume,
    tiny_table,
    write_model,
)

SLOW_SHAPE = (150, 200, 200)
"""Many hundreds of windows: seconds of work that something can happen in."""


def regions_of_server(server: TritonServer) -> list[str]:
    """Names of the shared memory that the server has mapped for clients."""
    channel = TritonChannel(server.address, secret=server.secret)
    status = channel.stub.SystemSharedMemoryStatus(
        service_pb2.SystemSharedMemoryStatusRequest(), metadata=channel.metadata
    )
    channel.close()
    return list(status.regions)


def regions_on_disk() -> list[str]:
    """Names of the shared memory that this process has not unlinked."""
    mine = f"clinfer-volume-{os.getpid()}-*"
    return [path.name for path in SHARED_MEMORY_FOLDER.glob(mine)]


@pytest.fixture(scope="module")
def local(tiny_repo: Path) -> LocalPredictor:
    return LocalPredictor(tiny_repo)


@pytest.fixture
def by_memory(triton_server: TritonServer, tiny_repo: Path) -> Any:
    client = TritonPredictor(
        triton_server.address,
        model_repo=tiny_repo,
        secret=triton_server.secret,
        shared_memory=True,
    )
    yield client
    client.close()


class TestLabels:
    @pytest.mark.parametrize("dtype", [np.int16, np.float32])
    @pytest.mark.parametrize("shape", [(19, 33, 41), (1, 7, 5), (40, 3, 64)])
    def test_equal_the_local_backend_voxel_for_voxel(
        self,
        predictor: TritonPredictor,
        local: LocalPredictor,
        shape: tuple[int, int, int],
        dtype: type[np.generic],
    ) -> None:
        volume = noise_volume(shape, dtype)
        found, expected = predictor.predict(TINY, volume), local.predict(TINY, volume)
        assert found.labels.shape == shape
        assert found.labels.dtype == np.uint8
        assert np.unique(expected.labels).size > 1
        np.testing.assert_array_equal(found.labels, expected.labels)
        found.labels[...] = 0  # they are the caller's own

    def test_of_more_than_255_structures_are_uint16(
        self, predictor: TritonPredictor, local: LocalPredictor
    ) -> None:
        volume = noise_volume((19, 33, 41), np.int16)
        found, expected = predictor.predict(MANY, volume), local.predict(MANY, volume)
        assert found.labels.dtype == np.uint16
        assert found.labels.max() > 255
        np.testing.assert_array_equal(found.labels, expected.labels)

    def test_of_an_array_that_is_not_contiguous(
        self, predictor: TritonPredictor, local: LocalPredictor
    ) -> None:
        volume = noise_volume((20, 40, 30), np.int16)
        turned = replace(volume, array=volume.array.transpose(1, 2, 0)[::-1, ::2])
        copied = replace(volume, array=np.ascontiguousarray(turned.array))
        np.testing.assert_array_equal(
            predictor.predict(TINY, turned).labels, local.predict(TINY, copied).labels
        )

    def test_outlive_the_client_and_its_shared_memory(
        self, triton_server: TritonServer, tiny_repo: Path
    ) -> None:
        client = TritonPredictor(
            triton_server.address,
            model_repo=tiny_repo,
            secret=triton_server.secret,
            shared_memory=True,
        )
        volume = noise_volume((19, 33, 41), np.int16)
        labels = client.predict(TINY, volume).labels
        before = labels.copy()
        client.predict(TINY, noise_volume((19, 33, 41), np.int16, seed=5))
        client.close()
        np.testing.assert_array_equal(labels, before)

    def test_come_with_a_report(self, predictor: TritonPredictor, tiny_repo: Path) -> None:
        report = predictor.predict(
            TINY, noise_volume((19, 33, 41), np.int16), priority=Priority.URGENT
        ).report
        assert report["backend"] == "triton"
        assert report["model"] == TINY
        assert report["device"] == "cpu"
        assert report["priority"] == 1
        assert report["n_windows"] > 1
        assert report["peak_memory_mib"] > 0
        assert {"resample", "network", "total"} <= set(report["timings_s"])

    def test_of_concurrent_requests_of_several_priorities_do_not_mix(
        self, predictor: TritonPredictor, local: LocalPredictor
    ) -> None:
        volumes = [
            noise_volume((17 + k, 25, 31 - k), (np.int16, np.float32)[k % 2], seed=k)
            for k in range(8)
        ]
        with ThreadPoolExecutor(8) as pool:
            answers = [
                pool.submit(predictor.predict, TINY, volume, priority=Priority(k % 3))
                for k, volume in enumerate(volumes)
            ]
            found = [answer.result().labels for answer in answers]
        for volume, labels in zip(volumes, found, strict=True):
            np.testing.assert_array_equal(labels, local.predict(TINY, volume).labels)


class TestReadiness:
    def test_is_told_for_each_model(self, predictor: TritonPredictor) -> None:
        predictor.check_ready(TINY)
        predictor.check_ready(MANY)

    def test_of_a_model_that_was_not_loaded(
        self, triton_server: TritonServer, tmp_path: Path
    ) -> None:
        write_model(tmp_path, tiny_table("mr_new_seg"))
        client = TritonPredictor(triton_server.address, model_repo=tmp_path, shared_memory=False)
        with pytest.raises(BackendUnavailableError, match="mr_new_seg is not ready"):
            client.check_ready("mr_new_seg")
        with pytest.raises(ModelError, match="mr_new_seg"):
            client.predict("mr_new_seg", noise_volume((5, 5, 5), np.int16))
        client.close()


class TestOrder:
    def test_an_urgent_study_overtakes_between_windows(
        self, triton_server: TritonServer, by_memory: TritonPredictor
    ) -> None:
        with slow_request(triton_server) as heartbeats:
            while next(heartbeats)["state"] != "running":
                pass
            by_memory.predict(TINY, noise_volume((19, 33, 41), np.int16), priority=Priority.STAT)
            assert next(heartbeats)["fraction_done"] < 1.0

    def test_a_passed_deadline_is_an_error_and_ends_the_work(
        self, by_memory: TritonPredictor
    ) -> None:
        began = time.monotonic()
        with pytest.raises(DeadlineError, match=r"deadline of 0\.5 s passed"):
            by_memory.predict(TINY, noise_volume(SLOW_SHAPE, np.int16), deadline_s=0.5)
        # one resampling cannot be interrupted; windows can
        assert time.monotonic() - began < 6.0
        by_memory.predict(TINY, noise_volume((5, 5, 5), np.int16), deadline_s=30.0)

    def test_our_own_timeout_cancels_the_work_on_the_server(
        self, triton_server: TritonServer, tiny_repo: Path
    ) -> None:
        client = TritonPredictor(
            triton_server.address,
            model_repo=tiny_repo,
            secret=triton_server.secret,
            shared_memory=True,
            timeout_s=0.7,
        )
        with pytest.raises(BackendUnavailableError, match="no answer in time"):
            client.predict(TINY, noise_volume(SLOW_SHAPE, np.int16))
        assert regions_on_disk() == []
        client._timeout_s = 10.0  # far less than the rest of the cancelled volume would take
        client.predict(TINY, noise_volume((5, 5, 5), np.int16))
        client.close()
        assert regions_of_server(triton_server) == []


class TestRefusals:
    def test_of_the_model_arrive_as_ours(self, predictor: TritonPredictor) -> None:
        volume = noise_volume((9, 9, 9), np.float32)
        volume.array[4] = np.nan
        with pytest.raises(RefusedError, match="NaN or infinite"):
            predictor.predict(TINY, volume)
        assert regions_on_disk() == []

    def test_name_a_degenerate_affine(self, predictor: TritonPredictor) -> None:
        volume = noise_volume((9, 9, 9), np.int16)
        with pytest.raises(RefusedError, match="affine_lps"):
            predictor.predict(TINY, replace(volume, affine_lps=np.zeros((4, 4))))

    @pytest.mark.parametrize("name", ["../x", "a/../../b", "", "A", "a" * 65, "mr_tiny_seg\n"])
    def test_name_what_is_no_model_name(self, predictor: TritonPredictor, name: str) -> None:
        with pytest.raises(ModelError):
            predictor.predict(name, noise_volume((5, 5, 5), np.int16))

    def test_name_other_weights_than_ours(
        self, triton_server: TritonServer, tiny_repo: Path, tmp_path: Path
    ) -> None:
        folder = tmp_path / TINY
        folder.mkdir()
        text = (tiny_repo / TINY / SPEC_FILE).read_text()
        start = text.index('sha256 = "') + len('sha256 = "')
        (folder / SPEC_FILE).write_text(text[:start] + "f" * 64 + text[start + 64 :])
        client = TritonPredictor(
            triton_server.address, model_repo=tmp_path, secret=None, shared_memory=False
        )
        with pytest.raises(ModelError, match="weights_sha256"):
            client.predict(TINY, noise_volume((5, 5, 5), np.int16))
        client.close()

    def test_name_voxels_of_another_type(self, predictor: TritonPredictor) -> None:
        volume = noise_volume((5, 5, 5), np.int16)
        wide = replace(volume, array=volume.array.astype(np.int64))  # type: ignore[arg-type]
        with pytest.raises(RefusedError, match="int64"):
            predictor.predict(TINY, wide)

    def test_leave_no_shared_memory_behind(
        self, triton_server: TritonServer, by_memory: TritonPredictor
    ) -> None:
        bad = noise_volume((9, 9, 9), np.float32)
        bad.array[0] = np.inf
        for _ in range(5):
            with pytest.raises(RefusedError):
                by_memory.predict(TINY, bad)
        assert regions_on_disk() == []
        assert regions_of_server(triton_server) == []


@contextmanager
def slow_request(server: TritonServer) -> Iterator[Iterator[dict[str, Any]]]:
    """Ask for the labels of a large volume; give what the heartbeats say; then cancel."""
    volume = noise_volume(SLOW_SHAPE, np.int16)
    message = service_pb2.ModelInferRequest(model_name=TINY)
    message.inputs.add(name="volume_int16", datatype="INT16", shape=volume.array.shape)
    message.inputs.add(name="affine_lps", datatype="FP64", shape=[4, 4])
    message.raw_input_contents.extend([volume.array.tobytes(), volume.affine_lps.tobytes()])
    message.parameters["heartbeat_s"].double_param = 0.1
    channel = TritonChannel(server.address, secret=None)
    call = channel.stub.ModelStreamInfer(iter([message]), timeout=60)

    def heartbeats() -> Iterator[dict[str, Any]]:
        for response in call:
            (output,) = response.infer_response.outputs
            assert output.name == "report"
            yield json.loads(response.infer_response.raw_output_contents[0][4:])

    try:
        yield heartbeats()
    finally:
        call.cancel()
        channel.close()


def infer(server: TritonServer, change: Callable[[Any], None]) -> str:
    """Send a sound request after ``change`` to it; return the server's error text."""
    array = np.zeros((3, 4, 5), np.int16)
    message = service_pb2.ModelInferRequest(model_name=TINY)
    message.inputs.add(name="volume_int16", datatype="INT16", shape=array.shape)
    message.inputs.add(name="affine_lps", datatype="FP64", shape=[4, 4])
    message.raw_input_contents.extend([array.tobytes(), np.eye(4).tobytes()])
    change(message)
    channel = TritonChannel(server.address, secret=None)
    try:
        answers = list(channel.stub.ModelStreamInfer(iter([message]), timeout=30))
    finally:
        channel.close()
    assert len(answers) == 1, "without heartbeats a request has one answer"
    return str(answers[0].error_message)


def add_float32(message: Any) -> None:
    message.inputs.add(name="volume_float32", datatype="FP32", shape=[3, 4, 5])
    message.raw_input_contents.append(np.zeros((3, 4, 5), np.float32).tobytes())


def remove_volume(message: Any) -> None:
    del message.inputs[0]
    del message.raw_input_contents[0]


def flatten_volume(message: Any) -> None:
    message.inputs[0].ClearField("shape")
    message.inputs[0].shape.extend([12, 5])


def empty_volume(message: Any) -> None:
    message.inputs[0].ClearField("shape")
    message.inputs[0].shape.extend([3, 0, 5])
    message.raw_input_contents[0] = b""


def cut_volume(message: Any) -> None:
    message.raw_input_contents[0] = message.raw_input_contents[0][:-2]


def small_affine(message: Any) -> None:
    message.inputs[1].ClearField("shape")
    message.inputs[1].shape.extend([3, 3])
    message.raw_input_contents[1] = np.eye(3).tobytes()


def past_deadline(message: Any) -> None:
    message.inputs.add(name="deadline_s", datatype="FP64", shape=[1])
    message.raw_input_contents.append(np.array([-1.0]).tobytes())


def nan_deadline(message: Any) -> None:
    message.inputs.add(name="deadline_s", datatype="FP64", shape=[1])
    message.raw_input_contents.append(np.array([np.nan]).tobytes())


def high_priority(message: Any) -> None:
    message.inputs.add(name="priority", datatype="INT32", shape=[1])
    message.raw_input_contents.append(np.array([9], np.int32).tobytes())


def fast_heartbeat(message: Any) -> None:
    message.parameters["heartbeat_s"].double_param = 0.0


class TestContract:
    """Requests that our client would not send."""

    def test_a_sound_request_is_answered(self, triton_server: TritonServer) -> None:
        assert infer(triton_server, lambda message: None) == ""

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (add_float32, "clinfer[refused]: exactly one of"),
            (remove_volume, "clinfer[refused]: exactly one of"),
            (empty_volume, "clinfer[refused]: volume_int16: shape (3, 0, 5)"),
            (past_deadline, "clinfer[refused]: deadline_s: -1.0"),
            (nan_deadline, "clinfer[refused]: deadline_s: one finite number"),
            (high_priority, "clinfer[refused]: priority: 9 is none of 0 (STAT), 1 (URGENT)"),
            (fast_heartbeat, "clinfer[refused]: heartbeat_s: 0.0"),
            (flatten_volume, "unexpected shape for input 'volume_int16'"),
            (small_affine, "unexpected shape for input 'affine_lps'"),
            (cut_volume, "input byte size mismatch for input 'volume_int16'"),
        ],
    )
    def test_a_wrong_request_is_answered_with_what_is_wrong(
        self, triton_server: TritonServer, change: Callable[[Any], None], says: str
    ) -> None:
        assert says in infer(triton_server, change)
        assert infer(triton_server, lambda message: None) == "", "and the model still works"

    def test_heartbeats_say_how_far_it_is(self, triton_server: TritonServer) -> None:
        with slow_request(triton_server) as first, slow_request(triton_server) as second:
            fractions = [next(first)["fraction_done"] for _ in range(6)]
            assert fractions == sorted(fractions)
            assert 0.0 < fractions[-1] < 1.0
            assert next(second) == {"state": "waiting", "fraction_done": 0.0}


class TestControl:
    """AC-20: what only the service itself may do."""

    @pytest.mark.parametrize("secret", [None, "wrong"])
    @pytest.mark.parametrize(
        ("method", "request_"),
        [
            ("RepositoryModelLoad", service_pb2.RepositoryModelLoadRequest(model_name=TINY)),
            ("RepositoryModelUnload", service_pb2.RepositoryModelUnloadRequest(model_name=TINY)),
            ("RepositoryIndex", service_pb2.RepositoryIndexRequest()),
            (
                "SystemSharedMemoryRegister",
                service_pb2.SystemSharedMemoryRegisterRequest(name="x", key="/x", byte_size=1),
            ),
            ("SystemSharedMemoryStatus", service_pb2.SystemSharedMemoryStatusRequest()),
            ("SystemSharedMemoryUnregister", service_pb2.SystemSharedMemoryUnregisterRequest()),
            ("CudaSharedMemoryStatus", service_pb2.CudaSharedMemoryStatusRequest()),
            ("TraceSetting", service_pb2.TraceSettingRequest()),
            ("LogSettings", service_pb2.LogSettingsRequest()),
        ],
    )
    def test_is_refused_without_the_secret(
        self, triton_server: TritonServer, method: str, request_: Any, secret: str | None
    ) -> None:
        channel = TritonChannel(triton_server.address, secret=secret)
        with pytest.raises(grpc.RpcError) as caught:
            getattr(channel.stub, method)(request_, metadata=channel.metadata, timeout=10)
        assert "protocol is restricted" in caught.value.details()
        channel.close()

    def test_a_client_without_the_secret_is_told_so(
        self, triton_server: TritonServer, tiny_repo: Path
    ) -> None:
        client = TritonPredictor(
            triton_server.address, model_repo=tiny_repo, secret="wrong", shared_memory=True
        )
        with pytest.raises(InferenceError, match="secret is missing or wrong"):
            client.predict(TINY, noise_volume((5, 5, 5), np.int16))
        client.close()
        assert regions_on_disk() == []
