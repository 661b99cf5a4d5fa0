"""The other ways to resample against SciPy and MONAI, the fast way, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from cuda_kernels import affine
from cuda_kernels.affine import resample_affine
from cuda_kernels.axis import linear_axis
from cuda_kernels.bspline import prefilter
from cuda_kernels.errors import KernelInputError
from cuda_kernels.nearest import resample_nearest
from cuda_kernels.taps import antialiased_taps, cubic_taps, resample_taps


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(5).normal(size=(9, 14, 11)).astype(np.float32)


def test_coefficients_are_those_of_scipy(image: np.ndarray) -> None:
    expected = ndimage.spline_filter(image.astype(np.float64), order=3, mode="mirror")
    np.testing.assert_allclose(prefilter(image), expected, atol=1e-5)


def test_cubic_equals_scipy_at_the_same_places(image: np.ndarray) -> None:
    steps, shape = (0.7, 1.3, 0.45), (12, 10, 23)
    taps = tuple(cubic_taps(*given) for given in zip(image.shape, shape, steps, strict=True))
    places = np.meshgrid(
        *(
            np.clip(np.arange(n) * step, 0, size - 1)
            for n, step, size in zip(shape, steps, image.shape, strict=True)
        ),
        indexing="ij",
    )
    expected = ndimage.map_coordinates(image.astype(np.float64), places, order=3, mode="mirror")
    np.testing.assert_allclose(resample_taps(prefilter(image), taps), expected, atol=2e-5)


def test_cubic_goes_through_every_voxel(image: np.ndarray) -> None:
    taps = tuple(cubic_taps(n, n, 1.0) for n in image.shape)
    np.testing.assert_allclose(resample_taps(prefilter(image), taps), image, atol=1e-5)


def test_antialiased_is_linear_interpolation_of_the_gaussian_of_scipy(image: np.ndarray) -> None:
    steps, shape = (2.5, 1.0, 3.2), (4, 14, 4)
    sigma = [max(0.0, (step - 1) / 2) for step in steps]
    smooth = ndimage.gaussian_filter(image.astype(np.float64), sigma, mode="nearest", truncate=4)
    places = np.meshgrid(
        *(
            np.clip(np.arange(n) * step, 0, size - 1)
            for n, step, size in zip(shape, steps, image.shape, strict=True)
        ),
        indexing="ij",
    )
    expected = ndimage.map_coordinates(smooth, places, order=1, mode="nearest")
    taps = tuple(antialiased_taps(*given) for given in zip(image.shape, shape, steps, strict=True))
    np.testing.assert_allclose(resample_taps(image, taps), expected, atol=1e-5)


def test_fine_stripes_do_not_survive_as_coarse_ones() -> None:
    stripes = np.zeros((4, 4, 60), np.float32)
    stripes[:, :, ::2] = 1.0
    axes = tuple(antialiased_taps(*given) for given in ((4, 4, 1.0), (4, 4, 1.0), (60, 20, 3.0)))
    smooth = resample_taps(stripes, axes)[:, :, 3:-3]
    assert np.abs(smooth - 0.5).max() < 0.01  # every third voxel alone alternates 1, 0, 1, 0


@pytest.mark.parametrize("order", [1, 3])
def test_any_affine_equals_scipy(image: np.ndarray, order: int) -> None:
    matrix = np.eye(4)
    matrix[:3, :3] = [[0.8, 0.3, -0.1], [-0.25, 0.9, 0.2], [0.1, -0.1, 1.05]]
    # No place within rounding of the border, where SciPy has no tolerance.
    matrix[:3, 3] = (0.53, 1.27, -0.74)
    found = resample_affine(
        image, matrix, (8, 9, 7), order="linear" if order == 1 else "cubic", outside=-3.0
    )
    expected = ndimage.affine_transform(
        image.astype(np.float64), matrix, output_shape=(8, 9, 7), order=order,
        mode="constant", cval=-3.0,
    )  # fmt: skip
    # SciPy's prefilter for "constant" mirrors the coefficients as ours does.
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert (found == -3.0).any()


def test_a_straight_affine_goes_the_fast_way(
    image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = np.diag([1.5, -0.7, 1.0, 1.0])
    matrix[:3, 3] = (-0.5, 13.0, 2.25)
    expected = affine.resample_affine_reference(image, matrix, (7, 20, 11), "linear", None)
    called = []

    def spy(*given: object) -> object:
        called.append(given)
        return fast(*given)

    fast = affine.resample
    monkeypatch.setattr(affine, "resample", spy)
    np.testing.assert_allclose(resample_affine(image, matrix, (7, 20, 11)), expected, atol=1e-5)
    assert len(called) == 1
    matrix[0, 1] = 0.01
    expected = affine.resample_affine_reference(image, matrix, (7, 20, 11), "linear", None)
    np.testing.assert_allclose(resample_affine(image, matrix, (7, 20, 11)), expected, atol=1e-5)
    assert len(called) == 1


def test_what_does_not_fit_is_refused(image: np.ndarray) -> None:
    axes = tuple(linear_axis(n, n, 1.0) for n in (9, 14, 12))
    with pytest.raises(KernelInputError, match="axes"):
        resample_nearest(image, axes)
    with pytest.raises(KernelInputError, match="dtype"):
        resample_nearest(image.astype(complex), (*axes[:2], linear_axis(11, 11, 1.0)))
    with pytest.raises(KernelInputError, match="taps"):
        resample_taps(image, tuple(cubic_taps(n, n, 1.0) for n in (9, 14, 12)))
    with pytest.raises(KernelInputError, match="dtype"):
        prefilter(image.astype(np.float64))
    for name, given in (
        ("matrix", {"matrix": np.full((4, 4), np.nan)}),
        ("last row", {"matrix": np.ones((4, 4))}),
        ("order", {"order": "quintic"}),
        ("shape", {"shape": (0, 3, 3)}),
    ):
        options = {"matrix": np.eye(4), "shape": (3, 3, 3)} | given
        with pytest.raises(KernelInputError, match=name):
            resample_affine(image, options.pop("matrix"), options.pop("shape"), **options)
    with pytest.raises(KernelInputError, match="nearest"):
        resample_affine(image.astype(np.uint8), np.eye(4), (3, 3, 3))
    with pytest.raises(KernelInputError, match="outside"):
        resample_affine(image.astype(np.uint8), np.eye(4), (3, 3, 3), order="nearest", outside=-1.0)
