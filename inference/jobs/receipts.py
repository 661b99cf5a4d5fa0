"""What intake is told and what it answers: settings, receipts."""

from __future__ import annotations

from dataclasses import dataclass, field

from inference.domain.patient import Authorities
from inference.jobs.archive import ArchiveLimits
from inference.jobs.completion import CompletionRule
from inference.jobs.errors import IntakeError
from inference.jobs.structure import StructureLimits


@dataclass(frozen=True, kw_only=True)
class IntakeSettings:
    """Limits of what is received; ``model``: run this model only on it, "" for every one.

    ``authorities`` says whose the patient numbers of images are.
    """

    max_instance_bytes: int = 2 * 1024**3
    max_inflated_bytes: int = 1024**3
    max_inflate_ratio: int = 100
    max_quarantine_bytes: int = 1024**3
    structure: StructureLimits = field(default_factory=StructureLimits)
    archive: ArchiveLimits = field(default_factory=ArchiveLimits)
    completion: CompletionRule = field(default_factory=CompletionRule)
    model: str = ""
    authorities: Authorities = field(default_factory=Authorities)


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """An instance that is durably here; ``is_new`` is False for an exact re-send.

    ``job_id`` is the job that the instance opened or joined; None where it starts nothing.
    """

    instance_uid: str
    series_uid: str
    study_uid: str
    sop_class_uid: str
    sha256: str
    is_new: bool
    job_id: int | None


@dataclass(frozen=True, kw_only=True)
class RefusedMember:
    """A file of an archive that was not accepted, and why."""

    name: str
    error: IntakeError


@dataclass(frozen=True, kw_only=True)
class ArchiveReceipt:
    """What became of an archive's files."""

    accepted: tuple[Receipt, ...]
    refused: tuple[RefusedMember, ...]

    @property
    def study_uids(self) -> tuple[str, ...]:
        """Studies that the archive holds, sorted."""
        return tuple(sorted({receipt.study_uid for receipt in self.accepted}))
