"""People: local ones with a password hash, others known by an identity provider; and sessions.

Only hashes are kept: of passwords (argon2id, made above this layer), of session and device tokens
(256 random bits each, so one SHA-256 is enough). What ends a person's right ends the sessions in
the same transaction.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, or_, select, update

from inference.domain.roles import CONFINED_ROLES, Role
from inference.storage.errors import NotFoundError, StorageError
from inference.storage.people_tables import device, person, person_patient, session

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
SESSION_IDLE = timedelta(minutes=15)
SESSION_ABSOLUTE = timedelta(hours=12)
TOUCH_EVERY = timedelta(seconds=60)
"""A session's last use is written at most this often, so that reads stay reads."""
DEVICE_LIFE = timedelta(days=90)


class PersonError(StorageError):
    """A person's name is malformed or taken, or the roles do not go together."""

    code = "person"

    def __init__(self, *, field: str, problem: str) -> None:
        self.field, self.problem = field, problem
        super().__init__(f"{field}: {problem}")


@dataclass(frozen=True, kw_only=True)
class Person:
    """One person; ``issuer`` is "" for a local one, ``password_hash`` for one of a provider."""

    id: int
    name: str
    display_name: str
    password_hash: str
    issuer: str
    issuer_subject: str
    roles: frozenset[Role]
    is_disabled: bool
    must_change_password: bool
    created_at: datetime
    password_changed_at: datetime | None
    signed_in_at: datetime | None
    compartment: frozenset[tuple[str, str]] = frozenset()

    @property
    def is_local(self) -> bool:
        """Whether the password is checked here."""
        return self.issuer == ""


@dataclass(frozen=True, kw_only=True)
class SessionHolder:
    """Whose session it is: a person, or the holder of a key (``person`` is None)."""

    person: Person | None
    key_name: str


def add(
    connection: Connection,
    *,
    name: str,
    roles: Iterable[Role],
    now: datetime,
    display_name: str = "",
    password_hash: str = "",
    issuer: str = "",
    issuer_subject: str = "",
    must_change_password: bool = False,
    compartment: Iterable[tuple[str, str]] = (),
) -> Person:
    """Keep a new person.

    Raises
    ------
    PersonError
    """
    name = name.lower()
    if not NAME_PATTERN.fullmatch(name):
        raise PersonError(
            field="name",
            problem="is 1 to 64 letters, digits and . _ @ -, beginning with one of the first two",
        )
    if find(connection, name) is not None:
        raise PersonError(field="name", problem=f"there is a person named {name} already")
    given, patients = frozenset(roles), frozenset(compartment)
    _check_roles(given, patients)
    row_id = connection.execute(
        insert(person)
        .values(
            name=name,
            display_name=display_name or name,
            password_hash=password_hash,
            issuer=issuer,
            issuer_subject=issuer_subject,
            roles=sorted(given),
            is_disabled=False,
            must_change_password=must_change_password,
            created_at=now,
            password_changed_at=now if password_hash else None,
            signed_in_at=None,
        )
        .returning(person.c.id)
    ).scalar_one()
    _set_patients(connection, row_id, patients)
    return get(connection, name)


def get(connection: Connection, name: str) -> Person:
    """Return a person by name.

    Raises
    ------
    NotFoundError
    """
    found = find(connection, name)
    if found is None:
        raise NotFoundError(what="person", key=name)
    return found


def find(connection: Connection, name: str) -> Person | None:
    """Return a person by name, or None."""
    row = connection.execute(select(person).where(person.c.name == name.lower())).one_or_none()
    return None if row is None else _as_person(connection, row)


def find_of_issuer(connection: Connection, issuer: str, subject: str) -> Person | None:
    """Return the person whom an identity provider calls by this subject, or None."""
    row = connection.execute(
        select(person).where(person.c.issuer == issuer, person.c.issuer_subject == subject)
    ).one_or_none()
    return None if row is None else _as_person(connection, row)


