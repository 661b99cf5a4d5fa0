"""NIfTI values, types and refusals; places are in ``test_orientation_reading.py``."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path
from struct import pack_into, unpack_from
from typing import Any

import nibabel
import numpy as np
import pytest

from dicom_io.errors import NiftiError
from dicom_io.nifti import (
    affine_lps_from_ras,
    affine_ras_from_lps,
    read_nifti,
    write_nifti,
)
from tests.builders.orientation import asymmetric_phantom

AFFINE_RAS = np.array([[0.7, 0, 0, -20], [0, 1.1, 0, 15.5], [0, 0, 2.5, -60], [0, 0, 0, 1.0]])


def saved(folder: Path, array: np.ndarray, affine_ras: Any = AFFINE_RAS, **header: Any) -> Path:
    """A .nii by nibabel, with header fields overwritten byte for byte afterwards."""
    data = bytearray(nibabel.Nifti1Image(array, affine_ras).to_bytes())
    for field, value in header.items():
        code, offset = FIELDS[field]
        pack_into(code, data, offset, *(value if isinstance(value, tuple) else (value,)))
    path = folder / "x.nii"
    path.write_bytes(data)
    return path


FIELDS = {
    "dim": ("<8h", 40),
    "datatype": ("<h", 70),
    "pixdim": ("<8f", 76),
    "vox_offset": ("<f", 108),
    "scl_slope": ("<f", 112),
    "scl_inter": ("<f", 116),
    "xyzt_units": ("<B", 123),
    "qform_code": ("<h", 252),
    "sform_code": ("<h", 254),
    "quatern_b": ("<f", 256),
    "srow_x": ("<4f", 280),
    "magic": ("<4s", 344),
}


def refusal(path: Path) -> NiftiError:
    with pytest.raises(NiftiError) as caught:
        read_nifti(path)
    return caught.value


def test_a_voxel_is_where_the_hand_sized_case_says(tmp_path: Path) -> None:
    """(i, j, k) = (1, 2, 3) lies at RAS (-19.3, 17.7, -52.5), so at LPS (19.3, -17.7, -52.5)."""
    array = np.zeros((4, 5, 6), np.int16)
    array[1, 2, 3] = 7
    volume = read_nifti(saved(tmp_path, array))
    assert volume.array.shape == (6, 5, 4)
    assert volume.array[3, 2, 1] == 7
    np.testing.assert_allclose(
        (volume.affine_lps @ (3, 2, 1, 1))[:3], (19.3, -17.7, -52.5), rtol=1e-6
    )
    assert volume.spacing_mm == pytest.approx((2.5, 1.1, 0.7))
    assert (volume.modality, volume.unit, volume.source) == ("", "1", None)


def test_the_two_ways_undo_each_other() -> None:
    affine = affine_lps_from_ras(AFFINE_RAS)
    np.testing.assert_allclose(affine_ras_from_lps(affine), AFFINE_RAS)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "f4", "f8", ">i2", ">f4"])
def test_whole_values_that_fit_come_as_int16(tmp_path: Path, dtype: str) -> None:
    array = np.arange(60).reshape(3, 4, 5).astype(dtype)
    volume = read_nifti(saved_in(tmp_path, array))
    assert volume.array.dtype == np.int16
    assert volume.array.flags.c_contiguous
    np.testing.assert_array_equal(volume.array, array.T)


def saved_in(folder: Path, array: np.ndarray) -> Path:
    path = folder / "x.nii.gz"
    header = nibabel.Nifti1Header(endianness=">" if array.dtype.byteorder == ">" else "<")
    header.set_data_dtype(array.dtype)
    nibabel.save(nibabel.Nifti1Image(array, AFFINE_RAS, header), path)
    return path


@pytest.mark.parametrize(
    "array", [np.linspace(0, 1, 60), np.linspace(0, 60000, 60).round(), np.full(60, -40000.0)]
)
def test_other_values_come_as_float32(tmp_path: Path, array: np.ndarray) -> None:
    array = array.reshape(3, 4, 5)
    volume = read_nifti(saved(tmp_path, array))
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array, array.T, rtol=1e-6)


def test_scaling_is_applied_and_a_slope_of_zero_means_none(tmp_path: Path) -> None:
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    scaled = read_nifti(saved(tmp_path, array, scl_slope=0.5, scl_inter=-3.0))
    np.testing.assert_allclose(scaled.array, array.T * 0.5 - 3)
    shifted = read_nifti(saved(tmp_path, array, scl_slope=1.0, scl_inter=-1024.0))
    np.testing.assert_array_equal(shifted.array, array.T - 1024)
    unscaled = read_nifti(saved(tmp_path, array, scl_slope=0.0, scl_inter=9.0))
    np.testing.assert_array_equal(unscaled.array, array.T)


@pytest.mark.parametrize(("code", "factor"), [(1, 1000.0), (2, 1.0), (3, 0.001), (0, 1.0)])
def test_other_units_of_length_are_converted(tmp_path: Path, code: int, factor: float) -> None:
    path = saved(tmp_path, np.ones((3, 4, 5), np.int16), xyzt_units=code)
    volume = read_nifti(path)
    assert volume.spacing_mm == pytest.approx((2.5 * factor, 1.1 * factor, 0.7 * factor))


def test_a_trailing_axis_of_one_is_still_a_volume(tmp_path: Path) -> None:
    assert read_nifti(saved(tmp_path, np.ones((3, 4, 5, 1), np.int16))).array.shape == (5, 4, 3)


def test_nifti_2_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.nii"
    array = asymmetric_phantom()
    nibabel.save(nibabel.Nifti2Image(array, AFFINE_RAS), path)
    np.testing.assert_array_equal(read_nifti(path).array, array.T)


ONES = np.ones((3, 4, 5), np.int16)
NAN = float("nan")


@pytest.mark.parametrize(
    ("field", "header"),
    [
        ("dim", {"dim": (4, 3, 4, 5, 2, 1, 1, 1)}),
        ("dim", {"dim": (3, 0, 4, 5, 1, 1, 1, 1)}),
        ("dim", {"dim": (3, -3, 4, 5, 1, 1, 1, 1)}),
        ("dim", {"dim": (5, 32767, 32767, 32767, 32767, 32767, 1, 1)}),
        ("dim", {"dim": (3, 32767, 32767, 32767, 1, 1, 1, 1)}),
        ("dim", {"dim": (2, 3, 4, 1, 1, 1, 1, 1)}),
        ("dim", {"dim": (99, 3, 4, 5, 1, 1, 1, 1)}),
        ("data", {"dim": (3, 3, 4, 6, 1, 1, 1, 1)}),
        ("datatype", {"datatype": 128}),  # RGB
        ("datatype", {"datatype": 32}),  # complex
        ("datatype", {"datatype": 1}),  # bits
        ("datatype", {"datatype": 999}),
        ("pixdim", {"pixdim": (1, 0.7, 0, 2.5, 1, 1, 1, 1)}),
        ("pixdim", {"pixdim": (1, 0.7, NAN, 2.5, 1, 1, 1, 1)}),
        ("vox_offset", {"vox_offset": NAN}),
        ("vox_offset", {"vox_offset": 1e9}),
        ("scl_slope", {"scl_slope": NAN}),
        ("scl_slope", {"scl_slope": float("inf")}),
        ("scl_slope", {"scl_slope": 2.0, "scl_inter": NAN}),
        ("xyzt_units", {"xyzt_units": 5}),
        ("sform_code", {"sform_code": 0, "qform_code": 0}),
        ("sform", {"srow_x": (NAN, 0, 0, 0)}),
        ("sform", {"srow_x": (0.0, 0, 0, 0)}),
        ("sform", {"srow_x": (0.7, 0.4, 0, -20)}),  # sheared
        ("sform", {"srow_x": (-0.7, 0, 0, -20), "qform_code": 1}),  # the qform says otherwise
        ("qform", {"qform_code": 1, "quatern_b": NAN}),
        ("magic", {"magic": b"ni1\0"}),  # pixels in another file: never followed
        ("magic", {"magic": b"\0\0\0\0"}),
    ],
)
def test_a_bad_header_is_refused_by_field(
    tmp_path: Path, field: str, header: dict[str, Any]
) -> None:
    assert refusal(saved(tmp_path, ONES, **header)).field == field


@pytest.mark.parametrize("value", [NAN, float("inf")])
def test_voxels_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    array = np.ones((3, 4, 5), np.float32)
    array[1, 2, 3] = value
    assert refusal(saved(tmp_path, array)).field == "data"


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.nii").field == "file"


@pytest.mark.parametrize("length", [0, 10, 347, 351, 400])
def test_a_file_cut_short_is_refused(tmp_path: Path, length: int) -> None:
    path = saved(tmp_path, ONES)
    path.write_bytes(path.read_bytes()[:length])
    assert refusal(path).field in {"magic", "header", "vox_offset", "data"}


def test_a_gz_cut_short_or_damaged_is_refused(tmp_path: Path) -> None:
    data = gzip.compress(saved(tmp_path, ONES).read_bytes())
    path = tmp_path / "x.nii.gz"
    path.write_bytes(data[:-12])
    assert refusal(path).field == "gzip"
    path.write_bytes(data[:30] + b"\xff" * 20 + data[50:])
    assert refusal(path).field == "gzip"


def test_a_tar_called_nii_gz_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.nii.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(saved(tmp_path, ONES), "inner.nii")
    assert refusal(path).field == "magic"


def test_a_gz_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicom_io.nifti._RATIO_FROM_BYTES", 1024**2)
    path = tmp_path / "x.nii.gz"
    head = saved(tmp_path, ONES).read_bytes()
    path.write_bytes(gzip.compress(head + b"\0" * (64 * 1024**2)))
    assert refusal(path).field == "gzip"


def test_a_sheared_place_is_written_with_the_sform_alone(tmp_path: Path) -> None:
    affine = affine_lps_from_ras(AFFINE_RAS)
    affine[1, 0] += 0.5
    path = tmp_path / "x.nii"
    write_nifti(path, ONES, affine)
    image = nibabel.load(path)
    assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (0, 1)
    np.testing.assert_allclose(affine_lps_from_ras(image.affine), affine, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_written_values_and_types_come_back(tmp_path: Path, dtype: type) -> None:
    array = (np.arange(60).reshape(3, 4, 5) * 3).astype(dtype)
    path = tmp_path / "labels.nii.gz"
    write_nifti(path, array, affine_lps_from_ras(AFFINE_RAS))
    image = nibabel.load(path)
    assert image.get_data_dtype() == dtype
    assert image.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, array)
    assert unpack_from("<ff", gzip.decompress(path.read_bytes()), 112) == (1.0, 0.0)


def test_the_same_input_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_nifti(tmp_path / f"{name}.nii.gz", ONES, affine_lps_from_ras(AFFINE_RAS))
    one, two = ((tmp_path / f"{name}.nii.gz").read_bytes() for name in ("one", "two"))
    assert one == two


def test_every_real_nifti_equals_what_nibabel_reads(shared_data: Path) -> None:
    paths = sorted((shared_data / "nifti-seg").rglob("*.nii.gz"))
    assert len(paths) > 290
    for path in paths:
        volume, reference = read_nifti(path), nibabel.load(path)
        values = np.asarray(reference.dataobj)
        np.testing.assert_array_equal(volume.array.T, values.astype(volume.array.dtype))
        np.testing.assert_allclose(affine_ras_from_lps(volume.affine_lps), reference.affine)
