"""Who made a result object, when, and under which words: the part that all kinds share."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import highdicom as hd
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.sr.codedict import codes
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_io.result_errors import ResultInputError
from dicom_io.results import Algorithm, Code, ResultIdentity, Segment, derived_uid

LO_LIMIT = 64
"""Longest value of a DICOM LO (PS3.5, table 6.2-1)."""
RESEARCH_NOTICE = "research use, not for primary diagnosis"
UNVERIFIED_NOTICE = "machine result, not verified by a person"
PAIRED_BODY_PARTS = frozenset({
    "ACJOINT", "ANKLE", "ARM", "AXILLA", "BREAST", "CALCANEUS", "CALF", "CLAVICLE", "EAR",
    "ELBOW", "EXTREMITY", "EYE", "EYELID", "FEMUR", "FINGER", "FOOT", "FOREARM", "HAND", "HIP",
    "HUMERUS", "KNEE", "LEG", "LOWERLEG", "ORBIT", "PATELLA", "RADIUS", "RADIUSULNA", "SCAPULA",
    "SCJOINT", "SHOULDER", "SIJOINT", "THIGH", "THUMB", "TIBIA", "TIBIAFIBULA", "TMJ", "TOE",
    "ULNA", "UPPERARM", "UPPERLEG", "WRIST", "ZYGOMA",
})  # fmt: skip
"""Body Part Examined values of parts with a left and a right (PS3.16 annex L)."""
IMPLEMENTATION_UID = derived_uid("implementation/clinfer")


def check_names(algorithm: Algorithm, segments: tuple[Segment, ...]) -> None:
    """Refuse names that do not fit their DICOM attribute; cutting one would make it another name.

    Raises
    ------
    ResultInputError
        ``field`` is ``algorithm.<name>`` or ``segments[<label>].<name>``.
    """
    named = {
        f"algorithm.{name}": getattr(algorithm, name)
        for name in ("name", "version", "weights_sha256", "software_version", "manufacturer")
    }
    for segment in segments:
        named[f"segments[{segment.label}].name"] = segment.name
        for part in ("category", "type", "modifier"):
            code: Code | None = getattr(segment, part)
            if code is not None:
                named[f"segments[{segment.label}].{part}.meaning"] = code.meaning
    names = [segment.name for segment in segments]
    if len(set(names)) != len(names):
        raise ResultInputError(field="segments", problem=f"names {names} must differ")
    for field, value in named.items():
        if not value.strip() or len(value) > LO_LIMIT or "\\" in value:
            raise ResultInputError(
                field=field,
                problem=f"{value!r} must have 1 to {LO_LIMIT} characters and no backslash",
            )


def coded(code: Code) -> hd.sr.CodedConcept:
    """Return the code as highdicom knows it."""
    return hd.sr.CodedConcept(code.value, code.scheme, code.meaning)


def algorithm_identification(algorithm: Algorithm) -> hd.AlgorithmIdentificationSequence:
    """Name, version, maker and parameters of the model, for a segment's description."""
    return hd.AlgorithmIdentificationSequence(
        name=algorithm.name,
        family=codes.DCM.ArtificialIntelligence,
        version=algorithm.version,
        source=algorithm.manufacturer,
        parameters=dict(parameter.split("=", 1) for parameter in parameters(algorithm)),
    )


def parameters(algorithm: Algorithm) -> list[str]:
    """Return what else identifies the run, as ``name=value``."""
    return [
        f"weights_sha256={algorithm.weights_sha256}",
        f"software_version={algorithm.software_version}",
        f"engine={algorithm.engine}",
    ]


def notice(algorithm: Algorithm) -> str:
    """Words that a reader must see with the result."""
    return RESEARCH_NOTICE if algorithm.is_research else UNVERIFIED_NOTICE


def series_description(kind: str, algorithm: Algorithm) -> str:
    """``AI <kind> <model>``, with the research notice; the model's name gives way when too long."""
    suffix = " (research, not for diagnosis)" if algorithm.is_research else " (unverified)"
    room = LO_LIMIT - len(f"AI {kind} {suffix}")
    name = algorithm.name if len(algorithm.name) <= room else f"{algorithm.name[: room - 1]}~"
    return f"AI {kind} {name}{suffix}"


