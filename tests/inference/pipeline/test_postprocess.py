"""Small parts are removed where the spec says so, and nowhere else."""

from __future__ import annotations

import numpy as np

from inference.pipeline.postprocess import postprocess
from inference.pipeline.spec import Postprocessing


def _labels() -> np.ndarray:
    labels = np.zeros((8, 9, 10), np.uint8)
    labels[1:4, 1:4, 1:4] = 1  # 27 voxels
    labels[6, 6, 6:9] = 1  # 3 voxels apart
    labels[4, 4, 4] = 1  # touches the first by a corner
    labels[1:3, 6, 6] = 2  # 2 voxels
    labels[6, 1, 1] = 2  # 1 voxel apart
    return labels


def test_the_largest_component_stays_and_other_labels_are_untouched() -> None:
    labels = _labels()
    postprocess(labels, np.eye(4), Postprocessing(keep_largest_component=(1,)))
    expected = _labels()
    expected[6, 6, 6:9] = 0
    np.testing.assert_array_equal(labels, expected)


def test_without_rules_nothing_changes() -> None:
    labels = _labels()
    postprocess(labels, np.eye(4), Postprocessing())
    np.testing.assert_array_equal(labels, _labels())


def test_a_label_below_the_least_volume_is_removed() -> None:
    affine = np.diag([10.0, 5.0, 2.0, 1.0])  # 0.1 ml a voxel
    labels = _labels()
    postprocess(labels, affine, Postprocessing(min_volume_ml=0.3))
    assert (labels == 2).sum() == 3  # 0.3 ml is not below 0.3 ml
    postprocess(labels, affine, Postprocessing(min_volume_ml=0.31))
    assert (labels == 2).sum() == 0
    assert (labels == 1).sum() == 31


def test_a_label_that_is_absent_or_whole_stays_as_it_is() -> None:
    labels = _labels()
    labels[labels == 2] = 0
    labels[6, 6] = 0
    expected = labels.copy()
    postprocess(labels, np.eye(4), Postprocessing(keep_largest_component=(1, 2)))
    np.testing.assert_array_equal(labels, expected)


def test_a_view_that_is_not_contiguous_is_changed_in_place() -> None:
    base = np.ascontiguousarray(_labels().T)
    postprocess(base.T, np.eye(4), Postprocessing(keep_largest_component=(1, 2)))
    assert (base == 1).sum() == 28
    assert (base == 2).sum() == 2
