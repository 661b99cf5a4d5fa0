"""`clinfer serve`, `demo` and `keys` as a person runs them, with the real Triton."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.builders.dicom import Identity
from tests.builders.service import two_boxes_table
from tests.builders.two_boxes import two_boxes_study, write
from tests.inference.backends.conftest import write_model

CLINFER = [sys.executable, "-m", "inference"]


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small CT network with random weights: every voxel gets some label."""
    folder = tmp_path_factory.mktemp("model_repo")
    write_model(folder, two_boxes_table())
    return folder


def run(*arguments: str | Path, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CLINFER, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_says_where_things_are_and_stops_in_time(
    repo: Path, tmp_path: Path, number: signal.Signals
) -> None:
    process = subprocess.Popen(
        [
            *(*CLINFER, "serve", "--data", str(tmp_path / "data"), "--model-repo", str(repo)),
            *("--port", "0", "--dicom-port", "0"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = "".join(process.stdout.readline() for _ in range(5))
        url = re.search(r"http://127\.0\.0\.1:\d+", said)
        assert url is not None, said
        assert "CLINFER@127.0.0.1:" in said
        ready = httpx.get(f"{url[0]}/readyz", timeout=10).json()
        assert ready["is_ready"], ready
        children = psutil.Process(process.pid).children(recursive=True)
        assert any("tritonserver" in child.name() for child in children)
        began_s = time.monotonic()
        process.send_signal(number)
        _, log = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, log
    assert time.monotonic() - began_s < 25  # stop_timeout_s is 20
    _, alive = psutil.wait_procs(children, timeout=5)
    assert alive == []


def test_a_misspelt_variable_ends_serve_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLINFER_QUIET_PERIOD", "3")
    done = run("serve", "--data", tmp_path)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error[settings]")
    assert "CLINFER_QUIET_PERIOD_S" in last


def test_demo_with_a_built_study_ends_with_the_table_and_the_page(repo: Path) -> None:
    done = run("demo", "--once", "--model-repo", repo)
    assert done.returncode == 0, done.stderr
    for text in ("volume ml", "mean HU", "where the time went", "network", "Look at it: http://"):
        assert text in done.stdout
    assert re.search(r"sent \d+ of \d+ files", done.stdout)


def test_demo_says_why_ones_own_study_is_refused(repo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    write(two_boxes_study(slices=[0, 1, 2, 5, 6, 7], identity=Identity()), folder)
    done = run("demo", "--once", "--study", folder, "--model-repo", repo, "--backend", "local")
    assert done.returncode == 3
    assert done.stderr.strip().splitlines()[-1].startswith("error[refused]")
    assert "slice_gap" in done.stdout


def test_demo_takes_a_zip_and_keeps_the_data_where_asked(repo: Path, tmp_path: Path) -> None:
    archive = tmp_path / "study.zip"
    archive.write_bytes(two_boxes_study(identity=Identity()).zipped({"README.txt": b"hello"}))
    done = run(
        *("demo", "--once", "--study", archive, "--data", tmp_path / "data"),
        *("--model-repo", repo, "--backend", "local"),
    )
    assert done.returncode == 0, done.stderr
    assert "not taken: README.txt" in done.stdout
    assert (tmp_path / "data" / "clinfer.sqlite3").is_file()


def test_keys_are_made_listed_and_revoked(tmp_path: Path) -> None:
    made = run("keys", "create", "ward-3", "--data", tmp_path)
    assert re.fullmatch(r"clf_[0-9a-f]{8}_[\w-]{43}\n", made.stdout)
    assert "ward-3" in run("keys", "list", "--data", tmp_path).stdout
    again = run("keys", "create", "ward-3", "--data", tmp_path)
    assert again.stderr.strip().splitlines()[-1].startswith("error[api_key]")
    assert run("keys", "revoke", "ward-3", "--data", tmp_path).returncode == 0
    assert "ward-3" not in run("keys", "list", "--data", tmp_path).stdout
