"""One series to one volume: values, order, and every refusal with its fields."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import generate_uid

from dicom_io.errors import (
    DuplicateInstanceError,
    DuplicateSliceError,
    FileChangedError,
    InvalidAttributeError,
    LocalizerError,
    MissingAttributeError,
    MixedFrameOfReferenceError,
    MixedOrientationError,
    MixedPatientError,
    MixedSeriesError,
    MixedSizeError,
    MixedSpacingError,
    NotAVolumeError,
    OrientationError,
    PixelLengthError,
    PixelPaddingError,
    SeriesError,
    SeveralMultiframeError,
    SingleSliceError,
    SliceGapError,
    SliceShiftError,
    TiltError,
    UnevenSpacingError,
    UnsupportedPixelsError,
    VolumeLimitError,
)
from dicom_io.read import read_volume
from dicom_io.series import scan
from tests.builders.dicom import (
    Identity,
    Storage,
    affine_from,
    ct_series,
    enhanced_mr,
    image_series,
    mr_series,
    ramp,
    save,
    write_series,
)
from tests.dicom_io.conftest import AsSeries

SPACING_MM = (2.0, 0.5, 0.7)
UNIFORM = affine_from(SPACING_MM)


# What is read


def test_a_ct_comes_back_with_its_values_place_and_instances(
    as_series: AsSeries,
) -> None:
    array = ramp((6, 5, 7))
    instances = ct_series(array=array)
    volume = read_volume(as_series(instances))
    assert volume.array.dtype == np.int16
    assert volume.array.flags.c_contiguous
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.affine_lps, UNIFORM, atol=1e-9)
    assert (volume.modality, volume.unit) == ("CT", "[hnsf'U]")
    assert volume.source is not None
    assert not volume.source.resampled
    assert volume.source.study_uid == instances[0].StudyInstanceUID
    assert volume.source.frame_of_reference_uid == instances[0].FrameOfReferenceUID
    for index, source in enumerate(volume.source.instances):
        assert source.instance_uid == instances[index].SOPInstanceUID
        assert source.sha256 == hashlib.sha256(source.path.read_bytes()).hexdigest()
        assert source.header.PatientName == "Phantom^Built"
        assert "PixelData" not in source.header
        assert source.frame_numbers == (1,)


def test_instance_numbers_and_file_names_do_not_order_slices(tmp_path: Path) -> None:
    array = ramp((5, 4, 3))
    for order in ("forward", "reverse", "shuffled"):
        paths = write_series(tmp_path / order, array, UNIFORM, file_order=order)
        volume = read_volume(scan(paths).series[0])
        np.testing.assert_array_equal(volume.array, array)


def test_slices_run_along_the_normal_even_if_built_against_it(as_series: AsSeries) -> None:
    array = ramp((4, 5, 6))
    against = UNIFORM.copy()
    against[:3, 0] *= -1
    volume = read_volume(as_series(ct_series(array=array, affine_lps=against)))
    np.testing.assert_array_equal(volume.array, array[::-1])
    np.testing.assert_allclose(volume.affine_lps[:3, 3], against[:3, 3] + 3 * against[:3, 0])


def test_whole_mr_values_stay_int16_without_rescale(as_series: AsSeries) -> None:
    array = np.abs(ramp((4, 5, 6)))
    volume = read_volume(as_series(mr_series(array, UNIFORM)))
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array, array)
    assert (volume.modality, volume.unit) == ("MR", "1")


def test_unsigned_values_over_32767_become_float32(as_series: AsSeries) -> None:
    array = np.linspace(0, 65535, 60).reshape(3, 4, 5).round()
    volume = read_volume(as_series(mr_series(array, UNIFORM)))
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array, array)


def test_unsigned_values_that_fit_stay_int16_whatever_bits_stored_says(
    as_series: AsSeries,
) -> None:
    array = np.linspace(0, 32767, 60).reshape(3, 4, 5).round()
    assert read_volume(as_series(mr_series(array, UNIFORM))).array.dtype == np.int16


def test_a_case_above_32767_keeps_its_values_by_its_own_rescale(as_series: AsSeries) -> None:
    array = np.linspace(0, 486420.0, 120).reshape(4, 5, 6)  # the range of an MSD hippocampus
    volume = read_volume(as_series(mr_series(array, UNIFORM)))
    assert volume.array.dtype == np.float32
    half_a_step = 486420 / 65535 / 2
    assert np.abs(volume.array - array).max() <= half_a_step * 1.01


def test_pet_slopes_that_differ_by_slice_are_each_applied(as_series: AsSeries) -> None:
    stored = np.arange(60).reshape(3, 4, 5)
    slopes = [(0.5, 0.0), (0.25, 0.0), (2.0, 0.0)]
    array = stored * np.array([slope for slope, _ in slopes])[:, None, None]
    instances = image_series(array, UNIFORM, modality="PT", storage=Storage(rescale=slopes))
    volume = read_volume(as_series(instances))
    assert volume.array.dtype == np.float32
    assert volume.unit == "Bq/mL"
    np.testing.assert_allclose(volume.array, array, rtol=1e-6)


def test_an_integer_rescale_that_leaves_int16_becomes_float32(as_series: AsSeries) -> None:
    array = np.linspace(-3000, 90000, 60).round().reshape(3, 4, 5) // 3 * 3
    store = Storage(rescale=(3.0, 0.0))
    volume = read_volume(as_series(image_series(array, UNIFORM, modality="CT", storage=store)))
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array, array)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", [(8, 8), (16, 10), (16, 12), (16, 16)])
def test_signed_and_unsigned_of_every_width(
    as_series: AsSeries, signed: bool, bits: tuple[int, int]
) -> None:
    low, high = (-(2 ** (bits[1] - 1)), 2 ** (bits[1] - 1) - 1) if signed else (0, 2 ** bits[1] - 1)
    array = np.linspace(low, min(high, 32767), 60).round().reshape(3, 4, 5)
    store = Storage(bits_allocated=bits[0], bits_stored=bits[1], signed=signed)
    volume = read_volume(as_series(image_series(array, UNIFORM, modality="MR", storage=store)))
    np.testing.assert_array_equal(volume.array, array)


def test_signed_values_without_sign_extension_are_read_by_bits_stored(
    as_series: AsSeries,
) -> None:
    array = np.linspace(-2048, 2047, 60).round().reshape(3, 4, 5)
    store = Storage(bits_stored=12, signed=True)
    instances = image_series(array, UNIFORM, modality="CT", storage=store)
    for dataset in instances:
        stored = np.frombuffer(dataset.PixelData, "<u2") & 0x0FFF
        dataset.PixelData = stored.tobytes()
    np.testing.assert_array_equal(read_volume(as_series(instances)).array, array)


@pytest.mark.parametrize("signed", [True, False])
def test_monochrome1_mr_is_mirrored_so_that_bright_is_high(
    as_series: AsSeries, signed: bool
) -> None:
    array = np.arange(60).reshape(3, 4, 5) * 10
    store = Storage(bits_stored=12, signed=signed, photometric="MONOCHROME1", rescale=None)
    instances = image_series(array, UNIFORM, modality="MR", storage=store)
    np.testing.assert_array_equal(read_volume(as_series(instances)).array, array)


def test_monochrome1_ct_keeps_its_hounsfield_units(as_series: AsSeries) -> None:
    instances = ct_series(array=ramp((3, 4, 5)))
    for dataset in instances:
        dataset.PhotometricInterpretation = "MONOCHROME1"
    np.testing.assert_array_equal(read_volume(as_series(instances)).array, ramp((3, 4, 5)))


def test_enhanced_mr_frames_are_ordered_by_place(tmp_path: Path) -> None:
    array = np.abs(ramp((5, 4, 3)))
    order = [3, 0, 4, 2, 1]
    path = save(enhanced_mr(array, UNIFORM, frame_order=order), tmp_path / "mr.dcm")
    volume = read_volume(scan([path]).series[0])
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.affine_lps, UNIFORM, atol=1e-9)
    assert volume.source is not None
    (source,) = volume.source.instances
    assert source.frame_numbers == (2, 5, 4, 1, 3)
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("transfer_syntax", ["explicit", "rle", "jpeg-ls", "deflated"])
def test_enhanced_mr_with_a_rescale_per_frame(tmp_path: Path, transfer_syntax: str) -> None:
    stored = np.arange(60).reshape(3, 4, 5)
    slopes = [(2.0, -1.0), (0.5, 3.0), (1.25, 0.0)]
    array = stored * np.array([a for a, _ in slopes])[:, None, None]
    array = array + np.array([b for _, b in slopes])[:, None, None]
    store = Storage(rescale=slopes)
    dataset = enhanced_mr(array, UNIFORM, storage=store, share_rescale=False, frame_order=[2, 0, 1])
    path = save(dataset, tmp_path / "mr.dcm", transfer_syntax=transfer_syntax)
    volume = read_volume(scan([path]).series[0])
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array, array)


def test_one_worker_and_many_give_the_same(as_series: AsSeries) -> None:
    series = as_series(ct_series(slices=9))
    one, many = read_volume(series, workers=1), read_volume(series, workers=5)
    np.testing.assert_array_equal(one.array, many.array)
    assert one.source == many.source


def test_padding_below_air_is_left_as_it_is(as_series: AsSeries) -> None:
    """As GE writes it: signed -2000, and the attribute as the unsigned 63536."""
    array = ramp((3, 4, 5))
    array[:, 0, 0] = -3024
    store = Storage(signed=True, rescale=(1.0, -1024.0))
    instances = image_series(array, UNIFORM, modality="CT", storage=store)
    for dataset in instances:
        dataset.add_new("PixelPaddingValue", "US", 63536)
    np.testing.assert_array_equal(read_volume(as_series(instances)).array, array)


# What is refused


def refused(series: object, error: type[Exception]) -> pytest.ExceptionInfo[Exception]:
    with pytest.raises(error) as caught:
        read_volume(series)  # type: ignore[arg-type]
    return caught


def test_bright_padding_is_refused(as_series: AsSeries) -> None:
    array = ramp((3, 4, 5))
    array[1, 2, 3] = 3071
    instances = ct_series(array=array)
    for dataset in instances:
        dataset.add_new("PixelPaddingValue", "US", 4095)
    caught = refused(as_series(instances), PixelPaddingError)
    assert isinstance(caught.value, PixelPaddingError)
    assert caught.value.padding_value == 4095
    assert caught.value.rescaled_value == 3071
    assert caught.value.instance_uid == instances[1].SOPInstanceUID


def test_bright_padding_that_no_pixel_has_does_no_harm(as_series: AsSeries) -> None:
    instances = ct_series()
    for dataset in instances:
        dataset.add_new("PixelPaddingValue", "US", 4095)
    assert read_volume(as_series(instances)).array.shape == (4, 5, 7)


def test_a_missing_slice_is_named(as_series: AsSeries) -> None:
    instances = ct_series(slices=8)
    del instances[5]
    caught = refused(as_series(instances), SliceGapError)
    assert isinstance(caught.value, SliceGapError)
    assert caught.value.slice_index == 4
    assert caught.value.expected_mm == pytest.approx(2.0)
    assert caught.value.found_mm == pytest.approx(4.0)


def test_the_middle_of_three_slices_cannot_be_missed_unseen(as_series: AsSeries) -> None:
    instances = ct_series(slices=4)
    del instances[1]
    assert refused(as_series(instances), SliceGapError).value.slice_index == 0


def move(dataset: FileDataset, by_mm: tuple[float, float, float]) -> None:
    position = [float(value) for value in dataset.ImagePositionPatient]
    dataset.ImagePositionPatient = [
        value + step for value, step in zip(position, by_mm, strict=True)
    ]


def test_a_slice_off_by_more_than_the_tolerance_is_named(as_series: AsSeries) -> None:
    instances = ct_series(slices=7)
    move(instances[4], (0, 0, 0.3))
    caught = refused(as_series(instances), UnevenSpacingError)
    assert caught.value.slice_index == 3
    assert caught.value.found_mm == pytest.approx(2.3)


def test_rounding_within_the_tolerance_is_taken(as_series: AsSeries) -> None:
    instances = ct_series(slices=7)
    move(instances[4], (0, 0, 0.09))
    volume = read_volume(as_series(instances))
    assert volume.spacing_mm == pytest.approx(SPACING_MM)


def test_spacing_that_drifts_is_refused_though_each_step_is_within_tolerance(
    as_series: AsSeries,
) -> None:
    instances = ct_series(slices=40)
    for index, dataset in enumerate(instances):
        move(dataset, (0, 0, 0.0035 * index**2 / 2))
    caught = refused(as_series(instances), UnevenSpacingError)
    assert isinstance(caught.value, UnevenSpacingError)


def test_a_slice_beside_the_others_is_named(as_series: AsSeries) -> None:
    instances = ct_series(slices=7)
    move(instances[2], (1.5, 0, 0))
    caught = refused(as_series(instances), SliceShiftError)
    assert caught.value.slice_index == 2
    assert caught.value.shift_mm == pytest.approx(1.5)


def test_two_images_of_one_place_are_named_as_such(as_series: AsSeries) -> None:
    """As diffusion series have it: several b-values at every position."""
    instances = ct_series(slices=3)
    second = ct_series(slices=3, array=ramp((3, 5, 7))[::-1], identity=same_series(instances))
    caught = refused(as_series([*instances, *second]), DuplicateSliceError)
    assert isinstance(caught.value, DuplicateSliceError)
    assert caught.value.slice_index == 0
    assert caught.value.n_duplicates == 3
    assert not caught.value.identical_pixels
    named = set(caught.value.instance_uids)
    assert named == {instances[0].SOPInstanceUID, second[0].SOPInstanceUID}


def test_the_same_pixels_twice_are_named_as_such(as_series: AsSeries) -> None:
    instances = ct_series(slices=3)
    again = ct_series(slices=3, identity=same_series(instances))[1]
    caught = refused(as_series([*instances, again]), DuplicateSliceError)
    assert caught.value.identical_pixels
    assert caught.value.slice_index == 1


def same_series(instances: list[FileDataset]) -> Identity:
    first = instances[0]
    return Identity(
        study_uid=first.StudyInstanceUID,
        series_uid=first.SeriesInstanceUID,
        frame_of_reference_uid=first.FrameOfReferenceUID,
    )


def test_one_uid_with_two_contents_is_refused(as_series: AsSeries) -> None:
    instances = ct_series(slices=4)
    instances[3].SOPInstanceUID = instances[1].SOPInstanceUID
    caught = refused(as_series(instances), DuplicateInstanceError)
    assert caught.value.instance_uid == instances[1].SOPInstanceUID


def test_a_localizer_is_named_and_can_be_left_out(as_series: AsSeries) -> None:
    instances = ct_series(slices=4)
    (scout,) = ct_series(
        slices=1,
        affine_lps=affine_from(SPACING_MM, orientation=(1, 0, 0, 0, 0, -1)),
        identity=same_series(instances),
    )
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    series = as_series([*instances, scout])
    caught = refused(series, LocalizerError)
    assert caught.value.instance_uids == (scout.SOPInstanceUID,)
    assert caught.value.total == 5
    assert read_volume(series.without_localizers()).array.shape == (4, 5, 7)


def test_a_mixed_orientation_is_named(as_series: AsSeries) -> None:
    instances = ct_series(slices=4)
    instances[2].ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    caught = refused(as_series(instances), MixedOrientationError)
    assert caught.value.keyword == "ImageOrientationPatient"
    uids = {instances[2].SOPInstanceUID}
    assert caught.value.instance_uid in uids or caught.value.slice_index == 1


def test_a_mixed_size_is_named(as_series: AsSeries) -> None:
    instances = ct_series(slices=3)
    other = ct_series(slices=1, rows=6, identity=same_series(instances))
    move(other[0], (0, 0, 6))
    caught = refused(as_series([*instances, *other]), MixedSizeError)
    assert {caught.value.expected, caught.value.found} == {"(5, 7)", "(6, 7)"}


def test_a_mixed_spacing_is_named(as_series: AsSeries) -> None:
    instances = ct_series(slices=3)
    instances[0].PixelSpacing = [0.5, 0.71]
    caught = refused(as_series(instances), MixedSpacingError)
    assert caught.value.keyword == "PixelSpacing"


def test_a_mixed_frame_of_reference_is_named(as_series: AsSeries) -> None:
    instances = ct_series(slices=3)
    instances[0].FrameOfReferenceUID = generate_uid()
    caught = refused(as_series(instances), MixedFrameOfReferenceError)
    assert caught.value.keyword == "FrameOfReferenceUID"


def test_two_patients_in_a_series_are_refused_and_not_named(as_series: AsSeries) -> None:
    instances = ct_series(slices=3)
    instances[1].PatientID = "SECRET-77"
    caught = refused(as_series(instances), MixedPatientError)
    assert "SECRET-77" not in str(caught.value)
    assert "CLINFER-1" not in str(caught.value)


def test_two_sop_classes_in_a_series_are_refused(as_series: AsSeries) -> None:
    instances = ct_series(slices=3)
    enhanced_ct = "1.2.840.10008.5.1.4.1.1.2.1"
    instances[1].SOPClassUID = instances[1].file_meta.MediaStorageSOPClassUID = enhanced_ct
    caught = refused(as_series(instances), MixedSeriesError)
    assert caught.value.keyword == "SOPClassUID"


def test_one_slice_is_not_a_volume(as_series: AsSeries) -> None:
    instances = ct_series(slices=1)
    caught = refused(as_series(instances), SingleSliceError)
    assert caught.value.instance_uid == instances[0].SOPInstanceUID


def test_a_single_frame_of_enhanced_mr_is_not_a_volume(tmp_path: Path) -> None:
    path = save(enhanced_mr(np.ones((1, 4, 5)), UNIFORM), tmp_path / "mr.dcm")
    refused(scan([path]).series[0], SingleSliceError)


def test_two_multiframe_instances_are_refused(tmp_path: Path) -> None:
    who = Identity()
    for index in range(2):
        save(enhanced_mr(np.ones((3, 4, 5)), UNIFORM, identity=who), tmp_path / f"{index}.dcm")
    caught = refused(scan(tmp_path.iterdir()).series[0], SeveralMultiframeError)
    assert len(caught.value.instance_uids) == 2


def test_no_instance_at_all_is_refused(as_series: AsSeries) -> None:
    from dataclasses import replace

    refused(replace(as_series(ct_series()), instances=()), SeriesError)


def test_a_secondary_capture_is_not_a_volume(as_series: AsSeries) -> None:
    instances = ct_series(slices=3)
    for dataset in instances:
        dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    caught = refused(as_series(instances), NotAVolumeError)
    assert caught.value.sop_class_uid == "1.2.840.10008.5.1.4.1.1.7"


TILTED = affine_from(SPACING_MM, shear_mm=(0, 0.4, 0))


def test_a_tilted_gantry_is_refused_by_name(as_series: AsSeries) -> None:
    instances = ct_series(slices=5, affine_lps=TILTED)
    caught = refused(as_series(instances), TiltError)
    assert caught.value.shift_mm_per_slice == pytest.approx(0.4)
    assert caught.value.angle_deg == pytest.approx(np.degrees(np.arctan(0.2)))


def test_a_tilt_along_whole_pixels_is_undone_exactly(as_series: AsSeries) -> None:
    """A shear of one row per slice moves whole rows, so no value changes."""
    array = ramp((4, 5, 7))
    sheared = affine_from(SPACING_MM, shear_mm=(0, SPACING_MM[1], 0))
    instances = ct_series(array=array, affine_lps=sheared)
    volume = read_volume(as_series(instances), tilt="resample")
    assert volume.array.shape == (4, 5 + 3, 7)
    np.testing.assert_allclose(volume.affine_lps[:3, :3], UNIFORM[:3, :3], atol=1e-9)
    np.testing.assert_allclose(volume.affine_lps[:3, 3], sheared[:3, 3], atol=1e-9)
    for index in range(4):
        np.testing.assert_array_equal(volume.array[index, index : index + 5], array[index])
        assert (volume.array[index, :index] == array.min()).all()
    assert volume.source is not None
    assert volume.source.resampled


@pytest.mark.parametrize("shear_mm", [(0.33, 0.21, 0), (-0.33, 0.21, 0), (0.33, -0.21, 0)])
def test_a_tilt_off_the_pixels_keeps_a_linear_image_in_place(
    as_series: AsSeries, shear_mm: tuple[float, float, float]
) -> None:
    """Linear interpolation gives a linear image back exactly: value = f(place in the patient)."""
    affine = affine_from(SPACING_MM, shear_mm=shear_mm)
    indices = np.stack([*np.indices((5, 9, 8)), np.ones((5, 9, 8))])
    places = np.einsum("ij,j...->i...", affine, indices)
    array = 100 + 7.5 * places[0] + 3.25 * places[1] - 2 * places[2]
    series = as_series(mr_series(array, affine))
    volume = read_volume(series, tilt="resample")
    out = np.stack([*np.indices(volume.array.shape), np.ones(volume.array.shape)])
    found = np.einsum("ij,j...->i...", volume.affine_lps, out)
    expected = 100 + 7.5 * found[0] + 3.25 * found[1] - 2 * found[2]
    source = np.einsum("ij,j...->i...", np.linalg.inv(affine), np.stack([*found[:3], out[3]]))
    inside = np.all(
        [(source[k] > 0.01) & (source[k] < n - 1.01) for k, n in ((1, 9), (2, 8))], axis=0
    )
    assert inside.sum() > 200
    step = (array.max() - array.min()) / 65535
    assert np.abs(volume.array - expected)[inside].max() <= step


@pytest.mark.parametrize("value", ["NaN", "inf", "1e400", "0", "-0.5", "abc", "0,5", ""])
def test_a_pixel_spacing_that_is_no_length_is_named(as_series: AsSeries, value: str) -> None:
    instances = with_raw(ct_series(slices=3), 1, "PixelSpacing", f"{value}\\0.7")
    error = InvalidAttributeError
    caught = refused(as_series(instances), error)
    assert caught.value.keyword == "PixelSpacing"
    assert caught.value.instance_uid == instances[1].SOPInstanceUID


@pytest.mark.parametrize(
    "keyword",
    ["PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope", "Rows"],
)
def test_a_missing_attribute_is_named(as_series: AsSeries, keyword: str) -> None:
    instances = ct_series(slices=3)
    delattr(instances[2], keyword)
    caught = refused(as_series(instances), MissingAttributeError)
    assert caught.value.keyword == keyword
    assert caught.value.instance_uid == instances[2].SOPInstanceUID


@pytest.mark.parametrize("value", ["nan", "1e400", "0"])
def test_a_slope_that_is_none_is_named(as_series: AsSeries, value: str) -> None:
    instances = with_raw(ct_series(slices=3), 0, "RescaleSlope", value)
    assert refused(as_series(instances), InvalidAttributeError).value.keyword == "RescaleSlope"


def with_raw(
    instances: list[FileDataset], index: int, keyword: str, value: str
) -> list[FileDataset]:
    """Put text into a decimal string that pydicom's checks would not let in."""
    instances[index].add_new(keyword, "DS", None)
    instances[index][keyword]._value = pydicom.multival.MultiValue(str, value.split("\\"))
    return instances


