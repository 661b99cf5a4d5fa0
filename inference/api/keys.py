"""API keys, and a limit on guessing.

A key is 256 random bits, so one SHA-256 is enough to keep it unreadable on disk (there is nothing
to guess; slow hashes are for passwords). The file holds hashes only and is read again when it
changes, so that `clinfer keys` takes effect without a restart.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import tempfile
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from inference.domain.errors import ClinferError
from inference.domain.roles import CONFINED_ROLES, Role

_KEY_PATTERN = re.compile(r"clf_([0-9a-f]{8})_([A-Za-z0-9_-]{43})")
_NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


DEFAULT_KEY_ROLES = frozenset({Role.INTEGRATION, Role.READER})
"""Of a key for which none were said, as of every key from before there were roles."""


class ApiKeyError(ClinferError):
    """A key file cannot be read, or a name is taken, unknown or malformed."""

    code = "api_key"


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """A key as it is kept: its public id and the hash of the rest."""

    name: str
    key_id: str
    secret_sha256: str
    created_at: str
    roles: tuple[Role, ...] = tuple(sorted(DEFAULT_KEY_ROLES))


class ApiKeys:
    """The keys in one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._keys: dict[str, ApiKey] = {}

    def create(self, name: str, roles: Iterable[Role] = DEFAULT_KEY_ROLES) -> str:
        """Keep a new key under a name and return it; it cannot be shown again.

        Raises
        ------
        ApiKeyError
            The name is malformed or taken, or a role is not one that a key may have.
        """
        given = tuple(sorted(set(roles)))
        if not given or set(given) & CONFINED_ROLES:
            raise ApiKeyError("a key has at least one role, and none of a patient or caregiver")
        if not _NAME_PATTERN.fullmatch(name):
            raise ApiKeyError(
                "a key's name is 1 to 64 letters, digits and . _ @ -, beginning with one of the"
                " first two"
            )
        keys = self.listed()
        if any(key.name == name for key in keys):
            raise ApiKeyError(f"there is a key named {name} already; revoke it first")
        key_id, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        kept = ApiKey(
            name=name, key_id=key_id, secret_sha256=_hash(secret), created_at=now, roles=given
        )
        self._write((*keys, kept))
        return f"clf_{key_id}_{secret}"

    def revoke(self, name: str) -> None:
        """Forget a key; requests with it are refused from now on."""
        keys = self.listed()
        left = tuple(key for key in keys if key.name != name)
        if len(left) == len(keys):
            raise ApiKeyError(f"there is no key named {name}")
        self._write(left)

    def listed(self) -> tuple[ApiKey, ...]:
        """Return the keys, oldest first."""
        with self._lock:
            self._read_if_changed()
            return tuple(self._keys.values())

    def name_of(self, text: str) -> str | None:
        """Return the name of a presented key, or None where it is not one of ours."""
        match = _KEY_PATTERN.fullmatch(text)
        if match is None:
            return None
        with self._lock:
            self._read_if_changed()
            kept = self._keys.get(match[1])
        presented = _hash(match[2])
        if kept is None or not hmac.compare_digest(presented, kept.secret_sha256):
            return None
        return kept.name

    def roles_of(self, name: str) -> frozenset[Role] | None:
        """Return the roles of a key by its name; None where it was revoked."""
        for key in self.listed():
            if key.name == name:
                return frozenset(key.roles)
        return None

    def _read_if_changed(self) -> None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._keys, self._stamp = {}, None
            return
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp == self._stamp:
            return
        try:
            entries = [_read_key(entry) for entry in json.loads(self._path.read_text("utf-8"))]
        except (ValueError, TypeError, AttributeError) as error:
            raise ApiKeyError(f"{self._path} is not a file of API keys") from error
        self._keys = {key.key_id: key for key in entries}
        self._stamp = stamp

    def _write(self, keys: tuple[ApiKey, ...]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=".api_keys")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:  # made with mode 0600
            json.dump([asdict(key) for key in keys], file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(self._path)


class AttemptLimiter:
    """Counts failures per address (or account) in a moving window; memory is bounded."""

    def __init__(
        self,
        *,
        limit: int = 10,
        window_s: float = 60.0,
        max_addresses: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit, self._window_s, self._max = limit, window_s, max_addresses
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """Return how long the address has to wait before its next attempt; 0 if it may try."""
        with self._lock:
            failures = self._failures.get(address)
            if failures is None:
                return 0.0
            now = self._clock()
            while failures and now - failures[0] > self._window_s:
                failures.popleft()
            if len(failures) < self._limit:
                return 0.0
            return self._window_s - (now - failures[0])

    def failed(self, address: str) -> None:
        """Count one wrong key."""
        with self._lock:
            failures = self._failures.setdefault(address, deque(maxlen=self._limit))
            failures.append(self._clock())
            self._failures.move_to_end(address)
            while len(self._failures) > self._max:
                self._failures.popitem(last=False)


def _read_key(entry: dict[str, Any]) -> ApiKey:
    """Read one key; one without roles is from before there were any."""
    roles = tuple(Role(role) for role in entry.get("roles", sorted(DEFAULT_KEY_ROLES)))
    return ApiKey(**(entry | {"roles": roles}))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
