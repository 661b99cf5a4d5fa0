"""From a walked file to identifiers and descriptions, or a refusal that names the attribute."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydicom.charset import decode_bytes, python_encoding
from pydicom.uid import UID

from inference.domain.study import Description
from inference.jobs.errors import DamagedFileError, IdentifierError, UnsupportedObjectError
from inference.jobs.structure import CHARACTER_SET, FileMeta, Structure

VALID_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
"""Digits and dots. A component with leading zeros breaks PS3.5 9.1 but does no harm and is common,
so it is kept; every other character is refused."""

MAX_UID_LENGTH = 64

REFUSED_SOP_CLASSES = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.66",  # Raw Data
        "1.2.840.10008.5.1.4.1.1.104.1",  # Encapsulated PDF
        "1.2.840.10008.5.1.4.1.1.104.2",  # Encapsulated CDA
        "1.2.840.10008.5.1.4.1.1.104.3",  # Encapsulated STL
        "1.2.840.10008.5.1.4.1.1.104.4",  # Encapsulated OBJ
        "1.2.840.10008.5.1.4.1.1.104.5",  # Encapsulated MTL
    }
)
"""Containers of foreign files: nothing here reads them, and they may carry scripts."""

REFUSED_PREFIXES = ("1.2.840.10008.5.1.4.1.1.11.",)
"""Presentation states: they say how to look at images, not what is in them."""

NOT_ANALYSED = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.30",  # Parametric Map
        "1.2.840.10008.5.1.4.1.1.66.4",  # Segmentation
        "1.2.840.10008.5.1.4.1.1.66.7",  # Label Map Segmentation
        "1.2.840.10008.5.1.4.1.1.481.2",  # RT Dose
    }
)
"""They have pixels, but not those of a scanner."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who an instance is."""

    instance_uid: str
    series_uid: str
    study_uid: str
    sop_class_uid: str
    is_image: bool
    description: Description


@dataclass(frozen=True, kw_only=True)
class Announced:
    """What the sender's message said about the instance, to be compared with what came."""

    sop_class_uid: str
    instance_uid: str


def is_accepted_sop_class(sop_class_uid: str) -> bool:
    """Whether it is a standard storage class whose content we keep."""
    uid = UID(sop_class_uid)
    return (
        uid.type == "SOP Class"
        and uid.name.split(" (Retired)")[0].rstrip().endswith("Storage")
        and sop_class_uid not in REFUSED_SOP_CLASSES
        and not sop_class_uid.startswith(REFUSED_PREFIXES)
    )


def identify(
    structure: Structure, meta: FileMeta, announced: Announced | None, *, is_ours: bool = False
) -> Identity:
    """Read and check identifiers; ``is_ours``: we made it, so its SOP class needs no leave.

    Raises
    ------
    IdentifierError, UnsupportedObjectError
    DamagedFileError
        An image class without pixels: the file was cut between two elements.
    """
    sop_class_uid = _uid(structure, 0x00080016, "SOPClassUID (0008,0016)")
    instance_uid = _uid(structure, 0x00080018, "SOPInstanceUID (0008,0018)")
    study_uid = _uid(structure, 0x0020000D, "StudyInstanceUID (0020,000D)")
    series_uid = _uid(structure, 0x0020000E, "SeriesInstanceUID (0020,000E)")
    said = [Announced(sop_class_uid=meta.sop_class_uid, instance_uid=meta.instance_uid)]
    if announced is not None:
        said.append(announced)
    for one in said:
        if one.sop_class_uid not in ("", sop_class_uid):
            raise IdentifierError(
                field="SOPClassUID (0008,0016)", problem="is not the one that was announced"
            )
        if one.instance_uid not in ("", instance_uid):
            raise IdentifierError(
                field="SOPInstanceUID (0008,0018)", problem="is not the one that was announced"
            )
    if not is_ours and not is_accepted_sop_class(sop_class_uid):
        raise UnsupportedObjectError(
            field="SOPClassUID (0008,0016)", problem=f"{sop_class_uid} is not accepted here"
        )
    if structure.pixel_tag is None and "Image Storage" in UID(sop_class_uid).name:
        raise DamagedFileError(
            field="PixelData (7FE0,0010)", problem="is missing from an instance of an image class"
        )
    return Identity(
        instance_uid=instance_uid,
        series_uid=series_uid,
        study_uid=study_uid,
        sop_class_uid=sop_class_uid,
        is_image=structure.pixel_tag is not None and sop_class_uid not in NOT_ANALYSED,
        description=_describe(structure),
    )


def check_uid(value: str, field: str) -> str:
    """Return the UID.

    Raises
    ------
    IdentifierError
    """
    if not value:
        raise IdentifierError(field=field, problem="is missing or empty")
    if len(value) > MAX_UID_LENGTH:
        raise IdentifierError(field=field, problem=f"has {len(value)} characters, 64 are allowed")
    if not VALID_UID.fullmatch(value):
        raise IdentifierError(field=field, problem="is no UID: digits and dots only")
    return value


def _uid(structure: Structure, tag: int, field: str) -> str:
    raw = structure.values.get(tag, b"")
    text = (raw[:-1] if raw.endswith(b"\0") else raw).rstrip(b" ")
    return check_uid(text.decode("ascii", "backslashreplace"), field)


def _describe(structure: Structure) -> Description:
    expected = structure.number(0x00201208, 0)
    return Description(
        patient_id=_text(structure, 0x00100020),
        patient_name=_text(structure, 0x00100010),
        study_date=_text(structure, 0x00080020),
        accession_number=_text(structure, 0x00080050),
        study_description=_text(structure, 0x00081030),
        modality=_text(structure, 0x00080060),
        series_description=_text(structure, 0x0008103E),
        body_part=_text(structure, 0x00180015),
        expected_instances=expected or None,
        issuer_of_patient_id=_text(structure, 0x00100021),
        issuer_universal_id=_text(structure, 0x00400032),
        issuer_universal_type=_text(structure, 0x00400033),
        birth_date=_text(structure, 0x00100030),
        sex=_text(structure, 0x00100040),
        study_time=_text(structure, 0x00080030),
    )


def _text(structure: Structure, tag: int) -> str:
    """Decode a value; what cannot be decoded is marked, never dropped in silence."""
    raw = structure.values.get(tag, b"")
    charsets = [
        part.strip().decode("ascii", "replace")
        for part in structure.values.get(CHARACTER_SET, b"").split(b"\\")
    ]
    encodings = [python_encoding.get(charset, "ascii") for charset in charsets]
    try:
        text = (
            decode_bytes(raw, encodings, {ord("^"), ord("=")})
            if len(encodings) > 1
            else raw.decode(encodings[0])
        )
    except (UnicodeDecodeError, LookupError):
        text = raw.decode("ascii", "backslashreplace")
    return text.replace("\0", "").strip(" ")
