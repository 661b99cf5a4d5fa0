"""The gate for probabilities: every frame, in its place, must hold what it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_io.result_errors import PlacementError
from dicom_io.results import Segment
from dicom_io.source_grid import frame_position_mm
from dicom_io.source_header import dicom_source
from dicom_io.volume import Volume

TOLERANCE_MM = 0.01


def check_probabilities(
    dataset: Dataset,
    volume: Volume,
    probabilities: Mapping[int, NDArray[np.float32]],
    segments: Sequence[Segment],
) -> None:
    """Compare a Parametric Map (one label) or a FRACTIONAL segmentation with the probabilities.

    Stored values are compared exactly for floats and to half a step for 8 bits; a frame that a
    FRACTIONAL object leaves out must be 0 everywhere.

    Raises
    ------
    PlacementError
    """
    shape = volume.array.shape
    frames = _frames(dataset)
    is_map = "FloatPixelData" in dataset
    step = 0.0 if is_map else 0.5 / float(dataset.MaximumFractionalValue)
    labels = _labels_by_number(dataset, probabilities, segments, is_map=is_map)
    expected_count = {label: np.zeros(shape[0], dtype=bool) for label in probabilities}
    shared = dataset.SharedFunctionalGroupsSequence[0]
    _check_plane(shared, volume)
    for index, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        slice_index = _slice_index(group, volume, index)
        holder = group if "SegmentIdentificationSequence" in group else shared
        identification = holder.get("SegmentIdentificationSequence")
        number = 0 if identification is None else int(identification[0].ReferencedSegmentNumber)
        label = labels[number]
        wanted = probabilities[label][slice_index]
        worst = float(np.abs(frames[index] - wanted).max())
        if worst > step + 1e-7:
            raise PlacementError(
                field="probability",
                expected=f"within {step:.5f}",
                found=f"{worst:.5f} off",
                segment=label,
                slice_index=slice_index,
                frame=index + 1,
            )
        expected_count[label][slice_index] = True
    for label, seen in expected_count.items():
        for slice_index in np.flatnonzero(~seen):
            if is_map or float(probabilities[label][slice_index].max()) > step:
                raise PlacementError(
                    field="frame",
                    expected="one for the slice",
                    found="none",
                    segment=label,
                    slice_index=int(slice_index),
                )


def _frames(dataset: Dataset) -> NDArray[np.float64]:
    """All frames as probabilities, (frame, row, column)."""
    shape = (int(dataset.NumberOfFrames), int(dataset.Rows), int(dataset.Columns))
    if "FloatPixelData" in dataset:
        return np.frombuffer(dataset.FloatPixelData, "<f4").reshape(shape).astype(np.float64)
    n_pixels = int(np.prod(shape))
    stored = np.frombuffer(dataset.PixelData, np.uint8)[:n_pixels].reshape(shape)
    return stored / float(dataset.MaximumFractionalValue)


def _labels_by_number(
    dataset: Dataset,
    probabilities: Mapping[int, NDArray[np.float32]],
    segments: Sequence[Segment],
    *,
    is_map: bool,
) -> dict[int, int]:
    """Label of each segment number, by the name in the object; 0 for a map, which has no number."""
    if is_map:
        (label,) = probabilities
        return {0: label}
    by_name = {segment.name: segment.label for segment in segments}
    found = {int(item.SegmentNumber): str(item.SegmentLabel) for item in dataset.SegmentSequence}
    if set(found.values()) != set(by_name):
        raise PlacementError(
            field="SegmentLabel", expected=sorted(by_name), found=sorted(found.values())
        )
    return {number: by_name[name] for number, name in found.items()}


def _check_plane(shared: Dataset, volume: Volume) -> None:
    """Orientation and spacing of all frames must be the volume's."""
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    spacing = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, float)
    found = np.stack([cosines[3:] * spacing[0], cosines[:3] * spacing[1]], axis=1)
    reach = np.array(volume.array.shape[1:])
    drift_mm = float((np.abs(found - volume.affine_lps[:3, 1:3]) * reach).max())
    if drift_mm > 10 * TOLERANCE_MM:  # as `source_grid` allows the source's own plane
        raise PlacementError(
            field="ImageOrientationPatient or PixelSpacing",
            expected="the volume's",
            found=f"{drift_mm:.3f} mm off at the far corner",
        )


def _slice_index(group: Dataset, volume: Volume, frame: int) -> int:
    """Slice on whose own position a frame lies: the source's, or the even grid's."""
    position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
    index = int(np.rint((np.linalg.inv(volume.affine_lps) @ [*position, 1.0])[0]))
    if 0 <= index < len(volume.array):
        expected = (volume.affine_lps @ [index, 0, 0, 1])[:3]
        source = dicom_source(volume)
        if not source.resampled:
            frames = [(one.header, n) for one in source.instances for n in one.frame_numbers]
            own = frame_position_mm(*frames[index])
            expected = expected if own is None else own
        if np.linalg.norm(position - expected) <= TOLERANCE_MM:
            return index
    raise PlacementError(
        field="ImagePositionPatient",
        expected="the position of a slice",
        found=np.round(position, 3).tolist(),
        frame=frame + 1,
    )
