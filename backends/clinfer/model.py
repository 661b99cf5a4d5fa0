"""Our Triton backend: every model of ours is served by this file (docs/triton.md).

Triton starts one process of it per model and hands it each request as it comes. Requests go into a
scheduler; labels come back over the stream. The computing is `inference.pipeline`, the same that
runs in-process elsewhere.
"""

from __future__ import annotations

import os
import sys

# Triton embeds Python without its environment, so it must be told where our packages are.
_WHERE = os.environ.get("PYTHONPATH", "").split(os.pathsep)
sys.path[:0] = [entry for entry in _WHERE if entry and entry not in sys.path]

import json  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import triton_python_backend_utils as triton  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from inference.backends import triton_contract as contract  # noqa: E402
from inference.backends.triton_config import labels_datatype  # noqa: E402
from inference.backends.triton_scheduler import WindowScheduler  # noqa: E402
from inference.backends.triton_turns import SharedMachine  # noqa: E402
from inference.domain.errors import ClinferError, ModelError, RefusedError  # noqa: E402
from inference.domain.job import Priority  # noqa: E402
from inference.pipeline.spec import ModelSpec  # noqa: E402


class TritonPythonModel:
    """What Triton calls: `initialize` once, `execute` per request, `finalize` once."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config: Any) -> Any:
        """Leave the configuration alone: it is complete."""
        return auto_complete_model_config

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model that the folder holds; an error here makes the model unavailable."""
        # Seconds to import, so not before Triton asks for the model itself.
        import torch

        from inference.backends.loaded_model import load_model
        from inference.pipeline.batch import BatchRunner

        folder = Path(args["model_repository"])
        try:
            self.device = torch.device("cpu")
            cache_dir = os.environ.get(contract.ENGINE_CACHE_VARIABLE)
            loaded = load_model(
                folder, device=self.device, engine_cache_dir=Path(cache_dir) if cache_dir else None
            )
            self.spec, self.engine_choice = loaded.spec, loaded.why
            _check_config(json.loads(args["model_config"]), self.spec)
            budget = os.environ.get(contract.MEMORY_BUDGET_VARIABLE)
            self.memory_budget_mib = float(budget) if budget else None
            self.runner = BatchRunner(loaded.network, self.spec, self.device)
            # Ready means tried: one empty batch now, instead of surprises in the first study.
            self.runner.try_out()
        except ClinferError as error:
            raise triton.TritonModelException(contract.error_text(error)) from error
        turns_folder = os.environ.get(contract.TURNS_VARIABLE)
        self.scheduler = WindowScheduler(
            self._run_batch,
            batch_size=self.runner.size,
            turns=SharedMachine(Path(turns_folder), self.spec.name) if turns_folder else None,
        )

    def _run_batch(self, windows: list[Any]) -> list[tuple[Any, float]]:
        """Return each window's logits and its share of the time."""
        logits = self.runner.run(windows)
        return [(one, self.runner.last_s / len(windows)) for one in logits]

    def execute(self, requests: list[Any]) -> None:
        """Take requests and return at once; each is answered through its response sender."""
        for request in requests:
            answer = _Answer(request.get_response_sender())
            try:
                work = _Work(self, request, answer)
            except ClinferError as error:
                answer.send_error(error)
                continue
            self.scheduler.submit(work)

    def finalize(self) -> None:
        """Answer what still waits."""
        self.scheduler.close()


class _Answer:
    """The way back to one caller; used by two threads, closed once."""

    def __init__(self, sender: Any) -> None:
        self._sender = sender
        self._lock = threading.Lock()
        self._is_closed = False

    def is_cancelled(self) -> bool:
        """Whether the caller has gone."""
        return bool(self._sender.is_cancelled())

    def send_report(self, report: dict[str, Any]) -> None:
        """Send a response that has only a report."""
        self._send(triton.InferenceResponse([_report_tensor(report)]), is_last=False)

    def send_labels(self, labels: NDArray[Any], report: dict[str, Any]) -> None:
        """Send the answer."""
        tensors = [triton.Tensor(contract.LABELS, labels), _report_tensor(report)]
        self._send(triton.InferenceResponse(tensors), is_last=True)

    def send_error(self, error: ClinferError) -> None:
        """Send an error as the answer."""
        failure = triton.TritonError(contract.error_text(error))
        self._send(triton.InferenceResponse([], failure), is_last=True)

    def close(self) -> None:
        """End without an answer."""
        self._send(None, is_last=True)

    def _send(self, response: Any | None, *, is_last: bool) -> None:
        flags = triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL if is_last else 0
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = is_last
            if response is None:
                self._sender.send(flags=flags)
            else:
                self._sender.send(response, flags=flags)