@pytest.mark.parametrize(
    "orientation",
    [(1, 0, 0, 1, 0, 0), (0, 0, 0, 0, 1, 0), (1, 0, 0, 0, 2, 0), (1, 0, 0, 0.1, 1, 0)],
)
def test_an_orientation_that_is_no_plane_is_named(
    as_series: AsSeries, orientation: tuple[float, ...]
) -> None:
    instances = ct_series(slices=3)
    for dataset in instances:
        dataset.ImageOrientationPatient = list(orientation)
    caught = refused(as_series(instances), OrientationError)
    assert caught.value.values == orientation


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("BitsStored", 17), ("HighBit", 3), ("PixelRepresentation", 7), ("Rows", 0)],
)
def test_impossible_pixel_attributes_are_named(
    as_series: AsSeries, keyword: str, value: int
) -> None:
    instances = ct_series(slices=3)
    setattr(instances[0], keyword, value)
    assert refused(as_series(instances), InvalidAttributeError).value.keyword == keyword


def test_colour_is_refused(as_series: AsSeries) -> None:
    instances = ct_series(slices=3)
    for dataset in instances:
        dataset.PhotometricInterpretation = "PALETTE COLOR"
    caught = refused(as_series(instances), UnsupportedPixelsError)
    assert caught.value.keyword == "PhotometricInterpretation"