def leave_laterality_open(header: Dataset) -> None:
    """Write an empty Laterality where the source gives no side of a part that has two.

    The General Series module wants it there, though unknown: for a paired body part, and where
    none is named.
    """
    part = str(header.get("BodyPartExamined", ""))
    if "Laterality" not in header and (not part or part in PAIRED_BODY_PARTS):
        header.Laterality = ""


def stamp(
    dataset: Dataset,
    header: Dataset,
    algorithm: Algorithm,
    identity: ResultIdentity,
    *,
    kind: str,
    description: str,
    series_number: int,
    number: int | None = None,
) -> Dataset:
    """Return a plain dataset: `dataset` with our identity, equipment, times and file meta.

    Parameters
    ----------
    header : from `source_header.result_header`; its values replace those of `dataset`
    kind : as in ``identity.uid``: "seg", "sr", "gsps", ...
    number : of an instance among several in the series, 1 or more; None where there is one
    """
    stamped = Dataset({element.tag: element for element in dataset})
    stamped.update(header)
    stamped.SeriesInstanceUID = identity.uid(f"{kind}-series")
    instance = kind if number is None else f"{kind}-{number:02d}"
    stamped.SOPInstanceUID = identity.uid(instance)
    stamped.SeriesNumber = series_number
    stamped.InstanceNumber = identity.revision if number is None else number
    stamped.SeriesDescription = series_description(description, algorithm)
    stamped.Manufacturer = algorithm.manufacturer
    stamped.ManufacturerModelName = algorithm.name
    stamped.DeviceSerialNumber = algorithm.device_uid
    stamped.SoftwareVersions = [algorithm.version, algorithm.software_version]
    moment = _local_time(identity.created_at, header)
    stamped.ContentQualification = "RESEARCH" if algorithm.is_research else "PRODUCT"
    stamped.ContributingEquipmentSequence = [_contribution(algorithm, moment)]
    for prefix in ("InstanceCreation", "Content", "Series"):
        setattr(stamped, f"{prefix}Date", moment.strftime("%Y%m%d"))
        setattr(stamped, f"{prefix}Time", moment.strftime("%H%M%S"))
    stamped.file_meta = _file_meta(stamped)
    stamped = correct_ambiguous_vr(stamped, is_little_endian=True)
    # What is written is what is here: raw elements pass as they are when the encoding is the same.
    stamped.set_original_encoding(
        is_implicit_vr=False,
        is_little_endian=True,
        character_encoding=stamped._character_set,
    )
    return stamped


def _contribution(algorithm: Algorithm, moment: datetime) -> Dataset:
    """One Contributing Equipment item; its Device UID changes when the model or weights change.

    IHE AIR asks for it on every result. The purpose is the standard's nearest code (CID 7005).
    """
    item = Dataset()
    item.Manufacturer = algorithm.manufacturer
    item.ManufacturerModelName = algorithm.name
    item.DeviceSerialNumber = algorithm.device_uid
    item.SoftwareVersions = [
        algorithm.version,
        algorithm.software_version,
        algorithm.weights_sha256,
    ]
    item.DeviceUID = algorithm.device_uid
    # In UTC without an offset, like the object's other times: dcmpschk takes "+0000" for an error.
    item.ContributionDateTime = moment.strftime("%Y%m%d%H%M%S%z").removesuffix("+0000")
    item.ContributionDescription = (
        f"Segmentation by {algorithm.name} {algorithm.version}; "
        f"{'; '.join(parameters(algorithm))}; {notice(algorithm)}"
    )[:1024]
    item.PurposeOfReferenceCodeSequence = [
        hd.sr.CodedConcept.from_code(codes.DCM.ProcessingEquipment)
    ]
    return item


def _local_time(created_at: datetime, header: Dataset) -> datetime:
    """Express the time in the zone that the object's other times are in.

    Times without an offset are those of the place; the source's offset holds for the whole object.
    """
    offset = str(header.get("TimezoneOffsetFromUTC", ""))
    if not offset:
        return created_at.astimezone()
    size = timedelta(hours=int(offset[1:3]), minutes=int(offset[3:5]))
    return created_at.astimezone(timezone(-size if offset[0] == "-" else size))


def _file_meta(dataset: Dataset) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    meta.ImplementationVersionName = "CLINFER"
    return meta
