"""Other processes, as Linux's `/proc` shows them: found by a variable, watched, killed by id."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

_PROC = Path("/proc")
_POLL_S = 0.05


def is_running(pid: int) -> bool:
    """Whether the process is there and not a zombie."""
    return _state_and_parent(pid)[0] not in ("", "Z", "X")


def children_of(pid: int) -> frozenset[int]:
    """Ids of the running processes whose parent is ``pid``."""
    return frozenset(
        child for child in _all_pids() if _state_and_parent(child)[1] == pid and is_running(child)
    )


def with_variable(name: str, value: str) -> frozenset[int]:
    """Ids of the running processes that were started with ``name=value`` in their environment.

    Only processes of this user (all, for root) can be seen.
    """
    wanted = f"{name}={value}".encode()
    return frozenset(
        pid for pid in _all_pids() if wanted in _environment(pid).split(b"\0") and is_running(pid)
    )


def kill_all(pids: Iterable[int], *, timeout_s: float = 10.0) -> frozenset[int]:
    """Kill processes by id and wait until they are gone; return those that are not."""
    left = set(pids)
    for pid in left:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    ends = time.monotonic() + timeout_s
    while True:
        left = {pid for pid in left if is_running(pid)}
        if not left or time.monotonic() > ends:
            return frozenset(left)
        time.sleep(_POLL_S)


def _all_pids() -> list[int]:
    return [int(path.name) for path in _PROC.iterdir() if path.name.isdigit()]


def _state_and_parent(pid: int) -> tuple[str, int]:
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return "", 0
    # "pid (name) state parent ...": the name may hold spaces and parentheses
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[1])


def _environment(pid: int) -> bytes:
    try:
        return (_PROC / str(pid) / "environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""


def arguments_of(pid: int) -> tuple[str, ...]:
    """Command line of a process; empty where it is gone."""
    try:
        content = (_PROC / str(pid) / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return ()
    return tuple(part.decode(errors="replace") for part in content.split(b"\0")[:-1])


def memory_bytes(pid: int) -> int:
    """Proportional share of memory (PSS, swap included) of a process; 0 where it is gone."""
    try:
        text = (_PROC / str(pid) / "smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    lines = [line for line in text.splitlines() if line.startswith(("Pss:", "SwapPss:"))]
    return sum(int(line.split()[1]) for line in lines) * 1024
