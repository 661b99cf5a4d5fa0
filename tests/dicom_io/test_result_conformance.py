"""Validators written by others find no error in what is written, from built and real sources."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from dicom_io.gate import check_placement
from dicom_io.read import read_volume
from dicom_io.result_errors import MissingIdentifierError
from dicom_io.series import Series, scan
from tests.builders.dicom import affine_from, enhanced_mr, save, write_series
from tests.builders.results import Written, read_only_series, thirds, write_result
from tests.builders.validators import dcentvfy, dciodvfy, pixelmed_sr

SHAPE = (6, 25, 31)
SPACING_MM = (2.5, 0.6, 0.8)


def assert_conforms(written: Written, *, with_pixelmed: bool = False) -> None:
    """0 errors by every validator, no disagreement with the source, and the gate is passed.

    PixelMed's validator takes seconds, so it sees each kind of content and a few real cases.
    """
    objects = [path for path in (written.seg, written.sr) if path is not None]
    for path in objects:
        assert dciodvfy(path) == []
    if with_pixelmed:
        assert pixelmed_sr(written.sr) == []
    source = written.volume.source
    assert source is not None
    assert dcentvfy([*objects, *(instance.path for instance in source.instances)]) == []
    given = (written.volume, written.labels, written.segments)
    if written.seg is not None:
        check_placement(written.seg, *given)
    check_placement(written.sr, *given, segmentation=written.seg)


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
def test_results_of_built_series_conform(tmp_path: Path, modality: str) -> None:
    values = np.random.default_rng(4).integers(0, 900, SHAPE).astype(np.int16)
    affine = affine_from(SPACING_MM, orientation=(0.8, 0.6, 0.0, -0.48, 0.64, 0.6))
    files = write_series(tmp_path / "series", values, affine, modality)
    assert_conforms(write_result(tmp_path, read_only_series(files)), with_pixelmed=modality == "CT")


@pytest.mark.slow
def test_a_result_of_an_enhanced_image_conforms(tmp_path: Path) -> None:
    image = enhanced_mr(
        thirds(SHAPE).astype(np.int16), affine_from(SPACING_MM), frame_order=(4, 2, 0, 1, 3, 5)
    )
    read = read_only_series([save(image, tmp_path / "mr.dcm")])
    assert_conforms(write_result(tmp_path, read), with_pixelmed=True)


def test_a_result_of_a_tilted_stack_conforms(tmp_path: Path) -> None:
    affine = affine_from(SPACING_MM, shear_mm=(0.0, 0.7, 0.0))
    files = write_series(tmp_path / "ct", thirds(SHAPE).astype(np.int16), affine)
    assert_conforms(write_result(tmp_path, read_only_series(files, tilt="resample")))


@pytest.mark.slow
@pytest.mark.parametrize("found", ["nothing", "one of three"])
def test_a_report_of_what_was_not_found_conforms(tmp_path: Path, found: str) -> None:
    values = np.random.default_rng(4).integers(0, 900, SHAPE).astype(np.int16)
    files = write_series(tmp_path / "ct", values, affine_from(SPACING_MM))
    labels = thirds(SHAPE) * (thirds(SHAPE) == (2 if found == "one of three" else 0))
    written = write_result(tmp_path, read_only_series(files), labels)
    assert (written.seg is None) == (found == "nothing")
    assert_conforms(written, with_pixelmed=True)


def test_the_errors_of_a_label_map_are_only_the_validators_own(tmp_path: Path) -> None:
    """The tools of 2022 do not know the class, and take its background item for a mistake."""
    files = write_series(tmp_path / "ct", np.zeros(SHAPE, np.int16), affine_from(SPACING_MM))
    written = write_result(tmp_path, read_only_series(files), kind="LABELMAP")
    assert written.seg is not None
    unknown_class, background = sorted(dciodvfy(written.seg))[::-1]
    assert unknown_class == "Error - Information Object Not found"
    assert "SegmentNumber not monotonically increasing" in background


def only(folder: Path, chosen: Callable[[Series], bool] = lambda _: True) -> Series:
    found = [series for series in scan(sorted(folder.rglob("*.dcm"))).series if series.is_image]
    (series,) = [each for each in found if chosen(each)]
    return series


REAL_SERIES = {
    "ct-dicom/lidc-idri-0001-partial": True,
    "mr-dicom/pgbm-003/11_HCropVolume": True,
    "mr-dicom/pgbm-003/11-T1post-18670": False,
    "mr-dicom/prostatex-0000/4.000000-t2tsetra-00702": False,
    "mr-dicom/prostatex-0000/7.000000-ep2ddifftraDYNDISTADC-48780": False,
    "seg-sr/dcmqi/ct-3slice": False,
}
"""Folder, and whether PixelMed's validator sees it too."""


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL_SERIES)
def test_results_of_real_series_conform(shared_data: Path, tmp_path: Path, name: str) -> None:
    written = write_result(tmp_path, read_volume(only(shared_data / name)))
    assert_conforms(written, with_pixelmed=REAL_SERIES[name])


@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
def test_results_of_a_study_with_three_modalities_conform(
    shared_data: Path, tmp_path: Path, modality: str
) -> None:
    """Their StudyID is longer than a DICOM SH: it is left empty, and only that."""
    folder = shared_data / "ct-mr-pet-dicom" / "STS_001"
    series = only(folder, lambda each: each.modality == modality)
    written = write_result(tmp_path, read_volume(series))
    assert_conforms(written)
    assert dcmread(written.sr).StudyID in ("", None)


@pytest.mark.slow
def test_the_result_of_the_4d_lung_ct_conforms(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "ct-dicom" / "4d-lung-113_HM10395"
    with tarfile.open(folder / "4d-lung-113_HM10395.tar.xz") as archive:
        archive.extractall(tmp_path / "ct", filter="data")
    assert_conforms(write_result(tmp_path, read_volume(only(tmp_path / "ct"))))


def test_blank_identifiers_are_named_and_a_copy_given_them_goes_through(
    shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "ct-dicom" / "totalseg-example-j2k"
    with pytest.raises(MissingIdentifierError) as caught:
        write_result(tmp_path, read_volume(only(folder)))
    assert caught.value.attribute == "StudyInstanceUID"
    study_uid, series_uid, frame_of_reference_uid = (generate_uid() for _ in range(3))
    (tmp_path / "named").mkdir()
    for path in folder.glob("*.dcm"):
        dataset = dcmread(path)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study_uid, series_uid
        dataset.FrameOfReferenceUID = frame_of_reference_uid
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = (
            "1.2.840.10008.5.1.4.1.1.2"
        )
        dataset.save_as(tmp_path / "named" / path.name)
    assert_conforms(write_result(tmp_path, read_volume(only(tmp_path / "named"))))
