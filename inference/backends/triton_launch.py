"""One start of `tritonserver`: its command line, how it is asked, why it failed."""

from __future__ import annotations

import os
import re
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import grpc
from tritonclient.grpc import service_pb2

from inference.backends.triton_channel import TritonChannel
from inference.backends.triton_contract import (
    ENGINE_CACHE_VARIABLE,
    MEMORY_BUDGET_VARIABLE,
    SECRET_HEADER_KEY,
    error_from_text,
)
from inference.backends.triton_record import ServerRecord
from inference.domain.errors import BackendError, ModelError

LOOPBACK = "127.0.0.1"
RESTRICTED_PROTOCOLS = "model-repository,shared-memory,trace,logging"
EXIT_TIMEOUT_S = 2

_PROBE_TIMEOUT_S = 10.0
_MAX_LOG_BYTES = 16 * 2**20

# Runs in a fresh Python that becomes the server: die with the parent, and keep files private.
_LAUNCHER = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
os.umask(0o077)
if ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) or os.getppid() != int(sys.argv[1]):
    sys.exit("the service has gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


class TritonStartError(BackendError):
    """The server did not become ready; ``log`` is where it says why."""

    def __init__(self, *, problem: str, log: Path) -> None:
        self.problem, self.log = problem, log
        super().__init__(f"Triton did not start: {problem} (see {log})")


@dataclass(frozen=True, kw_only=True)
class TritonServerOptions:
    """What to serve and where.

    Attributes
    ----------
    model_repo : folder of model folders
    models : names of those to load; each becomes its own process
    data_dir : the service's data folder; the server's files go to ``data_dir/triton``
    port : of gRPC on loopback; None takes a free one
    max_failures : failed starts in a row after which restarting ends
    model_memory_mib : most memory of the models' processes together; None: all stay loaded
    engine_cache_dir, memory_budget_mib : handed to the models' processes; None: their defaults
    """

    model_repo: Path
    models: tuple[str, ...]
    data_dir: Path
    port: int | None = None
    ready_timeout_s: float = 120.0
    max_failures: int = 10
    model_memory_mib: int | None = None
    engine_cache_dir: Path | None = None
    memory_budget_mib: int | None = None

    def for_models(self) -> dict[str, str]:
        """Return the variables that the models' processes read."""
        values = {
            ENGINE_CACHE_VARIABLE: self.engine_cache_dir and self.engine_cache_dir.resolve(),
            MEMORY_BUDGET_VARIABLE: self.memory_budget_mib,
        }
        return {name: str(value) for name, value in values.items() if value is not None}


def command_line(
    server: Path, backends: Path, record: ServerRecord, model_repo: Path, models: tuple[str, ...]
) -> list[str]:
    """Return what starts the server as a child of this process."""
    host, _, port = record.address.rpartition(":")
    return [
        *(sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid())),
        str(server),
        f"--id={record.server_id}",
        f"--model-repository={model_repo.resolve()}",
        f"--backend-directory={backends}",
        f"--backend-config=python,shm-region-prefix-name={record.region_prefix}",
        "--model-control-mode=explicit",
        *(f"--load-model={name}" for name in models),
        "--disable-auto-complete-config",
        "--allow-http=false",
        "--allow-metrics=false",
        f"--grpc-address={host}",
        f"--grpc-port={port}",
        f"--grpc-restricted-protocol={RESTRICTED_PROTOCOLS}:{SECRET_HEADER_KEY}={record.secret}",
        f"--exit-timeout-secs={EXIT_TIMEOUT_S}",
        "--log-format=ISO8601",
    ]


def start_problem(status: int, log: Path, log_begins: int) -> BackendError | ModelError:
    """Read from the log why the server ended before it was ready."""
    with log.open("rb") as file:
        file.seek(log_begins)
        text = file.read().decode(errors="replace")
    failed = re.search(r"load failed for model '([^']+)': (.*)", text, re.DOTALL)
    if failed is not None:
        reason = re.split(r"\n\nAt:|;\n", failed[2])[0]
        return ModelError(f"{failed[1]}: {error_from_text(reason)}")
    errors = [line for line in text.splitlines() if line.startswith(("error", "E", "the "))]
    last = (errors or text.splitlines() or ["no message"])[-1]
    return TritonStartError(problem=f"status {status}: {last.strip()}", log=log)


def is_model_ready(channel: TritonChannel, name: str) -> bool:
    """Whether the server says that the model is ready."""
    try:
        request = service_pb2.ModelReadyRequest(name=name)
        return bool(channel.stub.ModelReady(request, timeout=_PROBE_TIMEOUT_S).ready)
    except grpc.RpcError:
        return False


def is_live(channel: TritonChannel, record: ServerRecord) -> bool:
    """Whether the server answers, and is ours: another one may hold the port."""
    try:
        request = service_pb2.ServerMetadataRequest()
        name = channel.stub.ServerMetadata(request, timeout=_PROBE_TIMEOUT_S).name
    except grpc.RpcError:
        return False
    return bool(name == record.server_id)


def free_port() -> int:
    """Return a port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return port


def open_log(path: Path) -> IO[bytes]:
    """Open the server's log at its end; a large one is put aside first."""
    if path.exists() and path.stat().st_size > _MAX_LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    file = path.open("ab")
    path.chmod(0o600)
    return file
