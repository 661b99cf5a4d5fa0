"""Who holds a lease: names that tell, after a crash, whether the holder can still be alive."""

from __future__ import annotations

import secrets
import socket

import psutil


def new_owner(name: str) -> str:
    """Return a name for one lease, never used before: host, process, process start, thread."""
    process = psutil.Process()
    return "|".join(
        (
            socket.gethostname(),
            str(process.pid),
            f"{process.create_time():.2f}",
            name,
            secrets.token_hex(8),
        )
    )


def is_gone(owner: str) -> bool:
    """Whether the holder was a process of this host that does not run any more.

    A holder on another host is judged by its lease alone.
    """
    host, pid, created, *_ = owner.split("|")
    if host != socket.gethostname():
        return False
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" != created
    except psutil.NoSuchProcess:
        return True
