"""A real PostgreSQL for one test session, on a free port of 127.0.0.1, thrown away afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def find_binaries() -> Path | None:
    """Folder with initdb, postgres and pg_ctl, or None."""
    on_path = shutil.which("initdb")
    candidates = [Path(on_path).resolve().parent] if on_path else []
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in candidates:
        if all((folder / name).exists() for name in ("initdb", "postgres", "pg_ctl")):
            return folder
    return None


@contextmanager
def running_postgresql(binaries: Path) -> Iterator[str]:
    """Give the URL of an empty database."""
    folder = Path(tempfile.mkdtemp(prefix="clinfer-pg-"))
    folder.chmod(0o755)
    user: str | None = None
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = "postgres" if "postgres" in names else "nobody"
        shutil.chown(folder, user)
    data = folder / "data"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]

    def call(*command: str | Path) -> None:
        subprocess.run(
            [str(part) for part in command], check=True, user=user, cwd=folder, capture_output=True
        )

    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder}"
    try:
        call(
            binaries / "initdb", "-D", data, "-U", "clinfer", "-A", "trust", "-E", "UTF8",
            "--no-locale", "--no-sync", "-k",
        )  # fmt: skip
        call(binaries / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start")
        try:
            yield f"postgresql+psycopg://clinfer@127.0.0.1:{port}/postgres"
        finally:
            call(binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
