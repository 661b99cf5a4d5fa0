"""Real series against SimpleITK: pixels equal, places equal; and real faults named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from pydicom.uid import CTImageStorage

from dicom_io.errors import DuplicateSliceError, SliceGapError
from dicom_io.nifti import read_nifti
from dicom_io.read import read_volume
from dicom_io.series import Series, scan
from dicom_io.sources import open_source
from dicom_io.volume import Volume
from tests.builders.dicom import mr_series, write_instances


def series_in(folder: Path) -> Series:
    with open_source(folder) as files:
        found = scan(files)
    (image,) = [series for series in found.series if series.is_image]
    return image


def assert_equal_to_simpleitk(volume: Volume, paths: list[Path]) -> None:
    """Compare all pixels, and the place of a few voxels; ITK may run the slices the other way."""
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in paths])
    image = reader.Execute()
    theirs = SimpleITK.GetArrayFromImage(image).astype(np.float64)
    np.testing.assert_allclose(volume.array, theirs, rtol=1e-6)
    last = np.array(volume.array.shape) - 1
    for index in ((0, 0, 0), (last[0], 0, 0), (0, last[1], 0), (0, 0, last[2]), tuple(last // 2)):
        place = image.TransformIndexToPhysicalPoint([int(n) for n in index[::-1]])
        np.testing.assert_allclose((volume.affine_lps @ (*index, 1))[:3], place, atol=0.01)


@pytest.mark.parametrize(
    ("folder", "shape", "spacing_mm"),
    [
        ("ct-dicom/lidc-idri-0001-partial", (16, 512, 512), (2.5, 0.703125, 0.703125)),
        ("ct-dicom/totalseg-example-j2k", (20, 512, 512), (2.0, 0.9765625, 0.9765625)),
        ("ct-mr-pet-dicom/STS_001/CT/image", (59, 202, 198), (3.27, 0.976562, 0.976562)),
        ("ct-mr-pet-dicom/STS_001/PET/image", (59, 43, 41), (3.27, 4.6875, 4.6875)),
        ("ct-mr-pet-dicom/STS_002/MR_T1/image", (35, 90, 115), (3.27, 0.976562, 0.976562)),
        ("mr-dicom/pgbm-003/11-T1post-18670", (22, 320, 280), (6.5, 0.6875, 0.6875)),
        ("mr-dicom/pgbm-003/11_HCropVolume", (40, 50, 34), (1, 1, 1)),
        ("mr-dicom/prostatex-0000/4.000000-t2tsetra-00702", (19, 384, 384), (3.0, 0.5, 0.5)),
        ("edge-dicom/dicom2nifti/generic/compressed_jpegls/001", (4, 256, 256), (1, 1, 1)),
    ],
)
def test_a_real_series_equals_what_simpleitk_reads(
    shared_data: Path,
    folder: str,
    shape: tuple[int, ...],
    spacing_mm: tuple[float, ...],
) -> None:
    volume = read_volume(series_in(shared_data / folder))
    assert volume.array.shape == shape
    assert volume.spacing_mm == pytest.approx(spacing_mm, abs=1e-3)
    assert volume.source is not None
    assert_equal_to_simpleitk(volume, [item.path for item in volume.source.instances])


@pytest.mark.parametrize(
    ("archive", "modality", "shape"),
    [
        ("ct-dicom/4d-lung-113_HM10395/4d-lung-113_HM10395.tar.xz", "CT", (99, 512, 512)),
        ("mr-dicom/studyforrest-t1w/studyforrest-t1w-dicom.tar.xz", "MR", (384, 384, 274)),
    ],
)
def test_a_real_archive_equals_what_simpleitk_reads(
    shared_data: Path, archive: str, modality: str, shape: tuple[int, ...]
) -> None:
    with open_source(shared_data / archive) as files:
        found = scan(files)
        assert found.skipped == ()
        (image,) = [series for series in found.series if series.is_image]
        volume = read_volume(image)
        assert volume.source is not None
        assert (volume.modality, volume.array.shape) == (modality, shape)
        assert_equal_to_simpleitk(volume, [item.path for item in volume.source.instances])


def test_the_jpeg_2000_ct_without_uids_reads_and_says_that_they_are_blank(
    shared_data: Path,
) -> None:
    volume = read_volume(series_in(shared_data / "ct-dicom" / "totalseg-example-j2k"))
    assert volume.source is not None
    assert (volume.source.study_uid, volume.source.series_uid) == ("", "")
    assert {item.instance_uid for item in volume.source.instances} == {""}
    # Its SOP class is blank in the data set too; the meta information names it.
    assert {item.sop_class_uid for item in volume.source.instances} == {CTImageStorage}
    assert len({item.sha256 for item in volume.source.instances}) == 20


def test_diffusion_images_of_one_place_are_refused(shared_data: Path) -> None:
    folder = shared_data / "mr-dicom/prostatex-0000/6.000000-ep2ddifftraDYNDIST-69284"
    with pytest.raises(DuplicateSliceError) as caught:
        read_volume(series_in(folder))
    assert caught.value.n_duplicates == 57 - 19
    assert not caught.value.identical_pixels


def test_a_real_missing_slice_is_named(shared_data: Path) -> None:
    folder = shared_data / "mr-dicom/prostatex-0000/missing-slice"
    with pytest.raises(SliceGapError) as caught:
        read_volume(series_in(folder))
    assert caught.value.expected_mm == pytest.approx(3.0, abs=1e-3)
    assert caught.value.found_mm == pytest.approx(6.0, abs=1e-3)
    assert caught.value.slice_index == 12


def test_hippocampus_crops_above_32767_survive_being_written_as_dicom(
    shared_data: Path, tmp_path: Path
) -> None:
    """18 of the 140 do not fit int16; the builder gives each the rescale that loses nothing."""
    paths = sorted((shared_data / "nifti-seg/msd-hippocampus/images").glob("*.nii.gz"))
    volumes = {path: read_nifti(path) for path in paths}
    large = [path for path, volume in volumes.items() if volume.array.max() > 32767]
    assert len(large) == 18
    for path in large[:6]:
        truth = volumes[path]
        files = write_instances(tmp_path / path.stem, mr_series(truth.array, truth.affine_lps))
        volume = read_volume(scan(files).series[0])
        half_a_step = float(np.ptp(truth.array.astype(float))) / 65535 / 2 * 1.01
        to_truth = np.linalg.inv(truth.affine_lps) @ volume.affine_lps
        is_same_way = to_truth[0, 0] > 0
        array = volume.array if is_same_way else volume.array[::-1]
        np.testing.assert_allclose(array, truth.array, atol=half_a_step, rtol=0)
        end = (0 if is_same_way else len(array) - 1, 0, 0, 1)
        np.testing.assert_allclose(volume.affine_lps @ end, truth.affine_lps[:, 3], atol=1e-3)
