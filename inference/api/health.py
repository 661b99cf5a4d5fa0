"""Whether the service is alive and each of its parts is ready."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inference.storage.database import Database


@dataclass(frozen=True, kw_only=True)
class Check:
    """One part's state; ``detail`` is for the operator and names no path or address."""

    name: str
    is_ready: bool
    detail: str = ""


Probe = Callable[[], tuple[Check, ...]]


class Health:
    """Asks each part; answers are kept for a moment, so that many askers cost one question."""

    def __init__(self, probes: tuple[Probe, ...], *, keep_s: float = 1.0) -> None:
        self._probes, self._keep_s = probes, keep_s
        self._asked_s = float("-inf")
        self._checks: tuple[Check, ...] = ()

    def checks(self) -> tuple[Check, ...]:
        """Return every part's state."""
        now = time.monotonic()
        if now - self._asked_s > self._keep_s:
            self._checks = tuple(check for probe in self._probes for check in probe())
            self._asked_s = now
        return self._checks


def database_probe(database: Database) -> Probe:
    """Ask whether a row can be read."""

    def probe() -> tuple[Check, ...]:
        try:
            with database.read() as connection:
                connection.exec_driver_sql("SELECT 1")
        except Exception as error:  # noqa: BLE001 - whatever the driver raises, it is not ready
            return (Check(name="database", is_ready=False, detail=type(error).__name__),)
        return (Check(name="database", is_ready=True),)

    return probe


def disk_probe(folder: Path, min_free_bytes: int) -> Probe:
    """Ask whether there is room for what comes in."""

    def probe() -> tuple[Check, ...]:
        try:
            free = shutil.disk_usage(folder).free
        except OSError as error:
            return (Check(name="disk", is_ready=False, detail=type(error).__name__),)
        is_ready = free >= min_free_bytes
        return (Check(name="disk", is_ready=is_ready, detail=f"{free // 2**20} MiB free"),)

    return probe
