"""What happens to a result after it was made: signed reports, late results, taking back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ReportState(StrEnum):
    """Where the radiologist's report of a study stands."""

    PRELIMINARY = "preliminary"
    SIGNED = "signed"


@dataclass(frozen=True, kw_only=True)
class ReportStatus:
    """What is known of a study's report; ``source`` is the door that said so (api, sr, hl7)."""

    study_uid: str
    status: ReportState
    signed_by: str
    signed_at: datetime | None
    source: str
    recorded_at: datetime


@dataclass(frozen=True, kw_only=True)
class LateResult:
    """A result that came after the report was signed; open until a reader acknowledges it."""

    id: int
    result_id: int
    study_uid: str
    signed_by: str
    signed_at: datetime
    created_at: datetime
    acknowledged_by: str
    acknowledged_at: datetime | None
    note: str

    @property
    def is_open(self) -> bool:
        """Whether nobody has acknowledged it."""
        return self.acknowledged_at is None


class Cause(StrEnum):
    """Why a result was taken back."""

    SUPERSEDED = "superseded"
    """A later result took its place."""

    REJECTED = "rejected"
    """A person said that it is wrong."""

    RECALLED = "recalled"
    """Its model was recalled."""


@dataclass(frozen=True, kw_only=True)
class Retraction:
    """A result that was taken back: why, by whom, when."""

    id: int
    result_id: int
    cause: Cause
    reason: str
    retracted_by: str
    created_at: datetime


class EventKind(StrEnum):
    """Who has to be told of a retraction; HL7 and FHIR systems are told by the log of reports."""

    DICOM = "dicom"
    """One for each destination that may have a copy; the destination's setting says how."""


class EventState(StrEnum):
    """Whether they were told."""

    WAITING = "waiting"
    DONE = "done"
    DEAD = "dead"


@dataclass(frozen=True, kw_only=True)
class RetractionEvent:
    """One retraction to be told to one receiver; ``destination`` is "" where there is only one."""

    id: int
    result_id: int
    kind: EventKind
    destination: str
    state: EventState
    tries: int
    next_at: datetime
    last_error: str
    created_at: datetime
    done_at: datetime | None
