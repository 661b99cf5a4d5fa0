"""What came out: results, their files, and their way to other systems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from inference.domain.stages import DELIVER


class ResultState(StrEnum):
    """What a finished result says."""

    FINDING = "finding"
    NO_FINDING = "no_finding"
    REFUSED = "refused"
    FAILED = "failed"
    NOT_APPLICABLE = "not_applicable"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, kw_only=True)
class ResultDraft:
    """A result as the processor made it, not stored yet.

    Attributes
    ----------
    key : what makes this result this result (input set hash, model, weights, preprocessing,
        engine, precision, code version); unique in the database
    series_uid, model : "" where the result is about the whole study
    files : kind ("seg", "sr", "labels", "sheet", "result") to the file written under ``out``
    summary : JSON-ready figures: segments, timings, engine, device
    """

    key: str
    series_uid: str
    model: str
    model_version: str
    weights_sha256: str
    state: ResultState
    reason_code: str = ""
    reason: str = ""
    files: Mapping[str, Path] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ReusedResult:
    """The stored result with this key still holds; nothing was computed."""

    key: str


@dataclass(frozen=True, kw_only=True)
class ResultFile:
    """One file of a result, kept under its content hash; UIDs are "" where it is not DICOM."""

    kind: str
    sha256: str
    size_bytes: int
    media_type: str
    sop_class_uid: str
    instance_uid: str


@dataclass(frozen=True, kw_only=True)
class Result:
    """One stored result; exactly one is current for each (study, series, model)."""

    id: int
    key: str
    job_id: int
    study_uid: str
    study_version: int
    series_uid: str
    model: str
    model_version: str
    weights_sha256: str
    state: ResultState
    outcome: ResultState
    """The state it was stored with; it stays when ``state`` becomes superseded."""
    is_current: bool
    superseded_by: int | None
    reason_code: str
    reason: str
    summary: dict[str, Any]
    files: tuple[ResultFile, ...]
    created_at: datetime
    deliver_s: float | None = None
    """From being stored to the last acknowledgement; None while one is owed, or none was asked."""

    @property
    def stages_s(self) -> dict[str, float]:
        """Seconds of each stage of `inference.domain.stages.STAGES` that is known."""
        stages: dict[str, float] = dict(self.summary.get("stages_s", {}))
        if self.deliver_s is not None:
            stages[DELIVER] = round(self.deliver_s, 4)
        return stages

    @property
    def peak_memory_mib(self) -> float | None:
        """Largest resident memory of the processes that made it; None where it was not told."""
        peak = self.summary.get("peak_memory_mib")
        return float(peak) if isinstance(peak, int | float) else None


class DeliveryState(StrEnum):
    """States of a delivery.

    ::

        held ──► waiting ──► leased ──► delivered            the destination is not asked to commit
                    ▲          └──────► sent ──► committed   it is, and says that it keeps it
                    └─────────────────────┘                  it says that it does not: sent again

    ``held``: the report must be signed first. ``refused``: the destination's release rule does not
    let it go there; the reason is in ``last_error``. ``dead``: out of tries. ``cancelled``: its
    result was superseded before it was sent.
    """

    HELD = "held"
    WAITING = "waiting"
    LEASED = "leased"
    SENT = "sent"
    DELIVERED = "delivered"
    COMMITTED = "committed"
    DEAD = "dead"
    CANCELLED = "cancelled"
    REFUSED = "refused"


class Release(StrEnum):
    """When a destination gets a result."""

    AT_ONCE = "at once"
    AFTER_SIGN_OFF = "after sign-off"


class Commitment(StrEnum):
    """What counts as delivered to a destination.

    ``none``: the answer to C-STORE or STOW-RS. ``n_action``: Storage Commitment (PS3.4 annex J).
    ``read_back``: the object, fetched again over WADO-RS, has the same data set.
    """

    NONE = "none"
    N_ACTION = "n_action"
    READ_BACK = "read_back"


class Retract(StrEnum):
    """How a destination is told that an object no longer holds.

    ``note``: an IOCM rejection note, which an archive that knows it honours. ``archive_api``: the
    archive's own REST interface (Orthanc's) deletes it, after the object was seen to be ours.
    """

    NOTE = "note"
    ARCHIVE_API = "archive_api"


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One file of one result on its way to one destination."""

    id: int
    result_id: int
    study_uid: str
    model: str
    kind: str
    sha256: str
    sop_class_uid: str
    instance_uid: str
    destination: str
    state: DeliveryState
    tries: int
    next_at: datetime
    last_error: str
    created_at: datetime
    delivered_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class DimseDestination:
    """A C-STORE receiver."""

    name: str
    host: str
    port: int
    called_aet: str
    calling_aet: str = "CLINFER"
    kinds: tuple[str, ...] = ("seg", "sr")
    timeout_s: float = 60.0
    release: Release = Release.AT_ONCE
    is_research: bool = False
    """Whether the site marked it as one for research: only then models in research go there."""
    commitment: Commitment = Commitment.NONE
    retract: Retract = Retract.NOTE
    archive_url: str = ""
    """Root of the archive's REST interface; for ``archive_api`` only."""


@dataclass(frozen=True, kw_only=True)
class DicomwebDestination:
    """A STOW-RS receiver; ``url`` is the service root, the part before ``/studies``."""

    name: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    kinds: tuple[str, ...] = ("seg", "sr")
    timeout_s: float = 60.0
    release: Release = Release.AT_ONCE
    is_research: bool = False
    """Whether the site marked it as one for research: only then models in research go there."""
    commitment: Commitment = Commitment.NONE
    retract: Retract = Retract.NOTE
    archive_url: str = ""
    """Root of the archive's REST interface; for ``archive_api`` only."""


Destination = DimseDestination | DicomwebDestination
