"""What a result object repeats from its source: patient, study, character set, identifiers.

Rules, in order:

- an absent or blank UID that a result must carry refuses the result (`MissingIdentifierError`);
- the names that tie it to patient and order are repeated as they stand, even where longer than
  the standard allows: a result under another identity would be worse than an odd value;
- any other value that its own type does not allow (a date that is none) is not repeated: type 2
  attributes are written empty, optional ones left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Literal

from pydicom import charset, config
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import PersonName

from dicom_io.result_errors import MissingIdentifierError, NoDicomSourceError
from dicom_io.volume import Volume, VolumeSource

UTF8 = "ISO_IR 192"
_ASCII_SETS = {"", "ISO_IR 6", "ISO 2022 IR 6"}

TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "PositionReferenceIndicator",
)
OPTIONAL = (
    "IssuerOfPatientID",
    "TypeOfPatientID",
    "PatientBirthTime",
    "OtherPatientNames",
    "EthnicGroup",
    "PatientComments",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "StudyDescription",
    "PhysiciansOfRecord",
    "NameOfPhysiciansReadingStudy",
    "AdmittingDiagnosesDescription",
    "ProcedureCodeSequence",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "SmokingStatus",
    "PregnancyStatus",
    "LastMenstrualDate",
    "AdditionalPatientHistory",
    "Occupation",
    "MedicalAlerts",
    "Allergies",
    "AdmissionID",
    "BodyPartExamined",
    "Laterality",
    "TimezoneOffsetFromUTC",
)
_IDENTITY = {"PatientName", "PatientID", "IssuerOfPatientID", "AccessionNumber"}
_ENUMERATED = {
    "PatientSex": {"M", "F", "O"},
    "PatientIdentityRemoved": {"YES", "NO"},
    "Laterality": {"L", "R"},
    "SmokingStatus": {"YES", "NO", "UNKNOWN"},
    "PregnancyStatus": {"1", "2", "3", "4"},
}
_NEVER_EMPTY = {"BodyPartExamined", "Laterality", "TimezoneOffsetFromUTC"}
_CODE = {"CodeValue", "CodingSchemeDesignator", "CodeMeaning"}
_ONE_TEXT = {"LT", "ST", "UT"}
_TEXT_LIMITS = {"SH": 16, "LO": 64, "ST": 1024, "LT": 10240, "UT": 2**32 - 2, "PN": 64 * 3 + 2}
_PATTERNS = {
    "AS": re.compile(r"\d{3}[DWMY]"),
    "CS": re.compile(r"[A-Z0-9_ ]{1,16}"),
    "TM": re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?"),
    "UI": re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+"),
    "DS": re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"),
    "IS": re.compile(r"[+-]?\d{1,12}"),
}
_ESCAPE = re.compile("\x1b[\x20-\x2f]+[\x30-\x7e]")
"""ISO 2022 escape sequence; pydicom leaves those of IR 58 standing in the decoded text."""
_TIMEZONE = re.compile(r"[+-](0\d|1[0-4])[0-5]\d")


def dicom_source(volume: Volume) -> VolumeSource:
    """Return the volume's DICOM source after checking that every UID a result repeats is there.

    Raises
    ------
    NoDicomSourceError, MissingIdentifierError
    """
    source = volume.source
    if source is None or not source.instances:
        raise NoDicomSourceError
    identifiers = {
        "StudyInstanceUID": source.study_uid,
        "SeriesInstanceUID": source.series_uid,
        "FrameOfReferenceUID": source.frame_of_reference_uid,
    }
    for attribute, value in identifiers.items():
        if not _has_text(value):
            raise MissingIdentifierError(attribute=attribute, series_uid=source.series_uid)
    for index, instance in enumerate(source.instances):
        named = {
            "SOPInstanceUID": instance.instance_uid,
            "SOPClassUID": instance.sop_class_uid,
        }
        for attribute, value in named.items():
            if not _has_text(value):
                raise MissingIdentifierError(
                    attribute=attribute, series_uid=source.series_uid, slice_index=index
                )
    return source


def result_header(volume: Volume, texts: Iterable[str] = ()) -> Dataset:
    """Patient, study and series attributes that a result of this volume repeats.

    Parameters
    ----------
    texts : the result's own words, which the character set must be able to hold

    Returns
    -------
    Dataset
        ``SpecificCharacterSet`` first: the source's own, or UTF-8 where the source names none,
        one that pydicom does not write rightly (IR 58), or one that cannot hold every text.
    """
    source = dicom_source(volume)
    header = study_header(source.instances[0].header, texts)
    header.StudyInstanceUID = str(source.study_uid)
    header.FrameOfReferenceUID = str(source.frame_of_reference_uid)
    return header


def study_header(origin: Dataset, texts: Iterable[str] = ()) -> Dataset:
    """Patient and study attributes that an object about a study repeats from one of its instances.

    Parameters
    ----------
    origin : any instance of the study; its pixels are not needed
    texts : as in `result_header`

    Raises
    ------
    MissingIdentifierError
        The instance does not say which study it is of.
    """
    declared = _values(origin, "SpecificCharacterSet", ("iso8859",))
    declared = declared if any(declared) else []
    encodings = _encodings(declared)
    header = Dataset()
    _copy(origin, header, TYPE_2, encodings, always=True)
    _copy(origin, header, OPTIONAL, encodings, always=False)
    _keep_rules_between_attributes(header)
    own = _character_set(declared, [*texts, *_all_text(header)])
    header.SpecificCharacterSet = own if len(own) > 1 else own[0]
    study_uid = origin.get("StudyInstanceUID")
    if not _has_text(study_uid):
        raise MissingIdentifierError(
            attribute="StudyInstanceUID", series_uid=str(origin.get("SeriesInstanceUID", ""))
        )
    header.StudyInstanceUID = str(study_uid)
    return header


def _has_text(value: object) -> bool:
    return value is not None and str(value).strip("\0 ") != ""


def _keep_rules_between_attributes(header: Dataset) -> None:
    """Leave out what the standard allows only together with something that is not there."""
    removed = header.get("PatientIdentityRemoved") == "YES"
    says_how = "DeidentificationMethod" in header or "DeidentificationMethodCodeSequence" in header
    if removed and not says_how:
        header.DeidentificationMethod = "as the source series"
    if "TypeOfPatientID" in header and not header.PatientID:
        del header.TypeOfPatientID
    timezone = str(header.get("TimezoneOffsetFromUTC", ""))
    if timezone and not _TIMEZONE.fullmatch(timezone):
        del header.TimezoneOffsetFromUTC


def _copy(
    origin: Dataset,
    header: Dataset,
    keywords: Iterable[str],
    encodings: tuple[str, ...],
    *,
    always: bool,
) -> None:
    for keyword in keywords:
        tag = Tag(keyword)
        vr = dictionary_VR(tag)
        if vr == "SQ":
            items = _sequence_items(origin, tag, encodings)
            if items:
                setattr(header, keyword, items)
            continue
        found = _values(origin, keyword, encodings)
        values = [value for value in found if value != ""]
        is_empty = bool(found) and not values
        if keyword not in _IDENTITY:
            values = [_repaired(vr, value) for value in values]
            if not all(_is_valid(keyword, vr, value) for value in values):
                values = []
        if not values and not always and (keyword in _NEVER_EMPTY or not is_empty):
            continue
        header.add(_element(tag, vr, values))


def _element(tag: BaseTag, vr: str, values: list[str]) -> DataElement:
    value: Any = values if len(values) > 1 else "".join(values)
    if vr == "US":
        value = int(value) if value else None
    return DataElement(tag, vr, value, validation_mode=config.IGNORE)


def _sequence_items(origin: Dataset, tag: BaseTag, encodings: tuple[str, ...]) -> list[Dataset]:
    """Items of a code sequence, complete ones only."""
    if tag not in origin:
        return []
    items = []
    for item in origin[tag].value or []:
        if any(keyword not in item for keyword in _CODE):
            continue
        copied = Dataset()
        keywords = [*sorted(_CODE), "CodingSchemeVersion"]
        _copy(item, copied, keywords, encodings, always=False)
        if all(keyword in copied for keyword in _CODE):
            items.append(copied)
    return items


def _values(origin: Dataset, keyword: str, encodings: tuple[str, ...]) -> list[str]:
    """Values of an attribute as text, stripped; ``[]`` when absent.

    Works on the bytes where pydicom has not decoded them yet: decoding through the dataset would
    warn about, or raise for, values that we are here to judge ourselves.
    """
    tag = Tag(keyword)
    if tag not in origin:
        return []
    element = origin.get_item(tag)
    vr = dictionary_VR(tag)
    if isinstance(element, RawDataElement):
        raw = element.value or b""
        if vr == "US":
            order: Literal["little", "big"] = "little" if element.is_little_endian else "big"
            return [str(int.from_bytes(raw, order))] if len(raw) == 2 else [""]
        if vr == "PN":
            texts = [str(PersonName(part, encodings)) for part in raw.split(b"\\")]
        else:
            delimiters = set(b"\r\n\f\t") | (set() if vr in _ONE_TEXT else set(b"\\"))
            text = charset.decode_bytes(raw, encodings, delimiters)
            texts = [text] if vr in _ONE_TEXT else text.split("\\")
    else:
        value = None if element is None else element.value
        if value is None:
            return []
        many = isinstance(value, Iterable) and not isinstance(value, (str, bytes, PersonName))
        texts = [str(part) for part in value] if many else [str(value)]
    return [_ESCAPE.sub("", text).strip("\0 ") for text in texts]


def _repaired(vr: str, value: str) -> str:
    return value.upper() if vr == "CS" else value


def _is_valid(keyword: str, vr: str, value: str) -> bool:
    if value == "":
        return True
    allowed = _ENUMERATED.get(keyword)
    if allowed is not None:
        return value in allowed
    if vr == "DA":
        return _is_date(value)
    if vr == "DS" and len(value) > 16:
        return False
    pattern = _PATTERNS.get(vr)
    if pattern is not None:
        return pattern.fullmatch(value) is not None
    return len(value) <= _TEXT_LIMITS.get(vr, 64) and "\\" not in value


def _is_date(value: str) -> bool:
    if not re.fullmatch(r"\d{8}", value):
        return False
    try:
        datetime.strptime(value, "%Y%m%d")  # noqa: DTZ007 - a calendar day has no zone
    except ValueError:
        return False
    return True


def _encodings(declared: list[str]) -> tuple[str, ...]:
    """Python codecs for a declared character set; unknown ones read as Latin-1, as absent ones."""
    known = [value for value in declared if value in charset.python_encoding]
    if len(known) != len(declared) or not known:
        return ("iso8859",)
    return tuple(charset.convert_encodings(known))


def _character_set(declared: list[str], texts: list[str]) -> list[str]:
    """Choose the source's own set where it can be written and holds every text, else UTF-8."""
    is_known = bool(declared) and all(value in charset.python_encoding for value in declared)
    if not is_known or any(value.endswith(" 58") for value in declared):
        return [UTF8]
    codecs = ["ascii" if v in _ASCII_SETS else charset.python_encoding[v] for v in declared]
    for character in set("".join(texts)):
        if not any(_can_encode(character, codec) for codec in codecs):
            return [UTF8]
    return declared


def can_hold(declared: list[str], text: str) -> bool:
    """Whether a declared character set holds every character of a text."""
    if not all(value in _ASCII_SETS or value in charset.python_encoding for value in declared):
        return False
    codecs = ["ascii" if v in _ASCII_SETS else charset.python_encoding[v] for v in declared]
    return all(any(_can_encode(sign, codec) for codec in codecs or ["ascii"]) for sign in text)


def _can_encode(character: str, codec: str) -> bool:
    try:
        character.encode(codec)
    except UnicodeEncodeError:
        return False
    return True


def _all_text(dataset: Dataset) -> Iterator[str]:
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from _all_text(item)
        elif element.VR in {"PN", "LO", "SH", "LT", "ST", "UT"}:
            yield str(element.value)
