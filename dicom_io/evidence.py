"""Stand-ins for the images that a result refers to, as highdicom wants them, and their sequences.

Only identifiers are in them; everything about patient and study comes from `source_header`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydicom.dataset import Dataset

from dicom_io.source_grid import FrameReference
from dicom_io.source_header import dicom_source
from dicom_io.volume import Volume

PATIENT_AND_STUDY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)


def stand_in(reference: FrameReference) -> Dataset:
    """SOP class and instance UID of an image."""
    image = Dataset()
    image.SOPClassUID = reference.sop_class_uid
    image.SOPInstanceUID = reference.instance_uid
    return image


def evidence(volume: Volume, objects: Iterable[Dataset], study_uid: str) -> list[Dataset]:
    """Every source instance and the result objects named; the first has empty patient data."""
    source = dicom_source(volume)
    found = []
    for instance in source.instances:
        image = stand_in(
            FrameReference(
                sop_class_uid=str(instance.sop_class_uid), instance_uid=str(instance.instance_uid)
            )
        )
        image.SeriesInstanceUID = str(source.series_uid)
        found.append(image)
    for made in objects:
        image = Dataset()
        for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID"):
            setattr(image, keyword, made[keyword].value)
        found.append(image)
    return _with_study(found, study_uid)


def _with_study(images: list[Dataset], study_uid: str) -> list[Dataset]:
    for image in images:
        image.StudyInstanceUID = study_uid
    for keyword in PATIENT_AND_STUDY:
        setattr(images[0], keyword, "")
    return images


def referenced(references: Sequence[FrameReference]) -> list[Dataset]:
    """Items of a Referenced (or Source) Image Sequence, one for each instance, frames gathered."""
    items: dict[str, Dataset] = {}
    for reference in references:
        item = items.get(reference.instance_uid)
        if item is None:
            item = Dataset()
            item.ReferencedSOPClassUID = reference.sop_class_uid
            item.ReferencedSOPInstanceUID = reference.instance_uid
            items[reference.instance_uid] = item
        if reference.frame_number is not None:
            known = item.get("ReferencedFrameNumber", [])
            frames = [int(known)] if isinstance(known, int) else [int(each) for each in known]
            item.ReferencedFrameNumber = [*frames, reference.frame_number]
    return list(items.values())


def source_references(volume: Volume) -> list[FrameReference]:
    """Every source instance, once."""
    return [
        FrameReference(
            sop_class_uid=str(instance.sop_class_uid), instance_uid=str(instance.instance_uid)
        )
        for instance in dicom_source(volume).instances
    ]
