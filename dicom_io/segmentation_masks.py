"""Read a DICOM Segmentation: each frame's mask and its place in the patient.

Reads what others write too (dcmqi, highdicom): BINARY and LABELMAP. FRACTIONAL is refused, because
a probability is not a mask until somebody has chosen a threshold.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pixel_array
from pydicom.uid import SegmentationStorage

from dicom_io.result_errors import UnsupportedObjectError
from dicom_io.volume import Float64

LABELMAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"


@dataclass(frozen=True, kw_only=True)
class SegmentFrame:
    """One frame of a segmentation object.

    Attributes
    ----------
    index : 0-based place in the object
    segment_number : None in a label map, whose pixels hold the numbers
    affine_lps : (4, 4)
        ``affine_lps @ (0, row, column, 1)`` is the centre of that pixel in LPS millimetres; its
        first column is the unit normal.
    source_instance_uid, source_frame_number : the image it was drawn on, where the object says so
    """

    index: int
    segment_number: int | None
    affine_lps: Float64
    source_instance_uid: str | None
    source_frame_number: int | None


@dataclass(frozen=True, kw_only=True)
class SegmentMasks:
    """A segmentation object, decoded frame by frame on demand.

    Attributes
    ----------
    segments : label of each segment number, as the object describes them
    tracking_uids : tracking UID of each segment number that has one
    """

    instance_uid: str
    frame_of_reference_uid: str
    segments: dict[int, str]
    tracking_uids: dict[int, str]
    frames: tuple[SegmentFrame, ...]
    shape: tuple[int, int]
    _dataset: Dataset = field(repr=False)

    def pixels(self, index: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Pixels of a frame, (row, column): 0 or 1 in a BINARY object, numbers in a label map."""
        if self._dataset.BitsAllocated == 1 and not _is_compressed(self._dataset):
            return _unpacked(self._dataset, index)
        decoded: NDArray[np.uint8] | NDArray[np.uint16] = pixel_array(self._dataset, index=index)
        return decoded

    def mask(self, frame: SegmentFrame, segment_number: int) -> NDArray[np.bool_]:
        """Mask of one segment in one frame, (row, column)."""
        pixels = self.pixels(frame.index)
        if frame.segment_number is None:
            return np.equal(pixels, segment_number)
        if frame.segment_number != segment_number:
            return np.zeros(self.shape, dtype=bool)
        return pixels.astype(bool)


def read_segmentation(dataset: Dataset) -> SegmentMasks:
    """Read a segmentation object.

    Raises
    ------
    UnsupportedObjectError
        Not a segmentation, fractional, or a frame without a place in the patient.
    """
    kind = str(dataset.get("SegmentationType", ""))
    if str(dataset.get("SOPClassUID", "")) not in (SegmentationStorage, LABELMAP_STORAGE):
        raise UnsupportedObjectError(field="SOPClassUID", value=str(dataset.get("SOPClassUID", "")))
    if kind not in ("BINARY", "LABELMAP"):
        raise UnsupportedObjectError(field="SegmentationType", value=kind)
    described = list(dataset.get("SegmentSequence") or [])
    return SegmentMasks(
        instance_uid=str(dataset.SOPInstanceUID),
        frame_of_reference_uid=str(dataset.get("FrameOfReferenceUID", "")),
        segments={
            int(item.SegmentNumber): str(item.get("SegmentLabel", ""))
            for item in described
            if int(item.SegmentNumber) > 0
        },
        tracking_uids={
            int(item.SegmentNumber): str(item.TrackingUID)
            for item in described
            if item.get("TrackingUID")
        },
        frames=_frames(dataset, kind),
        shape=(int(dataset.Rows), int(dataset.Columns)),
        _dataset=dataset,
    )


def _frames(dataset: Dataset, kind: str) -> tuple[SegmentFrame, ...]:
    """Read the functional groups of every frame, once each."""
    shared = dataset.get("SharedFunctionalGroupsSequence") or [Dataset()]
    groups = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    n_frames = int(dataset.get("NumberOfFrames", 1))
    if len(groups) != n_frames:
        raise UnsupportedObjectError(
            field="PerFrameFunctionalGroupsSequence", value=f"{len(groups)} of {n_frames} frames"
        )
    return tuple(_frame(group, shared[0], index, kind) for index, group in enumerate(groups))


def _frame(group: Dataset, shared: Dataset, index: int, kind: str) -> SegmentFrame:
    def macro(name: str) -> Dataset | None:
        items = group.get(name) or shared.get(name)
        if not items:
            return None
        item: Dataset = items[0]
        return item

    values: dict[str, Dataset] = {}
    for name in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"):
        item = macro(name)
        if item is None:
            raise UnsupportedObjectError(field=f"{name} of frame {index + 1}", value="absent")
        values[name] = item
    identification = macro("SegmentIdentificationSequence")
    if kind == "BINARY" and identification is None:
        raise UnsupportedObjectError(
            field=f"SegmentIdentificationSequence of frame {index + 1}", value="absent"
        )
    derivation = macro("DerivationImageSequence")
    images = None if derivation is None else derivation.get("SourceImageSequence")
    image = images[0] if images else None
    return SegmentFrame(
        index=index,
        segment_number=(
            int(identification.ReferencedSegmentNumber)
            if kind == "BINARY" and identification is not None
            else None
        ),
        affine_lps=_frame_affine(
            values["PlanePositionSequence"].ImagePositionPatient,
            values["PlaneOrientationSequence"].ImageOrientationPatient,
            values["PixelMeasuresSequence"].PixelSpacing,
        ),
        source_instance_uid=None if image is None else str(image.ReferencedSOPInstanceUID),
        source_frame_number=(
            None
            if image is None or "ReferencedFrameNumber" not in image
            else int(image.ReferencedFrameNumber)
        ),
    )


def _frame_affine(position: object, orientation: object, spacing: object) -> Float64:
    """PS3.3 C.7.6.2.1.1: rows grow along the second cosines by the first spacing."""
    cosines = np.array(orientation, dtype=np.float64)
    row_spacing_mm, column_spacing_mm = np.array(spacing, dtype=np.float64)
    affine = np.eye(4)
    affine[:3, 0] = np.cross(cosines[:3], cosines[3:])
    affine[:3, 1] = cosines[3:] * row_spacing_mm
    affine[:3, 2] = cosines[:3] * column_spacing_mm
    affine[:3, 3] = np.array(position, dtype=np.float64)
    return affine


def _is_compressed(dataset: Dataset) -> bool:
    syntax = dataset.file_meta.TransferSyntaxUID if "file_meta" in dataset.__dict__ else None
    return bool(syntax is not None and syntax.is_encapsulated)


def _unpacked(dataset: Dataset, index: int) -> NDArray[np.uint8]:
    """Take one frame out of the bit stream; frames need not begin at a byte."""
    n_pixels = int(dataset.Rows) * int(dataset.Columns)
    first = index * n_pixels
    data = np.frombuffer(dataset.PixelData, dtype=np.uint8)
    covering = data[first // 8 : -(-(first + n_pixels) // 8)]
    bits = np.unpackbits(covering, bitorder="little")[first % 8 : first % 8 + n_pixels]
    if bits.size != n_pixels:
        raise UnsupportedObjectError(field=f"PixelData of frame {index + 1}", value="too short")
    return bits.reshape(int(dataset.Rows), int(dataset.Columns))
