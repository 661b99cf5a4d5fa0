"""The embedded server's life: ready, killed, orphaned, refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from inference.backends.processes import children_of, is_running, kill_all, with_variable
from inference.backends.shared_memory import SHARED_MEMORY_FOLDER
from inference.backends.triton import TritonPredictor
from inference.backends.triton_launch import TritonServerOptions, TritonStartError
from inference.backends.triton_record import (
    TOKEN_VARIABLE,
    DataFolderInUseError,
    ServerRecord,
    end_orphan,
)
from inference.backends.triton_server import ServerState, TritonServer
from inference.domain.errors import BackendUnavailableError, ModelError
from inference.pipeline.spec import SPEC_FILE
from tests.inference.backends.conftest import TINY, noise_volume, tiny_table, write_model

REPOSITORY = Path(__file__).resolve().parents[3]

SERVICE = """
import os, sys, time
from pathlib import Path
from inference.backends import triton_launch
from inference.backends.triton_launch import TritonServerOptions
from inference.backends.triton_server import TritonServer
repo, data, port, dies_along = sys.argv[1:]
if dies_along == "no":
    triton_launch._LAUNCHER = "import os, sys; os.execv(sys.argv[2], sys.argv[2:])"
server = TritonServer(TritonServerOptions(
    model_repo=Path(repo), models=("mr_tiny_seg",), data_dir=Path(data), port=int(port)))
server.start()
print("ready", server.address, flush=True)
time.sleep(600)
"""


def wait_until(is_so: Callable[[], bool], timeout_s: float = 60.0) -> None:
    ends = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < ends, "it did not come about in time"
        time.sleep(0.05)


def record_of(server: TritonServer) -> ServerRecord:
    record = ServerRecord.read(server.log_file.with_name("server.json"))
    assert record is not None
    return record


def server_pid(server: TritonServer) -> int:
    """The tritonserver's id: the carrier of the token that is our child."""
    (pid,) = record_of(server).processes() & children_of(os.getpid())
    return pid


