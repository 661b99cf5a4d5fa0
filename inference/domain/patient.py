"""Who a patient is: a number together with the authority that gave it; equal numbers of two differ.

Three languages name an authority: HL7 v2 an HD (PID-3.4), DICOM an issuer (0010,0021) with
qualifiers (0010,0024), FHIR a URI (Identifier.system). Here it is one URI, so that the same
authority is the same word whatever the door.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from urllib.parse import quote, unquote

from inference.domain.errors import ClinferError

LOCAL_AUTHORITY = "urn:clinfer:authority:"
"""Prefix of an authority of which only a local name is known."""

MAX_AUTHORITY_LENGTH = 512

UNIVERSAL_PREFIXES: Mapping[str, str] = MappingProxyType(
    {"ISO": "urn:oid:", "OID": "urn:oid:", "UUID": "urn:uuid:", "GUID": "urn:uuid:", "URI": ""}
)
"""HL7 table 0301, and DICOM's Universal Entity ID Type (0040,0033): the types that are URIs."""


class AuthorityError(ClinferError):
    """An assigning authority cannot be told, or two statements about it disagree."""

    code = "authority"

    def __init__(self, *, field: str, problem: str) -> None:
        self.field, self.problem = field, problem
        super().__init__(f"{field}: {problem}")


@dataclass(frozen=True, kw_only=True)
class PatientIdentifier:
    """A number and its authority; ``authority`` "" is one of its own: nobody said whose it is."""

    value: str = field(repr=False)
    authority: str


@dataclass(frozen=True, kw_only=True)
class Demographics:
    """What is known of a person; "" is not known.

    Attributes
    ----------
    name : as DICOM writes it, ``Family^Given^Middle^Prefix^Suffix``, groups separated by ``=``
    birth_date : ``YYYYMMDD``, or its beginning
    sex : M, F, O or U
    """

    name: str = field(default="", repr=False)
    birth_date: str = field(default="", repr=False)
    sex: str = ""


@dataclass(frozen=True, kw_only=True)
class Patient:
    """One person, after merges.

    ``identifiers`` begin with the record's own; those of records merged into it follow.
    ``location`` is where the person lies (PV1-3), ``visit`` what the last message said: admitted,
    transferred, discharged, or "".
    """

    id: int
    identifiers: tuple[PatientIdentifier, ...] = field(repr=False)
    demographics: Demographics = field(repr=False)
    location: str
    visit: str
    updated_at: datetime


@dataclass(frozen=True)
class Authorities:
    """From any of the three languages to one URI.

    Attributes
    ----------
    names : local name (HL7 namespace id, DICOM issuer) to URI
    default : authority of a number that comes without one; "" leaves it without
    """

    names: Mapping[str, str] = field(default_factory=dict)
    default: str = ""

    def of_local(
        self, name: str, universal_id: str = "", universal_type: str = "", *, field: str
    ) -> str:
        """Return the URI of an HL7 HD or a DICOM issuer with its qualifiers.

        Raises
        ------
        AuthorityError
            The type is none that we know, or the local name stands for another authority.
        """
        name, universal_id = name.strip(), universal_id.strip()
        universal = ""
        if universal_id:
            prefix = UNIVERSAL_PREFIXES.get(universal_type.strip().upper())
            if prefix is None:
                raise AuthorityError(
                    field=field,
                    problem=f"universal id type {universal_type!r} is none of "
                    f"{', '.join(UNIVERSAL_PREFIXES)}",
                )
            universal = prefix + (universal_id.lower() if prefix == "urn:uuid:" else universal_id)
        named = self.names.get(name, "") if name else ""
        if universal and named and universal != named:
            raise AuthorityError(
                field=field, problem=f"{name} stands for {named} here, the message says {universal}"
            )
        found = universal or named or (LOCAL_AUTHORITY + quote(name) if name else self.default)
        if len(found) > MAX_AUTHORITY_LENGTH:
            raise AuthorityError(
                field=field, problem=f"is longer than {MAX_AUTHORITY_LENGTH} characters"
            )
        return found

    def as_local(self, authority: str) -> tuple[str, str, str]:
        """Return an authority as HL7 writes it: local name, universal id and its type."""
        name = next((name for name, uri in self.names.items() if uri == authority), "")
        if authority.startswith(LOCAL_AUTHORITY):
            return unquote(authority.removeprefix(LOCAL_AUTHORITY)), "", ""
        for kind in ("ISO", "UUID"):
            prefix = UNIVERSAL_PREFIXES[kind]
            if authority.startswith(prefix):
                return name, authority.removeprefix(prefix), kind
        return (name, authority, "URI") if authority else ("", "", "")

    def of_system(self, system: str) -> str:
        """Return the authority of a FHIR Identifier.system; a URI already."""
        return system.strip() or self.default
