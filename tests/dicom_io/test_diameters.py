"""Diameters of shapes whose axes are known by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_io.contours import fill, outlines
from dicom_io.diameters import diameters
from dicom_io.gate import check_placement
from dicom_io.gate_axes import axes_mm
from dicom_io.result_errors import PlacementError
from tests.builders.dicom import affine_from, write_series
from tests.builders.results import read_only_series, write_result


def of_mask(mask: NDArray[np.bool_], spacing_mm: tuple[float, float]) -> tuple[float, float]:
    (outline,) = outlines(mask, at_most=1)
    found = diameters(outline.points, spacing_mm)
    return found.long_axis_mm, found.short_axis_mm


def test_a_rectangle_of_30_by_40_mm() -> None:
    """Long axis: the diagonal, 50. Across it the widest cut is through a corner: 24 + 13.5."""
    mask = np.zeros((30, 25), dtype=bool)
    mask[4:24, 3:19] = True  # 20 rows of 1.5 mm, 16 columns of 2.5 mm
    assert of_mask(mask, (1.5, 2.5)) == pytest.approx((50.0, 37.5))


def test_a_single_pixel_has_its_diagonal() -> None:
    mask = np.zeros((5, 5), dtype=bool)
    mask[2, 3] = True
    long_mm, _ = of_mask(mask, (3.0, 4.0))
    assert long_mm == pytest.approx(5.0)


def test_a_slanted_ellipse_has_its_axes_to_a_pixel() -> None:
    rows, columns = np.mgrid[:200, :200] + 0.5
    x, y = (columns - 100) * 0.5, (rows - 100) * 0.5
    u, v = 0.8 * x + 0.6 * y, -0.6 * x + 0.8 * y
    mask = (u / 40) ** 2 + (v / 22) ** 2 < 1
    assert of_mask(mask, (0.5, 0.5)) == pytest.approx((80.0, 44.0), abs=0.75)


@pytest.mark.parametrize("seed", range(20))
def test_the_gates_own_way_gives_the_same(seed: int) -> None:
    random = np.random.default_rng(seed)
    mask = np.zeros((24, 31), dtype=bool)
    for _ in range(4):
        row, column = random.integers(2, 14, 2)
        height, width = random.integers(2, 9, 2)
        mask[row : row + height, column : column + width] = True
    for outline in outlines(mask, at_most=1):
        whole = fill(outline.points, mask.shape)
        found = diameters(outline.points, (0.7, 1.1))
        assert axes_mm(whole, (0.7, 1.1)) == pytest.approx(
            (found.long_axis_mm, found.short_axis_mm), rel=1e-9
        )


@pytest.mark.parametrize(
    ("code", "field"), [("103339001", "long_axis_mm"), ("103340004", "short_axis_mm")]
)
def test_a_wrong_axis_in_a_report_is_seen_by_the_gate(
    tmp_path: Path, code: str, field: str
) -> None:
    values = np.zeros((6, 25, 31), np.int16)
    files = write_series(tmp_path / "ct", values, affine_from((2.5, 0.6, 0.8)))
    written = write_result(tmp_path, read_only_series(files))
    report = dcmread(written.sr)
    numbers = [item for item in walk(report) if item.ConceptNameCodeSequence[0].CodeValue == code]
    assert len(numbers) >= 3
    numbers[0].MeasuredValueSequence[0].NumericValue = (
        float(numbers[0].MeasuredValueSequence[0].NumericValue) + 0.01
    )
    report.save_as(tmp_path / "wrong.dcm")
    given = (written.volume, written.labels, written.segments)
    with pytest.raises(PlacementError) as caught:
        check_placement(tmp_path / "wrong.dcm", *given, segmentation=written.seg)
    assert caught.value.field == field


def walk(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence") or []:
        if "ConceptNameCodeSequence" in child:
            yield child
        yield from walk(child)
