"""An object that would put an overlay in the wrong place never passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_io.gate import check_placement
from dicom_io.result_errors import PlacementError, UnsupportedObjectError
from dicom_io.volume import Volume
from dicom_io.write import write_dicom
from tests.builders.dicom import affine_from, ct_series, enhanced_mr, save, write_instances
from tests.builders.instances import ct_dataset
from tests.builders.results import (
    Written,
    read_only_series,
    thirds,
    write_result,
)

SIZE = 24  # square, so that swapped rows and columns fit
SHAPE = (6, SIZE, SIZE)
OBLIQUE = (0.8, 0.6, 0.0, -0.48, 0.64, 0.6)


@pytest.fixture
def written(tmp_path: Path) -> Written:
    affine = affine_from((2.5, 0.6, 0.6), orientation=OBLIQUE)
    values = np.random.default_rng(2).integers(-900, 200, SHAPE).astype(np.int16)
    files = write_instances(tmp_path / "ct", ct_series(array=values, affine_lps=affine))
    return write_result(tmp_path, read_only_series(files))


def check(written: Written, path: Path | None, **change: Any) -> None:
    assert path is not None
    given: dict[str, Any] = {
        "volume": written.volume,
        "labels": written.labels,
        "segments": written.segments,
    }
    pointed_at = written.seg if path == written.sr else None
    check_placement(path, **(given | {"segmentation": pointed_at} | change))


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_what_we_write_passes(written: Written, tmp_path: Path, kind: Any) -> None:
    again = write_result(tmp_path, written.volume, written.labels, kind=kind)
    check(again, again.seg)
    check(again, again.sr)


@pytest.mark.parametrize("labels", ["none", "one"])
def test_what_we_write_when_something_is_not_found_passes(
    written: Written, tmp_path: Path, labels: str
) -> None:
    drawn = np.where(written.labels == 2, 2, 0) * (labels == "one")
    again = write_result(tmp_path / ".", written.volume, drawn.astype(np.uint8))
    if again.seg is not None:
        check(again, again.seg)
    check(again, again.sr)


def test_a_multiframe_source_passes(tmp_path: Path) -> None:
    values = thirds(SHAPE).astype(np.int16)
    image = enhanced_mr(values, affine_from((2.5, 0.6, 0.7)), frame_order=(3, 1, 5, 0, 4, 2))
    again = write_result(tmp_path, read_only_series([save(image, tmp_path / "mr.dcm")]))
    check(again, again.seg)
    check(again, again.sr)


def test_a_resampled_volume_passes(tmp_path: Path) -> None:
    affine = affine_from((2.5, 0.6, 0.7), shear_mm=(0.0, 0.7, 0.0))
    series = ct_series(array=thirds(SHAPE).astype(np.int16), affine_lps=affine)
    read = read_only_series(write_instances(tmp_path / "ct", series), tilt="resample")
    again = write_result(tmp_path, read)
    check(again, again.seg)
    check(again, again.sr)


def test_a_slice_a_little_off_the_even_grid_passes(tmp_path: Path) -> None:
    series = ct_series(
        array=thirds(SHAPE).astype(np.int16), affine_lps=affine_from((2.5, 0.6, 0.7))
    )
    series[2].ImagePositionPatient[2] = float(series[2].ImagePositionPatient[2]) + 0.04
    read = read_only_series(write_instances(tmp_path / "ct", series))
    again = write_result(tmp_path, read)
    check(again, again.seg)
    check(again, again.sr)


def test_an_object_by_another_writer_with_flipped_rows_passes(
    written: Written, tmp_path: Path
) -> None:
    """Highdicom turns the volume upside down and encodes it so: other pixels, the same place."""
    source = written.volume.source
    assert source is not None
    assert written.seg is not None
    ours = dcmread(written.seg)
    headers = [dcmread(instance.path) for instance in source.instances]
    upright = hd.Volume(
        array=written.labels,
        affine=written.volume.affine_lps,
        coordinate_system="PATIENT",
        frame_of_reference_uid=source.frame_of_reference_uid,
    )
    seg = hd.seg.Segmentation(
        source_images=headers,
        pixel_array=upright.flip_spatial([1, 0]),
        segmentation_type="BINARY",
        segment_descriptions=[
            hd.seg.SegmentDescription.from_dataset(item) for item in ours.SegmentSequence
        ],
        series_instance_uid=hd.UID(),
        series_number=1,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="m",
        manufacturer_model_name="n",
        software_versions="1",
        device_serial_number="1",
    )
    seg.save_as(tmp_path / "theirs.dcm")
    cosines = seg.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    assert np.allclose(cosines.ImageOrientationPatient[3:], -np.array(OBLIQUE[3:]))
    check(written, tmp_path / "theirs.dcm")


def frames(dataset: Dataset) -> np.ndarray[Any, Any]:
    bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
    n_frames = int(dataset.NumberOfFrames)
    return bits[: n_frames * SIZE * SIZE].reshape(n_frames, SIZE, SIZE).copy()


def store(dataset: Dataset, pixels: np.ndarray[Any, Any]) -> None:
    dataset.PixelData = np.packbits(pixels, bitorder="little").tobytes()


def of_frame(dataset: Dataset, index: int) -> Dataset:
    group: Dataset = dataset.PerFrameFunctionalGroupsSequence[index]
    return group


def turn_pixels(operation: Callable[[Any], Any]) -> Callable[[Dataset], None]:
    def corrupt(seg: Dataset) -> None:
        store(seg, np.stack([operation(frame) for frame in frames(seg)]))

    return corrupt


def one_voxel_more(seg: Dataset) -> None:
    pixels = frames(seg)
    pixels[4, SIZE - 1, 0] ^= 1
    store(seg, pixels)


def shift_bits(seg: Dataset) -> None:
    pixels = frames(seg)
    store(seg, np.roll(pixels.reshape(-1), 1).reshape(pixels.shape))


def big_endian_bits(seg: Dataset) -> None:
    seg.PixelData = np.packbits(frames(seg), bitorder="big").tobytes()


def swap_segment_numbers(seg: Dataset) -> None:
    for group in seg.PerFrameFunctionalGroupsSequence:
        item = group.SegmentIdentificationSequence[0]
        item.ReferencedSegmentNumber = {1: 2, 2: 1, 3: 3}[item.ReferencedSegmentNumber]


def swap_descriptions(seg: Dataset) -> None:
    one, two = seg.SegmentSequence[:2]
    one.SegmentNumber, two.SegmentNumber = 2, 1


def unknown_segment_number(seg: Dataset) -> None:
    of_frame(seg, 3).SegmentIdentificationSequence[0].ReferencedSegmentNumber = 9


def off_by_one_slice(seg: Dataset) -> None:
    normal = np.cross(OBLIQUE[:3], OBLIQUE[3:])
    for group in seg.PerFrameFunctionalGroupsSequence:
        plane = group.PlanePositionSequence[0]
        plane.ImagePositionPatient = list(np.array(plane.ImagePositionPatient) + 2.5 * normal)
        group.DerivationImageSequence = []


def reversed_slices(seg: Dataset) -> None:
    """The classic: pixels in one order, positions in the other."""
    pixels, turned = frames(seg), frames(seg)
    numbers = [
        group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        for group in seg.PerFrameFunctionalGroupsSequence
    ]
    for number in set(numbers):
        own = [index for index, value in enumerate(numbers) if value == number]
        turned[own] = pixels[own[::-1]]
    store(seg, turned)


def move(distance_mm: float) -> Callable[[Dataset], None]:
    def corrupt(seg: Dataset) -> None:
        plane = of_frame(seg, 0).PlanePositionSequence[0]
        plane.ImagePositionPatient = list(
            np.array(plane.ImagePositionPatient) + distance_mm * np.array(OBLIQUE[:3])
        )

    return corrupt


def set_orientation(*values: float) -> Callable[[Dataset], None]:
    def corrupt(seg: Dataset) -> None:
        plane = seg.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
        plane.ImageOrientationPatient = list(values)

    return corrupt


def wrong_spacing(seg: Dataset) -> None:
    seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [0.606, 0.6]


def remove_frame(seg: Dataset) -> None:
    store(seg, np.delete(frames(seg), 3, axis=0))
    del seg.PerFrameFunctionalGroupsSequence[3]
    seg.NumberOfFrames -= 1


def repeat_frame(seg: Dataset) -> None:
    store(seg, np.concatenate([frames(seg), frames(seg)[3:4]]))
    seg.PerFrameFunctionalGroupsSequence.append(of_frame(seg, 3))
    seg.NumberOfFrames += 1


def other_source_image(seg: Dataset) -> None:
    one, two = of_frame(seg, 1), of_frame(seg, 2)
    one.DerivationImageSequence = two.DerivationImageSequence


def other_study(seg: Dataset) -> None:
    seg.StudyInstanceUID = "1.2.3"


def other_frame_of_reference(seg: Dataset) -> None:
    seg.FrameOfReferenceUID = "1.2.3"


def other_meaning(seg: Dataset) -> None:
    seg.SegmentSequence[2].SegmentedPropertyTypeCodeSequence[0].CodeValue = "10200004"  # liver


def other_side(seg: Dataset) -> None:
    kind = seg.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0]
    kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue = "24028007"  # right


def fewer_rows(seg: Dataset) -> None:
    store(seg, frames(seg)[:, :-1])
    seg.Rows = SIZE - 1


NEGATED_ROWS = (*OBLIQUE[:3], *(-v for v in OBLIQUE[3:]))
NEGATED_COLUMNS = (*(-v for v in OBLIQUE[:3]), *OBLIQUE[3:])
SWAPPED_AXES = (*OBLIQUE[3:], *OBLIQUE[:3])
IN_PLANE = "ImageOrientationPatient or PixelSpacing"


@pytest.mark.parametrize(
    ("corrupt", "field"),
    [
        pytest.param(turn_pixels(np.flipud), "mask", id="rows flipped"),
        pytest.param(turn_pixels(np.fliplr), "mask", id="columns flipped"),
        pytest.param(turn_pixels(np.transpose), "mask", id="rows and columns swapped"),
        pytest.param(one_voxel_more, "mask", id="one voxel more"),
        pytest.param(shift_bits, "mask", id="bits shifted by one"),
        pytest.param(big_endian_bits, "mask", id="bits in the wrong order"),
        pytest.param(swap_segment_numbers, "mask", id="segment numbers swapped"),
        pytest.param(swap_descriptions, "mask", id="descriptions swapped"),
        pytest.param(unknown_segment_number, "ReferencedSegmentNumber", id="unknown number"),
        pytest.param(off_by_one_slice, "mask", id="off by one slice"),
        pytest.param(reversed_slices, "mask", id="slices reversed"),
        pytest.param(move(0.02), "ImagePositionPatient", id="moved by 0.02 mm"),
        pytest.param(move(0.6), "ImagePositionPatient", id="moved by one pixel"),
        pytest.param(set_orientation(*NEGATED_ROWS), "ImagePositionPatient", id="rows negated"),
        pytest.param(
            set_orientation(*NEGATED_COLUMNS), "ImagePositionPatient", id="columns negated"
        ),
        pytest.param(set_orientation(*SWAPPED_AXES), "mask", id="axes swapped"),
        pytest.param(set_orientation(1, 0, 0, 0, 1, 0), IN_PLANE, id="another plane"),
        pytest.param(wrong_spacing, IN_PLANE, id="spacing wrong by one percent"),
        pytest.param(remove_frame, "frame", id="a frame missing"),
        pytest.param(repeat_frame, "frame", id="a frame twice"),
        pytest.param(other_source_image, "ReferencedSOPInstanceUID", id="another source image"),
        pytest.param(other_study, "StudyInstanceUID", id="another study"),
        pytest.param(other_frame_of_reference, "FrameOfReferenceUID", id="another frame of ref"),
        pytest.param(other_meaning, "SegmentedPropertyTypeCodeSequence", id="another organ"),
        pytest.param(other_side, "SegmentedPropertyTypeCodeSequence", id="another side"),
        pytest.param(fewer_rows, "Rows and Columns", id="a row missing"),
    ],
)
def test_a_corrupted_segmentation_is_caught(
    written: Written, tmp_path: Path, corrupt: Callable[[Dataset], None], field: str
) -> None:
    assert written.seg is not None
    seg = dcmread(written.seg)
    corrupt(seg)
    write_dicom(seg, tmp_path / "bad.dcm")
    with pytest.raises(PlacementError) as caught:
        check(written, tmp_path / "bad.dcm")
    assert caught.value.field == field
    assert caught.value.expected != caught.value.found


def test_the_error_says_where(written: Written, tmp_path: Path) -> None:
    assert written.seg is not None
    seg = dcmread(written.seg)
    one_voxel_more(seg)
    write_dicom(seg, tmp_path / "bad.dcm")
    with pytest.raises(PlacementError) as caught:
        check(written, tmp_path / "bad.dcm")
    assert (caught.value.segment, caught.value.slice_index, caught.value.frame) == (1, 4, 5)
    assert "1 of them differ" in str(caught.value)


def test_labels_moved_after_writing_are_caught(written: Written) -> None:
    for change in (
        {"labels": np.roll(written.labels, 1, axis=0)},
        {"labels": written.labels[:, :, ::-1]},
        {"labels": np.where(written.labels == 0, 7, written.labels).astype(np.uint8)},
        {"labels": written.labels[:-1]},
        {"segments": written.segments[:2]},
    ):
        with pytest.raises(PlacementError):
            check(written, written.seg, **change)


def test_a_volume_placed_elsewhere_is_caught(written: Written) -> None:
    affine = written.volume.affine_lps.copy()
    affine[1, 3] += 0.5
    moved: Volume = replace(written.volume, affine_lps=affine)
    with pytest.raises(PlacementError) as caught:
        check(written, written.seg, volume=moved)
    assert caught.value.field == "ImagePositionPatient"


def test_an_object_of_another_kind_is_refused(written: Written, tmp_path: Path) -> None:
    source = written.volume.source
    assert source is not None
    image = ct_dataset(StudyInstanceUID=source.study_uid)
    write_dicom(image, tmp_path / "ct.dcm")
    with pytest.raises(UnsupportedObjectError) as caught:
        check(written, tmp_path / "ct.dcm")
    assert caught.value.field == "SOPClassUID"


def walk(item: Dataset) -> list[Dataset]:
    below = []
    for child in item.get("ContentSequence") or []:
        below += [child, *walk(child)]
    return below


def named(sr: Dataset, code: str) -> list[Dataset]:
    return [item for item in walk(sr) if item.ConceptNameCodeSequence[0].CodeValue == code]


def change_volume(sr: Dataset) -> None:
    value = named(sr, "118565006")[1].MeasuredValueSequence[0]
    value.NumericValue = float(value.NumericValue) * 1.001


def change_area(sr: Dataset) -> None:
    named(sr, "42798000")[0].MeasuredValueSequence[0].NumericValue = 1.0


def move_outline(sr: Dataset) -> None:
    region = named(sr, "111030")[0]
    region.GraphicData = [value + 1 for value in region.GraphicData]


def swap_outline_axes(sr: Dataset) -> None:
    region = named(sr, "111030")[0]
    points = np.array(region.GraphicData).reshape(-1, 2)
    region.GraphicData = points[:, ::-1].reshape(-1).tolist()


def outline_at_pixel_centres(sr: Dataset) -> None:
    """Coordinates that take the first pixel's centre for the origin."""
    region = named(sr, "111030")[0]
    region.GraphicData = [value - 0.6 for value in region.GraphicData]


