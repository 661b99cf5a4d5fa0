"""Which request's window runs next: higher priority first, then arrival.

One thread computes, a window at a time; between two windows a more urgent request overtakes, a
cancelled one is dropped, and one whose deadline has passed is answered. A second thread sends
signs of life and answers deadlines of requests that wait. Nothing here knows Triton.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from inference.backends.triton_contract import DeadlineError
from inference.domain.errors import BackendUnavailableError, ClinferError, InferenceError
from inference.telemetry import get_logger

_TICK_S = 0.25

_log = get_logger(__name__)


class Work(Protocol):
    """One request. Each is answered once: by its own last step, `fail` or `drop`."""

    @property
    def priority(self) -> int:
        """Higher goes first."""
        ...

    @property
    def deadline_s(self) -> float | None:
        """Seconds from submission within which the answer is wanted."""
        ...

    @property
    def heartbeat_s(self) -> float | None:
        """How often the caller wants a sign of life."""
        ...

    def is_cancelled(self) -> bool:
        """Whether the caller has gone."""
        ...

    def steps(self) -> Iterator[float]:
        """Compute; yield the fraction done between windows, and answer before the end."""
        ...

    def fail(self, error: ClinferError) -> None:
        """Answer with an error."""
        ...

    def drop(self) -> None:
        """End without an answer: nobody waits for it."""
        ...

    def beat(self, *, is_running: bool, fraction_done: float) -> None:
        """Send a sign of life."""
        ...


@dataclass(kw_only=True, eq=False)
class _Entry:
    work: Work
    order: int
    received: float = field(default_factory=time.monotonic)
    steps: Iterator[float] | None = None
    fraction_done: float = 0.0
    last_beat: float = field(default_factory=time.monotonic)

    def is_late(self, now: float) -> bool:
        """Whether the deadline has passed."""
        return self.work.deadline_s is not None and now - self.received >= self.work.deadline_s


class WindowScheduler:
    """Runs submitted work in its own thread until closed."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._entries: list[_Entry] = []
        self._running: _Entry | None = None
        self._n_received = 0
        self._is_closed = False
        self._threads = [
            threading.Thread(target=self._compute, name="windows", daemon=True),
            threading.Thread(target=self._watch, name="heartbeats", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, work: Work) -> None:
        """Take a request; returns at once."""
        with self._changed:
            if not self._is_closed:
                self._entries.append(_Entry(work=work, order=self._n_received))
                self._n_received += 1
                self._changed.notify_all()
                return
        work.fail(BackendUnavailableError("the server is stopping"))

    def close(self) -> None:
        """Answer what waits, finish the window that runs, and stop."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        for entry in self._entries:
            entry.work.fail(BackendUnavailableError("the server is stopping"))
        self._entries.clear()

    def _compute(self) -> None:
        while True:
            with self._changed:
                self._running = None
                while not self._entries and not self._is_closed:
                    self._changed.wait()
                if self._is_closed:
                    return
                entry = min(self._entries, key=lambda e: (-e.work.priority, e.order))
                self._running = entry
            if self._ended_early(entry) or not self._step(entry):
                with self._changed:
                    self._entries.remove(entry)
                del entry  # its volume is not kept while the thread waits for the next

    def _step(self, entry: _Entry) -> bool:
        """Run one window; return whether there is more to do."""
        try:
            if entry.steps is None:
                entry.steps = entry.work.steps()
            entry.fraction_done = next(entry.steps)
        except StopIteration:
            return False
        except ClinferError as error:
            entry.work.fail(error)
            return False
        except MemoryError as error:
            entry.work.fail(InferenceError(f"out of memory: {error}"))
            return False
        except Exception as error:  # noqa: BLE001 - one bad request must not end the others
            _log.exception("a request failed unexpectedly")
            entry.work.fail(InferenceError(f"{type(error).__name__}: {error}"))
            return False
        return True

    def _ended_early(self, entry: _Entry) -> bool:
        if entry.work.is_cancelled():
            entry.work.drop()
            return True
        if entry.is_late(time.monotonic()):
            entry.work.fail(
                DeadlineError(
                    f"the deadline of {entry.work.deadline_s} s passed with"
                    f" {entry.fraction_done:.0%} of the windows done"
                )
            )
            return True
        return False

    def _watch(self) -> None:
        while True:
            with self._changed:
                if self._changed.wait_for(lambda: self._is_closed, timeout=_TICK_S):
                    return
                waiting = [entry for entry in self._entries if entry is not self._running]
                running = self._running
                # Under the lock, so that none of them begins to run meanwhile.
                for entry in waiting:
                    if self._ended_early(entry):
                        self._entries.remove(entry)
                beating = [entry for entry in (running, *waiting) if entry in self._entries]
            for entry in beating:
                self._beat(entry, is_running=entry is running)

    def _beat(self, entry: _Entry, *, is_running: bool) -> None:
        now, every_s = time.monotonic(), entry.work.heartbeat_s
        if every_s is None or now - entry.last_beat < every_s:
            return
        entry.last_beat = now
        entry.work.beat(is_running=is_running, fraction_done=entry.fraction_done)
