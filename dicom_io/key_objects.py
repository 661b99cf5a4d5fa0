"""Point at instances: the key images of a result, and the note that rejects one (IHE IOCM).

A rejection note is a Key Object Selection whose title says why; an archive that knows Imaging
Object Change Management hides what the note lists. What it refers to stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from highdicom.sr import (
    CodeContentItem,
    DeviceObserverIdentifyingAttributes,
    ObserverContext,
    RelationshipTypeValues,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as DicomCode

from dicom_io.equipment import LO_LIMIT, check_names, notice, stamp
from dicom_io.evidence import PATIENT_AND_STUDY
from dicom_io.labelled import LabelledVolume, grid_on_images
from dicom_io.result_errors import ResultInputError
from dicom_io.results import Algorithm, ResultIdentity
from dicom_io.secondary_capture import pictured_slices
from dicom_io.source_grid import FrameReference
from dicom_io.source_header import dicom_source, result_header, study_header
from dicom_io.volume import Volume

SERIES_NUMBER = 9008
REJECTION_SERIES_NUMBER = 9009
_NOT_IN_SELECTIONS = (
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "BodyPartExamined",
    "Laterality",
)


class Rejection(Enum):
    """Why objects are rejected: the title of the note (CID 7011 of IHE RAD TF-1, 32; PS3.16 7010).

    ``QUALITY``: of no use, though harmless. ``PATIENT_SAFETY``: could harm if it were used; the
    archive must not show it again.
    """

    QUALITY = codes.cid7010.RejectedForQualityReasons
    PATIENT_SAFETY = codes.cid7010.RejectedForPatientSafetyReasons


@dataclass(frozen=True, kw_only=True)
class RejectedObject:
    """One stored instance of the study that a note rejects."""

    sop_class_uid: str
    instance_uid: str
    series_uid: str


def make_key_objects(
    found: LabelledVolume, *, algorithm: Algorithm, identity: ResultIdentity
) -> Dataset:
    """List the source images that show the result best ("Of Interest").

    Raises
    ------
    ResultInputError
        No segment has a voxel, or the slices are not those of the source.
    NoDicomSourceError, MissingIdentifierError
    """
    check_names(algorithm, found.segments)
    if not found.measurements:
        raise ResultInputError(
            field="labels", problem="no segment has a voxel; no image is of interest"
        )
    _, references = grid_on_images(found.volume)
    series_uid = str(dicom_source(found.volume).series_uid)
    shown = [references[index] for index in pictured_slices(found)]
    images = [_image(reference, series_uid) for reference in shown]
    names = ", ".join(segment.name for segment, _ in found.found)
    text = f"{algorithm.name} {algorithm.version}: {names}. {notice(algorithm)}."
    return _selection(
        result_header(found.volume, [text, algorithm.name, algorithm.manufacturer]),
        images,
        codes.cid7010.OfInterest,
        text,
        algorithm=algorithm,
        identity=identity,
        kind="ko",
        description="key images",
        series_number=SERIES_NUMBER,
    )


def make_rejection_note(
    volume: Volume,
    rejected: Sequence[RejectedObject],
    reason: Rejection,
    comment: str,
    *,
    algorithm: Algorithm,
    identity: ResultIdentity,
) -> Dataset:
    """Reject result objects of this volume's study.

    Parameters
    ----------
    rejected : each once; the note changes nothing in them
    comment : in a person's words, why
    identity : of the rejected result, with ``revision`` counting its rejections

    Raises
    ------
    ResultInputError
        Nothing is rejected, an object twice, or one of the source's own images: those are not ours
        to reject.
    NoDicomSourceError, MissingIdentifierError
    """
    source_uids = {str(instance.instance_uid) for instance in dicom_source(volume).instances}
    _check_rejection(rejected, comment, source_uids, algorithm)
    header = result_header(volume, [comment, algorithm.name, algorithm.manufacturer])
    return _note(header, rejected, reason, comment, algorithm, identity)


def make_rejection_note_beside(
    origin: Dataset,
    rejected: Sequence[RejectedObject],
    reason: Rejection,
    comment: str,
    *,
    algorithm: Algorithm,
    identity: ResultIdentity,
) -> Dataset:
    """Reject result objects of a study whose images are not at hand.

    Parameters
    ----------
    origin : one of the rejected objects; patient and study are as it says

    Raises
    ------
    ResultInputError
        As `make_rejection_note`; or ``origin`` is not among what is rejected.
    MissingIdentifierError
    """
    _check_rejection(rejected, comment, set(), algorithm)
    if str(origin.get("SOPInstanceUID", "")) not in {one.instance_uid for one in rejected}:
        raise ResultInputError(field="origin", problem="is not one of the rejected objects")
    header = study_header(origin, [comment, algorithm.name, algorithm.manufacturer])
    return _note(header, rejected, reason, comment, algorithm, identity)


def _check_rejection(
    rejected: Sequence[RejectedObject], comment: str, source_uids: set[str], algorithm: Algorithm
) -> None:
    """Refuse to reject nothing, an object twice, a source image, or without a word why."""
    check_names(algorithm, ())
    uids = [one.instance_uid for one in rejected]
    not_ours = source_uids & set(uids)
    problem = (
        "there is none"
        if not uids
        else "an instance is there twice"
        if len(set(uids)) < len(uids)
        else f"{sorted(not_ours)[0]} is a source image, not a result"
        if not_ours
        else ""
    )
    if problem:
        raise ResultInputError(field="rejected", problem=problem)
    if not comment.strip():
        raise ResultInputError(field="comment", problem="a rejection says why, in words")


def _note(
    header: Dataset,
    rejected: Sequence[RejectedObject],
    reason: Rejection,
    comment: str,
    algorithm: Algorithm,
    identity: ResultIdentity,
) -> Dataset:
    images = [
        _image(
            FrameReference(sop_class_uid=one.sop_class_uid, instance_uid=one.instance_uid),
            one.series_uid,
        )
        for one in rejected
    ]
    return _selection(
        header,
        images,
        reason.value,
        comment,
        algorithm=algorithm,
        identity=identity,
        kind="rejection",
        description="rejection note",
        series_number=REJECTION_SERIES_NUMBER,
    )


def _image(reference: FrameReference, series_uid: str) -> Dataset:
    image = Dataset()
    image.SOPClassUID = reference.sop_class_uid
    image.SOPInstanceUID = reference.instance_uid
    image.SeriesInstanceUID = series_uid
    if reference.frame_number is not None:
        image.ReferencedFrameNumber = reference.frame_number
    return image


def _selection(
    header: Dataset,
    images: list[Dataset],
    title: DicomCode,
    text: str,
    *,
    algorithm: Algorithm,
    identity: ResultIdentity,
    kind: str,
    description: str,
    series_number: int,
) -> Dataset:
    for keyword in _NOT_IN_SELECTIONS:
        if keyword in header:
            del header[keyword]
    for image in images:
        image.StudyInstanceUID = header.StudyInstanceUID
    for keyword in PATIENT_AND_STUDY:
        setattr(images[0], keyword, "")
    content = KeyObjectSelection(
        document_title=title,
        referenced_objects=images,
        observer_device_context=ObserverContext(
            observer_type=codes.DCM.Device,
            observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
                uid=algorithm.device_uid,
                name=f"{algorithm.name} {algorithm.version}"[:LO_LIMIT],
                manufacturer_name=algorithm.manufacturer,
                model_name=algorithm.name,
                serial_number=algorithm.device_uid,
            ),
        ),
        description=text,
    )
    if title == codes.cid7010.RejectedForQualityReasons:
        # TID 2010 row 3: with this title a reason of CID 7011 is mandatory.
        modifier = CodeContentItem(
            name=codes.DCM.DocumentTitleModifier,
            value=codes.cid7011.InappropriateImageProcessing,
            relationship_type=RelationshipTypeValues.HAS_CONCEPT_MOD,
        )
        content[0].ContentSequence.insert(0, modifier)
    document = KeyObjectSelectionDocument(
        evidence=images,
        content=content,
        series_instance_uid=identity.uid(f"{kind}-series"),
        series_number=series_number,
        sop_instance_uid=identity.uid(kind),
        instance_number=identity.revision,
        manufacturer=algorithm.manufacturer,
    )
    return stamp(
        document,
        header,
        algorithm,
        identity,
        kind=kind,
        description=description,
        series_number=series_number,
    )
