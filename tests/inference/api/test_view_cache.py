"""The cache keeps what was used last within its bound, and makes each thing once."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import pytest

from inference.api.view_cache import SizedCache


@dataclass
class Thing:
    n_bytes: int


def test_what_was_used_longest_ago_goes_first() -> None:
    cache = SizedCache(25)
    first = cache.get("a", lambda: Thing(10))
    cache.get("b", lambda: Thing(10))
    assert cache.get("a", lambda: Thing(99)) is first
    cache.get("c", lambda: Thing(10))
    assert cache.n_bytes == 20
    assert cache.get("a", lambda: Thing(99)) is first
    assert cache.get("b", lambda: Thing(11)).n_bytes == 11  # made again


def test_a_single_thing_over_the_bound_is_still_shown() -> None:
    cache = SizedCache(5)
    assert cache.get("a", lambda: Thing(10)).n_bytes == 10


def test_many_who_ask_at_once_cost_one_making() -> None:
    cache = SizedCache(100)
    made: list[int] = []
    barrier = threading.Barrier(8)

    def make() -> Thing:
        made.append(1)
        return Thing(10)

    def ask() -> None:
        barrier.wait()
        cache.get("a", make)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_a_failure_is_not_kept() -> None:
    cache = SizedCache(100)

    def fail() -> Thing:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cache.get("a", fail)
    assert cache.get("a", lambda: Thing(1)).n_bytes == 1
