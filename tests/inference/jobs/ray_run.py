"""Runs a batch on a real Ray in a process of its own, and prints what happened as JSON.

Ray keeps state in its process (environment, signal handlers, token), which no other test is to
see. ``python -m tests.inference.jobs.ray_run cluster FOLDER`` joins a cluster of two nodes and
kills the raylet of the second while it works; ``own FOLDER`` starts a pool of our own.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from inference.domain.job import RetryPolicy
from inference.jobs.batch_sources import FolderSource
from inference.jobs.ray_batch import RayOptions, RayPool
from inference.storage import results
from tests.builders.batching import Opened, opened_batch, write_archive

N_STUDIES = 6
TASKS = {"ray::survey", "ray::read_series", "ray::write_results"}
"""What Ray calls a process while it runs one of ours."""


def pinned() -> dict[str, str]:
    """What a task sees of the settings that keep it on one thread."""
    names = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {name: os.environ.get(name, "") for name in names}


def outcomes(opened: Opened, folder: Path) -> dict[str, Any]:
    report = opened.run(FolderSource(folder / "archive"))
    with opened.database.read() as connection:
        stored = results.list_results(connection, current_only=False, limit=1000)
    return {
        "lines": [[line.study_uid, line.outcome, line.was_there] for line in report.lines],
        "reasons": [line.reason for line in report.lines if line.reason],
        "stored": [[one.study_uid, one.key, one.is_current] for one in stored],
    }


def run_cluster(folder: Path) -> dict[str, Any]:
    token = secrets.token_hex(16)
    os.environ.update(
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN=token,
        RAY_USAGE_STATS_ENABLED="0",
        RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
    )
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": 128 * 2**20},
    )
    second = cluster.add_node(num_cpus=1, object_store_memory=128 * 2**20)
    killed: dict[str, Any] = {}
    try:
        options = RayOptions(workers=2, address=cluster.address, token=token)
        policy = RetryPolicy(outage_s=0.5, backoff_s=0.5)
        with RayPool(options) as pool, opened_batch(folder, pool, policy=policy) as opened:
            threading.Thread(
                target=kill_while_working, args=(second, opened, killed), daemon=True
            ).start()
            return outcomes(opened, folder) | {"killed": killed}
    finally:
        cluster.shutdown()


def kill_while_working(node: Any, opened: Opened, killed: dict[str, Any]) -> None:
    """SIGKILL a node's raylet as soon as one study is stored and the node runs a task."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    while True:
        with opened.database.read() as connection:
            n_stored = len(results.list_results(connection))
        tasks = [name for name in _names(raylet) if name in TASKS]
        if n_stored >= 1 and tasks:
            raylet.kill()
            killed.update(task=tasks[0], n_stored=n_stored)
            return
        time.sleep(0.01)


def _names(raylet: psutil.Process) -> list[str]:
    try:
        return [child.cmdline()[0] for child in raylet.children() if child.cmdline()]
    except psutil.Error:
        return []


def run_own(folder: Path) -> dict[str, Any]:
    me = psutil.Process()
    with RayPool(RayOptions(workers=2, object_store_mib=128)) as pool:
        seen = pool.answer(pool.submit(pinned))
        kin = [me, *me.children(recursive=True)]
        listening = sorted(
            {
                (connection.laddr.ip, each.name())
                for each in kin
                for connection in each.net_connections()
                if connection.status == psutil.CONN_LISTEN
            }
        )
        commands = [" ".join(each.cmdline()) for each in kin]
        session = str(pool._folder)
        with opened_batch(folder, pool) as opened:
            first, second = outcomes(opened, folder), outcomes(opened, folder)
    time.sleep(0.5)
    return {
        "first": first,
        "second": second,
        "pinned": seen,
        "listening": listening,
        "has_dashboard": any(
            "dashboard.py" in command and "--disable-frontend" not in command
            for command in commands
        ),
        "left_processes": [" ".join(each.cmdline()) for each in me.children(recursive=True)],
        "session_is_left": Path(session).exists(),
    }


def run_without_token(folder: Path) -> dict[str, Any]:
    """Ask a pool of our own for work with another token than its own."""
    del folder
    with RayPool(RayOptions(workers=1, object_store_mib=128)):
        import subprocess

        import ray

        address = ray.get_runtime_context().gcs_address
        code = f"import ray; ray.init({address!r}, log_to_driver=False); print('LET IN')"
        asked = {}
        for who, mode, token in (
            ("right token", "token", os.environ["RAY_AUTH_TOKEN"]),
            ("no token", "disabled", ""),
            ("another token", "token", "0" * 64),
        ):
            variables = os.environ | {"RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN": token}
            try:
                done = subprocess.run(
                    [sys.executable, "-c", code],
                    env=variables, capture_output=True, text=True, timeout=60, check=False,
                )  # fmt: skip
                asked[who] = "LET IN" in done.stdout
            except subprocess.TimeoutExpired:
                asked[who] = False
    return {"let_in": asked}


def main() -> None:
    what, folder = sys.argv[1], Path(sys.argv[2])
    write_archive(folder / "archive", N_STUDIES)
    runs = {"cluster": run_cluster, "own": run_own, "token": run_without_token}
    found = runs[what](folder)
    sys.stdout.write("\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
