"""FHIR resources that other systems gave us, each with its version and its business identifiers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from inference.storage.errors import NotFoundError, StorageError
from inference.storage.exchange_tables import fhir_identifier, fhir_resource


class IdentifierTakenError(StorageError):
    """Another resource of the type has this business identifier."""

    code = "identifier_taken"

    def __init__(self, *, type: str, system: str, resource_id: int) -> None:
        self.type, self.system, self.resource_id = type, system, resource_id
        super().__init__(f"{type} {resource_id} has this identifier of {system} already")


@dataclass(frozen=True, kw_only=True)
class StoredResource:
    """One resource as it was sent, after cleaning; ``body`` has no id and no meta."""

    id: int
    type: str
    version: int
    patient_row: int
    body: dict[str, Any] = field(repr=False)
    actor: str
    updated_at: datetime


def add(
    connection: Connection,
    *,
    type: str,
    body: dict[str, Any],
    patient_row: int,
    actor: str,
    now: datetime,
    identifiers: Sequence[tuple[str, str]] = (),
) -> StoredResource:
    """Store a new resource.

    Raises
    ------
    IdentifierTakenError
        One identifier, one resource: the table's key holds it against every race.
    """
    for system, value in identifiers:
        taken = by_identifier(connection, type, system, value)
        if taken is not None:
            raise IdentifierTakenError(type=type, system=system, resource_id=taken.id)
    row_id = connection.execute(
        insert(fhir_resource)
        .values(
            type=type, version=1, patient_row=patient_row, body=body, actor=actor, updated_at=now
        )
        .returning(fhir_resource.c.id)
    ).scalar_one()
    for system, value in dict.fromkeys(identifiers):
        connection.execute(
            insert(fhir_identifier).values(
                type=type, system=system, value=value, resource_id=row_id
            )
        )
    return get(connection, type, int(row_id))


def replace(
    connection: Connection,
    stored: StoredResource,
    *,
    body: dict[str, Any],
    actor: str,
    now: datetime,
) -> StoredResource:
    """Store the next version of a resource; its identifiers stay those it was made with."""
    connection.execute(
        update(fhir_resource)
        .where(fhir_resource.c.id == stored.id)
        .values(body=body, version=stored.version + 1, actor=actor, updated_at=now)
    )
    return get(connection, stored.type, stored.id)


def get(connection: Connection, type: str, resource_id: int) -> StoredResource:
    """One resource.

    Raises
    ------
    NotFoundError
    """
    row = connection.execute(
        select(fhir_resource).where(fhir_resource.c.type == type, fhir_resource.c.id == resource_id)
    ).one_or_none()
    if row is None:
        raise NotFoundError(what=type, key=resource_id)
    return StoredResource(**row._mapping)


def by_identifier(
    connection: Connection, type: str, system: str, value: str
) -> StoredResource | None:
    """Return the resource with a business identifier; None: there is none."""
    row_id = connection.execute(
        select(fhir_identifier.c.resource_id).where(
            fhir_identifier.c.type == type,
            fhir_identifier.c.system == system,
            fhir_identifier.c.value == value,
        )
    ).scalar_one_or_none()
    return None if row_id is None else get(connection, type, row_id)
