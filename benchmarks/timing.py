"""Time functions in turns, or a command as its own process tree with the memory that it held.

Memory is the proportional set size (PSS) of the whole tree plus what it put into /dev/shm, so that
pages shared by parent and children count once and shared memory is not left out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

SAMPLE_EVERY_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Wall time and peak memory of one run of a command."""

    wall_s: float
    peak_memory_mib: float


def measure_command(
    command: Sequence[str], *, log: Path, limit_mib: float | None = None
) -> Measured:
    """Run ``command`` to its end; its output goes to ``log``.

    Raises
    ------
    RuntimeError
        The command failed; the message ends with the end of its output. Or it took more memory
        than ``limit_mib`` and was ended.
    """
    shm_before = _shm_used_bytes()
    peak_bytes = 0
    with log.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        tree = psutil.Process(process.pid)
        while process.poll() is None:
            shm = max(0, _shm_used_bytes() - shm_before)
            peak_bytes = max(peak_bytes, _tree_pss_bytes(tree) + shm)
            if limit_mib is not None and peak_bytes > limit_mib * 2**20:
                for each in (*tree.children(recursive=True), tree):
                    each.kill()
                process.wait()
                raise RuntimeError(f"took more than {limit_mib:.0f} MiB of memory and was ended")
            time.sleep(SAMPLE_EVERY_S)
        wall_s = time.perf_counter() - started
    if process.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}:\n{_tail(log)}")
    return Measured(wall_s=wall_s, peak_memory_mib=peak_bytes / 2**20)


def time_command(command: Sequence[str], *, log: Path) -> float:
    """Run ``command`` to its end with nothing watching it; return the seconds it took.

    Raises
    ------
    RuntimeError
        The command failed; the message ends with the end of its output.
    """
    with log.open("wb") as output:
        started = time.perf_counter()
        ended = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)
        wall_s = time.perf_counter() - started
    if ended.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {ended.returncode}:\n{_tail(log)}")
    return wall_s


def time_in_turns(
    runs: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    finish: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Run each way once a round, so that a busy moment falls on all; the first round is left out.

    ``finish`` waits for a device before each reading of the clock. Returns seconds by way.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for round_number in range(repeats + 1):
        for name, run in runs.items():
            finish()
            started = time.perf_counter()
            answer = run()
            finish()
            ended = time.perf_counter()
            del answer
            if round_number:
                seconds[name].append(ended - started)
    return seconds


def machine() -> dict[str, object]:
    """Name what the figures were measured on."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "unknown",
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "python": sys.version.split()[0],
        "device": "cpu",
    }


def commit() -> str:
    """Return the commit that was measured, marked where the tree had changes."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    here = Path(__file__).parent

    def answer(*arguments: str) -> str:
        return subprocess.run(
            [git, "-C", str(here), *arguments], capture_output=True, text=True, check=False
        ).stdout.strip()

    dirty = answer("status", "--porcelain", "--", "..", ":!../benchmarks/results")
    return (answer("rev-parse", "--short", "HEAD") or "unknown") + ("+changes" if dirty else "")


def _tree_pss_bytes(root: psutil.Process) -> int:
    total = 0
    try:
        processes = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in processes:
        try:
            # One rolled-up file a process: reading every mapping would itself take the time away.
            text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        except (OSError, psutil.NoSuchProcess):
            continue
        for line in text.splitlines():
            if line.startswith(("Pss:", "SwapPss:")):
                total += int(line.split()[1]) * 1024
    return total


def _shm_used_bytes() -> int:
    return shutil.disk_usage("/dev/shm").used  # noqa: S108 - measured, not written


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])
