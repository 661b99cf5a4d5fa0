"""A predictor in a process of its own: it loads while the caller reads, and computes for it.

Loading the library that computes takes longer than reading a study, and both are one core's work.
The process is started before anything else is imported, shares volumes and labels with the caller
by memory that has no name (so nothing is left behind, however either ends), and ends with it.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what is imported here delays the start of the process
    import numpy as np
    from numpy.typing import NDArray

    from dicom_io.volume import Volume
    from inference.domain.job import Priority
    from inference.domain.ports import Prediction

_END_TIMEOUT_S = 10.0
MIB = 2**20


class ProcessPredictor:
    """Predictor over a model repository, in another process; models are loaded there and stay.

    Any thread may call it; volumes are run one at a time. `close` it, or use it in a ``with``.
    ``meanwhile`` is called once, with the first volume, as soon as the process has it.
    """

    def __init__(
        self,
        model_repo: Path,
        *,
        engine_cache_dir: Path | None = None,
        memory_budget_mib: float | None = None,
        meanwhile: Callable[[Volume], None] | None = None,
    ) -> None:
        ours, theirs = socket.socketpair()
        alive_there, self._alive = os.pipe()  # read to its end there: the end of this process
        # Its packages are ours, wherever it is started; what follows -c is ours too.
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; "
            "from inference.backends.computing import serve; "
            f"serve({theirs.fileno()}, {alive_there})"
        )
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and code
                    [sys.executable, "-c", code],
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), alive_there),
                    process_group=0,  # Ctrl-C is for this process, which then ends that one
                )
            finally:
                os.close(alive_there)
        self._socket, self._connection = ours, Connection(os.dup(ours.fileno()))
        self._lock = threading.Lock()
        self._is_closed = False
        self._meanwhile = meanwhile
        self._connection.send(
            {
                "model_repo": model_repo.absolute(),
                "engine_cache_dir": engine_cache_dir and engine_cache_dir.absolute(),
                "memory_budget_mib": memory_budget_mib,
            }
        )

    def prepare(self, model: str) -> None:
        """Let the process load a model meanwhile; what is wrong with it is said by `predict`."""
        with self._lock, self._speaking():
            self._connection.send(("prepare", {"model": model}))

    def predict(
        self,
        model: str,
        volume: Volume,
        *,
        priority: Priority | None = None,
        deadline_s: float | None = None,
    ) -> Prediction:
        """Return the labels of every voxel; see `Predictor`.

        Raises
        ------
        ModelError, RefusedError, InferenceError
            As `LocalPredictor`; an `InferenceError` too where the process ended.
        """
        from inference.domain.job import Priority
        from inference.domain.ports import Prediction

        labels, report = self._ask(
            "predict",
            volume,
            model=model,
            priority=Priority.ROUTINE if priority is None else priority,
            deadline_s=deadline_s,
        )
        here_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        report["peak_memory_mib"] = round(report["peak_memory_mib"] + here_mib, 1)
        return Prediction(labels=labels, report=report)

    def probability(self, model: str, volume: Volume, label: int) -> NDArray[np.float32]:
        """Return the probability of one label; see `ProbabilityPredictor`."""
        found: NDArray[np.float32]
        found, _ = self._ask("probability", volume, model=model, label=label)
        return found

    def close(self) -> None:
        """End the process, whatever it does."""
        if self._is_closed:
            return
        self._is_closed = True
        os.close(self._alive)
        self._process.kill()
        self._process.wait(_END_TIMEOUT_S)
        self._connection.close()
        self._socket.close()

    def __enter__(self) -> ProcessPredictor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, what: str, volume: Volume, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        """Send a request with a volume; return the array and the report that answer it."""
        import psutil

        from inference.backends.shared_arrays import receive_array, send_array

        with self._lock:
            with self._speaking():
                held_mib = (psutil.Process().memory_info().rss + volume.array.nbytes) / MIB
                self._connection.send((what, arguments))
                self._connection.send((volume.affine_lps, volume.modality, volume.unit, held_mib))
                send_array(self._connection, self._socket, volume.array)
            self._do_meanwhile(volume)
            with self._speaking():
                outcome, answer = self._connection.recv()
                if outcome == "done":
                    return receive_array(self._connection, self._socket), answer
        raise _error_of(*answer)

    def _do_meanwhile(self, volume: Volume) -> None:
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is None:
            return
        try:
            meanwhile(volume)
        except BaseException:
            self.close()  # an answer nobody waits for would be taken for the next one's
            raise

    @contextlib.contextmanager
    def _speaking(self) -> Iterator[None]:
        """Say by name that the process ended, where it does not answer."""
        try:
            yield
        except (EOFError, OSError) as error:
            from inference.domain.errors import InferenceError

            raise InferenceError(f"the process that computes {self._ending()}") from error

    def _ending(self) -> str:
        try:
            code = self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return "does not answer"
        if code == -signal.SIGKILL:
            return (
                "was killed, most often because memory ran out; give it a budget"
                " (--memory-budget-mib)"
            )
        return f"ended by signal {-code}" if code < 0 else f"ended with exit status {code}"


def _error_of(
    kind: type[Exception], arguments: tuple[Any, ...], state: dict[str, Any]
) -> Exception:
    """Make again the error that was raised there, without calling its constructor."""
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(state)
    return error
