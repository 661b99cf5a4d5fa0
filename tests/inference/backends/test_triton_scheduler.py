"""The order of windows, told by a log of what was run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from inference.backends.triton_scheduler import WindowScheduler
from inference.domain.errors import ClinferError, InferenceError, RefusedError
from inference.domain.job import Priority


@dataclass(kw_only=True, eq=False)
class Work:
    """Writes each step of it into a shared log; ``before`` is called before each window.

    ``while_preparing`` is called by the thread that prepares it.
    """

    name: str
    log: list[str]
    n_windows: int = 1
    priority: Priority = Priority.ROUTINE
    deadline_s: float | None = None
    heartbeat_s: float | None = None
    before: Callable[[int], None] = lambda window: None
    while_preparing: Callable[[], None] = lambda: None
    cancelled: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    error: ClinferError | None = None
    beats: list[tuple[bool, float]] = field(default_factory=list)
    prepared_by: str = ""
    n_out: int = 0
    n_back: int = 0

    @property
    def n_left(self) -> int:
        return self.n_windows - self.n_out

    @property
    def fraction_done(self) -> float:
        return self.n_back / self.n_windows if self.n_windows else 1.0

    def is_cancelled(self) -> bool:
        return self.cancelled.is_set()

    def prepare(self) -> None:
        self.prepared_by = threading.current_thread().name
        self.while_preparing()

    def next_window(self) -> str:
        self.before(self.n_out)
        self.n_out += 1
        return f"{self.name}{self.n_out - 1}"

    def accept(self, answer: str) -> None:
        assert answer == f"{self.name}{self.n_back}".upper(), "its own window, in order"
        self.n_back += 1

    def finish(self) -> None:
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


@dataclass(eq=False)
class Network:
    """Answers a window with its name in capitals, and writes each batch into the log."""

    log: list[str] = field(default_factory=list)
    broken: str = ""

    def __call__(self, windows: list[str]) -> list[str]:
        self.log.append("+".join(windows))
        if self.broken and any(window.startswith(self.broken) for window in windows):
            raise InferenceError(f"cannot take {self.broken}")
        return [window.upper() for window in windows]


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def log(network: Network) -> list[str]:
    return network.log


@pytest.fixture
def start(network: Network) -> Iterator[Callable[[int], WindowScheduler]]:
    """Starts a scheduler with a batch size; it is closed in the end."""
    started = []

    def start(batch_size: int) -> WindowScheduler:
        started.append(WindowScheduler(network, batch_size=batch_size))
        return started[-1]

    yield start
    for scheduler in started:
        scheduler.close()


@pytest.fixture
def scheduler(start: Callable[[int], WindowScheduler]) -> WindowScheduler:
    return start(1)


def wait(*works: Work) -> None:
    for work in works:
        assert work.ended.wait(10), f"{work.name} was not answered"


def wait_until(is_true: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(1000):
        if is_true():
            return
        pause.wait(0.01)
    raise AssertionError("it never became true")


class TestOrder:
    def test_a_stat_study_starts_after_the_batch_that_runs(
        self, scheduler: WindowScheduler, network: Network, log: list[str]
    ) -> None:
        stat = Work(name="s", log=log, n_windows=2, priority=Priority.STAT)
        routine = Work(
            name="a",
            log=log,
            n_windows=4,
            before=lambda window: scheduler.submit(stat) if window == 1 else None,
        )
        scheduler.submit(routine)
        wait(routine, stat)
        assert log == ["a0", "a1", "s0", "s1", "s answered", "a2", "a3", "a answered"]

    def test_a_stat_study_does_not_wait_for_the_resampling_of_another(
        self, scheduler: WindowScheduler, log: list[str]
    ) -> None:
        stat = Work(name="s", log=log, priority=Priority.STAT)
        routine = Work(name="a", log=log, while_preparing=lambda: wait(stat))
        scheduler.submit(routine)
        wait_until(lambda: routine.prepared_by != "")
        scheduler.submit(stat)
        wait(routine)
        assert log == ["s0", "s answered", "a0", "a answered"]
        assert (routine.prepared_by, stat.prepared_by) == ("volumes", "windows")

    def test_windows_run_while_another_study_is_resampled(
        self, scheduler: WindowScheduler, log: list[str]
    ) -> None:
        first = Work(name="a", log=log, n_windows=3)
        second = Work(
            name="b", log=log, while_preparing=lambda: wait_until(lambda: first.n_back == 3)
        )
        first.before = lambda window: (
            (scheduler.submit(second), wait_until(lambda: second.prepared_by != ""))[0]
            if window == 0
            else None
        )
        scheduler.submit(first)
        wait(first, second)
        assert second.error is None
        assert log == ["a0", "a1", "a2", "a answered", "b0", "b answered"]


def test_a_batch_that_fails_is_run_again_study_by_study(
    start: Callable[[int], WindowScheduler], network: Network, log: list[str]
) -> None:
    network.broken = "b"
    bad, good = (Work(name=name, log=log, n_windows=2) for name in ("b", "a"))
    # STAT is prepared and computed by one thread, so that the other is ready when it begins.
    gate = Work(name="s", log=log, n_windows=2, priority=Priority.STAT)
    gate.before = lambda window: wait_until(
        lambda: good.prepared_by != "" and bad.prepared_by != ""
    )
    scheduler = start(3)
    for work in (gate, bad, good):
        scheduler.submit(work)
    wait(gate, bad, good)
    assert bad.error is not None
    assert "cannot take b" in str(bad.error)
    assert gate.error is good.error is None
    assert (gate.n_back, bad.n_back, good.n_back) == (2, 0, 2)


def test_a_study_without_windows_is_answered(scheduler: WindowScheduler, log: list[str]) -> None:
    work = Work(name="a", log=log, n_windows=0)
    scheduler.submit(work)
    wait(work)
    assert log == ["a answered"]


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
    blocking = Work(name="s", log=log, priority=Priority.STAT, before=lambda window: wait(late))
    scheduler.submit(blocking)
    scheduler.submit(late)
    wait(blocking)
    assert log == ["late failed", "s0", "s answered"]
    assert late.error is not None
    assert late.error.code == "deadline"


@pytest.mark.parametrize("step", ["before", "while_preparing"])
@pytest.mark.parametrize("priority", [Priority.STAT, Priority.ROUTINE])
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
    start: Callable[[int], WindowScheduler],
    log: list[str],
    raised: Exception,
    code: str,
    priority: Priority,
    step: str,
) -> None:
    def fail(*window: int) -> None:
        raise raised

    scheduler = start(2)
    bad = Work(name="bad", log=log, priority=priority)
    setattr(bad, step, fail)
    good = Work(name="good", log=log)
    scheduler.submit(bad)
    scheduler.submit(good)
    wait(bad, good)
    assert log == ["bad failed", "good0", "good answered"]
    assert bad.error is not None
    assert bad.error.code == code


def test_signs_of_life_say_who_runs(scheduler: WindowScheduler, log: list[str]) -> None:
    second = Work(name="b", log=log, heartbeat_s=0.01)

    def until_both_have_beaten(window: int) -> None:
        if window == 1:
            wait_until(lambda: bool(first.beats and second.beats))

    first = Work(name="a", log=log, n_windows=2, heartbeat_s=0.01, before=until_both_have_beaten)
    silent = Work(name="c", log=log)
    for work in (first, second, silent):
        scheduler.submit(work)
    wait(first, second, silent)
    assert (True, 0.5) in first.beats
    assert (False, 0.0) in second.beats
    assert silent.beats == []


def test_closing_answers_what_waits(network: Network, log: list[str]) -> None:
    scheduler = WindowScheduler(network)
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
