"""Whose turn it is where several models share a machine: the one with the most urgent work.

Each model is a process of its own, so they agree through a folder that only they can open. A lock
on one file is the turn: the kernel takes it from a process that dies. Beside it each process that
wants the turn keeps a note of how urgent its work is, and none takes the turn before one with a
better note. The turn is held for one batch.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Protocol

from inference.domain.job import Priority

OTHERS_TURNS = 15
"""A model that waited for so many turns of others goes before them once, except before a STAT
request that has not begun; after twice as many, before that one too. So it gets a sixteenth of the
machine, or a thirty-second, whatever arrives elsewhere."""

POLL_S = 0.002
STALE_AFTER_S = 1.0
"""A note is renewed at each look. An older one is of a process that died or stands still."""

_TURN_FILE, _NOTE_SUFFIX = "turn", ".note"
_NOTE = struct.Struct("<qdd")  # level, since, written at
_COUNT = struct.Struct("<Q")


class Level(IntEnum):
    """How urgent a model's work is; lower goes first."""

    NEW_STAT = 0
    OVERTAKEN = 1
    STAT = 2
    URGENT = 3
    ROUTINE = 4

    @classmethod
    def of(cls, priority: Priority) -> Level:
        """Return the level of work that has begun."""
        return {Priority.STAT: cls.STAT, Priority.URGENT: cls.URGENT}.get(priority, cls.ROUTINE)


@dataclass(frozen=True, kw_only=True, order=True)
class Claim:
    """Why a model wants the turn; the smaller one gets it.

    ``since`` is when its request came, on the monotonic clock: all processes of a machine share it.
    """

    level: Level
    since: float


class Turns(Protocol):
    """Says when a model may compute."""

    @property
    def poll_s(self) -> float:
        """How soon to ask again after `take` said no."""
        ...

    def take(self, claim: Claim) -> bool:
        """Whether the turn is ours until `give`."""
        ...

    def give(self) -> None:
        """Let others have it."""
        ...

    def leave(self) -> None:
        """Want nothing for now."""
        ...

    def close(self) -> None:
        """Want nothing any more."""
        ...


class OwnMachine:
    """`Turns` where no other model computes."""

    poll_s = POLL_S

    def take(self, claim: Claim) -> bool:
        """Say yes."""
        del claim
        return True

    def give(self) -> None:
        """Do nothing."""

    leave = close = give


class SharedMachine:
    """`Turns` of one model among others; used by one thread.

    Parameters
    ----------
    folder : the same for all models of the machine; made where it is missing
    name : of the model
    """

    poll_s = POLL_S

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._note_path = folder / f"{name}-{os.getpid()}{_NOTE_SUFFIX}"
        self._turn = _open(folder / _TURN_FILE)
        self._note = _open(self._note_path)
        self._is_waiting = self._is_closed = False
        self._count_at_last_turn = 0

    def take(self, claim: Claim) -> bool:
        """Whether the turn is ours until `give`; renews the note, so ask often."""
        count = self._count()
        if not self._is_waiting:
            self._is_waiting, self._count_at_last_turn = True, count
        claim = _raised(claim, count - self._count_at_last_turn)
        os.pwrite(self._note, _NOTE.pack(claim.level, claim.since, time.monotonic()), 0)
        if any(other < claim for other in self._others()):
            return False
        try:
            fcntl.flock(self._turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self._count_at_last_turn = self._count() + 1
        os.pwrite(self._turn, _COUNT.pack(self._count_at_last_turn), 0)
        return True

    def give(self) -> None:
        """Let others have the turn."""
        fcntl.flock(self._turn, fcntl.LOCK_UN)

    def leave(self) -> None:
        """Take the note away."""
        if self._is_waiting:
            os.ftruncate(self._note, 0)
            self._is_waiting = False

    def close(self) -> None:
        """Close the files; does nothing twice."""
        if self._is_closed:
            return
        self._is_closed = True
        self._note_path.unlink(missing_ok=True)
        os.close(self._note)
        os.close(self._turn)

    def _count(self) -> int:
        """Return how many turns there were."""
        found = os.pread(self._turn, _COUNT.size, 0)
        return int(_COUNT.unpack(found)[0]) if len(found) == _COUNT.size else 0

    def _others(self) -> list[Claim]:
        """Return what others want now."""
        claims = []
        for path in self._folder.glob(f"*{_NOTE_SUFFIX}"):
            if path == self._note_path:
                continue
            try:
                level, since, written_at = _NOTE.unpack(path.read_bytes())
                claim = Claim(level=Level(level), since=since)
            except (FileNotFoundError, struct.error, ValueError):
                continue  # closed meanwhile, wants nothing, or half written: the next look tells
            if time.monotonic() - written_at <= STALE_AFTER_S:
                claims.append(claim)
        return claims


def _raised(claim: Claim, n_others: int) -> Claim:
    """Return the claim of a model that has seen so many turns of others."""
    if n_others >= 2 * OTHERS_TURNS:
        return Claim(level=Level.NEW_STAT, since=0.0)
    if n_others >= OTHERS_TURNS and claim.level > Level.OVERTAKEN:
        return Claim(level=Level.OVERTAKEN, since=claim.since)
    return claim


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