def list_people(connection: Connection) -> tuple[Person, ...]:
    """Return everybody by name."""
    rows = connection.execute(select(person).order_by(person.c.name)).all()
    return tuple(_as_person(connection, row) for row in rows)


def set_roles(
    connection: Connection,
    name: str,
    roles: Iterable[Role],
    *,
    compartment: Iterable[tuple[str, str]] | None = None,
) -> Person:
    """Replace a person's roles, and the patients where they are given; effective at once.

    Raises
    ------
    NotFoundError, PersonError
    """
    known = get(connection, name)
    patients = known.compartment if compartment is None else frozenset(compartment)
    given = frozenset(roles)
    _check_roles(given, patients)
    if Role.ADMIN in known.roles and Role.ADMIN not in given:
        _keep_an_admin(connection, known)
    connection.execute(update(person).where(person.c.id == known.id).values(roles=sorted(given)))
    _set_patients(connection, known.id, patients)
    return get(connection, name)


def replace_roles_of_issuer(
    connection: Connection, known: Person, roles: frozenset[Role]
) -> Person:
    """Give a provider's person the roles that the provider's token says today."""
    if roles != known.roles:
        connection.execute(
            update(person).where(person.c.id == known.id).values(roles=sorted(roles))
        )
    return get(connection, known.name)


def set_password(
    connection: Connection, name: str, password_hash: str, *, now: datetime, must_change: bool
) -> None:
    """Replace a password and end every session and known device of the person.

    Raises
    ------
    NotFoundError, PersonError
    """
    known = get(connection, name)
    if not known.is_local:
        raise PersonError(field="password", problem=f"{name} signs in at {known.issuer}")
    connection.execute(
        update(person)
        .where(person.c.id == known.id)
        .values(
            password_hash=password_hash,
            password_changed_at=now,
            must_change_password=must_change,
        )
    )
    end_sessions(connection, known.id)
    connection.execute(delete(device).where(device.c.person_id == known.id))


def rehash(connection: Connection, person_id: int, password_hash: str) -> None:
    """Keep the same password under today's parameters of the hash."""
    connection.execute(
        update(person).where(person.c.id == person_id).values(password_hash=password_hash)
    )


def set_disabled(connection: Connection, name: str, is_disabled: bool) -> Person:
    """Shut a person out, or let them in again; shutting out ends the sessions.

    Raises
    ------
    NotFoundError, PersonError
        The only admin cannot be shut out.
    """
    known = get(connection, name)
    if is_disabled:
        if Role.ADMIN in known.roles:
            _keep_an_admin(connection, known)
        end_sessions(connection, known.id)
    connection.execute(
        update(person).where(person.c.id == known.id).values(is_disabled=is_disabled)
    )
    return get(connection, name)


def note_sign_in(connection: Connection, person_id: int, *, now: datetime) -> None:
    """Remember when a person last signed in."""
    connection.execute(update(person).where(person.c.id == person_id).values(signed_in_at=now))


def begin_session(
    connection: Connection, token: str, *, now: datetime, person_id: int | None, key_name: str = ""
) -> None:
    """Keep a session; over ones are removed on the way."""
    connection.execute(
        delete(session).where(
            or_(session.c.seen_at < now - SESSION_IDLE, session.c.began_at < now - SESSION_ABSOLUTE)
        )
    )
    connection.execute(
        insert(session).values(
            token_sha256=token_hash(token),
            person_id=person_id,
            key_name=key_name,
            began_at=now,
            seen_at=now,
        )
    )


def session_holder(
    connection: Connection, token: str, *, now: datetime
) -> tuple[SessionHolder, bool] | None:
    """Return whose session a token opens, and whether its use should be written down.

    None where it is unknown, over, or its person is shut out.
    """
    row = connection.execute(
        select(session).where(session.c.token_sha256 == token_hash(token))
    ).one_or_none()
    if row is None or now - row.seen_at > SESSION_IDLE or now - row.began_at > SESSION_ABSOLUTE:
        return None
    found = None
    if row.person_id is not None:
        found = _as_person(
            connection, connection.execute(select(person).where(person.c.id == row.person_id)).one()
        )
        if found.is_disabled:
            return None
    return SessionHolder(person=found, key_name=row.key_name), now - row.seen_at > TOUCH_EVERY


