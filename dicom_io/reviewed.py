"""Put a person's name to a result: verify a report, mark a segmentation that was corrected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import highdicom as hd
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID

from dicom_io.equipment import LO_LIMIT, UNVERIFIED_NOTICE
from dicom_io.result_errors import ResultInputError
from dicom_io.source_header import UTF8, can_hold

AlgorithmType = Literal["AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"]
VERIFIED_NOTICE = "machine result, verified by a person; not a diagnostic report"
NOT_STATED = "organization not stated"
"""Verifying Organization must have a value (PS3.3 C.17.2, type 1)."""


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Who stands for a result, and where; ``name`` as DICOM writes it (family^given)."""

    name: str
    organization: str = ""

    def __post_init__(self) -> None:
        """Refuse a name that DICOM cannot carry.

        Raises
        ------
        ResultInputError
        """
        is_wrong = not self.name.strip() or len(self.name) > LO_LIMIT
        if is_wrong or any(sign in self.name for sign in "\\=\r\n"):
            raise ResultInputError(
                field="reader.name",
                problem=f"{self.name!r} must have 1 to {LO_LIMIT} characters, no backslash or =",
            )


def verify_report(
    report: Dataset,
    *,
    reader: Reader,
    at: datetime,
    instance_uid: str,
    series_uid: str,
    predecessor: Dataset,
) -> Dataset:
    """Return a report as a new, verified instance that names the one it follows.

    The content stays but for the notice that nobody has verified it. PS3.3 C.17.2: Verification
    Flag with its observer, Preliminary Flag FINAL, Predecessor Documents. What is final are these
    observations; no diagnostic report is signed by it.

    Parameters
    ----------
    report : changed in place and returned; may be ``predecessor`` read anew
    predecessor : the instance that a receiver may have already
    """
    report.decode()
    named = _reference(predecessor)
    _hold_name(report, reader.name)
    report.SOPInstanceUID = instance_uid
    report.SeriesInstanceUID = series_uid
    report.file_meta.MediaStorageSOPInstanceUID = UID(instance_uid)
    report.SeriesDescription = _verified(str(report.SeriesDescription))
    report.InstanceNumber = int(predecessor.InstanceNumber) + 1
    for item in _content(report):
        if "TextValue" in item:
            item.TextValue = str(item.TextValue).replace(UNVERIFIED_NOTICE, VERIFIED_NOTICE)
    moment = _like(report, at)
    for prefix in ("Content", "InstanceCreation", "Series"):
        setattr(report, f"{prefix}Date", moment.strftime("%Y%m%d"))
        setattr(report, f"{prefix}Time", moment.strftime("%H%M%S"))
    observer = Dataset()
    observer.VerifyingOrganization = reader.organization or NOT_STATED
    observer.VerificationDateTime = moment.strftime("%Y%m%d%H%M%S")
    observer.VerifyingObserverName = reader.name
    observer.VerifyingObserverIdentificationCodeSequence = []
    report.VerifyingObserverSequence = [observer]
    report.VerificationFlag = "VERIFIED"
    report.CompletionFlag = "COMPLETE"
    report.PreliminaryFlag = "FINAL"
    report.PredecessorDocumentsSequence = [named]
    return report


def mark_corrected(
    segmentation: Dataset,
    *,
    reader: Reader,
    types: Mapping[int, AlgorithmType],
    predecessor: Dataset | None,
) -> Dataset:
    """Say in a segmentation who corrected it, how each segment was made, and what it corrects.

    Parameters
    ----------
    types : by Segment Number; a segment that is not named stays AUTOMATIC
    predecessor : header of the machine's segmentation; None where the machine found nothing
    """
    _hold_name(segmentation, reader.name)
    segmentation.ContentCreatorName = reader.name
    segmentation.ContentDescription = "corrected by a person; see Content Creator's Name"
    segmentation.SeriesDescription = _verified(str(segmentation.SeriesDescription), "corrected")
    for segment in segmentation.SegmentSequence:
        kind = types.get(int(segment.SegmentNumber), "AUTOMATIC")
        segment.SegmentAlgorithmType = kind
        if kind == "MANUAL":  # the algorithm's name and identification are for the two others
            for keyword in ("SegmentAlgorithmName", "SegmentationAlgorithmIdentificationSequence"):
                if keyword in segment:
                    delattr(segment, keyword)
    if predecessor is not None:
        image = Dataset()
        image.ReferencedSOPClassUID = str(predecessor.SOPClassUID)
        image.ReferencedSOPInstanceUID = str(predecessor.SOPInstanceUID)
        purposed = Dataset()
        purposed.update(image)
        purposed.PurposeOfReferenceCodeSequence = [
            hd.sr.CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)
        ]
        segmentation.ReferencedImageSequence = [purposed]
        series = Dataset()
        series.SeriesInstanceUID = str(predecessor.SeriesInstanceUID)
        series.ReferencedInstanceSequence = [image]
        segmentation.ReferencedSeriesSequence.append(series)
    return segmentation


def _reference(instance: Dataset) -> Dataset:
    """Study, series and instance, as Predecessor Documents have them."""
    image = Dataset()
    image.ReferencedSOPClassUID = str(instance.SOPClassUID)
    image.ReferencedSOPInstanceUID = str(instance.SOPInstanceUID)
    series = Dataset()
    series.SeriesInstanceUID = str(instance.SeriesInstanceUID)
    series.ReferencedSOPSequence = [image]
    study = Dataset()
    study.StudyInstanceUID = str(instance.StudyInstanceUID)
    study.ReferencedSeriesSequence = [series]
    return study


def _verified(description: str, word: str = "verified") -> str:
    return description.replace("(unverified)", f"({word})")


def _content(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", ()):
        yield child
        yield from _content(child)


def _hold_name(dataset: Dataset, name: str) -> None:
    """Switch to UTF-8 where the object's character set cannot hold the reader's name."""
    declared: Any = dataset.get("SpecificCharacterSet", "")
    sets = [declared] if isinstance(declared, str) else list(declared)
    if can_hold(sets, name):
        return
    dataset.decode()
    dataset.SpecificCharacterSet = UTF8


def _like(dataset: Dataset, at: datetime) -> datetime:
    """Express a time in the zone of the object's other times."""
    offset = str(dataset.get("TimezoneOffsetFromUTC", ""))
    return at.astimezone(datetime.strptime(offset, "%z").tzinfo) if offset else at.astimezone()
