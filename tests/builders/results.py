"""Label maps, segments and measurements to make result objects from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_io.read import read_volume
from dicom_io.results import Algorithm, Code, Measurement, ResultIdentity, Segment
from dicom_io.segmentation import make_segmentation
from dicom_io.series import scan
from dicom_io.structured_report import make_measurement_report
from dicom_io.volume import Volume
from dicom_io.write import write_dicom

STRUCTURE = Code(value="123037004", scheme="SCT", meaning="Anatomical Structure")
LUNG = Code(value="39607008", scheme="SCT", meaning="Lung")
LEFT = Code(value="7771000", scheme="SCT", meaning="Left")
RIGHT = Code(value="24028007", scheme="SCT", meaning="Right")
HEART = Code(value="80891009", scheme="SCT", meaning="Heart")


def segment(label: int, name: str, kind: Code, modifier: Code | None = None) -> Segment:
    return Segment(
        label=label,
        name=name,
        category=STRUCTURE,
        type=kind,
        modifier=modifier,
        color_rgb=(40 * label % 256, 200, 255 - 40 * label % 256),
    )


SEGMENTS = (
    segment(1, "Left lung", LUNG, LEFT),
    segment(2, "Right lung", LUNG, RIGHT),
    segment(3, "Heart", HEART),
)
ALGORITHM = Algorithm(
    name="ct_thorax_seg",
    version="1.2.0",
    weights_sha256="0123456789abcdef" * 4,
    software_version="0.1.0",
    engine="torch/cpu/fp32",
    is_research=True,
)
IDENTITY = ResultIdentity(key="case-1", created_at=datetime(2026, 11, 22, 13, 5, 7, tzinfo=UTC))


def thirds(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Three blocks of different sizes, off centre, one with a hole; no two slices alike."""
    n_slices, rows, columns = shape
    labels = np.zeros(shape, dtype=np.uint8)
    last = n_slices - 1
    for index in range(n_slices):
        width = 1 + (index * columns // 3) // max(last, 1)
        if 0 < index < last:
            labels[index, rows // 5 : 3 * rows // 5 + 1, : 1 + width] = 1
        if index > 0:
            labels[index, 2 * rows // 5 :, columns - width :] = 2
        labels[index, rows - 1, index % columns] = 1 + index % 2
    labels[n_slices // 2, : max(rows // 6, 1), columns // 3 : columns // 2 + 1] = 3
    if rows > 20 and columns > 20:
        labels[n_slices // 3, 2 * rows // 5, 1] = 0
    return labels


def measure(
    volume: Volume, labels: NDArray[Any], segments: Sequence[Segment] = SEGMENTS
) -> tuple[Measurement, ...]:
    """Plain statistics of each label that has a voxel."""
    found = []
    for each in segments:
        values = volume.array[labels == each.label].astype(np.float64)
        if values.size:
            found.append(
                Measurement(
                    label=each.label,
                    n_voxels=values.size,
                    volume_ml=values.size * volume.voxel_volume_mm3 / 1000,
                    mean=float(values.mean()),
                    sd=float(values.std()),
                    minimum=float(values.min()),
                    maximum=float(values.max()),
                    unit=volume.unit,
                )
            )
    return tuple(found)


def read_only_series(files: Sequence[Path], *, tilt: Any = "refuse") -> Volume:
    """The volume of files that hold one series."""
    (series,) = scan(files).series
    return read_volume(series, tilt=tilt)


@dataclass(frozen=True, kw_only=True)
class Written:
    """A result on disk; ``seg`` is None when nothing was found."""

    volume: Volume
    labels: NDArray[Any]
    segments: tuple[Segment, ...]
    seg: Path | None
    sr: Path


def write_result(
    folder: Path,
    volume: Volume,
    labels: NDArray[Any] | None = None,
    segments: Sequence[Segment] = SEGMENTS,
    **options: Any,
) -> Written:
    """Make and write SEG and SR of a label map (by default `thirds`)."""
    drawn = thirds(volume.array.shape) if labels is None else labels
    given = {"algorithm": ALGORITHM, "identity": IDENTITY}
    seg = None
    if drawn.any():
        seg = make_segmentation(volume, drawn, segments, **given, **options)
        write_dicom(seg, folder / "seg.dcm")
    measured = measure(volume, drawn, segments)
    sr = make_measurement_report(volume, drawn, segments, measured, seg, **given)
    write_dicom(sr, folder / "sr.dcm")
    return Written(
        volume=volume,
        labels=drawn,
        segments=tuple(segments),
        seg=None if seg is None else folder / "seg.dcm",
        sr=folder / "sr.dcm",
    )
