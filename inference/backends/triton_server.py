"""The embedded Triton server: started on loopback, watched, restarted, stopped.

One thread owns the server for its whole life. That matters: the kernel kills the server when the
thread that started it ends, so a service that is killed takes its server along. Where even that
fails, the next start finds the note that this one left and ends the orphan first.

In this server a decoupled model whose process died stays dead, and requests in it hang. So the
models' processes are watched too, and the whole server is restarted when one is gone: callers see
a lost connection at once, and their jobs are tried again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Self

from inference.backends.shared_memory import remove_dead_regions
from inference.backends.triton_channel import TritonChannel
from inference.backends.triton_contract import MODEL_NAME, TURNS_VARIABLE
from inference.backends.triton_install import find_triton, server_environment, stage_backends
from inference.backends.triton_launch import (
    EXIT_TIMEOUT_S,
    LOOPBACK,
    TritonServerOptions,
    TritonStartError,
    command_line,
    free_port,
    is_live,
    is_model_ready,
    open_log,
    start_problem,
)
from inference.backends.triton_models import MemoryBudgetError, ServedModels
from inference.backends.triton_record import (
    TOKEN_VARIABLE,
    FolderLock,
    ServerRecord,
    end_orphan,
)
from inference.domain.errors import BackendError, BackendUnavailableError, ModelError
from inference.pipeline.spec import load_spec
from inference.telemetry import get_logger

_POLL_S = 0.1
_HEALTH_EVERY_S = 5.0
_HEALTH_TRIES = 3
_STABLE_AFTER_S = 60.0
_MAX_BACKOFF_S = 30.0

_log = get_logger(__name__)


class ServerState(Enum):
    """Where the server is in its life."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    FAILED = "failed"


