"""The requests that one model has in hand, and the rule by which the next batch is filled.

No threads and no clock are needed to say who is next, so the rule is tested as it stands: by
priority, then the earliest deadline, then arrival; of each `SHARE` batches one begins with the
request that was overtaken and has waited longest, so that no flood of STAT stops the rest for good.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Protocol

from inference.backends.triton_turns import Claim, Level
from inference.domain.errors import ClinferError
from inference.domain.job import Priority

SHARE = 16
"""One batch of so many goes to whom more urgent requests overtook: they lose 6 % by it. Where a
STAT request is about to begin, that goes first, but not for ever: the oldest of the overtaken, with
N windows, is done after ``2 * SHARE * N`` batches at the latest, whatever arrives meanwhile."""


class Work(Protocol):
    """One request. Each is answered once: by `finish`, `fail` or `drop`.

    The steps are called in order, never two at a time: `prepare`; then `next_window` and `accept`
    as often as there are windows, several handed out before the first comes back; then `finish`.
    """

    @property
    def priority(self) -> Priority:
        """Lower goes first."""
        ...

    @property
    def deadline_s(self) -> float | None:
        """Seconds from submission within which the answer is wanted."""
        ...

    @property
    def heartbeat_s(self) -> float | None:
        """How often the caller wants a sign of life."""
        ...

    @property
    def n_left(self) -> int:
        """Windows not handed out yet; asked after `prepare`."""
        ...

    @property
    def fraction_done(self) -> float:
        """Windows that came back, as a fraction; 1 after the last one and not before.

        A request without any is at 1 after `prepare`.
        """
        ...

    def is_cancelled(self) -> bool:
        """Whether the caller has gone."""
        ...

    def prepare(self) -> None:
        """Make the windows ready."""
        ...

    def next_window(self) -> Any:
        """Hand out a window."""
        ...

    def accept(self, answer: Any) -> None:
        """Take back what was computed from the oldest window that is out."""
        ...

    def finish(self) -> None:
        """Make the answer and send it."""
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


class Stage(Enum):
    """How far a request is."""

    WAITING = auto()
    READY = auto()
    COMPUTED = auto()
    ANSWERED = auto()


@dataclass(kw_only=True, eq=False)
class Entry:
    """A request in hand; ``is_busy`` while a thread is at it."""

    work: Work
    order: int
    stage: Stage = Stage.WAITING
    is_busy: bool = False
    n_started: int = 0
    fraction_done: float = 0.0
    received_at: float = field(default_factory=time.monotonic)
    last_beat: float = field(default_factory=time.monotonic)

    @property
    def due_at(self) -> float:
        """When the deadline passes, on the monotonic clock."""
        deadline_s = self.work.deadline_s
        return float("inf") if deadline_s is None else self.received_at + deadline_s

    @property
    def rank(self) -> tuple[int, float, int]:
        """Lower goes first."""
        return self.work.priority, self.due_at, self.order

    @property
    def is_stat(self) -> bool:
        """Whether nothing goes before it."""
        return self.work.priority == Priority.STAT

    @property
    def claim(self) -> Claim:
        """What it says to other models on the machine."""
        if self.is_stat and not self.n_started:
            return Claim(level=Level.NEW_STAT, since=self.received_at)
        return Claim(level=Level.of(self.work.priority), since=self.received_at)


@dataclass(frozen=True, kw_only=True)
class Picked:
    """What the computing thread does next.

    ``entries``: one for each window of a batch, where ``stage`` is READY (a request with several
    windows in it stands there as often); otherwise the one whose volume is prepared or finished.
    """

    stage: Stage
    entries: tuple[Entry, ...]
    claim: Claim
    serves_overtaken: bool = False


class WindowQueue:
    """Requests in hand; the caller holds its lock around every call."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        # A full batch of one-window studies while one more is being prepared, and not more: what
        # is prepared costs memory.
        self._max_prepared = batch_size + 1
        self._n_received = 0
        self._n_overtaking = 0
        self.entries: list[Entry] = []

    def add(self, work: Work) -> None:
        """Take a request."""
        self.entries.append(Entry(work=work, order=self._n_received))
        self._n_received += 1

    def remove(self, entries: list[Entry]) -> None:
        """Forget requests; those that are gone already do no harm."""
        for entry in entries:
            if entry in self.entries:
                self.entries.remove(entry)

    def pick(self) -> Picked | None:
        """Return what to compute next; None: nothing is ready."""
        idle = sorted((e for e in self.entries if not e.is_busy), key=lambda e: e.rank)
        ready = [e for e in idle if e.stage is Stage.READY and e.work.n_left]
        first = next((e for e in idle if e.is_stat or e in ready), None)
        if first is None:
            return None
        late = self._overtaken(first, ready)
        if late is not None:
            ready.remove(late)
            return self._batch([late, *ready], first.claim, serves_overtaken=True)
        if first.stage is not Stage.READY:
            return Picked(stage=first.stage, entries=(first,), claim=first.claim)
        return self._batch(ready, first.claim)

    def _overtaken(self, first: Entry, ready: list[Entry]) -> Entry | None:
        """Return who goes first for once."""
        is_new = first.is_stat and not first.n_started
        n_allowed = (2 * SHARE if is_new else SHARE) - 1
        if self._n_overtaking < n_allowed or first.stage is not Stage.READY:
            return None
        behind = [e for e in ready if e.work.priority > first.work.priority]
        return min(behind, key=lambda e: e.order, default=None)

    def _batch(
        self, in_order: list[Entry], claim: Claim, *, serves_overtaken: bool = False
    ) -> Picked:
        windows = [e for e in in_order for _ in range(min(e.work.n_left, self._batch_size))]
        return Picked(
            stage=Stage.READY,
            entries=tuple(windows[: self._batch_size]),
            claim=claim,
            serves_overtaken=serves_overtaken,
        )

    def start(self, picked: Picked) -> None:
        """Note that what was picked is being computed."""
        for entry in picked.entries:
            entry.is_busy = True
        if picked.stage is not Stage.READY:
            return
        for entry in picked.entries:
            entry.n_started += 1
        head = picked.entries[0].work.priority
        is_overtaking = any(
            e.stage is Stage.READY and not e.is_busy and e.work.priority > head
            for e in self.entries
        )
        self._n_overtaking = (
            self._n_overtaking + 1 if is_overtaking and not picked.serves_overtaken else 0
        )

    def pick_volume(self) -> Entry | None:
        """Return whose volume is prepared or finished next; STAT is left to `pick`.

        Finished before prepared, because that gives memory back.
        """
        idle = sorted(
            (e for e in self.entries if not e.is_busy and not e.is_stat), key=lambda e: e.rank
        )
        done = [e for e in idle if e.stage is Stage.COMPUTED]
        waiting = [e for e in idle if e.stage is Stage.WAITING and self._has_room(e)]
        return next(iter(done + waiting), None)

    def _has_room(self, entry: Entry) -> bool:
        same = [e for e in self.entries if e.work.priority == entry.work.priority]
        return sum(e.stage is not Stage.WAITING for e in same) < self._max_prepared
