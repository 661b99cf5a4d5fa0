"""The model's grid: axes, places, intensities; MONAI is the independent judge."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.spatial.array import Spacing

from inference.domain.errors import RefusedError
from inference.pipeline.preprocess import preprocess, preprocess_labels, to_canonical
from tests.inference.pipeline.built import all_orientations, boxes, centres, grid, rotation, spec_of

SHAPE = (21, 18, 25)
SPACING_MM = (1.7, 2.1, 1.3)


@pytest.mark.parametrize("turn", [0.0, 12.0])
def test_canonical_axes_run_to_superior_posterior_left_from_all_48_orientations(
    turn: float,
) -> None:
    tilt = rotation((1.0, 2.0, 3.0), turn)
    for directions in all_orientations():
        affine = grid(tilt @ directions, SPACING_MM, SHAPE)
        view = to_canonical(boxes(centres(SHAPE, affine)), affine)
        # The truth is evaluated again at the points that the canonical affine names.
        np.testing.assert_array_equal(view.array, boxes(centres(view.array.shape, view.affine_lps)))
        main = np.abs(view.affine_lps[:3, :3]).argmax(axis=0)
        assert main.tolist() == [2, 1, 0]
        assert (view.affine_lps[[2, 1, 0], [0, 1, 2]] > 0).all()
        assert np.shares_memory(view.array, view.array.base)


def test_writing_into_the_canonical_view_writes_the_native_array() -> None:
    affine = grid(all_orientations()[29], SPACING_MM, SHAPE)
    native = np.zeros(SHAPE, np.uint8)
    view = to_canonical(native, affine)
    view.array[...] = boxes(centres(view.array.shape, view.affine_lps))
    np.testing.assert_array_equal(native, boxes(centres(SHAPE, affine)))


@pytest.mark.parametrize("spacing_mm", [(1.7, 2.1, 1.3), (2.0, 1.4996, 0.9), (5.0, 0.4, 0.75)])
def test_the_grid_and_its_values_are_those_of_monai_spacing(
    spacing_mm: tuple[float, float, float],
) -> None:
    rng = np.random.default_rng(0)
    array = rng.integers(-100, 300, (19, 26, 23)).astype(np.int16)
    directions = np.eye(3)[:, [2, 1, 0]]  # slice to S, row to P, column to L: canonical already
    affine = grid(rotation((0, 0, 1), 9.0) @ directions, spacing_mm, array.shape)
    spec = spec_of()
    prepared = preprocess(array, affine, spec)

    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    image = MetaTensor(torch.from_numpy(array[None].astype(np.float32)), affine=ras)
    expected = Spacing(spec.preprocessing.spacing_mm)(image)
    assert prepared.array.shape == tuple(expected.shape[1:])
    np.testing.assert_allclose(
        prepared.grid.affine_lps,
        np.diag([-1.0, -1.0, 1.0, 1.0]) @ expected.affine.numpy(),
        atol=1e-9,
    )
    scaled = np.clip((expected.numpy()[0] + 100) / 400, 0, 1)
    np.testing.assert_allclose(prepared.array, scaled, atol=2e-6)  # float32 against float64


def test_int16_and_float32_give_the_same_values() -> None:
    rng = np.random.default_rng(1)
    array = rng.integers(-2000, 3000, (9, 11, 13)).astype(np.int16)
    affine = grid(np.eye(3)[:, [2, 1, 0]], SPACING_MM, array.shape)
    spec = spec_of()
    np.testing.assert_array_equal(
        preprocess(array, affine, spec).array,
        preprocess(array.astype(np.float32), affine, spec).array,
    )


def _zscore(**values: object) -> object:
    return spec_of(
        preprocessing={"spacing_mm": [1.0, 1.0, 1.0], "intensity": {"kind": "zscore", **values}}
    )


def test_zscore_has_mean_zero_and_population_sd_one() -> None:
    rng = np.random.default_rng(2)
    array = rng.normal(300, 40, (8, 9, 10)).astype(np.float32)
    out = preprocess(array, np.diag([1.0, 1.0, 1.0, 1.0]), _zscore()).array
    assert out.mean() == pytest.approx(0, abs=1e-5)
    assert out.std() == pytest.approx(1, abs=1e-5)


def test_zscore_over_nonzero_voxels_leaves_the_zeros() -> None:
    array = np.zeros((4, 5, 6), np.float32)
    array[1:3] = np.arange(60, dtype=np.float32).reshape(2, 5, 6) + 10
    out = preprocess(array, np.eye(4)[[2, 1, 0, 3]], _zscore(nonzero=True)).array
    inside = array != 0
    assert (out[~inside] == 0).all()
    expected = (array[inside] - array[inside].mean()) / array[inside].std()
    np.testing.assert_allclose(out[inside], expected, atol=1e-6)


def test_zscore_clips_to_its_percentiles_first() -> None:
    array = np.ones((5, 5, 5), np.float32) * np.arange(5, dtype=np.float32)
    array[0, 0, 0] = 1e6
    affine = np.eye(4)[[2, 1, 0, 3]]
    out = preprocess(array, affine, _zscore(percentiles=[1.0, 99.0])).array
    low, high = np.percentile(array, [1, 99])
    clipped = np.clip(array, low, high)
    np.testing.assert_allclose(out, (clipped - clipped.mean()) / clipped.std(), rtol=1e-4)


def test_labels_take_the_nearest_voxel_on_the_same_grid() -> None:
    affine = grid(all_orientations()[17], SPACING_MM, SHAPE)
    labels = boxes(centres(SHAPE, affine))
    spec = spec_of()
    found = preprocess_labels(labels, affine, spec)
    prepared = preprocess(np.zeros(SHAPE, np.int16), affine, spec)
    assert found.shape == prepared.array.shape
    points = centres(found.shape, prepared.grid.affine_lps)
    # Within half a native voxel of a box's side the nearest voxel may lie on its other side.
    assert (found == boxes(points)).mean() > 0.85
    deep = boxes(points - 1.06) == boxes(points + 1.06)
    agreed = deep & (boxes(points) == boxes(points + 1.06))
    assert (found == boxes(points))[agreed].mean() > 0.99


@pytest.mark.parametrize(
    ("array", "change", "word"),
    [
        (np.zeros((0, 4, 4), np.int16), None, "array: shape"),
        (np.zeros((4, 4), np.int16), None, "array: shape"),
        (np.zeros((4, 4, 4), np.float64), None, "dtype"),
        (np.full((4, 4, 4), np.nan, np.float32), None, "NaN"),
        (np.zeros((4, 4, 4), np.int16), (slice(0, 3), 1, 0.0), "spacing"),
        (np.zeros((4, 4, 4), np.int16), (0, 3, np.nan), "finite"),
        (np.zeros((4, 4, 4), np.int16), (1, 0, 0.3), "sheared"),
    ],
)
def test_what_is_no_volume_on_a_grid_is_refused_by_field(
    array: np.ndarray, change: tuple[object, object, float] | None, word: str
) -> None:
    affine = np.eye(4)
    if change is not None:
        affine[change[0], change[1]] = change[2]
    with pytest.raises(RefusedError, match=word):
        preprocess(array, affine, spec_of())


def test_a_constant_volume_has_no_zscore() -> None:
    with pytest.raises(RefusedError, match="same value, 7"):
        preprocess(np.full((4, 4, 4), 7, np.int16), np.eye(4), _zscore())


def test_a_volume_of_a_kilometre_is_refused() -> None:
    affine = np.diag([100.0, 100.0, 100.0, 1.0])
    with pytest.raises(RefusedError, match="extent"):
        preprocess(np.zeros((30, 30, 30), np.int16), affine, spec_of())