class _Work:
    """One request, as the scheduler sees it."""

    def __init__(self, model: TritonPythonModel, request: Any, answer: _Answer) -> None:
        self._model, self._answer = model, answer
        self._received = time.monotonic()
        self._array: NDArray[Any] | None = _volume(request)
        self._request: Any = request  # `_array` is a view of its memory
        self.affine_lps = np.array(_input(request, contract.AFFINE_LPS), np.float64).reshape(4, 4)
        self.priority = _priority(request)
        self.deadline_s = _scalar(request, contract.DEADLINE_S)
        if self.deadline_s is not None and not self.deadline_s > 0:
            raise RefusedError(f"{contract.DEADLINE_S}: {self.deadline_s} must be above 0 s")
        self.heartbeat_s = _heartbeat_s(request)
        self._waited_s = 0.0
        self._first_window_s: float | None = None

    def is_cancelled(self) -> bool:
        return self._answer.is_cancelled()

    def prepare(self) -> None:
        from inference.pipeline.engine import use_all_cores
        from inference.pipeline.segment import Segmentation

        use_all_cores()
        model = self._model
        self._waited_s = time.monotonic() - self._received
        assert self._array is not None, "a request is prepared once"
        self._run = Segmentation(
            self._array,
            self.affine_lps,
            model.spec,
            device=model.device,
            memory_budget_mib=model.memory_budget_mib,
        )
        self._array = self._request = None  # the volume's memory is free for the next request

    @property
    def n_left(self) -> int:
        return self._run.n_left

    @property
    def fraction_done(self) -> float:
        run = self._run
        return 1.0 if run.is_done else run.n_done / run.n_windows

    def next_window(self) -> Any:
        if self._first_window_s is None:
            self._first_window_s = time.monotonic() - self._received
        return self._run.next_patch()

    def accept(self, answer: Any) -> None:
        logits, network_s = answer
        self._run.accept(logits, network_s=network_s)

    def finish(self) -> None:
        done = self._run.finish()
        report = done.report | {
            "priority": self.priority,
            "engine_choice": self._model.engine_choice,
            "server": {
                "waited_s": round(self._waited_s, 4),
                "first_window_s": round(self._first_window_s or 0.0, 4),
                "total_s": round(time.monotonic() - self._received, 4),
            },
        }
        self._answer.send_labels(done.labels, report)

    def fail(self, error: ClinferError) -> None:
        self._answer.send_error(error)

    def drop(self) -> None:
        self._answer.close()

    def beat(self, *, is_running: bool, fraction_done: float) -> None:
        state = "running" if is_running else "waiting"
        self._answer.send_report({"state": state, "fraction_done": round(fraction_done, 3)})


def _check_config(config: dict[str, Any], spec: ModelSpec) -> None:
    """Compare what Triton was told about the model with what `model.toml` says."""
    types = {output["name"]: output["data_type"] for output in config["output"]}
    expected = {
        contract.LABELS: f"TYPE_{labels_datatype(spec)}",
        contract.REPORT: "TYPE_STRING",
    }
    if types != expected:
        raise ModelError(f"config.pbtxt: outputs are {types}, model.toml needs {expected}")
    if not config.get("model_transaction_policy", {}).get("decoupled", False):
        raise ModelError("config.pbtxt: model_transaction_policy.decoupled must be true")


def _input(request: Any, name: str) -> NDArray[Any] | None:
    tensor = triton.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()


def _volume(request: Any) -> NDArray[Any]:
    names = (contract.VOLUME_INT16, contract.VOLUME_FLOAT32)
    found = {name: array for name in names if (array := _input(request, name)) is not None}
    if len(found) != 1:
        raise RefusedError(f"exactly one of {' and '.join(names)} is needed, got {len(found)}")
    ((name, array),) = found.items()
    if array.ndim != 3 or 0 in array.shape:
        raise RefusedError(f"{name}: shape {array.shape} is not that of a volume")
    return array


def _scalar(request: Any, name: str) -> float | None:
    array = _input(request, name)
    if array is None:
        return None
    if array.size != 1 or not np.isfinite(array).all():
        raise RefusedError(f"{name}: one finite number is needed")
    return float(array.reshape(-1)[0])


def _priority(request: Any) -> Priority:
    value = _scalar(request, contract.PRIORITY)
    if value is None:
        return Priority.ROUTINE
    if value not in tuple(Priority):
        known = ", ".join(f"{one.value} ({one.name})" for one in Priority)
        raise RefusedError(f"{contract.PRIORITY}: {value:.0f} is none of {known}")
    return Priority(int(value))


def _heartbeat_s(request: Any) -> float | None:
    parameters = json.loads(request.parameters() or "{}")
    value = parameters.get(contract.HEARTBEAT_PARAMETER)
    if value is None:
        return None
    if not isinstance(value, int | float) or not 0.1 <= value <= 3600:
        raise RefusedError(f"{contract.HEARTBEAT_PARAMETER}: {value} must be 0.1 to 3600 s")
    return float(value)


def _report_tensor(report: dict[str, Any]) -> Any:
    return triton.Tensor(contract.REPORT, np.array([json.dumps(report)], dtype=object))
