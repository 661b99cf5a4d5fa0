"""Which models a running server holds: all of them, or as many as a memory budget allows.

Each model is a process, so unloading one gives all its memory back. Under a budget every model is
loaded once at the start, which tries and measures it; then the model used longest ago goes when
there is too little room, and comes back at its next use. A model that is in use stays.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from tritonclient.grpc import service_pb2

from inference.backends.processes import arguments_of, children_of, is_running, memory_bytes
from inference.backends.shared_memory import SHARED_MEMORY_FOLDER
from inference.backends.triton_channel import TritonChannel
from inference.backends.triton_contract import error_from_text
from inference.domain.errors import BackendError, BackendUnavailableError, ModelError
from inference.telemetry import get_logger

MIB = 2**20
LOAD_TIMEOUT_S = 120.0
UNLOAD_TIMEOUT_S = 60.0
_POLL_S = 0.02

# The command line of a model's process, as version 2.51 of the server writes it.
_REGION_ARGUMENT, _INSTANCE_ARGUMENT = 2, 8

_log = get_logger(__name__)


class MemoryBudgetError(BackendError):
    """A model alone needs more memory than all models may have."""

    code = "memory_budget"

    def __init__(self, *, model: str, needed_mib: int, budget_mib: int) -> None:
        self.model, self.needed_mib, self.budget_mib = model, needed_mib, budget_mib
        super().__init__(
            f"model {model} needs {needed_mib} MiB, and model_memory_mib is {budget_mib} MiB;"
            " raise it, or take the model out of the repository"
        )


@dataclass(frozen=True, kw_only=True)
class ModelProcess:
    """The process of a model and its shared memory."""

    pid: int
    region: Path

    def memory_bytes(self) -> int:
        """Return what would be free without it: its share of memory, and its region."""
        try:
            return memory_bytes(self.pid) + self.region.stat().st_blocks * 512
        except FileNotFoundError:
            return 0


@dataclass(kw_only=True)
class _Loaded:
    process: ModelProcess
    n_users: int = 0
    used_at: float = field(default_factory=time.monotonic)


class ServedModels:
    """The models of one server process.

    Parameters
    ----------
    budget_mib : most memory of all models' processes together; None: no bound, and nothing is
        unloaded by itself
    """

    def __init__(
        self, channel: TritonChannel, server_pid: int, *, budget_mib: int | None = None
    ) -> None:
        self._channel, self._server_pid, self._budget_mib = channel, server_pid, budget_mib
        self._changed = threading.Condition()
        self._loading = threading.Lock()
        self._loaded: dict[str, _Loaded] = {}
        self._needed_bytes: dict[str, int] = {}
        self._stuck: set[int] = set()

    @property
    def names(self) -> frozenset[str]:
        """Models that are loaded."""
        with self._changed:
            return frozenset(self._loaded)

    def find_loaded(self) -> None:
        """Take note of what the server loaded by itself."""
        with self._changed:
            for name, process in _processes(self._server_pid).items():
                self._loaded[name] = _Loaded(process=process)

    def dead(self) -> list[int]:
        """Ids of models' processes that should be there and are not, or the other way round."""
        with self._changed:
            pids = [loaded.process.pid for loaded in self._loaded.values()]
            stuck = sorted(self._stuck)
        return [pid for pid in pids if not is_running(pid)] + stuck

    def try_each(self, names: tuple[str, ...]) -> None:
        """Load each model once, keeping what fits into the budget.

        Raises
        ------
        ModelError, BackendUnavailableError, MemoryBudgetError
        """
        for name in names:
            with self.use(name):
                pass

    @contextmanager
    def use(self, name: str) -> Iterator[None]:
        """Have a model loaded for a while.

        Raises
        ------
        ModelError, BackendUnavailableError, MemoryBudgetError
        """
        if self._budget_mib is None:
            yield
            return
        while not self._take(name):
            with self._loading:
                if name not in self.names:
                    self._make_room(self._needed_bytes.get(name, 0))
                    self.load(name)
                    self._check_alone(name)
        try:
            yield
        finally:
            self._let_go(name)

    def load(self, name: str) -> None:
        """Load a model and wait until it is ready.

        Raises
        ------
        ModelError, BackendUnavailableError
        """
        request = service_pb2.RepositoryModelLoadRequest(model_name=name)
        try:
            self._channel.stub.RepositoryModelLoad(
                request, metadata=self._channel.metadata, timeout=LOAD_TIMEOUT_S
            )
        except grpc.RpcError as error:
            raise _control_error(f"model {name} cannot be loaded", error) from error
        process = _processes(self._server_pid).get(name)
        if process is None:
            raise BackendUnavailableError(f"model {name} was loaded and its process is gone")
        process.region.chmod(0o600)  # Triton makes it readable by all
        with self._changed:
            self._loaded[name] = _Loaded(process=process)
        self._needed_bytes[name] = process.memory_bytes()
        _log.info("model loaded", model=name, mib=self._needed_bytes[name] // MIB)

    def unload(self, name: str) -> None:
        """Unload a model and wait until its process is gone; one that is not loaded stays so.

        Raises
        ------
        BackendUnavailableError
        """
        with self._changed:
            loaded = self._loaded.pop(name, None)
        if loaded is None:
            return
        request = service_pb2.RepositoryModelUnloadRequest(model_name=name)
        try:
            self._channel.stub.RepositoryModelUnload(
                request, metadata=self._channel.metadata, timeout=UNLOAD_TIMEOUT_S
            )
        except grpc.RpcError as error:
            raise _control_error(f"model {name} cannot be unloaded", error) from error
        ends = time.monotonic() + UNLOAD_TIMEOUT_S
        while is_running(loaded.process.pid):
            if time.monotonic() > ends:
                # The server waits for a request that it lost: only a new server helps.
                with self._changed:
                    self._stuck.add(loaded.process.pid)
                raise BackendUnavailableError(
                    f"model {name} was unloaded, and after {UNLOAD_TIMEOUT_S} s its process"
                    f" {loaded.process.pid} still runs"
                )
            time.sleep(_POLL_S)
        _log.info("model unloaded", model=name)

    def memory_bytes(self) -> int:
        """Memory of all models' processes."""
        with self._changed:
            processes = [loaded.process for loaded in self._loaded.values()]
        return sum(process.memory_bytes() for process in processes)

    def _take(self, name: str) -> bool:
        with self._changed:
            loaded = self._loaded.get(name)
            if loaded is None:
                return False
            loaded.n_users += 1
            loaded.used_at = time.monotonic()
            return True

    def _let_go(self, name: str) -> None:
        with self._changed:
            loaded = self._loaded.get(name)
            if loaded is not None:
                loaded.n_users -= 1
                loaded.used_at = time.monotonic()
            self._changed.notify_all()
        # A process grows with the studies it has seen; what it needs is known best now.
        if self._loading.acquire(blocking=False):  # who loads now makes room by itself
            try:
                self._unload_idle(0, keep=name)
            except (BackendUnavailableError, ModelError) as error:
                _log.warning("no memory was given back", reason=str(error))  # the study is done
            finally:
                self._loading.release()

    def _make_room(self, n_bytes: int) -> None:
        """Unload until so much more fits, waiting for models in use where it must be."""
        while not self._unload_idle(n_bytes):
            with self._changed:
                if not any(loaded.n_users for loaded in self._loaded.values()):
                    return
                self._changed.wait(1.0)

    def _unload_idle(self, n_bytes: int, *, keep: str = "") -> bool:
        """Unload idle models, the one used longest ago first; whether so much more fits then."""
        assert self._budget_mib is not None, "only a budget asks for room"
        while self.memory_bytes() + n_bytes > self._budget_mib * MIB:
            with self._changed:
                idle = [n for n, one in self._loaded.items() if not one.n_users and n != keep]
                oldest = min(idle, key=lambda n: self._loaded[n].used_at, default=None)
            if oldest is None:
                return False
            self.unload(oldest)
        return True

    def _check_alone(self, name: str) -> None:
        """Refuse a model that does not fit although nothing else is there."""
        assert self._budget_mib is not None, "only a budget can be too small"
        needed = self._needed_bytes[name]
        if needed > self._budget_mib * MIB:
            self.unload(name)
            raise MemoryBudgetError(
                model=name, needed_mib=-(-needed // MIB), budget_mib=self._budget_mib
            )
        self._unload_idle(0, keep=name)


def _processes(server_pid: int) -> dict[str, ModelProcess]:
    """Return the models' processes by the models' names."""
    found = {}
    for pid in children_of(server_pid):
        arguments = arguments_of(pid)
        if len(arguments) > _INSTANCE_ARGUMENT:
            name = arguments[_INSTANCE_ARGUMENT].rsplit("_", 2)[0]  # NAME_GROUP_COUNT
            region = SHARED_MEMORY_FOLDER / arguments[_REGION_ARGUMENT]
            found[name] = ModelProcess(pid=pid, region=region)
    return found


def _control_error(what: str, error: grpc.RpcError) -> BackendUnavailableError | ModelError:
    details = error.details() or ""
    if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return BackendUnavailableError(f"{what}: {details}")
    return ModelError(f"{what}: {error_from_text(details)}")
