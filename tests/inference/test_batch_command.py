"""`clinfer batch` and `clinfer why` as a person runs them: real Ray, and a Triton that dies."""

from __future__ import annotations

import csv
import json
import re
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from tests.builders.batching import MODEL, write_archive
from tests.builders.service import two_boxes_table
from tests.builders.two_boxes import BuiltStudy
from tests.inference.backends.conftest import write_model

CLINFER = [sys.executable, "-m", "inference"]
N_STUDIES = 5


def run(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CLINFER, *map(str, arguments)],
        capture_output=True, text=True, timeout=400, check=False, cwd=folder,
    )  # fmt: skip


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive, a model of random weights, and a settings file that names it."""
    made = tmp_path_factory.mktemp("batch")
    write_model(made / "model_repo", two_boxes_table())
    (made / "clinfer.toml").write_text(
        f'model_repo = "{made / "model_repo"}"\nmin_free_disk_mib = 16\n'
        'ray_object_store_mib = 128\nlog_format = "json"\n'
    )
    return made


@pytest.fixture(scope="module")
def built(folder: Path) -> list[BuiltStudy]:
    return write_archive(folder / "archive", N_STUDIES)


def batch(folder: Path, *more: str) -> list[str]:
    return [
        *(*CLINFER, "batch", str(folder / "archive"), "--model", MODEL, "--workers", "2"),
        *("--data", str(folder / "data"), "--settings", str(folder / "clinfer.toml"), *more),
    ]


def stored(folder: Path) -> list[str]:
    """The study of every result; asked of the file itself, so that asking costs next to nothing."""
    file = folder / "data" / "clinfer.sqlite3"
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        try:
            return [str(row[0]) for row in connection.execute("SELECT study_uid FROM result")]
        except sqlite3.OperationalError:  # the tables are being made
            return []


@pytest.mark.slow
def test_triton_killed_midway_costs_time_and_no_result(
    folder: Path, built: list[BuiltStudy]
) -> None:
    with subprocess.Popen(
        batch(folder, "--out", str(folder / "out")),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder,
    ) as process:  # fmt: skip
        kill_triton_after_the_first_result(process, folder)
        out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err[-3000:]
    assert re.search(rf"finding\s+│\s+{N_STUDIES} ", out), out
    assert sorted(stored(folder)) == sorted(study.study_uid for study in built)
    with (folder / "out" / MODEL / "studies.csv").open() as file:
        assert {row["StudyInstanceUID"] for row in csv.DictReader(file)} == {
            study.study_uid for study in built
        }
    assert len(list((folder / "out").rglob("seg.dcm"))) == N_STUDIES

    again = subprocess.run(
        batch(folder), capture_output=True, text=True, timeout=400, check=False, cwd=folder
    )
    assert again.returncode == 0, again.stderr[-3000:]
    assert re.search(rf"skipped: had a result\s+│\s+{N_STUDIES} ", again.stdout), again.stdout
    assert len(stored(folder)) == N_STUDIES

    why_by_uid_and_by_number(folder, built[0])


def kill_triton_after_the_first_result(process: subprocess.Popen[str], folder: Path) -> None:
    """SIGKILL, as the kernel does when memory is short."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if (folder / "data" / "clinfer.sqlite3").is_file() and stored(folder):
            for child in psutil.Process(process.pid).children(recursive=True):
                if child.name() == "tritonserver":
                    child.kill()
                    return
        time.sleep(0.1)
    raise AssertionError("no result was stored while tritonserver ran")


def why_by_uid_and_by_number(folder: Path, study: BuiltStudy) -> None:
    data = ("--data", folder / "data", "--settings", folder / "clinfer.toml")
    told = run("why", study.study_uid, *data, folder=folder)
    assert told.returncode == 0, told.stderr
    assert f"study {study.study_uid}" in told.stdout
    assert f"why: done: {MODEL}: finding" in told.stdout
    for stage in ("receive", "decode", "resample", "queue", "network", "merge", "encode"):
        assert re.search(rf"^│ {stage}\s+│\s+\d+\.\d\d │", told.stdout, re.MULTILINE), stage
    assert re.search(r"^│ deliver\s+│\s+- │", told.stdout, re.MULTILINE)
    assert re.search(r"peak memory \d+ MiB", told.stdout)
    for private in (study.identity.patient_name, study.identity.patient_id):
        assert private not in told.stdout

    as_json = run("why", "1", "--json", *data, folder=folder)
    found = json.loads(as_json.stdout)
    (job,) = (one for one in found["jobs"] if one["id"] == 1)
    assert (job["state"], job["model"]) == ("done", MODEL)
    assert not {"patient_id", "patient_name", "accession_number"} & set(found["study"])

    unknown = run("why", "1.2.3", *data, folder=folder)
    assert (unknown.returncode, last_line(unknown)) == (5, "error[not_found]: no study 1.2.3")


def test_why_makes_no_database_where_there_is_none(tmp_path: Path) -> None:
    done = run("why", "1", "--data", tmp_path / "nowhere", folder=tmp_path)
    assert done.returncode == 5
    assert last_line(done).startswith("error[data_folder]: ")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--model", "no_such_model"], "no model no_such_model"),
        (["--model", MODEL, "--filter", "Modality=CT"], "belongs to a DICOMweb source"),
        (["--model", MODEL, "--from", "http://127.0.0.1:9"], "goes with a CSV"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_made(
    folder: Path, built: list[BuiltStudy], tmp_path: Path, arguments: list[str], told: str
) -> None:
    done = run(
        "batch", folder / "archive", *arguments, "--data", tmp_path / "data",
        "--settings", folder / "clinfer.toml", folder=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert told in last_line(done)
    assert not (tmp_path / "data").exists()
