"""Keys and sessions: only hashes on disk, constant answers, bounded lives."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from inference.api.keys import (
    ApiKeyError,
    ApiKeys,
    AttemptLimiter,
)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_the_file_holds_no_key_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key = ApiKeys(path).create("ward-3")
    assert key.split("_", 2)[2] not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ApiKeys(path).name_of(key) == "ward-3"


@pytest.mark.parametrize("change", [lambda k: k[:-1], lambda k: k + "A", lambda k: k.upper()])
def test_a_changed_key_is_nobodys(tmp_path: Path, change) -> None:
    keys = ApiKeys(tmp_path / "keys.json")
    key = keys.create("a")
    assert keys.name_of(change(key)) is None
    for wrong in ("", "clf_", "clf_00000000_" + "A" * 43, "x" * 10_000, "clf_é_\0"):
        assert keys.name_of(wrong) is None


def test_a_revoked_key_is_refused_by_a_service_that_runs(tmp_path: Path) -> None:
    serving = ApiKeys(tmp_path / "keys.json")
    key = ApiKeys(tmp_path / "keys.json").create("a")
    assert serving.name_of(key) == "a"
    ApiKeys(tmp_path / "keys.json").revoke("a")
    assert serving.name_of(key) is None


def test_names_are_taken_once_and_have_a_form(tmp_path: Path) -> None:
    keys = ApiKeys(tmp_path / "keys.json")
    keys.create("a")
    with pytest.raises(ApiKeyError, match="already"):
        keys.create("a")
    with pytest.raises(ApiKeyError, match="letters"):
        keys.create("a b\n")
    with pytest.raises(ApiKeyError, match="no key named"):
        keys.revoke("b")


def test_a_broken_key_file_is_an_error_not_an_open_door(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text('[{"name": "a"}]')
    with pytest.raises(ApiKeyError, match="not a file of API keys"):
        ApiKeys(path).name_of("clf_00000000_" + "A" * 43)


def test_wrong_keys_close_the_address_for_a_while() -> None:
    clock = Clock()
    limiter = AttemptLimiter(limit=3, window_s=60, max_addresses=2, clock=clock)
    for _ in range(3):
        assert limiter.wait_s("10.0.0.1") == 0
        limiter.failed("10.0.0.1")
    assert limiter.wait_s("10.0.0.1") == pytest.approx(60)
    assert limiter.wait_s("10.0.0.2") == 0
    clock.now_s += 61
    assert limiter.wait_s("10.0.0.1") == 0
    for address in ("a", "b", "c"):
        limiter.failed(address)
    assert len(limiter._failures) == 2
