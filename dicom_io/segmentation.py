"""Write a label map as a DICOM Segmentation on the source's own slices.

BINARY, Explicit VR Little Endian by default: what viewers draw right today. highdicom makes the
header; `cuda_kernels.bits` packs the frames, and their functional groups are encoded straight to
bytes: there the time goes. Reading back is in `segmentation_masks` and is offered here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, SegmentationStorage

from cuda_kernels.bits import labels_present, pack_masks
from dicom_io.equipment import algorithm_identification, check_names, coded, notice, stamp
from dicom_io.frame_groups import (
    SliceGroups,
    decimal,
    frame_group,
    per_frame_groups,
    slice_groups,
)
from dicom_io.result_errors import ResultInputError
from dicom_io.results import Algorithm, ResultIdentity, Segment
from dicom_io.segmentation_masks import SegmentFrame, SegmentMasks, read_segmentation
from dicom_io.source_grid import SliceGrid, slice_grid
from dicom_io.source_header import dicom_source, result_header
from dicom_io.volume import Volume

__all__ = [
    "SegmentFrame",
    "SegmentMasks",
    "load_tables",
    "make_segmentation",
    "read_segmentation",
    "segment_numbers",
]

LabelArray = NDArray[np.uint8] | NDArray[np.uint16]
SERIES_NUMBER = 9001
_CONTENT_LABEL = "AI_SEGMENTATION"
_HIGHEST_LABEL = 65535
MAX_FRACTIONAL = 255
"""Stored value of probability 1 in a FRACTIONAL object, which is rounded to 1/255."""


def make_segmentation(
    volume: Volume,
    labels: LabelArray,
    segments: Sequence[Segment],
    *,
    algorithm: Algorithm,
    identity: ResultIdentity,
    kind: Literal["BINARY", "LABELMAP"] = "BINARY",
) -> Dataset:
    """Encode a label map as one DICOM Segmentation instance.

    Every segment is described, also one without a voxel (it was searched for); frames without a
    voxel are left out. Frames are on the source's slice positions and name their source frame; a
    volume resampled from a tilted gantry has frames at its own positions and names only the series'
    images.

    Parameters
    ----------
    labels : (slice, row, column), unsigned, the volume's own grid
        0 is background, every other value the ``label`` of one of `segments`.
    kind : "LABELMAP" only for a receiver known to draw it right

    Returns
    -------
    Dataset
        With file meta, Explicit VR Little Endian, ready for `write_dicom`. Built from the same
        input it is the same, bit for bit, apart from the time zone of this machine.

    Raises
    ------
    ResultInputError, NoDicomSourceError, MissingIdentifierError, SourceGridMismatchError
    """
    segments = tuple(segments)
    check_names(algorithm, segments)
    numbers = segment_numbers(segments, kind)
    check_labels(volume, labels, segments)
    if not labels.any():
        raise ResultInputError(
            field="labels", problem="no segment has a voxel; write only the report"
        )
    grid = slice_grid(volume)
    words = [algorithm.name, algorithm.manufacturer, *(segment.name for segment in segments)]
    header = result_header(volume, words)
    made = segmentation_template(volume, segments, numbers, algorithm, identity, header, kind)
    dataset = stamp(
        made,
        header,
        algorithm,
        identity,
        kind="seg",
        description="SEG",
        series_number=SERIES_NUMBER,
    )
    set_geometry(dataset, grid, volume, identity.uid("seg-dimensions"))
    if kind == "BINARY":
        _set_binary_frames(dataset, labels, grid, numbers)
    else:
        _set_labelmap_frames(dataset, labels, grid)
    return dataset


def load_tables() -> None:
    """Let highdicom read its tables of the standard (0.4 s) before the first object needs them."""
    hd.base.SOPClass(
        study_instance_uid=hd.UID(),
        series_instance_uid=hd.UID(),
        series_number=1,
        sop_instance_uid=hd.UID(),
        sop_class_uid=SegmentationStorage,
        instance_number=1,
        modality="SEG",
    )


def segment_numbers(
    segments: Sequence[Segment], kind: Literal["BINARY", "LABELMAP"] = "BINARY"
) -> dict[int, int]:
    """Segment Number of each label.

    The label itself where the standard allows it: always in a label map; in a BINARY object only
    if the labels are 1, 2, ..., n (PS3.3 C.8.20.4). Otherwise segments are counted in their order.

    Raises
    ------
    ResultInputError
        No segment, a label below 1 or above 65535, or one used twice.
    """
    labels = [segment.label for segment in segments]
    if not labels:
        raise ResultInputError(field="segments", problem="there is none")
    if min(labels) < 1 or max(labels) > _HIGHEST_LABEL or len(set(labels)) != len(labels):
        raise ResultInputError(
            field="segments", problem=f"labels {labels} must differ and lie within 1 to 65535"
        )
    if kind == "LABELMAP" or sorted(labels) == list(range(1, len(labels) + 1)):
        return {label: label for label in sorted(labels)}
    return {label: number for number, label in enumerate(labels, start=1)}


def check_labels(volume: Volume, labels: LabelArray, segments: Sequence[Segment]) -> None:
    """Refuse a label map that is not of this volume or holds a value that no segment describes.

    Raises
    ------
    ResultInputError
    """
    if labels.dtype not in (np.uint8, np.uint16):
        raise ResultInputError(
            field="labels.dtype", problem=f"{labels.dtype} is neither uint8 nor uint16"
        )
    if labels.shape != volume.array.shape:
        raise ResultInputError(
            field="labels.shape",
            problem=f"{labels.shape} is not the volume's {volume.array.shape}",
        )
    described = {segment.label for segment in segments}
    highest = int(labels.max(initial=0))
    if described >= set(range(1, highest + 1)):
        return
    is_described = np.zeros(highest + 1, dtype=bool)
    is_described[[0, *(label for label in described if label <= highest)]] = True
    for index, plane in enumerate(labels):
        known = is_described[plane]
        if not known.all():
            value = int(plane[~known][0])
            raise ResultInputError(
                field="labels", problem=f"value {value} in slice {index} has no segment"
            )


def segmentation_template(
    volume: Volume,
    segments: tuple[Segment, ...],
    numbers: dict[int, int],
    algorithm: Algorithm,
    identity: ResultIdentity,
    header: Dataset,
    kind: str,
) -> Dataset:
    """Let highdicom build the object for one empty slice: all modules but the frames."""
    fractional: dict[str, Any] = {}
    if kind == "FRACTIONAL":
        fractional = {"fractional_type": "PROBABILITY", "max_fractional_value": MAX_FRACTIONAL}
    stand_in = source_stand_in(volume, header)
    return hd.seg.Segmentation(
        source_images=[stand_in],
        pixel_array=np.zeros((1, stand_in.Rows, stand_in.Columns), dtype=np.uint8),
        **fractional,
        segmentation_type=kind,
        segment_descriptions=sorted(
            (
                _segment_description(segment, numbers[segment.label], algorithm, identity)
                for segment in segments
            ),
            key=lambda description: int(description.SegmentNumber),
        ),
        series_instance_uid=identity.uid("seg-series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=identity.uid("seg"),
        instance_number=identity.revision,
        manufacturer=algorithm.manufacturer,
        manufacturer_model_name=algorithm.name,
        software_versions=algorithm.version,
        device_serial_number=algorithm.device_uid,
        omit_empty_frames=False,
        content_label=_CONTENT_LABEL,
        content_description=notice(algorithm),
    )


def source_stand_in(volume: Volume, header: Dataset) -> Dataset:
    """Return the least that highdicom needs to know of a source image.

    Everything of the patient and study comes from `header` afterwards.
    """
    image = Dataset()
    image.SOPClassUID = CTImageStorage
    image.SOPInstanceUID = "1.2.3"
    image.SeriesInstanceUID = "1.2.3"
    image.StudyInstanceUID = header.StudyInstanceUID
    image.FrameOfReferenceUID = header.FrameOfReferenceUID
    image.Modality = volume.modality or "OT"
    image.Rows, image.Columns = volume.array.shape[1:]
    image.PixelSpacing = [1, 1]
    image.SliceThickness = 1
    image.ImagePositionPatient = [0, 0, 0]
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    for keyword in (
        "PatientID",
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
        "AccessionNumber",
        "StudyID",
        "StudyDate",
        "StudyTime",
    ):
        setattr(image, keyword, "")
    return image


def _segment_description(
    segment: Segment, number: int, algorithm: Algorithm, identity: ResultIdentity
) -> hd.seg.SegmentDescription:
    description = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.name,
        segmented_property_category=coded(segment.category),
        segmented_property_type=coded(segment.type),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm_identification(algorithm),
        tracking_uid=identity.tracking_uid(segment.label),
        tracking_id=segment.name,
        display_color=hd.color.CIELabColor.from_rgb(*segment.color_rgb),
    )
    if segment.modifier is not None:
        kind = description.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [coded(segment.modifier)]
    return description


def set_geometry(dataset: Dataset, grid: SliceGrid, volume: Volume, dimensions_uid: str) -> None:
    """Write what all frames share: orientation, pixel measures, dimensions, source images."""
    measures = Dataset()
    measures.PixelSpacing = [decimal(value) for value in grid.pixel_spacing_mm]
    measures.SliceThickness = decimal(grid.slice_thickness_mm)
    measures.SpacingBetweenSlices = decimal(grid.slice_spacing_mm)
    plane = Dataset()
    plane.ImageOrientationPatient = [decimal(value) for value in grid.orientation]
    shared = dataset.SharedFunctionalGroupsSequence[0]
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [plane]
    dataset.DimensionOrganizationSequence[0].DimensionOrganizationUID = dimensions_uid
    for index in dataset.DimensionIndexSequence:
        index.DimensionOrganizationUID = dimensions_uid
    if "DimensionOrganizationType" in dataset:
        del dataset.DimensionOrganizationType
    source = dicom_source(volume)
    images = []
    for instance in source.instances:
        image = Dataset()
        image.ReferencedSOPClassUID = str(instance.sop_class_uid)
        image.ReferencedSOPInstanceUID = str(instance.instance_uid)
        images.append(image)
    dataset.SourceImageSequence = images
    series = Dataset()
    series.SeriesInstanceUID = str(source.series_uid)
    series.ReferencedInstanceSequence = images
    dataset.ReferencedSeriesSequence = [series]
    lossy = str(source.instances[0].header.get("LossyImageCompression", "00"))
    dataset.LossyImageCompression = "01" if lossy == "01" else "00"


def _set_binary_frames(
    dataset: Dataset, labels: LabelArray, grid: SliceGrid, numbers: dict[int, int]
) -> None:
    """Pack one bit per pixel, segment after segment, slices in their order."""
    present = labels_present(labels, max(int(labels.max()), *numbers) + 1)
    filled = np.flatnonzero(present[:, 1:].any(axis=1)).tolist()
    # A single segment is one shared by all frames; more than one is said frame by frame.
    is_single = "SegmentIdentificationSequence" in dataset.SharedFunctionalGroupsSequence[0]
    by_number = sorted((number, label) for label, number in numbers.items())
    slices = {index: _slice_groups(grid, index) for index in filled}
    groups: list[bytes] = []
    frames: list[tuple[int, int]] = []
    for order, (number, label) in enumerate(by_number, start=1):
        for position, index in enumerate(filled, start=1):
            if present[index, label]:
                frames.append((order - 1, index))
                groups.append(
                    frame_group((order, position), slices[index], None if is_single else number)
                )
    pixels = pack_masks(labels, [label for _, label in by_number], frames)
    _set_frames(dataset, groups, pixels.tobytes(), vr="OB")


def _set_labelmap_frames(dataset: Dataset, labels: LabelArray, grid: SliceGrid) -> None:
    """Store the label map itself, slice after slice, in as few bytes a pixel as highdicom chose."""
    dtype = np.dtype(np.uint8 if dataset.BitsAllocated == 8 else "<u2")
    filled = [index for index, plane in enumerate(labels) if plane.any()]
    groups = [
        frame_group((position,), _slice_groups(grid, index), None)
        for position, index in enumerate(filled, start=1)
    ]
    pixels = b"".join(labels[index].astype(dtype, copy=False).tobytes() for index in filled)
    _set_frames(dataset, groups, pixels, vr="OB" if dtype.itemsize == 1 else "OW")


def _slice_groups(grid: SliceGrid, index: int) -> SliceGroups:
    reference = None if grid.references is None else grid.references[index]
    return slice_groups(tuple(grid.positions_mm[index]), reference)


def _set_frames(dataset: Dataset, groups: list[bytes], pixels: bytes, *, vr: str) -> None:
    element = per_frame_groups(groups)
    dataset[element.tag] = element
    dataset.NumberOfFrames = len(groups)
    if len(pixels) % 2:
        pixels += b"\0"
    dataset["PixelData"] = DataElement(0x7FE00010, vr, pixels)
