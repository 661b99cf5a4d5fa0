"""Whose windows are in the next batch: STAT before urgent before routine, then who is due first.

One thread runs batches, made of the windows of all requests in hand; between two batches a request
joins, leaves, overtakes, is cancelled or found late. A second thread resamples routine and urgent
volumes ahead and finishes their labels, so that neither stands in the way of a batch. STAT requests
need no second thread: the first takes them from arrival to answer. A third thread sends signs of
life and answers deadlines. Nothing here knows Triton, torch or voxels.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from inference.backends.triton_contract import DeadlineError
from inference.backends.triton_queue import Entry, Picked, Stage, WindowQueue, Work
from inference.backends.triton_turns import OwnMachine, Turns
from inference.domain.errors import BackendUnavailableError, ClinferError, InferenceError
from inference.telemetry import get_logger

_TICK_S = 0.25

_log = get_logger(__name__)

RunBatch = Callable[[list[Any]], Sequence[Any]]
"""Windows in, as many answers out."""


class WindowScheduler:
    """Runs submitted work until closed.

    Parameters
    ----------
    run_batch : computes up to ``batch_size`` windows
    turns : when this model may compute, where others share the machine with it
    """

    def __init__(
        self, run_batch: RunBatch, *, batch_size: int = 1, turns: Turns | None = None
    ) -> None:
        self._run_batch = run_batch
        self._turns = turns or OwnMachine()
        self._queue = WindowQueue(batch_size)
        self._changed = threading.Condition()
        self._running: tuple[Entry, ...] = ()
        self._is_closed = False
        self._threads = [
            threading.Thread(target=self._compute, name="windows", daemon=True),
            threading.Thread(target=self._assist, name="volumes", daemon=True),
            threading.Thread(target=self._watch, name="heartbeats", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, work: Work) -> None:
        """Take a request; returns at once."""
        with self._changed:
            if not self._is_closed:
                self._queue.add(work)
                self._changed.notify_all()
                return
        work.fail(BackendUnavailableError("the server is stopping"))

    def close(self) -> None:
        """Finish what is being computed, answer what waits, and stop."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        for entry in self._queue.entries:
            entry.work.fail(BackendUnavailableError("the server is stopping"))
        self._queue.entries.clear()
        self._turns.close()

    def _compute(self) -> None:
        """Run one batch, or one step of a STAT request, after another."""
        while True:
            picked = self._next_turn()
            if picked is None:
                return
            try:
                if picked.stage is Stage.READY:
                    self._run(picked.entries)
                else:
                    self._step(picked.entries[0])
            finally:
                self._turns.give()
                self._put_back(picked.entries)
            del picked  # volumes are not kept while the thread waits for the next

    def _next_turn(self) -> Picked | None:
        """Wait until there is something to do and it is this model's turn; None: closed."""
        with self._changed:
            while not self._is_closed:
                picked = self._queue.pick()
                if picked is None:
                    self._turns.leave()
                    self._changed.wait()
                    continue
                late = [e for e in dict.fromkeys(picked.entries) if self._ended_early(e)]
                if late:
                    self._queue.remove(late)
                elif self._turns.take(picked.claim):
                    self._queue.start(picked)
                    self._running = picked.entries
                    return picked
                else:
                    self._changed.wait(self._turns.poll_s)
                del picked
            return None

    def _assist(self) -> None:
        """Prepare and finish volumes that are not STAT."""
        while True:
            with self._changed:
                entry = None
                while not self._is_closed and (entry := self._queue.pick_volume()) is None:
                    self._changed.wait()
                if self._is_closed or entry is None:
                    return
                if self._ended_early(entry):
                    self._queue.remove([entry])
                    continue
                entry.is_busy = True
            self._step(entry)
            self._put_back((entry,))
            del entry

    def _step(self, entry: Entry) -> None:
        """Prepare a request's volume, or finish its labels and answer."""
        if entry.stage is Stage.WAITING:
            if self._holds(entry, entry.work.prepare):
                self._note_progress(entry)
        elif self._holds(entry, entry.work.finish):
            entry.stage = Stage.ANSWERED

    def _run(self, entries: tuple[Entry, ...]) -> None:
        """Compute one batch; where it fails, each request's windows alone, to know whose fault."""
        batch: list[tuple[Entry, Any]] = []
        for entry in entries:
            windows: list[Any] = []
            if entry.stage is Stage.READY and self._holds(
                entry, partial(_hand_out, entry, windows)
            ):
                batch.append((entry, windows[0]))
        try:
            answers = self._run_batch([window for _, window in batch]) if batch else []
        except Exception as error:  # noqa: BLE001 - it is told to whom it concerns
            owners = list(dict.fromkeys(entry for entry, _ in batch))
            if len(owners) == 1:
                self._fail(owners[0], error)
                return
            for owner in owners:
                self._run_alone(owner, [window for entry, window in batch if entry is owner])
            return
        self._accept([entry for entry, _ in batch], answers)

    def _run_alone(self, entry: Entry, windows: list[Any]) -> None:
        answers: list[Any] = []
        if self._holds(entry, partial(self._compute_into, answers, windows)):
            self._accept([entry] * len(windows), answers)

    def _compute_into(self, answers: list[Any], windows: list[Any]) -> None:
        answers.extend(self._run_batch(windows))

    def _accept(self, entries: Sequence[Entry], answers: Sequence[Any]) -> None:
        for entry, answer in zip(entries, answers, strict=True):
            if entry.stage is Stage.READY and self._holds(
                entry, partial(entry.work.accept, answer)
            ):
                self._note_progress(entry)

    def _note_progress(self, entry: Entry) -> None:
        entry.fraction_done = entry.work.fraction_done
        entry.stage = Stage.READY if entry.fraction_done < 1.0 else Stage.COMPUTED

    def _holds(self, entry: Entry, step: Callable[[], object]) -> bool:
        """Whether a step of a request went well; its caller is told where it did not."""
        try:
            step()
        except Exception as error:  # noqa: BLE001 - one bad request must not end the others
            self._fail(entry, error)
            return False
        return True

    def _fail(self, entry: Entry, error: Exception) -> None:
        entry.stage = Stage.ANSWERED
        if isinstance(error, ClinferError):
            entry.work.fail(error)
        elif isinstance(error, MemoryError):
            entry.work.fail(InferenceError(f"out of memory: {error}"))
        else:
            _log.error("a request failed unexpectedly", exc_info=error)
            entry.work.fail(InferenceError(f"{type(error).__name__}: {error}"))

    def _put_back(self, entries: tuple[Entry, ...]) -> None:
        """Let the other threads have the requests again; those with an answer leave."""
        with self._changed:
            if entries == self._running:
                self._running = ()
            for entry in entries:
                entry.is_busy = False
            self._queue.remove([entry for entry in entries if entry.stage is Stage.ANSWERED])
            self._changed.notify_all()

    def _ended_early(self, entry: Entry) -> bool:
        if entry.work.is_cancelled():
            entry.work.drop()
            return True
        if time.monotonic() >= entry.due_at:
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
            self._look_after_all()

    def _look_after_all(self) -> None:
        """Answer what is late or cancelled, send signs of life, and keep hold of nobody."""
        with self._changed:
            # Under the lock, so that none of them begins to run meanwhile.
            waiting = [entry for entry in self._queue.entries if not entry.is_busy]
            self._queue.remove([entry for entry in waiting if self._ended_early(entry)])
            beating = [(entry, entry in self._running) for entry in self._queue.entries]
        for entry, is_running in beating:
            self._beat(entry, is_running=is_running)

    def _beat(self, entry: Entry, *, is_running: bool) -> None:
        now, every_s = time.monotonic(), entry.work.heartbeat_s
        if every_s is None or now - entry.last_beat < every_s:
            return
        entry.last_beat = now
        entry.work.beat(is_running=is_running, fraction_done=entry.fraction_done)


def _hand_out(entry: Entry, windows: list[Any]) -> None:
    windows.append(entry.work.next_window())
