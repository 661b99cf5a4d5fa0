"""Measured volumes and statistics, against hand-sized cases and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from dicom_io.volume import Volume
from inference.domain.errors import RefusedError
from inference.pipeline.measure import measure
from tests.inference.pipeline.built import (
    all_orientations,
    boxes,
    centres,
    grid,
    rotation,
    spec_of,
)


def test_a_case_small_enough_to_do_by_hand() -> None:
    array = np.zeros((2, 2, 2), np.int16)
    labels = np.zeros((2, 2, 2), np.uint8)
    array[0, 0] = (10, 20)
    array[1, 1, 0] = -30
    labels[0, 0] = 2
    labels[1, 1, 0] = 2
    volume = Volume(array=array, affine_lps=np.diag([2.0, 5.0, 3.0, 1.0]), unit="[hnsf'U]")
    (found,) = measure(volume, labels, spec_of().segments)
    assert (found.label, found.n_voxels, found.unit) == (2, 3, "[hnsf'U]")
    assert found.volume_ml == pytest.approx(3 * 30 / 1000)
    assert found.mean == 0
    # Population SD of 10, 20, -30: square root of 1400 / 3.
    assert found.sd == pytest.approx(21.602468994692867)
    assert (found.minimum, found.maximum) == (-30, 20)


def test_statistics_equal_scipy_and_no_orientation_changes_them() -> None:
    rng = np.random.default_rng(0)
    shape, spacing_mm = (30, 41, 35), (1.1, 0.8, 0.9)
    volumes = []
    for directions in all_orientations()[::7]:
        affine = grid(rotation((1, 0, 1), 20.0) @ directions, spacing_mm, shape)
        labels = boxes(centres(shape, affine))
        array = rng.normal(40, 12, shape).astype(np.float32)
        volume = Volume(array=array, affine_lps=affine)
        found = measure(volume, labels, spec_of().segments)
        assert [m.label for m in found] == [1, 2, 3]
        for m in found:
            wide = array.astype(np.float64)
            assert m.mean == pytest.approx(ndimage.mean(wide, labels, m.label))
            assert m.sd == pytest.approx(ndimage.standard_deviation(wide, labels, m.label))
            assert m.n_voxels == (labels == m.label).sum()
            assert m.volume_ml == pytest.approx(m.n_voxels * 1.1 * 0.8 * 0.9 / 1000)
            assert m.minimum == array[labels == m.label].min()
        volumes.append([m.volume_ml for m in found])
        flipped = Volume(
            array=np.ascontiguousarray(array[:, ::-1]),
            affine_lps=affine @ _flip_rows(shape[1]),
        )
        again = measure(flipped, np.ascontiguousarray(labels[:, ::-1]), spec_of().segments)
        assert [m.volume_ml for m in again] == pytest.approx(volumes[-1])


def _flip_rows(n: int) -> np.ndarray:
    flip = np.diag([1.0, -1.0, 1.0, 1.0])
    flip[1, 3] = n - 1
    return flip


def test_a_large_mean_does_not_eat_a_small_spread() -> None:
    array = np.full((50, 40, 40), 30_000, np.int16)
    array[::2] += 1
    volume = Volume(array=array, affine_lps=np.eye(4))
    (found,) = measure(volume, np.ones(array.shape, np.uint8), spec_of().segments)
    assert found.mean == pytest.approx(30_000.5, abs=1e-9)
    assert found.sd == pytest.approx(0.5, abs=1e-9)


def test_segments_without_voxels_have_no_measurement() -> None:
    volume = Volume(array=np.zeros((3, 3, 3), np.int16), affine_lps=np.eye(4))
    assert measure(volume, np.zeros((3, 3, 3), np.uint8), spec_of().segments) == ()


def test_a_value_without_a_segment_is_refused() -> None:
    volume = Volume(array=np.zeros((3, 3, 3), np.int16), affine_lps=np.eye(4))
    labels = np.zeros((3, 3, 3), np.uint8)
    labels[0, 0, :2] = 9
    with pytest.raises(RefusedError, match="2 voxels have value 9"):
        measure(volume, labels, spec_of().segments)


def test_labels_of_another_shape_are_refused() -> None:
    volume = Volume(array=np.zeros((3, 3, 3), np.int16), affine_lps=np.eye(4))
    with pytest.raises(RefusedError, match="labels: shape"):
        measure(volume, np.zeros((3, 3, 2), np.uint8), spec_of().segments)
