"""Write a segment's probability: as a Parametric Map, or as a FRACTIONAL segmentation.

Both are opt-in: viewers of today do not draw them. Frames lie on the source's own slices; every
slice of a map has its frame, a FRACTIONAL segment only those with a probability above 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from dicom_io.equipment import check_names, leave_laterality_open, notice, stamp
from dicom_io.frame_groups import frame_group, per_frame_groups, slice_groups
from dicom_io.result_errors import ResultInputError
from dicom_io.results import Algorithm, ResultIdentity, Segment
from dicom_io.segmentation import (
    MAX_FRACTIONAL,
    SERIES_NUMBER,
    segment_numbers,
    segmentation_template,
    set_geometry,
    source_stand_in,
)
from dicom_io.source_grid import SliceGrid, slice_grid
from dicom_io.source_header import result_header
from dicom_io.volume import Volume

MAP_SERIES_NUMBER = 9007
NO_UNITS = Code("1", "UCUM", "no units")
Probability = NDArray[np.float32]


def make_parametric_map(
    volume: Volume,
    probability: Probability,
    segment: Segment,
    *,
    algorithm: Algorithm,
    identity: ResultIdentity,
) -> Dataset:
    """Encode the probability of one segment as 32-bit floats.

    Parameters
    ----------
    probability : (slice, row, column), 0 to 1, the volume's own grid

    Returns
    -------
    Dataset
        With file meta, Explicit VR Little Endian.

    Raises
    ------
    ResultInputError, NoDicomSourceError, MissingIdentifierError, SourceGridMismatchError
    """
    check_names(algorithm, (segment,))
    _check_probability(volume, probability, segment)
    grid = slice_grid(volume)
    header = result_header(volume, [algorithm.name, algorithm.manufacturer, segment.name])
    leave_laterality_open(header)
    image = source_stand_in(volume, header)
    made = hd.pm.ParametricMap(
        source_images=[image],
        pixel_array=np.zeros((1, image.Rows, image.Columns), dtype=np.float32),
        series_instance_uid=identity.uid("pmap-series"),
        series_number=MAP_SERIES_NUMBER,
        sop_instance_uid=identity.uid(f"pmap-{segment.label:02d}"),
        instance_number=segment.label,
        manufacturer=algorithm.manufacturer,
        manufacturer_model_name=algorithm.name,
        software_versions=algorithm.version,
        device_serial_number=algorithm.device_uid,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[
            hd.pm.RealWorldValueMapping(
                lut_label="PROBABILITY",
                lut_explanation=f"probability of {segment.name}"[:64],
                unit=NO_UNITS,
                value_range=(0.0, 1.0),
                slope=1.0,
                intercept=0.0,
            )
        ],
        voi_lut_transformations=[hd.VOILUTTransformation(window_center=0.5, window_width=1.0)],
        content_label="PROBABILITY",
        content_description=f"{segment.name}: {notice(algorithm)}"[:64],
        content_qualification="RESEARCH" if algorithm.is_research else "PRODUCT",
    )
    dataset = stamp(
        made,
        header,
        algorithm,
        identity,
        kind="pmap",
        description="probability",
        series_number=MAP_SERIES_NUMBER,
        number=segment.label,
    )
    set_geometry(dataset, grid, volume, identity.uid(f"pmap-{segment.label:02d}-dimensions"))
    groups = [_group(grid, index, (index + 1,), None) for index in range(len(probability))]
    _set_groups(dataset, groups)
    pixels = np.ascontiguousarray(probability, dtype="<f4").tobytes()
    dataset["FloatPixelData"] = DataElement(0x7FE00008, "OF", pixels)
    return dataset


def make_fractional_segmentation(
    volume: Volume,
    probabilities: Mapping[int, Probability],
    segments: Sequence[Segment],
    *,
    algorithm: Algorithm,
    identity: ResultIdentity,
) -> Dataset:
    """Encode probabilities of several segments as a FRACTIONAL segmentation (PROBABILITY).

    Parameters
    ----------
    probabilities : label to (slice, row, column), 0 to 1, for every one of `segments`

    Raises
    ------
    ResultInputError, NoDicomSourceError, MissingIdentifierError, SourceGridMismatchError
    """
    segments = tuple(segments)
    check_names(algorithm, segments)
    if {segment.label for segment in segments} != probabilities.keys():
        raise ResultInputError(
            field="probabilities", problem=f"of labels {sorted(probabilities)}, not of each segment"
        )
    for segment in segments:
        _check_probability(volume, probabilities[segment.label], segment)
    numbers = segment_numbers(segments)
    grid = slice_grid(volume)
    words = [algorithm.name, algorithm.manufacturer, *(segment.name for segment in segments)]
    header = result_header(volume, words)
    dataset = stamp(
        segmentation_template(volume, segments, numbers, algorithm, identity, header, "FRACTIONAL"),
        header,
        algorithm,
        identity,
        kind="seg",
        description="probability SEG",
        series_number=SERIES_NUMBER,
    )
    set_geometry(dataset, grid, volume, identity.uid("seg-dimensions"))
    groups, frames = [], []
    is_single = "SegmentIdentificationSequence" in dataset.SharedFunctionalGroupsSequence[0]
    for label, number in sorted(numbers.items(), key=lambda pair: pair[1]):
        for index, plane in enumerate(probabilities[label]):
            stored = np.rint(plane * MAX_FRACTIONAL).astype(np.uint8)
            if stored.any():
                frames.append(stored.tobytes())
                groups.append(
                    _group(grid, index, (number, index + 1), None if is_single else number)
                )
    if not frames:
        raise ResultInputError(field="probabilities", problem="all are 0; there is no frame")
    _set_groups(dataset, groups)
    pixels = b"".join(frames)
    dataset["PixelData"] = DataElement(0x7FE00010, "OB", pixels + b"\0" * (len(pixels) % 2))
    return dataset


def _check_probability(volume: Volume, probability: Probability, segment: Segment) -> None:
    field = f"probability[{segment.label}]"
    if probability.shape != volume.array.shape:
        raise ResultInputError(
            field=field, problem=f"shape {probability.shape} is not {volume.array.shape}"
        )
    low, high = float(probability.min()), float(probability.max())
    if not (low >= 0 and high <= 1):  # not-a-number fails too
        raise ResultInputError(field=field, problem=f"{low} to {high} is not within 0 to 1")


def _group(
    grid: SliceGrid, index: int, dimension_indices: tuple[int, ...], number: int | None
) -> bytes:
    reference = None if grid.references is None else grid.references[index]
    return frame_group(
        dimension_indices, slice_groups(tuple(grid.positions_mm[index]), reference), number
    )


def _set_groups(dataset: Dataset, groups: list[bytes]) -> None:
    element = per_frame_groups(groups)
    dataset[element.tag] = element
    dataset.NumberOfFrames = len(groups)