def test_a_modality_lookup_table_is_refused(as_series: AsSeries) -> None:
    instances = ct_series(slices=3)
    for dataset in instances:
        dataset.ModalityLUTSequence = DicomSequence([Dataset()])
    caught = refused(as_series(instances), UnsupportedPixelsError)
    assert caught.value.keyword == "ModalityLUTSequence"


def test_ct_values_that_are_not_hounsfield_units_are_refused(as_series: AsSeries) -> None:
    instances = ct_series(slices=3)
    for dataset in instances:
        dataset.RescaleType = "HU_MOD"
    assert refused(as_series(instances), UnsupportedPixelsError).value.value == "HU_MOD"


def test_pixels_of_the_wrong_length_are_refused(as_series: AsSeries) -> None:
    for change in (-2, 2):
        instances = ct_series(slices=3)
        data = instances[1].PixelData
        instances[1].PixelData = data[:change] if change < 0 else data + b"\0" * change
        caught = refused(as_series(instances), PixelLengthError)
        assert caught.value.instance_uid == instances[1].SOPInstanceUID
        assert caught.value.expected_bytes == 70
        assert caught.value.found_bytes == 70 + change


def test_an_image_without_pixels_is_no_image_series(as_series: AsSeries) -> None:
    instances = ct_series(slices=3)
    del instances[1].PixelData
    caught = refused(as_series(instances), MissingAttributeError)
    assert caught.value.keyword == "PixelData"


