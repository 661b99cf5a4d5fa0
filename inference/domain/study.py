"""What was received: studies, their series and instances, and what was put aside."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from inference.domain.job import Priority
from inference.domain.routing import Routing


class Channel(StrEnum):
    """The door an instance came through."""

    DIMSE = "dimse"
    DICOMWEB = "dicomweb"
    UPLOAD = "upload"
    FOLDER = "folder"


@dataclass(frozen=True, kw_only=True)
class Sender:
    """Who sent it and through which door; ``name`` is the calling AE title, key name or folder."""

    channel: Channel
    name: str = ""
    address: str = ""


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One stored DICOM instance.

    Attributes
    ----------
    sha256 : of the stored file (preamble zeroed); also its name in the object store
    dataset_sha256 : of the bytes after the file meta information; equal for a re-send
    original_sha256 : of the file as it was sent, where the preamble was changed; else ``sha256``
    is_image : pixels that a model may read; reports and segmentations are kept but not analysed
    """

    instance_uid: str
    series_uid: str
    study_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    sha256: str
    dataset_sha256: str
    original_sha256: str
    size_bytes: int
    is_image: bool
    received_at: datetime
    sender: Sender


@dataclass(frozen=True, kw_only=True)
class Description:
    """What an instance says about its patient, study and series; "" where it says nothing."""

    patient_id: str = field(repr=False)
    patient_name: str = field(repr=False)
    study_date: str
    accession_number: str = field(repr=False)
    study_description: str
    modality: str
    series_description: str
    body_part: str
    expected_instances: int | None = None
    """Number of Study Related Instances (0020,1208), where the sender gives it."""
    issuer_of_patient_id: str = field(default="", repr=False)
    """Who gave out the number (0010,0021): equal numbers of two issuers are two people. The
    universal id is of its qualifiers (0010,0024)."""
    issuer_universal_id: str = ""
    issuer_universal_type: str = ""
    birth_date: str = field(default="", repr=False)
    sex: str = ""
    study_time: str = ""


@dataclass(frozen=True, kw_only=True)
class Series:
    """One series and how much of it is here."""

    series_uid: str
    study_uid: str
    modality: str
    description: str
    body_part: str
    n_instances: int


@dataclass(frozen=True, kw_only=True)
class Study:
    """One study: identity, counts and where it stands.

    ``version`` counts the input sets that were opened for analysis: 1 for the first, one more each
    time a late instance (or nothing but one) re-opened the study.
    """

    study_uid: str
    patient_id: str = field(repr=False)
    issuer_of_patient_id: str = field(repr=False)
    patient_name: str = field(repr=False)
    study_date: str
    accession_number: str = field(repr=False)
    description: str
    modalities: tuple[str, ...]
    n_series: int
    n_instances: int
    expected_instances: int | None
    version: int
    first_received_at: datetime
    last_received_at: datetime


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """Input that was refused: bytes kept aside with the reason, never inferred on."""

    id: int
    code: str
    reason: str
    instance_uid: str
    study_uid: str
    sha256: str | None
    size_bytes: int
    sender: Sender
    received_at: datetime


@dataclass(frozen=True, kw_only=True)
class StudyInput:
    """The fixed input set of one job.

    Attributes
    ----------
    instance_paths : stored files of the study's images, ordered by SOP Instance UID (no spatial
        meaning)
    input_hash : SHA-256 over the sorted (instance UID, dataset SHA-256) pairs
    model : run this model only; "" runs every applicable one
    stored_keys : result keys that this study already has; return ``ReusedResult(key)`` for such a
        key instead of computing again
    receive_s, queue_s : seconds from its first instance to its last, and from then to a worker
    routing : which models may run on which series, and where their results go
    """

    job_id: int
    study_uid: str
    version: int
    input_hash: str
    instance_paths: tuple[Path, ...]
    priority: Priority
    model: str = ""
    stored_keys: frozenset[str] = frozenset()
    receive_s: float = 0.0
    queue_s: float = 0.0
    routing: Routing = field(default_factory=Routing)


def input_set_hash(pairs: Iterable[tuple[str, str]]) -> str:
    """Hash of a set of (instance UID, dataset SHA-256); order of arrival does not matter."""
    lines = sorted(f"{uid} {sha256}\n" for uid, sha256 in pairs)
    return hashlib.sha256("".join(lines).encode("ascii")).hexdigest()
