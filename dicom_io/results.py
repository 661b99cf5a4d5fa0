"""What a result object says: coded segments, the algorithm, the measurements and the identity.

Value types only; ``segmentation.py`` and ``structured_report.py`` turn them into DICOM.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime

RESULT_NAMESPACE = uuid.UUID("6e1f2f0e-6a0c-5d0e-9a55-3f1f6f3f7c11")
"""Namespace of every UID that this project derives; never change it."""


@dataclass(frozen=True, kw_only=True)
class Code:
    """A coded concept: value, scheme designator (SCT, DCM, UCUM) and meaning."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One structure in a label map: ``label`` is its integer value there (1 or more)."""

    label: int
    name: str
    category: Code
    type: Code
    modifier: Code | None
    color_rgb: tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """The model and the code that made a result."""

    name: str
    version: str
    weights_sha256: str
    software_version: str
    engine: str
    is_research: bool
    manufacturer: str = "clinfer"

    @property
    def device_uid(self) -> str:
        """UID of this exact algorithm: changes when name, version or weights change."""
        return derived_uid(f"device/{self.name}/{self.version}/{self.weights_sha256}")


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Statistics of one segment over the source voxels; ``unit`` is a UCUM code for mean and SD."""

    label: int
    n_voxels: int
    volume_ml: float
    mean: float
    sd: float
    minimum: float
    maximum: float
    unit: str


@dataclass(frozen=True, kw_only=True)
class ResultIdentity:
    """What makes a result this result; the same key, kind and revision give the same UID.

    ``structure`` names whose structures the segments are (one patient's, as one model sees them),
    so that the same one has the same tracking UID at every time point; "" where that is unknown.
    """

    key: str
    created_at: datetime
    profile: str = "default"
    revision: int = 1
    structure: str = ""

    def uid(self, kind: str) -> str:
        """UID of one object of the result: ``kind`` is "seg", "seg-series", "sr", ..."""
        return derived_uid(f"{self.key}/{kind}/{self.profile}/{self.revision}")

    def tracking_uid(self, label: int) -> str:
        """Tracking Unique Identifier of one segment, equal in SEG and SR."""
        return derived_uid(f"{self.structure or self.key}/tracking/{label}")


def derived_uid(name: str) -> str:
    """UID under 2.25 from a name-based UUID (version 5); PS3.5 annex B.2."""
    return f"2.25.{uuid.uuid5(RESULT_NAMESPACE, name).int}"
