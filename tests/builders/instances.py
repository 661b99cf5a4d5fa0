"""Single DICOM instances as bytes, for receiving: small, quick to make, any identifier."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ROOT = "1.2.826.0.1.3680043.10.1"


def study_uid(number: int) -> str:
    return f"{ROOT}.{number}"


def series_uid(number: int, series: int = 1) -> str:
    return f"{ROOT}.{number}.{series}"


def instance_uid(number: int, slice_number: int, series: int = 1) -> str:
    return f"{ROOT}.{number}.{series}.{slice_number}"


def ct_dataset(
    *,
    study: int = 1,
    slice_number: int = 1,
    series: int = 1,
    shape: tuple[int, int] = (5, 7),
    fill: int | None = None,
    transfer_syntax: str = ExplicitVRLittleEndian,
    **attributes: Any,
) -> Dataset:
    """One CT slice; ``fill`` sets every pixel, else they differ with study and slice."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = transfer_syntax
    dataset.SOPClassUID = CT_IMAGE
    dataset.SOPInstanceUID = instance_uid(study, slice_number, series)
    dataset.StudyInstanceUID = study_uid(study)
    dataset.SeriesInstanceUID = series_uid(study, series)
    dataset.FrameOfReferenceUID = f"{ROOT}.{study}.99"
    dataset.PatientName = "Phantom^Built"
    dataset.PatientID = f"PATIENT-{study}"
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "O"
    dataset.StudyDate = "20261122"
    dataset.StudyTime = "120000"
    dataset.StudyID = str(study)
    dataset.AccessionNumber = f"A{study}"
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = "built"
    dataset.SeriesDescription = "thin"
    dataset.SeriesNumber = series
    dataset.InstanceNumber = slice_number
    dataset.Modality = "CT"
    dataset.BodyPartExamined = "CHEST"
    dataset.ImagePositionPatient = [0, 0, 2.0 * slice_number]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = [0.5, 0.7]
    dataset.SliceThickness = 2.0
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.Rows, dataset.Columns = shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 0
    pixels = np.random.default_rng(study * 1000 + slice_number).integers(0, 4096, shape, np.uint16)
    if fill is not None:
        pixels[:] = fill
    dataset.PixelData = pixels.tobytes()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def part10(dataset: Dataset) -> bytes:
    """Encode as a file: preamble, meta information, data set."""
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def ct_file(**options: Any) -> bytes:
    """`ct_dataset`, encoded."""
    return part10(ct_dataset(**options))
