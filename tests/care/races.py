"""Races for one proposal: confirm against expiry, two confirmers, confirm against reject."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from inference.domain import confirmation
from inference.domain.proposal import PatientKey, Proposal, shown_sha256
from inference.storage import proposals
from inference.storage.database import Database
from tests.builders.care import NOW, nurse, proposal

Attempt = Callable[[], proposals.Outcome]


@dataclass
class RaceCount:
    """How the races ended; ``broken`` names each that had not exactly one decision."""

    ends: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


def run_races(
    database: Database, other: Database, n_races: int, *, seed: int = 0, cross_every: int = 41
) -> RaceCount:
    """Let two threads decide each of ``n_races`` proposals at the same time.

    ``other`` is a second handle on the same database, as another process has it: the writer lock
    of one handle does not order the two. SQLite makes such a pair wait for up to 0.1 s, so only
    every ``cross_every``-th race is one.
    """
    chance, count = random.Random(seed), RaceCount()  # noqa: S311 - a test's order, no secret
    for number in range(n_races):
        needs_two = number % 3 == 1
        who = PatientKey(identifier=f"p{number}", assigning_authority="urn:oid:1.2.3")
        one = proposal(needs_two=needs_two, patient=who, valid_s=60)
        with database.write() as connection:
            proposals.store(connection, one, actor="model")
        if needs_two:
            with database.write() as connection:
                confirm(connection, one, "first", seconds=1)
        second = other if number % cross_every == 0 else database
        attempts = _attempts(database, second, one, number)
        chance.shuffle(attempts)
        outcomes = _at_once(attempts)
        with database.read() as connection:
            end = proposals.get(connection, one.id)
        _judge(count, end, outcomes, f"race {number}")
    return count


def confirm(connection, one: Proposal, person: str, *, seconds: float) -> proposals.Outcome:
    now = NOW + timedelta(seconds=seconds)
    return proposals.decide(
        connection,
        one.id,
        lambda stored: confirmation.confirm(
            stored, by=nurse(person, now), shown=shown_sha256(one), now=now
        ),
        actor=person,
        action="proposal.confirm",
        now=now,
    )


def _attempts(database: Database, other: Database, one: Proposal, number: int) -> list[Attempt]:
    """Two attempts that compete: both before the end of validity, or one on each side of it."""

    def yes(person: str, seconds: float, handle: Database = database) -> Attempt:
        def attempt() -> proposals.Outcome:
            with handle.write() as connection:
                return confirm(connection, one, person, seconds=seconds)

        return attempt

    def end() -> proposals.Outcome:
        with other.write() as connection:
            gone = proposals.expire_due(connection, now=NOW + timedelta(seconds=60))
            return proposals.Outcome(proposal=one) if one.id in gone else _lost(connection, one)

    def no() -> proposals.Outcome:
        now = NOW + timedelta(seconds=59)
        with other.write() as connection:
            return proposals.decide(
                connection,
                one.id,
                lambda s: confirmation.reject(s, by=nurse("doctor", now), reason="no", now=now),
                actor="doctor",
                action="proposal.reject",
                now=now,
            )

    match number % 4:
        case 0:
            return [yes("nurse a", 59), end]
        case 1 | 2:
            return [yes("nurse a", 59), yes("nurse b", 59, other)]
        case _:
            return [yes("nurse a", 59), no]


def _lost(connection, one: Proposal) -> proposals.Outcome:
    return confirm(connection, one, "late", seconds=61)


def _at_once(attempts: list[Attempt]) -> list[proposals.Outcome]:
    barrier = threading.Barrier(len(attempts))
    outcomes: list[proposals.Outcome] = []

    def run(attempt: Attempt) -> None:
        barrier.wait()
        outcomes.append(attempt())

    threads = [threading.Thread(target=run, args=(attempt,)) for attempt in attempts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def _judge(count: RaceCount, end: Proposal, outcomes: list[proposals.Outcome], name: str) -> None:
    won = [one for one in outcomes if one.refusal is None]
    count.ends[end.state.value] += 1
    late = [one for one in end.confirmations if one.at >= end.valid_until]
    if len(won) != 1 or len(outcomes) != 2 or not end.state.is_final or late:
        count.broken.append(f"{name}: {end.state.value}, {len(won)} won, {len(late)} late")
