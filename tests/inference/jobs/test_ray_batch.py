"""A batch on a real Ray, in a process of its own: a lost node, a second run, closed doors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from inference.jobs.ray_batch import RayOptions, RayPool, RayStartError
from tests.inference.jobs.ray_run import N_STUDIES, TASKS


def run(what: str, folder: Path, repository: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.inference.jobs.ray_run", what, str(folder)],
        cwd=repository, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_a_raylet_killed_midway_loses_nothing_and_doubles_nothing(
    tmp_path: Path, repository: Path
) -> None:
    found = run("cluster", tmp_path, repository)
    assert found["killed"]["task"] in TASKS
    assert 1 <= found["killed"]["n_stored"] < N_STUDIES
    assert [outcome for _, outcome, _ in found["lines"]] == ["finding"] * N_STUDIES
    assert len({uid for uid, _, _ in found["lines"]}) == N_STUDIES
    assert len(found["stored"]) == N_STUDIES
    assert len({key for _, key, _ in found["stored"]}) == N_STUDIES
    assert all(is_current for _, _, is_current in found["stored"])


@pytest.mark.slow
def test_a_pool_of_our_own_is_closed_pinned_and_leaves_nothing(
    tmp_path: Path, repository: Path
) -> None:
    found = run("own", tmp_path, repository)
    assert [outcome for _, outcome, _ in found["first"]["lines"]] == ["finding"] * N_STUDIES
    assert all(was_there for _, _, was_there in found["second"]["lines"])
    assert found["second"]["stored"] == found["first"]["stored"]
    assert set(found["pinned"].values()) == {"1"}
    assert {address for address, _ in found["listening"]} <= {"127.0.0.1", "::ffff:127.0.0.1"}
    assert len(found["listening"]) >= 3
    assert not found["has_dashboard"]
    assert found["left_processes"] == []
    assert not found["session_is_left"]


@pytest.mark.slow
def test_ray_lets_nobody_in_without_its_token(tmp_path: Path, repository: Path) -> None:
    found = run("token", tmp_path, repository)
    assert found["let_in"] == {"right token": True, "no token": False, "another token": False}


def test_a_cluster_without_its_token_is_not_joined() -> None:
    with pytest.raises(RayStartError) as caught:
        RayPool(RayOptions(workers=1, address="ray://10.0.0.1:10001"))
    assert caught.value.address == "ray://10.0.0.1:10001"
    assert "token" in str(caught.value)


def test_a_token_is_not_told_by_its_options() -> None:
    assert "s3cret" not in repr(RayOptions(workers=1, address="h:1", token="s3cret"))


class SlowStarter:
    """Stands for the module `ray`; its first starts fail as they do on a busy machine."""

    def __init__(self, *problems: str) -> None:
        self.problems = list(problems)
        self.folders: list[Path] = []

    def init(self, **options: Any) -> None:
        self.folders.append(Path(options["_temp_dir"]))
        if self.problems:
            raise Exception(self.problems.pop(0))

    def shutdown(self) -> None:
        """Nothing runs."""


LATE = "The current node timed out during startup."


def test_a_start_that_took_too_long_is_tried_once_more() -> None:
    pool, ray = RayPool(RayOptions(workers=1)), SlowStarter(LATE)
    pool._start_own(ray)
    first, second = ray.folders
    assert not first.exists()
    assert second.is_dir()
    pool.stop()
    assert not second.exists()


@pytest.mark.parametrize(
    ("problems", "n_tries"), [((LATE, LATE), 2), (("no such option",), 1)], ids=["late", "wrong"]
)
def test_a_start_that_fails_again_or_otherwise_is_an_error(
    problems: tuple[str, ...], n_tries: int
) -> None:
    pool, ray = RayPool(RayOptions(workers=1)), SlowStarter(*problems)
    with pytest.raises(Exception, match=problems[-1]):
        pool._start_own(ray)
    assert len(ray.folders) == n_tries
    pool.stop()
