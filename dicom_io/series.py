"""Files to studies, series and instances, by what their headers say and never by their names."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydicom.dataset import Dataset

from dicom_io.attributes import display_text, text
from dicom_io.elements import PixelElement, parse_file
from dicom_io.errors import FileError

MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"

VOLUME_SOP_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.2": "CT Image",
    "1.2.840.10008.5.1.4.1.1.2.1": "Enhanced CT Image",
    "1.2.840.10008.5.1.4.1.1.2.2": "Legacy Converted Enhanced CT Image",
    "1.2.840.10008.5.1.4.1.1.4": "MR Image",
    "1.2.840.10008.5.1.4.1.1.4.1": "Enhanced MR Image",
    "1.2.840.10008.5.1.4.1.1.4.4": "Legacy Converted Enhanced MR Image",
    "1.2.840.10008.5.1.4.1.1.128": "Positron Emission Tomography Image",
    "1.2.840.10008.5.1.4.1.1.130": "Enhanced PET Image",
    "1.2.840.10008.5.1.4.1.1.128.1": "Legacy Converted Enhanced PET Image",
}
"""SOP classes whose frames are slices; PS3.4 B.5."""

VOLUME_MODALITIES = ("CT", "MR", "PT")

_NOT_IMAGES = {"SEG", "RTSTRUCT", "RTDOSE", "RTPLAN", "SR", "PR", "KO", "REG", "RWV", "DOC"}


@dataclass(frozen=True, kw_only=True)
class InstanceHeader:
    """One DICOM file without its pixels; UIDs are "" where the file leaves them blank."""

    path: Path
    size_bytes: int
    transfer_syntax_uid: str
    study_uid: str
    series_uid: str
    instance_uid: str
    sop_class_uid: str
    modality: str
    header: Dataset = field(repr=False, compare=False)
    pixels: PixelElement | None = field(repr=False, compare=False)

    @property
    def is_image(self) -> bool:
        """Whether this is a picture, as against a contour set, a report or a mask."""
        return self.pixels is not None and self.modality not in _NOT_IMAGES

    @property
    def is_localizer(self) -> bool:
        """Whether Image Type says LOCALIZER: a scout, which crosses the slices."""
        return "LOCALIZER" in text(self.header, "ImageType").upper().split("\\")


@dataclass(frozen=True, kw_only=True)
class Series:
    """The instances of one series, in no meaningful order (`read_volume` orders slices)."""

    study_uid: str
    series_uid: str
    modality: str
    description: str
    body_part: str
    instances: tuple[InstanceHeader, ...] = field(repr=False)

    @property
    def is_image(self) -> bool:
        """Whether the series holds pictures; False for RTSTRUCT, SEG, SR and the like."""
        return any(instance.is_image for instance in self.instances)

    def without_localizers(self) -> Series:
        """Return the same series without the instances whose Image Type says LOCALIZER."""
        kept = tuple(instance for instance in self.instances if not instance.is_localizer)
        return replace(self, instances=kept)


@dataclass(frozen=True, kw_only=True)
class Study:
    """The series of one study."""

    study_uid: str
    series: tuple[Series, ...]


@dataclass(frozen=True, kw_only=True)
class SkippedFile:
    """A file that is no part of any series, and why."""

    path: Path
    reason: str
    code: str


@dataclass(frozen=True, kw_only=True)
class Scan:
    """What a set of files holds; every file is in one series or among the skipped."""

    studies: tuple[Study, ...]
    skipped: tuple[SkippedFile, ...]

    @property
    def series(self) -> tuple[Series, ...]:
        """Every series of every study."""
        return tuple(series for study in self.studies for series in study.series)


def scan(files: Iterable[Path], *, workers: int | None = None) -> Scan:
    """Read the headers of ``files`` and group them into studies and series.

    A file that cannot be read is listed with its reason and does not stop the others; so is a
    DICOMDIR, and a file that is byte for byte another one. Instances with a blank
    SeriesInstanceUID are told apart by modality, size, orientation and frame of reference.

    Parameters
    ----------
    workers : threads that read ahead; parsing itself is Python and takes one core.
    """
    paths = sorted(files)
    instances: list[InstanceHeader] = []
    skipped: list[SkippedFile] = []
    if workers is not None and workers > 1 and len(paths) > 1:
        with ThreadPoolExecutor(workers) as pool:
            read = list(pool.map(_read_or_skip, paths))
    else:
        read = [_read_or_skip(path) for path in paths]
    for found in read:
        if isinstance(found, SkippedFile):
            skipped.append(found)
        else:
            instances.append(found)
    instances, copies = _without_copies(instances)
    groups: dict[tuple[str, ...], list[InstanceHeader]] = defaultdict(list)
    for instance in instances:
        groups[_series_key(instance)].append(instance)
    by_study: dict[str, list[Series]] = defaultdict(list)
    for members in groups.values():
        by_study[members[0].study_uid].append(_series(members))
    studies = tuple(
        Study(study_uid=study_uid, series=tuple(series)) for study_uid, series in by_study.items()
    )
    return Scan(studies=studies, skipped=tuple(skipped + copies))


def read_header(path: Path) -> InstanceHeader:
    """Read one file's header.

    Raises
    ------
    FileError
        Not DICOM, truncated, malformed, or over a limit.
    """
    parsed = parse_file(path)
    header = parsed.header
    meta = getattr(header, "file_meta", Dataset())
    return InstanceHeader(
        path=path,
        size_bytes=parsed.size_bytes,
        transfer_syntax_uid=parsed.transfer_syntax_uid,
        study_uid=text(header, "StudyInstanceUID"),
        series_uid=text(header, "SeriesInstanceUID"),
        instance_uid=text(header, "SOPInstanceUID"),
        # Where the data set leaves it blank, the meta information says it (PS3.10 7.1).
        sop_class_uid=text(header, "SOPClassUID") or text(meta, "MediaStorageSOPClassUID"),
        modality=text(header, "Modality"),
        header=header,
        pixels=parsed.pixels,
    )


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_or_skip(path: Path) -> InstanceHeader | SkippedFile:
    try:
        instance = read_header(path)
    except FileError as error:
        return SkippedFile(path=path, reason=error.problem, code=error.code)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        return SkippedFile(path=path, reason=reason, code="file")
    meta = getattr(instance.header, "file_meta", Dataset())
    if text(meta, "MediaStorageSOPClassUID") == MEDIA_STORAGE_DIRECTORY:
        reason = "a DICOMDIR; the files it lists are scanned themselves"
        return SkippedFile(path=path, reason=reason, code="dicomdir")
    if not instance.modality and not instance.sop_class_uid:
        reason = "neither Modality nor SOP Class UID: not an instance"
        return SkippedFile(path=path, reason=reason, code="not_dicom")
    return instance


def _without_copies(
    instances: Sequence[InstanceHeader],
) -> tuple[list[InstanceHeader], list[SkippedFile]]:
    """Leave out files that are byte for byte another one of the same SOP Instance UID."""
    kept: list[InstanceHeader] = []
    copies: list[SkippedFile] = []
    seen: dict[str, list[InstanceHeader]] = defaultdict(list)
    for instance in instances:
        same = seen[instance.instance_uid] if instance.instance_uid else []
        twin = next((other for other in same if _is_copy(instance, other)), None)
        if twin is None:
            kept.append(instance)
            same.append(instance)
        else:
            reason = f"byte for byte the same file as {twin.path.name}"
            copies.append(SkippedFile(path=instance.path, reason=reason, code="copy"))
    return kept, copies


def _is_copy(one: InstanceHeader, other: InstanceHeader) -> bool:
    return one.size_bytes == other.size_bytes and sha256_of_file(one.path) == sha256_of_file(
        other.path
    )


def _series_key(instance: InstanceHeader) -> tuple[str, ...]:
    if instance.series_uid:
        return (instance.study_uid, instance.series_uid, instance.modality)
    keywords = ("FrameOfReferenceUID", "ImageOrientationPatient", "PixelSpacing", "SeriesNumber")
    geometry = tuple(text(instance.header, keyword) for keyword in keywords)
    size = tuple(text(instance.header, keyword) for keyword in ("Rows", "Columns"))
    return (instance.study_uid, "", instance.modality, *size, *geometry)


def _series(members: Sequence[InstanceHeader]) -> Series:
    first = members[0]
    return Series(
        study_uid=first.study_uid,
        series_uid=first.series_uid,
        modality=first.modality,
        description=display_text(first.header, "SeriesDescription"),
        body_part=text(first.header, "BodyPartExamined").upper(),
        instances=tuple(members),
    )
