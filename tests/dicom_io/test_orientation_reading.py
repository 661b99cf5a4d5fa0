"""24 orientations in both file orders as DICOM, 48 as NIfTI, and oblique ones: 0 misplaced voxels.

Every voxel of an asymmetric phantom is looked up by its place in the patient, computed here from
the affine that the builder was given; the reader may store slices and axes in any order it likes.
"""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from dicom_io.nifti import read_nifti, write_nifti
from dicom_io.read import read_volume
from dicom_io.series import scan
from tests.builders.dicom import affine_from, enhanced_mr, save, write_series
from tests.builders.orientation import (
    ORIGIN_MM,
    SPACING_MM,
    asymmetric_phantom,
    dicom_orientations,
    grid_affines,
    n_misplaced,
    oblique_orientations,
    rotation,
)

ORIENTATIONS = {**dicom_orientations(), **oblique_orientations()}
GRIDS = grid_affines()


def oblique_grids() -> dict[str, np.ndarray]:
    turned = {}
    for name in ("SPL", "LAI", "PSR"):
        for angles in ((4, -3, 2), (20, 35, 0)):
            affine = GRIDS[name].copy()
            affine[:3, :3] = rotation(*angles) @ affine[:3, :3]
            turned[f"{name}-{angles}"] = affine
    return turned


ALL_GRIDS = {**GRIDS, **oblique_grids()}


def test_there_are_24_and_48_different_ones() -> None:
    assert len({tuple(o) for o in dicom_orientations().values()}) == 24
    assert len({a[:3, :3].tobytes() for a in GRIDS.values()}) == 48


@pytest.mark.parametrize("slice_step", [1, -1], ids=["along", "against"])
@pytest.mark.parametrize("file_order", ["forward", "reverse"])
@pytest.mark.parametrize("name", ORIENTATIONS)
def test_every_voxel_of_a_dicom_series_is_in_its_place(
    tmp_path: Path, name: str, file_order: str, slice_step: int
) -> None:
    phantom = asymmetric_phantom()
    affine = affine_from(SPACING_MM, orientation=ORIENTATIONS[name], origin_mm=ORIGIN_MM)
    affine[:3, 0] *= slice_step
    paths = write_series(tmp_path, phantom, affine, "CT", file_order=file_order)  # type: ignore[arg-type]
    volume = read_volume(scan(paths).series[0], workers=1)
    assert n_misplaced(volume.array, volume.affine_lps, phantom, affine) == 0
    assert volume.source is not None
    for index, source in enumerate(volume.source.instances):
        position = np.array(source.header.ImagePositionPatient, float)
        np.testing.assert_allclose(volume.affine_lps @ (index, 0, 0, 1), [*position, 1], atol=1e-6)


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_every_voxel_of_an_enhanced_mr_is_in_its_place(tmp_path: Path, name: str) -> None:
    phantom = asymmetric_phantom() + 500
    affine = affine_from(SPACING_MM, orientation=ORIENTATIONS[name], origin_mm=ORIGIN_MM)
    dataset = enhanced_mr(phantom, affine, frame_order=[4, 1, 0, 5, 3, 2])
    volume = read_volume(scan([save(dataset, tmp_path / "mr.dcm")]).series[0], workers=1)
    assert n_misplaced(volume.array, volume.affine_lps, phantom, affine) == 0


@pytest.mark.parametrize("name", list(oblique_orientations()))
def test_the_place_agrees_with_simpleitk(tmp_path: Path, name: str) -> None:
    affine = affine_from(SPACING_MM, orientation=ORIENTATIONS[name], origin_mm=ORIGIN_MM)
    paths = write_series(tmp_path, asymmetric_phantom(), affine, "CT")
    volume = read_volume(scan(paths).series[0])
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = reader.Execute()
    np.testing.assert_array_equal(volume.array, SimpleITK.GetArrayFromImage(image))
    for index in ((0, 0, 0), (5, 0, 0), (0, 6, 0), (0, 0, 8), (2, 3, 4)):
        theirs = image.TransformIndexToPhysicalPoint(index[::-1])
        np.testing.assert_allclose((volume.affine_lps @ (*index, 1))[:3], theirs, atol=1e-3)


@pytest.mark.parametrize("name", ALL_GRIDS)
def test_every_voxel_of_a_nifti_file_is_in_its_place(tmp_path: Path, name: str) -> None:
    """Written by nibabel with an RAS affine worked out here; x and y change sign, z does not."""
    phantom, affine_lps = asymmetric_phantom(), ALL_GRIDS[name]
    affine_ras = np.diag([-1, -1, 1, 1]) @ affine_lps
    path = tmp_path / "x.nii.gz"
    nibabel.save(nibabel.Nifti1Image(phantom, affine_ras), path)
    volume = read_nifti(path)
    assert n_misplaced(volume.array, volume.affine_lps, phantom, affine_lps) == 0


@pytest.mark.parametrize("name", ALL_GRIDS)
def test_what_is_written_as_nifti_is_in_its_place_for_nibabel_and_simpleitk(
    tmp_path: Path, name: str
) -> None:
    phantom, affine_lps = asymmetric_phantom(), ALL_GRIDS[name]
    path = tmp_path / "x.nii.gz"
    write_nifti(path, phantom, affine_lps)
    image = nibabel.load(path)
    as_lps = np.diag([-1, -1, 1, 1]) @ image.affine @ np.eye(4)[:, [2, 1, 0, 3]]
    assert n_misplaced(np.asarray(image.dataobj).T, as_lps, phantom, affine_lps) == 0
    np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-4)
    assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (1, 1)
    theirs = SimpleITK.ReadImage(str(path))
    for index in ((0, 0, 0), (5, 6, 8), (1, 2, 3)):
        place = theirs.TransformIndexToPhysicalPoint(index[::-1])
        np.testing.assert_allclose((affine_lps @ (*index, 1))[:3], place, atol=1e-3)
        assert theirs[index[::-1]] == phantom[index]
    back = read_nifti(path)
    np.testing.assert_array_equal(back.array, phantom)
    np.testing.assert_allclose(back.affine_lps, affine_lps, atol=1e-4)


def test_the_check_itself_sees_a_flip_a_swap_and_a_shift() -> None:
    phantom, affine = asymmetric_phantom(), GRIDS["SPL"]
    assert n_misplaced(phantom, affine, phantom, affine) == 0
    assert n_misplaced(phantom[::-1], affine, phantom, affine) == phantom.size
    mirrored = np.diag([-1, 1, 1, 1]) @ affine
    assert n_misplaced(phantom, mirrored, phantom, affine) == phantom.size
    shifted = affine.copy()
    shifted[0, 3] += SPACING_MM[2] / 2
    assert n_misplaced(phantom, shifted, phantom, affine) == phantom.size
    assert n_misplaced(phantom[:, :, :-1], affine, phantom, affine) == phantom[:, :, 0].size