def start_service(repo: Path, data: Path, port: int, *, dies_along: bool) -> subprocess.Popen[str]:
    """Start a process that serves Triton; return when it is ready."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", SERVICE, str(repo), str(data), str(port)),
            "yes" if dies_along else "no",
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("ready"):
            return process
    raise AssertionError(f"the service ended with {process.wait()}")


def kill_service(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


@pytest.fixture
def options(tiny_repo: Path, tmp_path: Path) -> TritonServerOptions:
    return TritonServerOptions(model_repo=tiny_repo, models=(TINY,), data_dir=tmp_path / "data")


class TestRestart:
    def test_after_a_kill_callers_get_unavailable_and_then_answers_again(
        self, options: TritonServerOptions
    ) -> None:
        small = noise_volume((9, 9, 9), np.int16)
        slow = noise_volume((150, 200, 200), np.int16)
        with TritonServer(options) as server:
            address = server.address
            client = TritonPredictor(
                address, model_repo=options.model_repo, secret=server.secret, shared_memory=True
            )
            before = client.predict(TINY, small).labels
            for victim in ("server", "model"):
                n_restarts = server.n_restarts
                pid = server_pid(server)
                if victim == "model":
                    (pid,) = children_of(pid)
                with ThreadPoolExecutor(1) as pool:
                    running = pool.submit(client.predict, TINY, slow)
                    time.sleep(1.0)
                    os.kill(pid, signal.SIGKILL)
                    assert isinstance(running.exception(timeout=15), BackendUnavailableError)
                wait_until(
                    lambda n=n_restarts: (  # type: ignore[misc]
                        server.n_restarts == n + 1 and server.state is ServerState.READY
                    )
                )
                assert server.problem is None
                assert server.address == address
                np.testing.assert_array_equal(client.predict(TINY, small).labels, before)
            client.close()
            record = record_of(server)
            assert len(record.regions()) == 1, "one model, one region"
        assert server.state is ServerState.STOPPED
        assert record.regions() == ()
        assert list(SHARED_MEMORY_FOLDER.glob(f"clinfer-volume-{os.getpid()}-*")) == []


class TestKilledService:
    def test_takes_its_server_along(self, options: TritonServerOptions) -> None:
        service = start_service(options.model_repo, options.data_dir, 0, dies_along=True)
        record = ServerRecord.read(options.data_dir / "triton" / "server.json")
        assert record is not None
        assert len(record.processes()) == 2, "the server and its model's process"
        kill_service(service)
        wait_until(lambda: not record.processes(), timeout_s=15)
        end_orphan(options.data_dir / "triton" / "server.json")  # as the next start does
        assert record.regions() == ()

    def test_that_left_an_orphan_is_cleaned_up_by_the_next_start_on_the_same_port(
        self, options: TritonServerOptions
    ) -> None:
        service = start_service(options.model_repo, options.data_dir, 0, dies_along=False)
        record = ServerRecord.read(options.data_dir / "triton" / "server.json")
        assert record is not None
        orphans = record.processes()
        assert len(orphans) == 2
        kill_service(service)
        time.sleep(3.0)  # longer than a model's process outlives its server
        assert record.processes() == orphans, "an orphan holds the port"
        port = int(record.address.rpartition(":")[2])
        again = TritonServerOptions(
            model_repo=options.model_repo,
            models=options.models,
            data_dir=options.data_dir,
            port=port,
        )
        with TritonServer(again) as server:
            assert server.address == record.address
            assert not any(is_running(pid) for pid in orphans)
            assert record.regions() == ()
            client = TritonPredictor(
                server.address,
                model_repo=options.model_repo,
                secret=server.secret,
                shared_memory=True,
            )
            client.predict(TINY, noise_volume((9, 9, 9), np.int16))
            client.close()

    def test_of_another_token_is_left_alone(self, tmp_path: Path) -> None:
        """A process with a remembered id, or a token of another start, is not ours."""
        note = tmp_path / "server.json"
        ServerRecord(address="127.0.0.1:1").write(note)
        stranger = subprocess.Popen(
            ["sleep", "60"], env={"PATH": os.environ["PATH"], TOKEN_VARIABLE: "another"}
        )
        try:
            assert end_orphan(note) == frozenset()
            assert stranger.poll() is None
            assert not note.exists()
            assert with_variable(TOKEN_VARIABLE, "another") == {stranger.pid}
            assert kill_all([stranger.pid]) == frozenset()
        finally:
            stranger.kill()
            stranger.wait()

    def test_torn_note_is_no_obstacle(self, tmp_path: Path) -> None:
        note = tmp_path / "server.json"
        note.write_text('{"address": "127')
        assert end_orphan(note) == frozenset()


class TestStart:
    def test_is_quick_and_keeps_its_files_private(self, options: TritonServerOptions) -> None:
        began = time.monotonic()
        with TritonServer(options) as server:
            assert time.monotonic() - began < 60.0, "seconds on an idle machine"
            for path in (server.log_file, server.log_file.with_name("server.json")):
                assert path.stat().st_mode & 0o077 == 0, path
            record = record_of(server)
            assert record.secret not in repr(record)
            (region,) = record.regions()
            assert region.stat().st_mode & 0o077 == 0, "patients' voxels"
            with pytest.raises(DataFolderInUseError) as caught:
                run_second_start(options)
            assert caught.value.folder == server.log_file.parent

    def test_ends_when_stopped_from_another_thread(self, options: TritonServerOptions) -> None:
        server = TritonServer(options)
        with ThreadPoolExecutor(1) as pool:
            starting = pool.submit(server.start)
            wait_until(lambda: server.state is ServerState.STARTING)
            server.stop()
            assert isinstance(starting.exception(timeout=10), BackendUnavailableError)
        assert server.state is ServerState.STOPPED
        with pytest.raises(TritonStartError):
            server.start()

    def test_names_the_model_and_its_changed_weights(self, tmp_path: Path) -> None:
        repo = tmp_path / "repo"
        write_model(repo, tiny_table(TINY))
        (repo / TINY / "1" / "weights.safetensors").write_bytes(b"changed")
        options = TritonServerOptions(model_repo=repo, models=(TINY,), data_dir=tmp_path)
        server = TritonServer(options)
        with pytest.raises(ModelError, match=rf"^{TINY}: .*SHA-256") as caught:
            server.start()
        assert "At:" not in str(caught.value), "no traceback"
        assert server.state is ServerState.FAILED
        assert not (tmp_path / "triton" / "server.json").exists()

    def test_names_the_wrong_field_of_a_model(self, tmp_path: Path) -> None:
        repo = tmp_path / "repo"
        write_model(repo, tiny_table(TINY))
        text = (repo / TINY / SPEC_FILE).read_text()
        (repo / TINY / SPEC_FILE).write_text(text.replace("overlap = 0.5", "overlap = 1.5"))
        options = TritonServerOptions(model_repo=repo, models=(TINY,), data_dir=tmp_path)
        with pytest.raises(ModelError, match=r"window\.overlap"):
            TritonServer(options).start()

    def test_names_a_config_that_does_not_fit_the_model(self, tmp_path: Path) -> None:
        repo = tmp_path / "repo"
        write_model(repo, tiny_table(TINY))
        path = repo / TINY / "config.pbtxt"
        path.write_text(path.read_text().replace("TYPE_UINT8", "TYPE_UINT16"))
        options = TritonServerOptions(model_repo=repo, models=(TINY,), data_dir=tmp_path)
        with pytest.raises(ModelError, match=r"config\.pbtxt: outputs"):
            TritonServer(options).start()

    def test_names_a_model_that_is_not_there(self, options: TritonServerOptions) -> None:
        missing = TritonServerOptions(
            model_repo=options.model_repo, models=("mr_no_seg",), data_dir=options.data_dir
        )
        with pytest.raises(ModelError, match="mr_no_seg"):
            TritonServer(missing).start()

    def test_names_a_port_that_is_taken(
        self, options: TritonServerOptions, triton_server: TritonServer
    ) -> None:
        taken = TritonServerOptions(
            model_repo=options.model_repo,
            models=options.models,
            data_dir=options.data_dir,
            port=int(triton_server.address.rpartition(":")[2]),
        )
        with pytest.raises(TritonStartError, match=triton_server.address):
            TritonServer(taken).start()

    @pytest.mark.parametrize("models", [(), ("../x",), ("A",)])
    def test_refuses_what_is_no_model_name(self, tmp_path: Path, models: tuple[str, ...]) -> None:
        with pytest.raises(ModelError):
            TritonServer(TritonServerOptions(model_repo=tmp_path, models=models, data_dir=tmp_path))


def run_second_start(options: TritonServerOptions) -> None:
    """Start a server from the same data folder in another process; raise what it raised."""
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from inference.backends.triton_record import FolderLock, DataFolderInUseError\n"
        "try:\n    FolderLock(Path(sys.argv[1]))\n"
        "except DataFolderInUseError:\n    sys.exit(3)\n"
    )
    folder = (options.data_dir / "triton").resolve()
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)], cwd=REPOSITORY, check=False, timeout=60
    )
    if done.returncode == 3:
        raise DataFolderInUseError(folder=folder)
    raise AssertionError(f"the second start was not refused: {done.returncode}")
