"""Signing in with a name and a password, and what slows guessing down.

Counted are failures per account and per address, in moving windows; neither can shut a hospital
out: a browser with which a person has signed in before is counted by itself, so that a flood of
wrong passwords against an account, or from behind the same address, does not touch it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from inference.api.errors import ApiError
from inference.api.keys import AttemptLimiter
from inference.api.passwords import Passwords, check_password
from inference.storage import audit, people
from inference.storage.database import Database
from inference.storage.people import Person

ACCOUNT_FAILURES, ACCOUNT_WINDOW_S = 10, 15 * 60.0
ADDRESS_FAILURES, ADDRESS_WINDOW_S = 100, 60.0


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One try: ``device_token`` is the browser's, "" where it has none."""

    name: str
    password: str = field(repr=False)
    address: str
    device_token: str = field(default="", repr=False)


@dataclass(kw_only=True)
class SigningIn:
    """Checks names and passwords against the database."""

    database: Database
    passwords: Passwords = field(default_factory=Passwords)
    accounts: AttemptLimiter = field(
        default_factory=lambda: AttemptLimiter(limit=ACCOUNT_FAILURES, window_s=ACCOUNT_WINDOW_S)
    )
    addresses: AttemptLimiter = field(
        default_factory=lambda: AttemptLimiter(limit=ADDRESS_FAILURES, window_s=ADDRESS_WINDOW_S)
    )
    devices: AttemptLimiter = field(
        default_factory=lambda: AttemptLimiter(limit=ACCOUNT_FAILURES, window_s=ACCOUNT_WINDOW_S)
    )

    def wait_s(self, attempt: Attempt) -> float:
        """Return how long this try has to wait; 0 where it may be made now."""
        if self._is_known(attempt):
            return self.devices.wait_s(attempt.device_token)
        return max(
            self.accounts.wait_s(attempt.name.casefold()), self.addresses.wait_s(attempt.address)
        )

    def sign_in(self, attempt: Attempt) -> Person | None:
        """Return who this is, or None; a failure is counted and written down.

        Raises
        ------
        ApiError
            ``too_many_attempts``: the password was not looked at.
        """
        wait_s = self.wait_s(attempt)
        if wait_s > 0:
            raise ApiError(
                "too_many_attempts",
                f"try again in {wait_s:.0f} s",
                headers={"Retry-After": str(int(wait_s) + 1)},
                wait_s=int(wait_s) + 1,
            )
        with self.database.read() as connection:
            person = people.find(connection, attempt.name)
        usable = person.password_hash if person and person.is_local else None
        if not self.passwords.verify(attempt.password, usable) or person is None:
            self._failed(attempt, person)
            return None
        if person.is_disabled:
            self._failed(attempt, person)
            return None
        if self.passwords.is_outdated(person.password_hash):
            renewed = self.passwords.hash(attempt.password)
            with self.database.write() as connection:
                people.rehash(connection, person.id, renewed)
        return person

    def welcome(self, person: Person, *, address: str, device_token: str, by: str) -> str:
        """Write down that somebody signed in, and return the browser's token."""
        with self.database.write() as connection:
            now = self.database.now(connection)
            people.note_sign_in(connection, person.id, now=now)
            kept = people.remember_device(connection, device_token or None, person.id, now=now)
            audit.append(
                connection,
                at=now,
                actor=f"http:{person.name}",
                action="session.began",
                subject=person.name,
                detail={"address": address, "by": by},
            )
        return kept

    def change_password(self, name: str, current: str, new: str, *, address: str) -> bool:
        """Replace one's own password; False where the current one is wrong (that is counted).

        Raises
        ------
        PasswordRuleError, PersonError, ApiError
        """
        person = self.sign_in(Attempt(name=name, password=current, address=address))
        if person is None:
            return False
        check_password(new, name=name)
        password_hash = self.passwords.hash(new)
        with self.database.write() as connection:
            now = self.database.now(connection)
            people.set_password(connection, name, password_hash, now=now, must_change=False)
            audit.append(
                connection,
                at=now,
                actor=f"http:{name}",
                action="person.password_changed",
                subject=name,
            )
        return True

    def _is_known(self, attempt: Attempt) -> bool:
        if not attempt.device_token:
            return False
        with self.database.read() as connection:
            return people.is_known_device(
                connection,
                attempt.device_token,
                attempt.name,
                now=self.database.now(connection),
            )

    def _failed(self, attempt: Attempt, person: Person | None) -> None:
        if self._is_known(attempt):
            self.devices.failed(attempt.device_token)
        else:
            self.accounts.failed(attempt.name.casefold())
            self.addresses.failed(attempt.address)
        with self.database.write() as connection:
            audit.append(
                connection,
                at=self.database.now(connection),
                actor="http:",
                action="session.refused",
                # What was typed as a name may be a password: only known names are kept.
                subject=person.name if person else "",
                detail={"address": attempt.address},
            )
