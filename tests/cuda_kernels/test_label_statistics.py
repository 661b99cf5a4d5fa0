"""Statistics of labels by hand and against SimpleITK; exact sums; what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK

from cuda_kernels import label_statistics as module
from cuda_kernels.errors import KernelInputError
from cuda_kernels.label_statistics import label_statistics


def test_a_case_by_hand() -> None:
    labels = np.zeros((3, 4, 5), np.uint8)
    image = np.full((3, 4, 5), -1000, np.int16)
    labels[1, 1, 1:4] = 1
    labels[1, 2, 1] = 1
    image[1, 1, 1:4] = (10, 20, 30)
    image[1, 2, 1] = 100
    labels[2, 3, 4] = 2
    found = label_statistics(labels, image, 4, percentiles=(0, 50, 90))
    assert found.count.tolist() == [55, 4, 1, 0]
    assert found.mean[1] == 40
    assert found.m2[1] == 30**2 + 20**2 + 10**2 + 60**2
    assert found.sd()[1] == pytest.approx(np.sqrt(5000 / 4))
    assert found.volume_ml(2.5)[1] == pytest.approx(0.01)
    assert found.percentiles[1].tolist() == [10, 25, pytest.approx(79)]
    assert np.isnan(found.percentiles[3]).all()
    assert found.touches_border.tolist() == [True, False, True, False]
    assert found.centroid[1].tolist() == [1, 1.25, 1.75]
    assert (found.first[1].tolist(), found.last[1].tolist()) == ([1, 1, 1], [1, 2, 3])


def test_figures_equal_simpleitk() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 4, (9, 14, 11)).astype(np.uint8)
    image = rng.integers(-1000, 2000, labels.shape).astype(np.int16)
    statistics = SimpleITK.LabelStatisticsImageFilter()
    statistics.Execute(SimpleITK.GetImageFromArray(image), SimpleITK.GetImageFromArray(labels))
    shapes = SimpleITK.LabelShapeStatisticsImageFilter()
    shapes.Execute(SimpleITK.GetImageFromArray(labels))
    found = label_statistics(labels, image, 4)
    for label in (1, 2, 3):
        assert found.count[label] == statistics.GetCount(label)
        assert found.mean[label] == pytest.approx(statistics.GetMean(label))
        # SimpleITK divides by n - 1
        assert found.m2[label] / (found.count[label] - 1) == pytest.approx(
            statistics.GetVariance(label)
        )
        assert found.minimum[label] == statistics.GetMinimum(label)
        assert found.maximum[label] == statistics.GetMaximum(label)
        x0, x1, y0, y1, z0, z1 = statistics.GetBoundingBox(label)
        assert found.first[label].tolist() == [z0, y0, x0]
        assert found.last[label].tolist() == [z1, y1, x1]
        np.testing.assert_allclose(found.centroid[label], shapes.GetCentroid(label)[::-1])


def test_sums_of_whole_numbers_are_exact() -> None:
    image = np.full((2, 300, 300), 32767, np.int16)
    image[0, 0, 0] = 32766
    n = image.size
    found = label_statistics(np.zeros(image.shape, np.uint8), image, 1)
    assert found.mean[0] == (n * 32767 - 1) / n
    assert found.m2[0] == (n - 1) / n  # float64 sums of squares would leave nothing of it


def test_memory_for_histograms_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 3, (7, 6, 5)).astype(np.uint8)
    image = rng.integers(-1000, 1000, labels.shape).astype(np.int16)
    expected = label_statistics(labels, image, 3, percentiles=(25.0, 75.0)).percentiles
    monkeypatch.setattr(module, "HISTOGRAM_BYTES", 1)
    found = label_statistics(labels, image, 3, percentiles=(25.0, 75.0)).percentiles
    np.testing.assert_array_equal(found, expected)


def test_what_does_not_fit_is_refused() -> None:
    labels, image = np.zeros((2, 3, 4), np.uint8), np.zeros((2, 3, 4), np.int16)
    with pytest.raises(KernelInputError, match="dtype"):
        label_statistics(labels, image.astype(np.float64), 1)
    with pytest.raises(KernelInputError, match="percentiles"):
        label_statistics(labels, image, 1, percentiles=(101.0,))