def touch_session(connection: Connection, token: str, *, now: datetime) -> None:
    """Write down that a session is in use."""
    connection.execute(
        update(session).where(session.c.token_sha256 == token_hash(token)).values(seen_at=now)
    )


def end_session(connection: Connection, token: str) -> None:
    """Forget one session."""
    connection.execute(delete(session).where(session.c.token_sha256 == token_hash(token)))


def end_sessions(connection: Connection, person_id: int) -> None:
    """Forget every session of a person."""
    connection.execute(delete(session).where(session.c.person_id == person_id))


def remember_device(
    connection: Connection, token: str | None, person_id: int, *, now: datetime
) -> str:
    """Keep that a person signed in with this browser; return the browser's token.

    Several people may share a browser. A token that nobody was given here is replaced.
    """
    connection.execute(delete(device).where(device.c.seen_at < now - DEVICE_LIFE))
    is_ours = (
        token is not None
        and connection.execute(
            select(device.c.seen_at).where(device.c.token_sha256 == token_hash(token)).limit(1)
        ).first()
    )
    kept = token if token is not None and is_ours else secrets.token_urlsafe(32)
    connection.execute(
        delete(device).where(
            device.c.token_sha256 == token_hash(kept), device.c.person_id == person_id
        )
    )
    connection.execute(
        insert(device).values(token_sha256=token_hash(kept), person_id=person_id, seen_at=now)
    )
    return kept


def is_known_device(connection: Connection, token: str, name: str, *, now: datetime) -> bool:
    """Whether the person of this name has signed in with this browser before."""
    query = (
        select(device.c.seen_at)
        .join(person, person.c.id == device.c.person_id)
        .where(device.c.token_sha256 == token_hash(token), person.c.name == name.lower())
    )
    seen_at = connection.execute(query).scalar_one_or_none()
    return seen_at is not None and now - seen_at <= DEVICE_LIFE


def token_hash(token: str) -> str:
    """Return what is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def _check_roles(roles: frozenset[Role], patients: frozenset[tuple[str, str]]) -> None:
    if roles & CONFINED_ROLES and not patients:
        raise PersonError(
            field="roles", problem="a patient or caregiver needs the patients to be named"
        )
    if patients and not roles & CONFINED_ROLES:
        raise PersonError(field="patients", problem="belong to a patient or caregiver only")


def _keep_an_admin(connection: Connection, leaving: Person) -> None:
    others = connection.execute(
        select(person.c.roles).where(person.c.id != leaving.id, person.c.is_disabled.is_(False))
    ).scalars()
    if not any(Role.ADMIN in roles for roles in others):
        raise PersonError(field="roles", problem=f"{leaving.name} is the only admin")


def _set_patients(
    connection: Connection, person_id: int, patients: frozenset[tuple[str, str]]
) -> None:
    connection.execute(delete(person_patient).where(person_patient.c.person_id == person_id))
    for identifier, authority in sorted(patients):
        connection.execute(
            insert(person_patient).values(
                person_id=person_id,
                patient_identifier=identifier,
                assigning_authority=authority,
            )
        )


def _as_person(connection: Connection, row: Row[Any]) -> Person:
    fields = dict(row._mapping)
    fields["roles"] = frozenset(Role(role) for role in row.roles)
    patients: frozenset[tuple[str, str]] = frozenset()
    if fields["roles"] & CONFINED_ROLES:
        rows = connection.execute(
            select(person_patient.c.patient_identifier, person_patient.c.assigning_authority).where(
                person_patient.c.person_id == row.id
            )
        )
        patients = frozenset((one[0], one[1]) for one in rows)
    return Person(**fields, compartment=patients)
