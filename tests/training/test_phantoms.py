"""The thorax phantom: seeded, asymmetrical as people are, and of one size on every grid."""

from __future__ import annotations

import numpy as np
import pytest

from dicom_io.volume import Volume
from training.phantoms import LEFT_LUNG, RIGHT_LUNG, thorax_phantom

SHAPE, SPACING_MM = (50, 70, 96), (6.0, 5.0, 4.5)


def lung_volumes_ml(labels: np.ndarray, spacing_mm: tuple[float, float, float]) -> list[float]:
    return [float((labels == side).sum() * np.prod(spacing_mm) / 1000) for side in (1, 2)]


def test_the_seed_decides_every_voxel() -> None:
    first, again, other = (thorax_phantom(seed, (6, 40, 50), (40, 9, 9)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])
    assert first[0].dtype == np.int16
    assert first[1].dtype == np.uint8


def test_the_left_lung_lies_on_the_left_and_the_liver_on_the_right() -> None:
    array, labels, affine_lps = thorax_phantom(1, SHAPE, SPACING_MM)
    for side, is_left in ((LEFT_LUNG, True), (RIGHT_LUNG, False)):
        centre = affine_lps @ [*np.argwhere(labels == side).mean(axis=0), 1]
        assert (centre[0] > 20) == is_left  # LPS: +x is the patient's left
        assert (centre[0] < -20) != is_left
    lowest = np.flatnonzero((labels > 0).any(axis=(1, 2)))[0]
    columns = np.arange(SHAPE[2])
    dense = (array[lowest - 4] > 30) & (array[lowest - 4] < 140)
    assert dense[:, columns < SHAPE[2] / 2].sum() > 1.3 * dense[:, columns > SHAPE[2] / 2].sum()


def test_lungs_have_adult_volumes_which_do_not_depend_on_the_grid() -> None:
    coarse = thorax_phantom(2, SHAPE, SPACING_MM)[1]
    fine_spacing = (3.0, 2.5, 2.25)
    fine = thorax_phantom(2, (100, 140, 192), fine_spacing)[1]
    for first, second in zip(
        lung_volumes_ml(coarse, SPACING_MM), lung_volumes_ml(fine, fine_spacing), strict=True
    ):
        assert 900 < first < 5500
        # The edge of a lung is known to a fraction of a voxel; 2.5 % of such a lung is 0.7 mm.
        assert first == pytest.approx(second, rel=0.025)


def test_lungs_hold_air_and_gas_outside_them_is_not_labelled() -> None:
    array, labels, affine_lps = thorax_phantom(3, SHAPE, SPACING_MM)
    volume = Volume(array=array, affine_lps=affine_lps)
    assert -900 < np.median(array[labels > 0]) < -650
    body = array > -300
    inside = body.any(axis=2, keepdims=True) & (np.cumsum(body, 2) > 3)
    inside &= np.cumsum(body[..., ::-1], 2)[..., ::-1] > 3
    gas = (array < -940) & inside & (labels == 0)
    assert gas.sum() * volume.voxel_volume_mm3 > 5000  # trachea, stomach, bowel
    assert volume.spacing_mm == pytest.approx(SPACING_MM)


def test_a_lower_centre_shows_the_lung_bases_of_the_same_patient() -> None:
    whole = thorax_phantom(4, (60, 40, 50), (5.0, 9.0, 9.0), centre_z_mm=-35.0)
    bases = thorax_phantom(4, (20, 40, 50), (5.0, 9.0, 9.0), centre_z_mm=-115.0)
    heights = whole[2][2, 3] + 5.0 * np.arange(60)
    same = np.flatnonzero(np.abs(heights - bases[2][2, 3]) < 1e-6)[0]
    np.testing.assert_array_equal(whole[1][same : same + 20], bases[1])
