"""Order, spacing and affine from positions alone, on hand-sized cases."""

from __future__ import annotations

import numpy as np
import pytest

from dicom_io.errors import OrientationError, SliceGapError, UnevenSpacingError
from dicom_io.geometry import (
    affine_lps,
    check_orientation,
    check_spacing,
    duplicate_pairs,
    is_tilted,
    order_slices,
    slice_normal,
    slice_step,
    spacing_tolerance_mm,
    tilt_error,
)

AXIAL = (1, 0, 0, 0, 1, 0)
SAGITTAL = (0, 1, 0, 0, 0, -1)


def along_z(*heights: float) -> np.ndarray:
    return np.array([(1.0, 2.0, height) for height in heights])


def test_the_normal_is_row_direction_times_column_direction() -> None:
    np.testing.assert_array_equal(slice_normal(AXIAL), (0, 0, 1))
    np.testing.assert_array_equal(slice_normal(SAGITTAL), (-1, 0, 0))


def test_slices_are_ordered_by_projection_on_the_normal() -> None:
    stack = order_slices(along_z(4, -2, 1), AXIAL)
    assert stack.order == (1, 2, 0)
    np.testing.assert_array_equal(stack.distances_mm, (-2, 1, 4))
    sagittal = np.array([(5.0, 0, 0), (9.0, 0, 0)])
    assert order_slices(sagittal, SAGITTAL).order == (1, 0)


def test_the_affine_is_the_standards_equation() -> None:
    """PS3.3 C.7.6.2.1-1 by hand: column index i moves along X, row index j along Y."""
    affine = affine_lps(
        np.array([10.0, 20.0, 30.0]), SAGITTAL, (0.5, 0.7), np.array([-3.0, 0.0, 0.0])
    )
    np.testing.assert_allclose(affine @ (0, 0, 0, 1), (10, 20, 30, 1))
    np.testing.assert_allclose(affine @ (0, 2, 0, 1), (10, 20, 30 - 2 * 0.5, 1))
    np.testing.assert_allclose(affine @ (0, 0, 3, 1), (10, 20 + 3 * 0.7, 30, 1))
    np.testing.assert_allclose(affine @ (4, 0, 0, 1), (10 - 12, 20, 30, 1))


@pytest.mark.parametrize(
    ("spacing", "tolerance"), [(0.3, 0.03), (1.0, 0.1), (5.0, 0.1), (10.0, 0.1), (15.0, 0.15)]
)
def test_the_tolerance_is_one_percent_or_a_tenth_of_a_millimetre(
    spacing: float, tolerance: float
) -> None:
    assert spacing_tolerance_mm(spacing) == pytest.approx(tolerance)


@pytest.mark.parametrize(
    ("heights", "index", "found"),
    [((0, 5, 10, 20), 2, 10), ((0, 2, 8, 10), 1, 6), ((0, 6, 9), 0, 6)],
)
def test_a_gap_is_named_by_the_slice_before_it(
    heights: tuple[float, ...], index: int, found: float
) -> None:
    with pytest.raises(SliceGapError) as caught:
        check_spacing(order_slices(along_z(*heights), AXIAL), series_uid="1.2")
    assert (caught.value.slice_index, caught.value.found_mm) == (index, found)
    assert caught.value.series_uid == "1.2"


@pytest.mark.parametrize("heights", [(0, 2, 4, 7, 9), (0, 2, 4, 5, 7), (0, 2, 3.5)])
def test_uneven_spacing_is_no_gap(heights: tuple[float, ...]) -> None:
    with pytest.raises(UnevenSpacingError):
        check_spacing(order_slices(along_z(*heights), AXIAL), series_uid="1.2")


def test_even_spacing_is_measured_over_the_whole_stack() -> None:
    stack = order_slices(along_z(0, 2.01, 3.99, 6.0), AXIAL)
    assert check_spacing(stack, series_uid="1.2") == pytest.approx(2.0)


def test_two_slices_at_one_position_are_found() -> None:
    assert duplicate_pairs(order_slices(along_z(0, 2, 2.004, 4), AXIAL)) == (1,)
    assert duplicate_pairs(order_slices(along_z(0, 2, 4), AXIAL)) == ()


def test_a_tilt_is_told_from_rounding() -> None:
    def step(sideways: float) -> np.ndarray:
        positions = np.array([(0, sideways * k, 5.0 * k) for k in range(4)])
        return slice_step(order_slices(positions, AXIAL), series_uid="1.2")

    normal = slice_normal(AXIAL)
    assert not is_tilted(step(0.005), normal)
    assert is_tilted(step(0.05), normal)
    error = tilt_error(step(5.0), normal, series_uid="1.2")
    assert error.angle_deg == pytest.approx(45)


@pytest.mark.parametrize(
    ("orientation", "is_right"),
    [
        ((0.9703, 0, 0.2419, 0, 1, 0), True),  # four decimals, as some write them
        ((1, 0, 0, 0, 0.97, -0.2419), True),
        ((1, 0, 0, 0, 0.9, 0), False),
        ((1, 0, 0, 0.01, 0.99995, 0), False),
    ],
)
def test_unit_vectors_are_wanted_to_three_decimals(
    orientation: tuple[float, ...], is_right: bool
) -> None:
    if is_right:
        check_orientation(orientation, series_uid="1.2", slice_index=0)
        return
    with pytest.raises(OrientationError) as caught:
        check_orientation(orientation, series_uid="1.2", slice_index=3)
    assert caught.value.slice_index == 3