def open_outline(sr: Dataset) -> None:
    region = named(sr, "111030")[0]
    region.GraphicData = list(region.GraphicData)[:-2]


def outline_on_another_slice(sr: Dataset) -> None:
    images = [region.ContentSequence[0].ReferencedSOPSequence for region in named(sr, "111030")]
    uids = [image[0].ReferencedSOPInstanceUID for image in images]
    images[0][0].ReferencedSOPInstanceUID = next(uid for uid in uids if uid != uids[0])


def other_segment_number(sr: Dataset) -> None:
    named(sr, "121191")[0].ReferencedSOPSequence[0].ReferencedSegmentNumber = 2


def no_such_segment(sr: Dataset) -> None:
    named(sr, "121191")[0].ReferencedSOPSequence[0].ReferencedSegmentNumber = 8


def unknown_object(sr: Dataset) -> None:
    named(sr, "121191")[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def evidence_missing(sr: Dataset) -> None:
    del sr.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]


def group_missing(sr: Dataset) -> None:
    measurements = named(sr, "126010")[0]
    measurements.ContentSequence = [
        group
        for group in measurements.ContentSequence
        if not (named(group, "121191") and named(group, "112039")[0].TextValue == "Heart")
    ]


def other_name(sr: Dataset) -> None:
    named(sr, "112039")[0].TextValue = "Spleen"


