"""The order of windows, told by a log of what was run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from inference.backends.triton_scheduler import WindowScheduler
from inference.domain.errors import ClinferError, InferenceError, RefusedError


@dataclass(kw_only=True, eq=False)
class Work:
    """Writes each window it runs into a shared log; ``before`` is called before each."""

    name: str
    log: list[str]
    n_windows: int = 1
    priority: int = 0
    deadline_s: float | None = None
    heartbeat_s: float | None = None
    before: Callable[[int], None] = lambda window: None
    cancelled: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    error: ClinferError | None = None
    beats: list[tuple[bool, float]] = field(default_factory=list)

    def is_cancelled(self) -> bool:
        return self.cancelled.is_set()

    def steps(self) -> Iterator[float]:
        for window in range(self.n_windows):
            self.before(window)
            self.log.append(f"{self.name}{window}")
            yield (window + 1) / self.n_windows
        self.log.append(f"{self.name} answered")
        self.ended.set()

    def fail(self, error: ClinferError) -> None:
        self.error = error
        self.log.append(f"{self.name} failed")
        self.ended.set()

    def drop(self) -> None:
        self.log.append(f"{self.name} dropped")
        self.ended.set()

    def beat(self, *, is_running: bool, fraction_done: float) -> None:
        self.beats.append((is_running, fraction_done))


@pytest.fixture
def scheduler() -> Iterator[WindowScheduler]:
    scheduler = WindowScheduler()
    yield scheduler
    scheduler.close()


@pytest.fixture
def log() -> list[str]:
    return []


def wait(*works: Work) -> None:
    for work in works:
        assert work.ended.wait(10), f"{work.name} was not answered"


def test_a_higher_priority_overtakes_between_windows_and_equals_keep_their_order(
    scheduler: WindowScheduler, log: list[str]
) -> None:
    arrivals = [
        Work(name="b", log=log, n_windows=2),
        Work(name="urgent", log=log, n_windows=2, priority=5),
        Work(name="c", log=log),
    ]

    def others_arrive(window: int) -> None:
        if window == 1:
            for work in arrivals:
                scheduler.submit(work)

    first = Work(name="a", log=log, n_windows=4, before=others_arrive)
    scheduler.submit(first)
    wait(first, *arrivals)
    assert log == [
        *("a0", "a1", "urgent0", "urgent1", "urgent answered", "a2", "a3", "a answered"),
        *("b0", "b1", "b answered", "c0", "c answered"),
    ]


def test_a_cancelled_request_is_dropped_between_windows(
    scheduler: WindowScheduler, log: list[str]
) -> None:
    work = Work(name="a", log=log, n_windows=9)
    work.before = lambda window: work.cancelled.set() if window == 2 else None
    scheduler.submit(work)
    wait(work)
    assert log == ["a0", "a1", "a2", "a dropped"]


def test_a_waiting_request_is_answered_when_its_deadline_passes(
    scheduler: WindowScheduler, log: list[str]
) -> None:
    late = Work(name="late", log=log, deadline_s=0.05)
    blocking = Work(name="a", log=log, before=lambda window: wait(late))
    scheduler.submit(blocking)
    scheduler.submit(late)
    wait(blocking)
    assert log == ["late failed", "a0", "a answered"]
    assert late.error is not None
    assert late.error.code == "deadline"


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (RefusedError("no"), "refused"),
        (InferenceError("no"), "inference"),
        (MemoryError("no"), "inference"),
        (ZeroDivisionError("no"), "inference"),
    ],
)
def test_a_request_that_fails_leaves_the_others_alone(
    scheduler: WindowScheduler, log: list[str], raised: Exception, code: str
) -> None:
    def fail(window: int) -> None:
        raise raised

    bad, good = Work(name="bad", log=log, before=fail), Work(name="good", log=log)
    scheduler.submit(bad)
    scheduler.submit(good)
    wait(bad, good)
    assert log == ["bad failed", "good0", "good answered"]
    assert bad.error is not None
    assert bad.error.code == code


def test_signs_of_life_say_who_runs(scheduler: WindowScheduler, log: list[str]) -> None:
    second = Work(name="b", log=log, heartbeat_s=0.01)
    seen = threading.Event()

    def until_both_have_beaten(window: int) -> None:
        if window == 1:
            for _ in range(200):
                if first.beats and second.beats:
                    break
                seen.wait(0.05)

    first = Work(name="a", log=log, n_windows=2, heartbeat_s=0.01, before=until_both_have_beaten)
    silent = Work(name="c", log=log)
    for work in (first, second, silent):
        scheduler.submit(work)
    wait(first, second, silent)
    assert (True, 0.5) in first.beats
    assert (False, 0.0) in second.beats
    assert silent.beats == []


def test_closing_answers_what_waits(log: list[str]) -> None:
    scheduler = WindowScheduler()
    started, closing = threading.Event(), threading.Event()

    def block(window: int) -> None:
        started.set()
        closing.wait(5)

    running, waiting = Work(name="a", log=log, n_windows=3, before=block), Work(name="b", log=log)
    scheduler.submit(running)
    scheduler.submit(waiting)
    assert started.wait(5)
    closer = threading.Thread(target=scheduler.close)
    closer.start()
    closing.set()
    closer.join(10)
    for work in (running, waiting):
        assert work.error is not None
        assert work.error.code == "backend_unavailable"
    late = Work(name="late", log=log)
    scheduler.submit(late)
    assert late.error is not None
