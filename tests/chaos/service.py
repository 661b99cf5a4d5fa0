"""The real service as a process tree: started, watched through its log, killed, stopped."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).resolve().parents[2]
DOORS_OPEN, READY = "doors are open", "the service is ready"


class ServiceProcess:
    """Runs `python -m inference serve`, one run after the other on the same folder and port."""

    def __init__(self, folder: Path, *, backend: str) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "service.log"
        self.backend = backend
        self.starts_s: list[float] = []
        """Seconds from each start to open doors, where it got so far."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.dicom_port: int = probe.getsockname()[1]
        self._process: subprocess.Popen[str] | None = None
        self._reached: dict[str, threading.Event] = {}

    @property
    def database(self) -> Path:
        return self.data / "clinfer.sqlite3"

    def start(self) -> None:
        environment = os.environ | {
            "CLINFER_QUIET_PERIOD_S": "1",
            "CLINFER_MIN_FREE_DISK_MIB": "16",
            "CLINFER_HTTP_PORT": "0",
            "CLINFER_DICOM_PORT": str(self.dicom_port),
            "CLINFER_BACKEND": self.backend,
            "CLINFER_LOG_FORMAT": "json",
        }
        command = [
            sys.executable, "-m", "inference", "serve", "--data", str(self.data),
            "--model-repo", str(self.folder / "model_repo"),
        ]  # fmt: skip
        self._reached = {DOORS_OPEN: threading.Event(), READY: threading.Event()}
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self._process = process
        threading.Thread(
            target=self._read_log, args=(process, self._reached, time.monotonic()), daemon=True
        ).start()

    def wait_for(self, event: str, timeout_s: float) -> bool:
        """Whether the service said so in time; False too when it ended before."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self._reached[event].wait(0.05):
                return True
            if self._running().poll() is not None:
                return False
        return False

    def kill_main(self) -> None:
        """SIGKILL to the main process alone; its children are on their own."""
        process = self._running()
        process.kill()
        process.wait()

    def kill_tree(self) -> None:
        """SIGKILL to the main process and everything it started."""
        process = self._running()
        try:
            children = psutil.Process(process.pid).children(recursive=True)
        except psutil.NoSuchProcess:  # it ended by itself
            children = []
        process.kill()
        for child in children:
            try:
                child.kill()
            except psutil.NoSuchProcess:
                continue
        process.wait()

    def end(self) -> None:
        """Leave nothing running, whatever happened."""
        if self._process is not None and self._process.poll() is None:
            self.kill_tree()

    def stop(self, timeout_s: float = 60.0) -> int:
        """SIGTERM, and the exit code."""
        process = self._running()
        process.send_signal(signal.SIGTERM)
        return process.wait(timeout_s)

    def inference_servers(self) -> list[int]:
        """Process ids of Triton servers and their stubs that work for our folder."""
        found = []
        for process in psutil.process_iter(["cmdline", "pid"]):
            line = " ".join(process.info["cmdline"] or ())
            if "tritonserver" in line and str(self.folder) in line:
                found.append(process.info["pid"])
        return found

    def _running(self) -> subprocess.Popen[str]:
        assert self._process is not None, "it was started"
        return self._process

    def _read_log(
        self, process: subprocess.Popen[str], reached: dict[str, threading.Event], began: float
    ) -> None:
        assert process.stderr is not None, "it is a pipe"
        with self.log.open("a") as log, process.stderr:
            for line in process.stderr:
                log.write(line)
                log.flush()
                try:
                    event = json.loads(line).get("event")
                except ValueError:
                    continue
                if event == DOORS_OPEN:
                    self.starts_s.append(time.monotonic() - began)
                if event in reached:
                    reached[event].set()
