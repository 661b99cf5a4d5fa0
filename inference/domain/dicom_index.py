"""What the DICOMweb search knows of an instance: the attributes of its three levels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Attributes = Mapping[str, Mapping[str, Any]]
"""DICOM JSON (PS3.18 annex F): "GGGGEEEE" to ``{"vr": ..., "Value": [...]}``."""

STUDY_TAGS: Mapping[int, str] = {
    0x00080020: "DA",  # Study Date
    0x00080030: "TM",  # Study Time
    0x00080050: "SH",  # Accession Number
    0x00080090: "PN",  # Referring Physician's Name
    0x00080201: "SH",  # Timezone Offset From UTC
    0x00081030: "LO",  # Study Description
    0x00081060: "PN",  # Name of Physician(s) Reading Study
    0x00100010: "PN",  # Patient's Name
    0x00100020: "LO",  # Patient ID
    0x00100021: "LO",  # Issuer of Patient ID
    0x00100030: "DA",  # Patient's Birth Date
    0x00100040: "CS",  # Patient's Sex
    0x00101010: "AS",  # Patient's Age
    0x0020000D: "UI",  # Study Instance UID
    0x00200010: "SH",  # Study ID
}
SERIES_TAGS: Mapping[int, str] = {
    0x00080021: "DA",  # Series Date
    0x00080031: "TM",  # Series Time
    0x00080060: "CS",  # Modality
    0x00080070: "LO",  # Manufacturer
    0x00080080: "LO",  # Institution Name
    0x00081010: "SH",  # Station Name
    0x0008103E: "LO",  # Series Description
    0x00081090: "LO",  # Manufacturer's Model Name
    0x00180015: "CS",  # Body Part Examined
    0x00181030: "LO",  # Protocol Name
    0x0020000E: "UI",  # Series Instance UID
    0x00200011: "IS",  # Series Number
    0x00200052: "UI",  # Frame of Reference UID
    0x00200060: "CS",  # Laterality
    0x00400244: "DA",  # Performed Procedure Step Start Date
    0x00400245: "TM",  # Performed Procedure Step Start Time
    0x00400275: "SQ",  # Request Attributes Sequence
}
INSTANCE_TAGS: Mapping[int, str] = {
    0x00080008: "CS",  # Image Type
    0x00080016: "UI",  # SOP Class UID
    0x00080018: "UI",  # SOP Instance UID
    0x00080023: "DA",  # Content Date
    0x00080033: "TM",  # Content Time
    0x00200012: "IS",  # Acquisition Number
    0x00200013: "IS",  # Instance Number
    0x00280002: "US",  # Samples per Pixel
    0x00280004: "CS",  # Photometric Interpretation
    0x00280008: "IS",  # Number of Frames
    0x00280010: "US",  # Rows
    0x00280011: "US",  # Columns
    0x00280100: "US",  # Bits Allocated
    0x0040A491: "CS",  # Completion Flag
    0x0040A493: "CS",  # Verification Flag
    0x00700080: "CS",  # Content Label
    0x00700081: "LO",  # Content Description
}
"""Tag to VR. Only what is here can be searched for and returned; a file holds the rest."""

INDEXED_TAGS: Mapping[int, str] = {**STUDY_TAGS, **SERIES_TAGS, **INSTANCE_TAGS}


@dataclass(frozen=True, kw_only=True)
class IndexedInstance:
    """One instance as the index holds it.

    Attributes
    ----------
    sha256 : of its file, which is its name in the object store
    result_id : the result that it belongs to, where we made it
    """

    study_uid: str
    series_uid: str
    instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    sha256: str
    size_bytes: int
    study: Attributes
    series: Attributes
    instance: Attributes
    result_id: int | None = None


def value_of(attributes: Attributes, tag: int, default: Any = "") -> Any:
    """Return the first value of an attribute."""
    values = attributes.get(f"{tag:08X}", {}).get("Value") or [default]
    return default if values[0] is None else values[0]
