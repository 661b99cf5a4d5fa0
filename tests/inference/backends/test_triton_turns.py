"""Models of one machine agree whose turn it is, through files; processes may die at any point."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from inference.backends import triton_turns
from inference.backends.triton_turns import (
    OTHERS_TURNS,
    STALE_AFTER_S,
    Claim,
    Level,
    OwnMachine,
    SharedMachine,
)
from inference.domain.job import Priority

HOLDER = """
import sys, time
from pathlib import Path
from inference.backends.triton_turns import Claim, Level, SharedMachine
turns = SharedMachine(Path(sys.argv[1]), "other")
assert turns.take(Claim(level=Level.NEW_STAT, since=0.0))
print("taken", flush=True)
time.sleep(60)
"""


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Callable[[str], SharedMachine]]:
    """Makes the `SharedMachine` of a model by name; all share a folder."""
    made = []

    def make(name: str) -> SharedMachine:
        made.append(SharedMachine(tmp_path / "turns", name))
        return made[-1]

    yield make
    for one in made:
        one.close()


def claim(level: Level, since: float = 1.0) -> Claim:
    return Claim(level=level, since=since)


def test_levels_follow_priorities() -> None:
    assert [Level.of(priority) for priority in Priority] == [
        Level.STAT,
        Level.URGENT,
        Level.ROUTINE,
    ]


def test_one_at_a_time(model: Callable[[str], SharedMachine]) -> None:
    a, b = model("a"), model("b")
    assert a.take(claim(Level.ROUTINE))
    assert not b.take(claim(Level.NEW_STAT)), "a batch is not interrupted"
    a.give()
    assert b.take(claim(Level.NEW_STAT))


def test_the_more_urgent_goes_first_then_the_older(model: Callable[[str], SharedMachine]) -> None:
    a, b, c = model("a"), model("b"), model("c")
    assert a.take(claim(Level.ROUTINE, since=1.0))
    assert not b.take(claim(Level.STAT, since=9.0))
    assert not c.take(claim(Level.STAT, since=8.0))
    a.give()
    assert not a.take(claim(Level.ROUTINE, since=1.0))
    assert not b.take(claim(Level.STAT, since=9.0))
    assert c.take(claim(Level.STAT, since=8.0))


def test_who_has_no_work_left_stands_in_nobodys_way(
    model: Callable[[str], SharedMachine],
) -> None:
    a, b = model("a"), model("b")
    assert a.take(claim(Level.STAT))
    assert not b.take(claim(Level.ROUTINE))
    a.give()
    assert not b.take(claim(Level.ROUTINE)), "it may still want another batch"
    a.leave()
    assert b.take(claim(Level.ROUTINE))


@pytest.mark.parametrize(
    ("busy", "n_expected"),
    [
        (claim(Level.STAT), OTHERS_TURNS),
        (claim(Level.NEW_STAT), 2 * OTHERS_TURNS),  # a STAT study begins at each turn
    ],
)
def test_no_flood_elsewhere_starves_a_model(
    model: Callable[[str], SharedMachine],
    busy: Claim,
    n_expected: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(triton_turns, "STALE_AFTER_S", 3600.0)  # however slow this machine is
    flooded, other = model("flooded"), model("other")
    routine = claim(Level.ROUTINE, since=5.0)
    assert flooded.take(busy)
    flooded.give()
    waits = []
    for _ in range(3):
        n_turns = 0
        while not other.take(routine):
            assert flooded.take(busy)
            assert not other.take(routine)
            flooded.give()
            n_turns += 1
        other.give()
        waits.append(n_turns)
    assert waits == [n_expected] * 3


def test_a_killed_holder_gives_the_turn_back(
    model: Callable[[str], SharedMachine], tmp_path: Path, repository: Path
) -> None:
    mine = model("mine")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "turns")],
        cwd=repository,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "taken\n"
            assert not mine.take(claim(Level.ROUTINE))
        finally:
            holder.send_signal(signal.SIGKILL)
        holder.wait()
    killed_at = time.monotonic()
    # Its note, of something more urgent, is believed until it is stale and no longer.
    while not mine.take(claim(Level.ROUTINE)):
        assert time.monotonic() - killed_at < STALE_AFTER_S + 5
        time.sleep(mine.poll_s)


def test_half_written_notes_are_passed_over(
    model: Callable[[str], SharedMachine], tmp_path: Path
) -> None:
    mine = model("mine")
    (tmp_path / "turns" / "torn-1.note").write_bytes(b"\0" * 7)
    (tmp_path / "turns" / "odd-1.note").write_bytes(b"\xff" * 24)
    assert mine.take(claim(Level.ROUTINE))


def test_only_the_owner_can_open_the_files(
    model: Callable[[str], SharedMachine], tmp_path: Path
) -> None:
    model("mine")
    folder = tmp_path / "turns"
    assert folder.stat().st_mode & 0o077 == 0
    assert [path.stat().st_mode & 0o077 for path in folder.iterdir()] == [0, 0]


def test_alone_on_the_machine_it_is_always_our_turn() -> None:
    turns = OwnMachine()
    assert turns.take(claim(Level.ROUTINE))
    turns.give()
    assert turns.take(claim(Level.ROUTINE))
