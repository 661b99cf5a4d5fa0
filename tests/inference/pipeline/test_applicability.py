"""Which series a model may be used on, and the reason where it may not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicom_io.volume import Volume
from inference.pipeline.applicability import applicable
from inference.pipeline.spec import ModelSpec
from tests.inference.pipeline.built import grid, spec_of


@dataclass(frozen=True)
class Instance:
    header: Dataset


@dataclass(frozen=True)
class Series:
    modality: str
    body_part: str
    instances: tuple[Instance, ...]


def _spec(**scope: Any) -> ModelSpec:
    return spec_of(
        scope={
            "body_parts": ["CHEST", "THORAX"],
            "min_slices": 10,
            "slice_spacing_mm": [0.5, 5.0],
            "in_plane_spacing_mm": [0.4, 1.2],
            "min_extent_mm": [40.0, 20.0, 15.0],
            "max_extent_mm": [500.0, 500.0, 500.0],
            **scope,
        }
    )


def _series(
    *,
    modality: str = "CT",
    body_part: str = "chest",
    n: int = 20,
    step_mm: float = 3.0,
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "AXIAL"),
    orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0),
    pixel_spacing_mm: tuple[float, float] = (0.7, 0.6),
) -> Series:
    normal = np.cross(orientation[:3], orientation[3:])
    instances = []
    for k in range(n):
        header = Dataset()
        header.ImageType = list(image_type)
        header.ImagePositionPatient = [float(v) for v in normal * step_mm * ((k * 7) % n)]
        header.ImageOrientationPatient = list(orientation)
        header.PixelSpacing = list(pixel_spacing_mm)
        header.Rows, header.Columns = 40, 50
        instances.append(Instance(header))
    return Series(modality, body_part, tuple(instances))


def test_a_series_in_scope_is_accepted() -> None:
    assert applicable(_spec(), _series()) is None


@pytest.mark.parametrize(
    ("series", "reason"),
    [
        (_series(modality="MR"), "modality: MR is not one of CT"),
        (_series(body_part="HEAD"), "body part: HEAD is not one of CHEST, THORAX"),
        (_series(n=9), "slices: 9 along the body axis, the model needs 10"),
        (_series(step_mm=5.5), r"slice spacing: 5.5 mm is outside the model's range \[0.5, 5\] mm"),
        (_series(pixel_spacing_mm=(0.3, 0.6)), "row spacing: 0.3 mm"),
        (_series(pixel_spacing_mm=(0.7, 1.3)), "column spacing: 1.3 mm"),
        (_series(step_mm=1.9), "slice extent: 38 mm is below the model's least, 40 mm"),
        (_series(n=101, step_mm=5.0), "slice extent: 505 mm is above the model's most, 500 mm"),
        (_series(image_type=("ORIGINAL", "PRIMARY", "LOCALIZER")), "image type: LOCALIZER"),
        (_series(image_type=("DERIVED", "SECONDARY", "PROJECTION IMAGE")), "image type: PROJ"),
        # Sagittal, 3 mm between slices: 3 mm along the patient's left, out of the in-plane range.
        (_series(orientation=(0, 1, 0, 0, 0, -1)), "column spacing: 3 mm"),
    ],
)
def test_a_series_out_of_scope_is_refused_with_the_fact(series: Series, reason: str) -> None:
    found = applicable(_spec(), series)
    assert found is not None
    assert re.match(reason, found), found


@pytest.mark.parametrize(
    "series",
    [
        _series(body_part=""),
        _series(image_type=("DERIVED", "SECONDARY", "AXIAL")),
        _series(image_type=("DERIVED", "SECONDARY")),
        _series(step_mm=5.0001),
    ],
)
def test_what_the_headers_leave_open_is_not_held_against_a_series(series: Series) -> None:
    assert applicable(_spec(), series) is None


def test_without_listed_body_parts_any_is_accepted() -> None:
    assert applicable(_spec(body_parts=[]), _series(body_part="HEAD")) is None


def test_headers_without_geometry_are_judged_when_the_volume_is_read() -> None:
    series = _series(step_mm=5.5)
    for instance in series.instances:
        del instance.header.ImagePositionPatient
    assert applicable(_spec(), series) is None
    affine = grid(np.eye(3)[:, [2, 1, 0]], (5.5, 0.7, 0.6), (20, 40, 50))
    volume = Volume(array=np.zeros((20, 40, 50), np.int16), affine_lps=affine, modality="CT")
    found = applicable(_spec(), volume)
    assert found is not None
    assert found.startswith("slice spacing")


def test_a_malformed_header_is_judged_when_the_volume_is_read() -> None:
    series = _series(step_mm=5.5)
    header = series.instances[0].header
    del header.ImagePositionPatient
    header[0x0020, 0x0032] = RawDataElement(
        Tag(0x0020, 0x0032), "DS", 8, b"a\\b\\c   ", 0, False, True
    )
    assert applicable(_spec(), series) is None


def test_a_volume_without_modality_is_accepted_on_its_geometry() -> None:
    affine = grid(np.eye(3)[:, [2, 1, 0]], (3.0, 0.7, 0.6), (20, 40, 50))
    volume = Volume(array=np.zeros((20, 40, 50), np.int16), affine_lps=affine)
    assert applicable(_spec(), volume) is None


def test_one_localizer_among_slices_does_not_make_a_localizer() -> None:
    series = _series()
    series.instances[3].header.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    assert applicable(_spec(), series) is None
