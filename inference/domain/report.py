"""What other systems are told of a result: how far people have come with it, and where to send."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path


class ReportStep(StrEnum):
    """How far a result has come. Accepting an overlay is not reporting: only a signature is."""

    PRELIMINARY = "preliminary"
    """Made by a model; nobody has looked at it."""

    ACCEPTED = "accepted"
    """A reader accepted what was measured; the report is still to be signed."""

    SIGNED = "signed"
    RETRACTED = "retracted"
    """It should not have been sent: rejected, corrected or recalled."""

    SUPERSEDED = "superseded"
    """A later result of the same study took its place."""


ENDED = frozenset({ReportStep.RETRACTED, ReportStep.SUPERSEDED})
WRONG_PATIENT = "wrong_patient"
"""A reason of retraction that says more than that the result is wrong."""


@dataclass(frozen=True, kw_only=True)
class ReportEvent:
    """A result went a step; ``actor`` is the person who said so, "" for the service."""

    id: int
    result_id: int
    step: ReportStep
    actor: str
    reason: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class ReportDelivery:
    """One event on its way to one destination."""

    id: int
    event: ReportEvent
    destination: str
    patient_row: int
    state: str
    tries: int
    next_at: datetime
    last_error: str
    created_at: datetime
    delivered_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Hl7Destination:
    """A receiver of HL7 v2 reports over MLLP.

    ``tls_ca`` turns TLS on: the file of certificates that the receiver is checked against.
    ``after_sign_off``: nothing is sent that no person has accepted.
    """

    name: str
    host: str
    port: int
    receiving_application: str = ""
    receiving_facility: str = ""
    tls_ca: Path | None = None
    after_sign_off: bool = False
    timeout_s: float = 60.0


@dataclass(frozen=True, kw_only=True)
class FhirDestination:
    """A FHIR R4 server; ``url`` is its base, to which transactions are posted."""

    name: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    after_sign_off: bool = False
    imaging_selection: bool = False
    timeout_s: float = 60.0


ReportDestination = Hl7Destination | FhirDestination
