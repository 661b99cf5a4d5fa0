"""Sessions of browsers, in the database: a restart asks nobody to sign in again."""

from __future__ import annotations

import secrets

from inference.storage import people
from inference.storage.database import Database
from inference.storage.people import SESSION_ABSOLUTE, SESSION_IDLE, Person, SessionHolder

__all__ = ["SESSION_ABSOLUTE", "SESSION_IDLE", "SessionHolder", "Sessions"]


class Sessions:
    """Begins, finds and ends sessions; the token is known to the browser alone."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, holder: Person | str) -> str:
        """Return the token of a new session of a person, or of a key's holder by its name."""
        token = secrets.token_urlsafe(32)
        with self._database.write() as connection:
            people.begin_session(
                connection,
                token,
                now=self._database.now(connection),
                person_id=None if isinstance(holder, str) else holder.id,
                key_name=holder if isinstance(holder, str) else "",
            )
        return token

    def holder_of(self, token: str) -> SessionHolder | None:
        """Return whose session it is, or None where it is unknown or over."""
        with self._database.read() as connection:
            now = self._database.now(connection)
            found = people.session_holder(connection, token, now=now)
        if found is None:
            return None
        holder, is_due = found
        if is_due:
            with self._database.write() as connection:
                people.touch_session(connection, token, now=now)
        return holder

    def end(self, token: str) -> None:
        """Forget a session."""
        with self._database.write() as connection:
            people.end_session(connection, token)
