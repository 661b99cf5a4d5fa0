"""Objects that are awkward over DICOMweb, and answers taken apart."""

from __future__ import annotations

import io
from dataclasses import dataclass
from email.parser import BytesParser
from typing import Any

import httpx
import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from tests.builders.instances import ct_dataset

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
ANY_SYNTAX = 'multipart/related; type="application/dicom"; transfer-syntax=*'


def binary_segmentation(
    *, study: int, n_frames: int, shape: tuple[int, int], series: int = 7
) -> Dataset:
    """A segmentation whose frames do not begin at bytes where rows x columns is odd."""
    dataset = _multi_frame(study, series, SEGMENTATION, "SEG", n_frames, shape)
    dataset.BitsAllocated = dataset.BitsStored = 1
    dataset.HighBit = 0
    dataset.SegmentationType = "BINARY"
    bits = np.random.default_rng(study).integers(0, 2, (n_frames, *shape), np.uint8)
    packed = np.packbits(bits.ravel(), bitorder="little").tobytes()
    dataset.PixelData = packed + b"\0" * (len(packed) % 2)
    return dataset


def segmentation_bits(*, study: int, n_frames: int, shape: tuple[int, int]) -> np.ndarray:
    """The bits of the same object."""
    return np.random.default_rng(study).integers(0, 2, (n_frames, *shape), np.uint8)


def parametric_map(*, study: int, values: np.ndarray, series: int = 8) -> Dataset:
    """Float pixels, (frame, row, column)."""
    n_frames, *shape = values.shape
    dataset = _multi_frame(study, series, PARAMETRIC_MAP, "OT", n_frames, (shape[0], shape[1]))
    dataset.BitsAllocated = 32
    for keyword in ("BitsStored", "HighBit", "PixelRepresentation", "PixelData"):
        if keyword in dataset:
            delattr(dataset, keyword)
    dataset.FloatPixelData = values.astype("<f4").tobytes()
    return dataset


def rgb_capture(*, study: int, pixels: np.ndarray, series: int = 6) -> Dataset:
    """A colour picture, (row, column, 3)."""
    dataset = ct_dataset(study=study, series=series, shape=pixels.shape[:2])
    _become(dataset, SECONDARY_CAPTURE, "OT")
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3, "RGB"
    dataset.PlanarConfiguration = 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    data = pixels.astype(np.uint8).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OB"
    return dataset


def _multi_frame(
    study: int, series: int, sop_class: str, modality: str, n_frames: int, shape: tuple[int, int]
) -> Dataset:
    dataset = ct_dataset(study=study, series=series, shape=shape)
    _become(dataset, sop_class, modality)
    dataset.NumberOfFrames = n_frames
    groups = []
    for number in range(n_frames):
        position = Dataset()
        position.ImagePositionPatient = [0, 0, 2.0 * number]
        item = Dataset()
        item.PlanePositionSequence = DicomSequence([position])
        groups.append(item)
    dataset.PerFrameFunctionalGroupsSequence = DicomSequence(groups)
    return dataset


def _become(dataset: Dataset, sop_class: str, modality: str) -> None:
    dataset.SOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.Modality = modality
    for keyword in ("RescaleSlope", "RescaleIntercept"):
        delattr(dataset, keyword)


@dataclass(frozen=True, kw_only=True)
class TakenPart:
    """One part of a multipart answer."""

    headers: dict[str, str]
    content: bytes

    @property
    def dataset(self) -> Dataset:
        return pydicom.dcmread(io.BytesIO(self.content))


def parts_of(answer: httpx.Response) -> list[TakenPart]:
    """Take a multipart answer apart, with the standard library's parser."""
    head = f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n".encode()
    found: Any = BytesParser().parsebytes(head + answer.content).get_payload()
    return [
        TakenPart(
            headers={name.lower(): value for name, value in part.items()},
            content=part.get_payload(decode=True),
        )
        for part in found
    ]
