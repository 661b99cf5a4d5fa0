"""Ray as a pool of workers: the only module that imports it, and only when a pool is started.

A cluster of our own lives on loopback with a fresh token, without a dashboard, in a folder that is
removed with it. Somebody else's is joined by its address and token, and left as it was.

Ray reads its mode of authentication and its own switches from the environment alone, and before
its first import, so `RayPool.start` puts them there: the one exception to settings being handed
down.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from inference.domain.errors import BackendUnavailableError, ClinferError
from inference.jobs import batch_tasks
from inference.telemetry import get_logger
from inference.version import SOFTWARE_VERSION

MAX_RETRIES = 3
"""How often Ray repeats a task whose process or node was lost."""

POLL_S = 1.0
START_TIMEOUT_S = 120.0

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1",
}
"""Ray counts cores by tasks, so a task must not take more than one."""

logger = get_logger(__name__)


START_TIMED_OUT = "timed out during startup"
"""What Ray says (as a plain Exception) when its node did not come up; the time is not a setting."""


class RayStartError(ClinferError):
    """Ray could not be started, or the cluster cannot be used; the message says why."""

    code = "ray_start"

    def __init__(self, *, address: str, problem: str) -> None:
        self.address, self.problem = address, problem
        super().__init__(f"ray {address or 'on this machine'}: {problem}")


class RayUnavailableError(BackendUnavailableError):
    """Ray, or the node that ran a task, went away; the job is tried again."""

    code = "ray_unavailable"


class TaskLostError(ClinferError):
    """The process that ran a task died each time: the study may be what kills it."""

    code = "task_lost"


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """What to start or to join.

    Attributes
    ----------
    workers : cores of a cluster of our own; one task a core
    object_store_mib : memory for what travels between tasks; more is spilled to the disk
    address : ``ray://host:port`` or ``host:port`` of a cluster to join; "" starts one here
    token : the cluster's; one of our own gets a fresh one
    """

    workers: int
    object_store_mib: int = 2048
    address: str = ""
    token: str = field(default="", repr=False)


class RayPool:
    """Implements `TaskPool`; use it in a ``with`` block. Any thread may submit and wait."""

    def __init__(self, options: RayOptions) -> None:
        if options.address and not options.token:
            raise RayStartError(address=options.address, problem="a cluster needs its token")
        self._options = options
        self.sees_our_disk = not options.address
        self._stopping = threading.Event()
        self._folder: Path | None = None
        self._ray: Any = None
        self._tasks: dict[tuple[Callable[..., Any], int], Any] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> RayPool:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start or join, and check that the other side runs this version.

        Raises
        ------
        RayStartError
        """
        address = self._options.address
        os.environ.update(_environment(self._options.token or secrets.token_hex(32), address))
        import ray

        if ray.is_initialized():
            raise RayStartError(address=address, problem="this process uses Ray already")
        try:
            if address:
                ray.init(
                    address,
                    log_to_driver=False,
                    logging_level=logging.WARNING,
                    runtime_env={"env_vars": ONE_THREAD},
                )
            else:
                self._start_own(ray)
            self._ray = ray
            found = self._ray.get(
                self._task(batch_tasks.software_version, 1).remote(), timeout=START_TIMEOUT_S
            )
        except Exception as error:
            self.stop()
            raise RayStartError(
                address=address, problem=f"{type(error).__name__}: {error}"
            ) from error
        if found != SOFTWARE_VERSION:
            self.stop()
            raise RayStartError(
                address=address, problem=f"clinfer {found} is there, {SOFTWARE_VERSION} is here"
            )
        logger.info("ray is ready", address=address or "own", workers=self._options.workers)

    def release(self) -> None:
        """Let waiting threads go; see `TaskPool`."""
        self._stopping.set()

    def stop(self) -> None:
        """Release, then leave the cluster or end our own; does nothing twice."""
        self.release()
        if self._ray is not None or self._folder is not None:
            import ray

            ray.shutdown()
            self._ray = None
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def submit(self, task: Callable[..., Any], *arguments: Any, n_answers: int = 1) -> Any:
        """Start a task; see `TaskPool`."""
        if self._stopping.is_set() or self._ray is None:
            raise RayUnavailableError("ray is stopping or was not started")
        try:
            return self._task(task, n_answers).remote(*arguments)
        except self._ray.exceptions.RayError as error:
            raise RayUnavailableError(f"{type(error).__name__}: {error}") from error

    def answer(self, handle: Any) -> Any:
        """Wait for one answer; see `TaskPool`."""
        while not self._stopping.is_set() and self._ray is not None:
            exceptions = self._ray.exceptions
            try:
                return self._ray.get(handle, timeout=POLL_S)
            except exceptions.GetTimeoutError:
                continue
            except exceptions.RayTaskError:
                raise  # the task's own exception: the worker records it under its own name
            except (exceptions.WorkerCrashedError, exceptions.OutOfMemoryError) as error:
                raise TaskLostError(
                    f"the process died {MAX_RETRIES + 1} times: {type(error).__name__}"
                ) from error
            except exceptions.RayError as error:
                raise RayUnavailableError(f"{type(error).__name__}: {error}") from error
        raise RayUnavailableError("the batch is being stopped")

    def _task(self, task: Callable[..., Any], n_answers: int) -> Any:
        with self._lock:
            if (task, n_answers) not in self._tasks:
                self._tasks[task, n_answers] = self._ray.remote(
                    num_cpus=1,
                    num_returns=n_answers,
                    max_retries=MAX_RETRIES,
                    scheduling_strategy="SPREAD",
                )(task)
            return self._tasks[task, n_answers]

    def _start_own(self, ray: Any) -> None:
        """Start Ray on this machine; once more where it was too busy for Ray's own 30 seconds."""
        for is_last in (False, True):
            # Under /tmp whatever data_dir is: paths of sockets may have 107 characters.
            self._folder = Path(tempfile.mkdtemp(prefix="clinfer-ray-"))
            try:
                ray.init(
                    num_cpus=self._options.workers,
                    object_store_memory=self._options.object_store_mib * 2**20,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.WARNING,
                    _temp_dir=str(self._folder),
                    runtime_env={"env_vars": ONE_THREAD},
                )
            except Exception as error:
                if is_last or START_TIMED_OUT not in str(error):
                    raise
                logger.warning("ray did not start in time; trying once more", problem=str(error))
                ray.shutdown()
                shutil.rmtree(self._folder, ignore_errors=True)
            else:
                return


def _environment(token: str, address: str) -> dict[str, str]:
    variables = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    if not address:
        # Its name says less than it does: Ray then takes 127.0.0.1 as the node's address, and
        # every part of it listens there only.
        variables["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    return variables