class TritonServer:
    """Starts the server and keeps it running until stopped; an object does so once."""

    def __init__(self, options: TritonServerOptions) -> None:
        wrong = [name for name in options.models if not MODEL_NAME.fullmatch(name)]
        if wrong or not options.models:
            raise ModelError(f"models to serve: {wrong or 'none'}: a name is {MODEL_NAME.pattern}")
        self._options = options
        self._folder = (options.data_dir / "triton").resolve()
        self._changed = threading.Condition()
        self._state = ServerState.STOPPED
        self._problem: BackendError | ModelError | None = None
        self._n_restarts = 0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._record: ServerRecord | None = None
        self._models: ServedModels | None = None

    @property
    def state(self) -> ServerState:
        """Where the server is in its life."""
        return self._state

    @property
    def problem(self) -> BackendError | ModelError | None:
        """What went wrong last, while it is not mended."""
        return self._problem

    @property
    def n_restarts(self) -> int:
        """How often it was started again."""
        return self._n_restarts

    @property
    def address(self) -> str:
        """``host:port`` of gRPC; the same over restarts."""
        return self._known_record().address

    @property
    def secret(self) -> str:
        """The value of the header that opens the restricted interfaces; new at each start."""
        return self._known_record().secret

    @property
    def models(self) -> ServedModels:
        """The models of the server that runs now.

        Raises
        ------
        BackendUnavailableError
            None runs.
        """
        models = self._models
        if models is None:
            raise BackendUnavailableError(f"the Triton server is {self._state.value}")
        return models

    @property
    def log_file(self) -> Path:
        """Where the server and the models' processes write."""
        return self._folder / "triton.log"

    def start(self) -> None:
        """End what an earlier service left, start the server, and wait until its models are ready.

        `stop`, called from another thread, ends the waiting.

        Raises
        ------
        TritonMissingError
            There is no embedded server for this machine.
        DataFolderInUseError
            Another running service has its server in this data folder.
        ModelError
            A model cannot be loaded; the message says which and why.
        TritonStartError
            Anything else; the server's log says more.
        BackendUnavailableError
            It was stopped meanwhile.
        """
        if self._thread is not None or self._stopping.is_set():
            raise TritonStartError(problem="it was started or stopped before", log=self.log_file)
        install = find_triton()
        for name in self._options.models:
            load_spec(self._options.model_repo / name)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = FolderLock(self._folder)
        try:
            end_orphan(self._record_file)
            remove_dead_regions()
            backends = stage_backends(install, self._folder / "backends")
        except BaseException:
            lock.release()
            raise
        self._record = ServerRecord(address=f"{LOOPBACK}:{self._options.port or free_port()}")
        self._command = command_line(
            install.server,
            backends,
            self._record,
            self._options.model_repo,
            () if self._has_budget else self._options.models,
        )
        self._environment = server_environment(install, os.environ) | {
            TOKEN_VARIABLE: self._record.token,
            TURNS_VARIABLE: str(self._empty_turns_folder()),
            **self._options.for_models(),
        }
        self._set_state(ServerState.STARTING)
        self._thread = threading.Thread(
            target=self._supervise, args=(lock,), name="triton", daemon=True
        )
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._state is not ServerState.STARTING)
            state, problem = self._state, self._problem
        if state is ServerState.FAILED and problem is not None:
            self.stop()
            raise problem
        if state is ServerState.STOPPED:
            raise BackendUnavailableError("the Triton server was stopped while it started")

    def stop(self) -> None:
        """Let the server finish for a few seconds, then end it; does nothing twice."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def _record_file(self) -> Path:
        return self._folder / "server.json"

    @property
    def _has_budget(self) -> bool:
        return self._options.model_memory_mib is not None

    def _empty_turns_folder(self) -> Path:
        """Make the folder in which the models agree whose turn it is; no process uses it now."""
        folder = self._folder / "turns"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        return folder

    def _known_record(self) -> ServerRecord:
        if self._record is None:
            raise BackendUnavailableError("the Triton server was not started")
        return self._record

    def _set_state(
        self, state: ServerState, problem: BackendError | ModelError | None = None
    ) -> None:
        with self._changed:
            self._state, self._problem = state, problem
            self._changed.notify_all()

    def _supervise(self, lock: FolderLock) -> None:
        try:
            self._keep_running()
        finally:
            self._record_file.unlink(missing_ok=True)
            lock.release()

    def _keep_running(self) -> None:
        """Start the server, and again when it ends, until told to stop or it fails too often."""
        n_failures, was_ready = 0, False
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                problem = self._run_once()
            except (OSError, BackendError) as error:  # no disk, no memory, an unkillable process
                problem = TritonStartError(problem=str(error), log=self.log_file)
            if self._stopping.is_set():
                break
            was_ready = was_ready or self._state is ServerState.READY
            stable = self._state is ServerState.READY and time.monotonic() - began > _STABLE_AFTER_S
            n_failures = 1 if stable else n_failures + 1
            if not was_ready or n_failures > self._options.max_failures:
                _log.error("the Triton server failed", problem=str(problem), failures=n_failures)
                self._set_state(ServerState.FAILED, problem)
                return
            pause_s = min(_MAX_BACKOFF_S, 0.25 * 2 ** (n_failures - 1))
            _log.warning("restarting the Triton server", problem=str(problem), pause_s=pause_s)
            self._set_state(ServerState.RESTARTING, problem)
            self._n_restarts += 1
            self._stopping.wait(pause_s)
        self._set_state(ServerState.STOPPED)

    def _run_once(self) -> BackendError | ModelError:
        """Start one server process, watch it to its end, and return why it ended."""
        record = self._known_record()
        record.write(self._record_file)
        with open_log(self.log_file) as log:
            log_begins = log.tell()
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and the wheel's server
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                env=self._environment,
                start_new_session=True,
            )
        channel = TritonChannel(record.address, secret=record.secret)
        models = ServedModels(channel, process.pid, budget_mib=self._options.model_memory_mib)
        try:
            problem = self._wait_ready(process, channel, log_begins)
            if problem is None and not self._stopping.is_set():
                models.find_loaded()
                if self._has_budget:
                    models.try_each(self._options.models)
                record.make_regions_private()
                self._models = models
                _log.info("the Triton server is ready", address=record.address, pid=process.pid)
                self._set_state(ServerState.READY)
                problem = self._watch(process, channel, models)
            return problem or BackendUnavailableError("the Triton server was stopped")
        except (ModelError, MemoryBudgetError) as error:
            return error
        finally:
            self._models = None
            channel.close()
            self._end(process, record)

    def _wait_ready(
        self, process: subprocess.Popen[bytes], channel: TritonChannel, log_begins: int
    ) -> BackendError | ModelError | None:
        """Return None when every model is ready, or what is wrong."""
        waiting = [] if self._has_budget else list(self._options.models)
        ends = time.monotonic() + self._options.ready_timeout_s
        while not self._stopping.wait(_POLL_S):
            if process.poll() is not None:
                return start_problem(process.returncode, self.log_file, log_begins)
            if time.monotonic() > ends:
                return TritonStartError(
                    problem=f"not ready after {self._options.ready_timeout_s} s: {waiting}",
                    log=self.log_file,
                )
            if is_live(channel, self._known_record()):
                waiting = [name for name in waiting if not is_model_ready(channel, name)]
                if not waiting:
                    return None
        return None

    def _watch(
        self, process: subprocess.Popen[bytes], channel: TritonChannel, models: ServedModels
    ) -> BackendError | None:
        """Return what went wrong, or None when told to stop."""
        n_silent, next_health = 0, time.monotonic() + _HEALTH_EVERY_S
        while not self._stopping.wait(_POLL_S):
            if process.poll() is not None:
                return BackendUnavailableError(f"Triton ended with status {process.returncode}")
            dead = models.dead()
            if dead:
                return BackendUnavailableError(f"a model's process died: {dead}")
            if time.monotonic() < next_health:
                continue
            n_silent = 0 if is_live(channel, self._known_record()) else n_silent + 1
            if n_silent == _HEALTH_TRIES:
                return BackendUnavailableError("Triton runs but does not answer")
            next_health = time.monotonic() + _HEALTH_EVERY_S
        return None

    def _end(self, process: subprocess.Popen[bytes], record: ServerRecord) -> None:
        """End the server and its models: asked when we stop, killed when it is broken."""
        if self._stopping.is_set() and process.poll() is None:
            process.terminate()
            try:
                process.wait(EXIT_TIMEOUT_S + 5)
            except subprocess.TimeoutExpired:
                _log.warning("the Triton server does not stop, so it is killed", pid=process.pid)
        process.kill()
        process.wait()
        record.end_processes()