def said_absent(sr: Dataset) -> None:
    group = next(group for group in named(sr, "125007") if named(group, "121191"))
    group.ContentSequence.append(named(sr, "121071")[0])
    group.ContentSequence[-1].ConceptNameCodeSequence[0].CodeValue = "121052"


@pytest.mark.parametrize(
    ("corrupt", "field"),
    [
        (change_volume, "volume_ml"),
        (change_area, "area_mm2"),
        (move_outline, "GraphicData"),
        (swap_outline_axes, "GraphicData"),
        (outline_at_pixel_centres, "GraphicData"),
        (open_outline, "GraphicData"),
        (outline_on_another_slice, "GraphicData"),
        (other_segment_number, "ReferencedSegmentNumber"),
        (no_such_segment, "ReferencedSegmentNumber"),
        (unknown_object, "ReferencedSOPSequence"),
        (evidence_missing, "CurrentRequestedProcedureEvidenceSequence"),
        (group_missing, "groups"),
        (other_name, "Tracking Identifier"),
        (said_absent, "group"),
        (other_study, "StudyInstanceUID"),
    ],
)
def test_a_corrupted_report_is_caught(
    written: Written, tmp_path: Path, corrupt: Callable[[Dataset], None], field: str
) -> None:
    sr = dcmread(written.sr)
    corrupt(sr)
    write_dicom(sr, tmp_path / "bad.dcm")
    with pytest.raises(PlacementError) as caught:
        check(written, tmp_path / "bad.dcm", segmentation=written.seg)
    assert caught.value.field == field


def test_a_report_without_its_segmentation_is_caught(written: Written) -> None:
    with pytest.raises(PlacementError) as caught:
        check(written, written.sr, segmentation=None)
    assert caught.value.field == "CurrentRequestedProcedureEvidenceSequence"


def test_a_report_that_finds_nothing_in_labels_that_hold_something_is_caught(
    written: Written, tmp_path: Path
) -> None:
    (tmp_path / "none").mkdir()
    empty = write_result(tmp_path / "none", written.volume, np.zeros(SHAPE, np.uint8))
    with pytest.raises(PlacementError) as caught:
        check(written, empty.sr, segmentation=None)
    assert (caught.value.field, caught.value.expected) == ("group", "measured")
