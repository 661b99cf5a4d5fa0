"""Passwords: argon2id, at most two at once, and rules that ask for length and nothing else.

One hash takes about 64 MiB, so unbounded sign-ins would be a way to take the memory. A name that
nobody has costs as much time as one that somebody has.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from inference.api.errors import ApiError
from inference.domain.errors import ClinferError

LEAST_CHARACTERS = 12
MOST_CHARACTERS = 128
HASHES_AT_ONCE = 2
LONGEST_WAIT_S = 5.0
_LARGEST_PIECE = 4
WORST = frozenset(
    {
        "passwordpassword", "password1234", "password12345", "password123456", "123456789012",
        "1234567890123", "12345678901234", "123456789012345", "0123456789012", "1q2w3e4r5t6y",
        "1q2w3e4r5t6y7u", "qwertyuiop12", "qwertyuiop123", "qwertyuiop1234", "qwertyuiopasdf",
        "qwerty123456", "qwerty1234567", "qwerty12345678", "administrator", "administrator1",
        "adminadminadmin", "letmeinletmein", "welcome12345", "welcome123456", "iloveyou1234",
        "abcdefghijkl", "abcdefghijklm", "abcdefghijklmnop", "abc123456789", "asdfghjkl123",
        "asdfghjkl1234", "zxcvbnm12345", "radiology123", "radiology1234", "radiologist1",
        "hospital1234", "hospital12345", "doctor123456", "changeme1234", "changemenow1",
        "p@ssw0rd1234", "p@ssword1234", "passw0rd1234", "trustno1trustno1", "q1w2e3r4t5y6",
        "987654321098", "098765432109", "123123123123", "woaini123456", "a123456789012",
        "1qaz2wsx3edc", "1qaz2wsx3edc4rfv", "zaq12wsxcde3", "qazwsxedcrfv", "sunshine1234",
        "princess1234", "football1234", "baseball1234", "superman1234", "michael12345",
        "5201314520131", "woaini5201314", "wodemima1234", "correcthorsebatterystaple",
    }
)  # fmt: skip
"""Those of the usual lists of leaked passwords that are long enough to pass."""


class PasswordRuleError(ClinferError):
    """A new password is too short, too long or too common; ``rule`` names which."""

    code = "password_rule"

    def __init__(self, *, rule: str, problem: str) -> None:
        self.rule, self.problem = rule, problem
        super().__init__(f"password: {problem}")


def check_password(password: str, *, name: str) -> None:
    """Refuse a password that is easily guessed.

    Raises
    ------
    PasswordRuleError
    """
    plain = password.casefold().strip()
    if len(password) < LEAST_CHARACTERS:
        raise PasswordRuleError(
            rule="length", problem=f"needs at least {LEAST_CHARACTERS} characters"
        )
    if len(password) > MOST_CHARACTERS:
        raise PasswordRuleError(
            rule="length", problem=f"may have at most {MOST_CHARACTERS} characters"
        )
    if plain in WORST or _is_repetition(plain):
        raise PasswordRuleError(
            rule="common", problem="is one of those that are tried first; choose another"
        )
    if name and name.casefold() in plain and len(plain) - len(name) < LEAST_CHARACTERS // 2:
        raise PasswordRuleError(rule="name", problem="is little more than the name")


class Passwords:
    """Makes and checks hashes, a few at a time."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._turns = threading.BoundedSemaphore(HASHES_AT_ONCE)
        self._nobodys = self._hasher.hash("the password of nobody")

    def hash(self, password: str) -> str:
        """Return the argon2id hash.

        Raises
        ------
        ApiError
        """
        with self._turn():
            return self._hasher.hash(password)

    def verify(self, password: str, password_hash: str | None) -> bool:
        """Check a password; None, for a name that nobody has, takes as long and is False.

        Raises
        ------
        ApiError
            Too many are being checked.
        """
        if len(password) > MOST_CHARACTERS:
            password = ""
        with self._turn():
            try:
                self._hasher.verify(password_hash or self._nobodys, password)
            except (VerificationError, InvalidHashError):
                return False
        return bool(password_hash)

    def is_outdated(self, password_hash: str) -> bool:
        """Whether today's parameters are stronger than those it was made with."""
        return self._hasher.check_needs_rehash(password_hash)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(timeout=LONGEST_WAIT_S):
            raise ApiError(
                "service_unavailable",
                "many people sign in at the moment; try again",
                headers={"Retry-After": "5"},
            )
        try:
            yield
        finally:
            self._turns.release()


def _is_repetition(text: str) -> bool:
    return any(
        text == (text[:size] * len(text))[: len(text)] for size in range(1, _LARGEST_PIECE + 1)
    )
