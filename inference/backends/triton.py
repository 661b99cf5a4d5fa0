"""A predictor that asks a Triton server: one volume out, its labels back, over one gRPC stream.

On the server's own machine volumes travel by system shared memory; by address, as gRPC bytes.
Triton's own timeouts are in other units than ours; everything here is in seconds, and no other
file sends a request.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from dicom_io.volume import Volume
from inference.backends import triton_contract as contract
from inference.backends.shared_memory import SharedRegion
from inference.backends.triton_answer import LABELS_DTYPES, check_labels, read_outputs
from inference.backends.triton_channel import TritonChannel
from inference.backends.triton_config import labels_datatype
from inference.domain.errors import (
    BackendUnavailableError,
    ClinferError,
    InferenceError,
    ModelError,
    RefusedError,
)
from inference.domain.job import Priority
from inference.domain.ports import Prediction
from inference.pipeline.spec import ModelSpec, load_spec
from inference.telemetry import get_logger

MAX_MESSAGE_BYTES = 2**31 - 2**20
"""Protocol buffers end at 2 GiB; a megabyte is left for the rest of the message."""

_CONTROL_TIMEOUT_S = 30.0
_HEARTBEAT_S = 5.0
_LATE_S = 1.0
"""How much longer than the deadline we wait for the server to say that it has passed."""
_RETRY_PAUSE_S = 2.0
_RELEASE_TRIES, _RELEASE_PAUSE_S = 50, 0.02

Answer = tuple[NDArray[Any], dict[str, Any]]
"""Labels and report."""

_log = get_logger(__name__)


class TritonPredictor:
    """Implements `Predictor` with a Triton server; any thread may use it.

    Parameters
    ----------
    address : ``host:port`` of the server's gRPC
    model_repo : the same model folders as the server's; answers are checked against them
    secret : opens the server's shared-memory interface; None where it is open or not used
    shared_memory : the server is on this machine and can open our `/dev/shm`
    timeout_s : longest time for one volume, waiting included
    silence_s : how long the server may show no sign of life before it counts as gone
    """

    def __init__(
        self,
        address: str,
        *,
        model_repo: Path,
        secret: str | None = None,
        shared_memory: bool,
        timeout_s: float = 3600.0,
        silence_s: float = 60.0,
    ) -> None:
        self._channel = TritonChannel(address, secret=secret)
        self._model_repo = model_repo
        self._shared_memory = shared_memory
        self._timeout_s, self._silence_s = timeout_s, silence_s
        self._stale_lock = threading.Lock()
        self._stale_regions: set[str] = set()

    def predict(
        self,
        model: str,
        volume: Volume,
        *,
        priority: Priority = Priority.ROUTINE,
        deadline_s: float | None = None,
    ) -> Prediction:
        """Return the labels of every voxel.

        Raises
        ------
        RefusedError
            The model may not be used on this volume.
        BackendUnavailableError
            The server is not there, or no longer answers.
        InferenceError
            The server failed, or its answer is not one for this volume and model.
        ModelError
            There is no such model, or the server's is another one than ours.
        """
        spec = self._spec(model)
        if volume.array.dtype not in (np.int16, np.float32):
            raise RefusedError(f"volume: {volume.array.dtype} voxels; int16 or float32 are needed")
        question = _Question(
            spec=spec,
            array=np.ascontiguousarray(volume.array),
            affine_lps=volume.affine_lps,
            priority=priority,
            deadline_s=deadline_s,
        )
        try:
            return self._ask(question)
        except BackendUnavailableError as error:
            # Triton may start a model's process again by itself; it says so once and then works.
            if not contract.is_dead_process(str(error)):
                raise
            _log.warning("the model's process died; asking once more", model=model)
            time.sleep(_RETRY_PAUSE_S)
            return self._ask(question)

    def check_ready(self, model: str) -> None:
        """Return if the server can run the model now.

        Raises
        ------
        BackendUnavailableError, ModelError
        """
        name = self._spec(model).name
        try:
            request = service_pb2.ModelReadyRequest(name=name)
            is_ready = self._channel.stub.ModelReady(request, timeout=_CONTROL_TIMEOUT_S).ready
        except grpc.RpcError as error:
            raise self._error(error) from error
        if not is_ready:
            raise BackendUnavailableError(f"{self._channel.address}: model {name} is not ready")

    def close(self) -> None:
        """Close the connection."""
        self._release_stale()
        self._channel.close()

    def _spec(self, model: str) -> ModelSpec:
        if not contract.MODEL_NAME.fullmatch(model):
            raise ModelError(f"{model!r} is not a model's name ({contract.MODEL_NAME.pattern})")
        return load_spec(self._model_repo / model)

    def _ask(self, question: _Question) -> Prediction:
        ask = self._ask_by_regions if self._shared_memory else self._ask_by_bytes
        labels, report = ask(question)
        check_labels(labels, report, question.spec)
        return Prediction(labels=labels, report=report | {"backend": "triton"})

    def _ask_by_bytes(self, question: _Question) -> Answer:
        array = question.array
        if array.nbytes > MAX_MESSAGE_BYTES:
            raise RefusedError(
                f"volume: {array.nbytes} bytes are more than one message of {MAX_MESSAGE_BYTES};"
                " run the service on the server's machine, with shared memory"
            )
        message = question.message(array.tobytes())
        response = self._stream(message, question.deadline_s)
        contents, report = read_outputs(
            response, array.shape, question.labels_dtype, n_bytes=question.labels_bytes
        )
        labels = np.frombuffer(bytearray(contents), question.labels_dtype)
        return labels.reshape(array.shape), report

    def _ask_by_regions(self, question: _Question) -> Answer:
        array, dtype = question.array, question.labels_dtype
        with (
            SharedRegion(array.nbytes) as volume_region,
            SharedRegion(question.labels_bytes) as labels_region,
        ):
            volume_region.array(array.shape, array.dtype)[...] = array
            labels = labels_region.array(array.shape, dtype)
            labels.fill(np.iinfo(dtype).max)  # no model's label: one that was never written shows
            with self._registered(volume_region), self._registered(labels_region):
                message = question.message(None)
                _place(message.inputs[0], volume_region)
                _place(message.outputs[0], labels_region)
                response = self._stream(message, question.deadline_s)
        _, report = read_outputs(response, array.shape, dtype, n_bytes=0)
        return labels, report

    @contextmanager
    def _registered(self, region: SharedRegion) -> Iterator[None]:
        """Let the server map a region; its name is gone as soon as it has."""
        self._release_stale()
        request = service_pb2.SystemSharedMemoryRegisterRequest(
            name=region.name, key=region.key, offset=0, byte_size=region.n_bytes
        )
        try:
            self._channel.stub.SystemSharedMemoryRegister(
                request, metadata=self._channel.metadata, timeout=_CONTROL_TIMEOUT_S
            )
        except grpc.RpcError as error:
            with self._stale_lock:
                self._stale_regions.add(region.name)  # it may have been mapped all the same
            raise self._error(error) from error
        finally:
            region.unlink()
        try:
            yield
        finally:
            with self._stale_lock:
                self._stale_regions.add(region.name)
            # The server lets go of a request a moment after its answer.
            for _ in range(_RELEASE_TRIES):
                if region.name not in self._release_stale():
                    break
                time.sleep(_RELEASE_PAUSE_S)

    def _release_stale(self) -> frozenset[str]:
        """Have the server unmap what no request needs; return what it still uses."""
        with self._stale_lock:
            names = tuple(self._stale_regions)
        for name in names:
            request = service_pb2.SystemSharedMemoryUnregisterRequest(name=name)
            try:
                self._channel.stub.SystemSharedMemoryUnregister(
                    request, metadata=self._channel.metadata, timeout=_CONTROL_TIMEOUT_S
                )
            except grpc.RpcError as error:
                if "currently in use" in (error.details() or ""):
                    continue
                # Otherwise the server does not have it, or is gone and its mappings with it.
            except ValueError:
                break  # the connection was closed under us: this client cannot release any more
            with self._stale_lock:
                self._stale_regions.discard(name)
        with self._stale_lock:
            return frozenset(self._stale_regions)

    def _stream(
        self, message: service_pb2.ModelInferRequest, deadline_s: float | None
    ) -> service_pb2.ModelInferResponse:
        """Send a request and return its answer, skipping the signs of life before it."""
        timeout_s = self._timeout_s
        if deadline_s is not None:
            timeout_s = min(timeout_s, deadline_s + _LATE_S)
        call = self._channel.stub.ModelStreamInfer(iter((message,)), timeout=timeout_s)
        answer: service_pb2.ModelInferResponse | None = None
        with _Watchdog(call, self._silence_s) as watchdog:
            try:
                # To the stream's own end: a stream that is cancelled with its last response on the
                # way may leave its request in the server, which then cannot unload the model.
                for response in call:
                    watchdog.alive()
                    if response.error_message:
                        raise contract.error_from_text(response.error_message)
                    if any(o.name == contract.LABELS for o in response.infer_response.outputs):
                        answer = response.infer_response
            except grpc.RpcError as error:
                if answer is not None:
                    return answer
                if watchdog.has_bitten:
                    raise BackendUnavailableError(
                        f"{self._channel.address}: no sign of life for {self._silence_s} s"
                    ) from error
                raise self._error(error) from error
            finally:
                call.cancel()
        if answer is None:
            raise InferenceError(f"{self._channel.address}: the stream ended without labels")
        return answer

    def _error(self, error: grpc.RpcError) -> ClinferError:
        """Return ours for an error of gRPC."""
        code, details = error.code(), error.details() or ""
        if "protocol is restricted" in details:
            return InferenceError(f"{self._channel.address}: the secret is missing or wrong")
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            return BackendUnavailableError(f"{self._channel.address}: {details}")
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            return BackendUnavailableError(f"{self._channel.address}: no answer in time")
        return contract.error_from_text(f"{code.name}: {details}")


class _Watchdog:
    """Cancels a call that has been silent for too long."""

    def __init__(self, call: Any, silence_s: float) -> None:
        self._call, self._silence_s = call, silence_s
        self._last = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self.has_bitten = False

    def alive(self) -> None:
        """Note a sign of life."""
        self._last = time.monotonic()

    def __enter__(self) -> _Watchdog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            left_s = self._last + self._silence_s - time.monotonic()
            if left_s <= 0:
                self.has_bitten = True
                self._call.cancel()
                return
            if self._ended.wait(left_s):
                return


@dataclass(frozen=True, kw_only=True)
class _Question:
    """One volume for one model; ``array`` is contiguous, int16 or float32."""

    spec: ModelSpec
    array: NDArray[Any]
    affine_lps: NDArray[np.float64]
    priority: Priority
    deadline_s: float | None

    @property
    def labels_dtype(self) -> np.dtype[Any]:
        """The type of the answer's labels."""
        return LABELS_DTYPES[labels_datatype(self.spec)]

    @property
    def labels_bytes(self) -> int:
        """The size of the answer's labels."""
        return self.array.size * self.labels_dtype.itemsize

    def message(self, voxels: bytes | None) -> service_pb2.ModelInferRequest:
        """Return the request: input 0 is the volume, output 0 the labels.

        ``voxels`` None leaves it to the caller to say where the volume is.
        """
        message = service_pb2.ModelInferRequest(model_name=self.spec.name)
        is_int16 = self.array.dtype == np.int16
        message.inputs.add(
            name=contract.VOLUME_INT16 if is_int16 else contract.VOLUME_FLOAT32,
            datatype="INT16" if is_int16 else "FP32",
            shape=self.array.shape,
        )
        if voxels is not None:
            message.raw_input_contents.append(voxels)
        small: list[tuple[str, str, NDArray[Any]]] = [
            (contract.AFFINE_LPS, "FP64", np.ascontiguousarray(self.affine_lps, np.float64)),
            (contract.PRIORITY, "INT32", np.array([self.priority], np.int32)),
        ]
        if self.deadline_s is not None:
            small.append((contract.DEADLINE_S, "FP64", np.array([self.deadline_s], np.float64)))
        for name, datatype, value in small:
            message.inputs.add(name=name, datatype=datatype, shape=value.shape)
            message.raw_input_contents.append(value.tobytes())
        message.outputs.add(name=contract.LABELS)
        message.outputs.add(name=contract.REPORT)
        message.parameters[contract.HEARTBEAT_PARAMETER].double_param = _HEARTBEAT_S
        return message


def _place(tensor: Any, region: SharedRegion) -> None:
    """Say that a tensor of a request is in a region."""
    tensor.parameters["shared_memory_region"].string_param = region.name
    tensor.parameters["shared_memory_byte_size"].int64_param = region.n_bytes