def test_a_volume_that_would_not_fit_is_refused_before_it_is_made(
    as_series: AsSeries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_io.read.MAX_VOLUME_BYTES", 4 * 3 * 5 * 7 - 1)
    caught = refused(as_series(ct_series(slices=3)), VolumeLimitError)
    assert caught.value.needed_bytes == 4 * 3 * 5 * 7


def test_a_file_that_changed_since_the_scan_is_refused(as_series: AsSeries) -> None:
    series = as_series(ct_series(slices=3))
    path = series.instances[1].path
    path.write_bytes(path.read_bytes() + b"\0\0")
    refused(series, FileChangedError)


def test_enhanced_frames_must_match_their_functional_groups(tmp_path: Path) -> None:
    dataset = enhanced_mr(np.ones((4, 3, 2)), UNIFORM)
    del dataset.PerFrameFunctionalGroupsSequence[3]
    path = save(dataset, tmp_path / "mr.dcm")
    caught = refused(scan([path]).series[0], InvalidAttributeError)
    assert caught.value.keyword == "NumberOfFrames"


@pytest.mark.parametrize(
    "keyword", ["PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"]
)
def test_an_enhanced_frame_without_a_place_is_named(tmp_path: Path, keyword: str) -> None:
    dataset = enhanced_mr(np.ones((4, 3, 2)), UNIFORM)
    groups = dataset.PerFrameFunctionalGroupsSequence[2]
    holder = groups if keyword in groups else dataset.SharedFunctionalGroupsSequence[0]
    delattr(holder, keyword)
    path = save(dataset, tmp_path / "mr.dcm")
    assert refused(scan([path]).series[0], MissingAttributeError).value.keyword == keyword
