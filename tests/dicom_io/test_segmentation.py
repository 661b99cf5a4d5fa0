"""A label map becomes a Segmentation: right place, right words, or a named refusal."""

from __future__ import annotations

import itertools
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_io.result_errors import (
    MissingIdentifierError,
    NoDicomSourceError,
    ResultInputError,
    SourceGridMismatchError,
)
from dicom_io.segmentation import make_segmentation, segment_numbers
from dicom_io.volume import Volume
from dicom_io.write import write_dicom
from tests.builders.dicom import (
    Identity,
    affine_from,
    ct_series,
    enhanced_mr,
    save,
    write_instances,
    write_series,
)
from tests.builders.results import (
    ALGORITHM,
    IDENTITY,
    LEFT,
    SEGMENTS,
    read_only_series,
    segment,
    thirds,
)

SHAPE = (4, 5, 7)
SPACING_MM = (2.5, 0.6, 0.8)
AXES = [tuple(int(v) for v in row) for row in (*np.eye(3), *-np.eye(3))]
ORIENTATIONS = [(*a, *b) for a, b in itertools.product(AXES, AXES) if not np.dot(a, b)]
OBLIQUE = (0.8, 0.6, 0.0, -0.48, 0.64, 0.6)


def make(volume: Volume, labels: NDArray[Any] | None = None, **options: Any) -> Dataset:
    drawn = thirds(volume.array.shape) if labels is None else labels
    given = {"segments": SEGMENTS, "algorithm": ALGORITHM, "identity": IDENTITY} | options
    return make_segmentation(volume, drawn, **given)


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return read_only_series(write_instances(tmp_path / "ct", ct_series()))


def points(array: NDArray[np.bool_], affine_lps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centres of the True voxels in LPS, sorted."""
    indices = np.argwhere(array)
    placed = indices @ affine_lps[:3, :3].T + affine_lps[:3, 3]
    return np.array(sorted(np.round(placed, 4).tolist()))


def points_by_highdicom(path: Path, segment_number: int) -> NDArray[np.float64]:
    """The same of a written object, read frame by frame with highdicom's decoder."""
    seg = hd.seg.segread(path)
    found = []
    shared = seg.SharedFunctionalGroupsSequence[0]
    spacing = shared.PixelMeasuresSequence[0].PixelSpacing
    cosines = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    for index, group in enumerate(seg.PerFrameFunctionalGroupsSequence):
        pixels = seg.get_stored_frame(index + 1)
        if "SegmentIdentificationSequence" in group:
            if group.SegmentIdentificationSequence[0].ReferencedSegmentNumber != segment_number:
                continue
        else:
            pixels = pixels == segment_number
        transform = hd.spatial.PixelToReferenceTransformer(
            image_position=group.PlanePositionSequence[0].ImagePositionPatient,
            image_orientation=cosines,
            pixel_spacing=spacing,
        )
        rows, columns = np.nonzero(pixels)
        found += transform(np.stack([columns, rows], axis=1)).tolist()
    return np.array(sorted(np.round(found, 4).tolist()))


@pytest.mark.parametrize("orientation", [*ORIENTATIONS, OBLIQUE])
@pytest.mark.parametrize("file_order", ["forward", "reverse"])
def test_every_voxel_is_where_it_was_drawn(
    orientation: tuple[float, ...], file_order: Any, tmp_path: Path
) -> None:
    """The phantom is its own label map, so nothing here knows how the volume was ordered."""
    drawn = thirds(SHAPE)
    affine = affine_from(SPACING_MM, orientation=orientation)
    files = write_series(
        tmp_path / "ct", drawn.astype(np.int16) * 100, affine, file_order=file_order
    )
    read = read_only_series(files)
    labels = (read.array // 100).astype(np.uint8)
    path = tmp_path / "seg.dcm"
    write_dicom(make(read, labels), path)
    for each in SEGMENTS:
        expected = points(drawn == each.label, affine)
        np.testing.assert_allclose(
            points_by_highdicom(path, each.label), expected, atol=0.001, err_msg=each.name
        )


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_empty_frames_are_left_out_and_each_names_its_source_image(
    volume: Volume, kind: Any
) -> None:
    labels = thirds(SHAPE)
    labels[2] = 0
    seg = make(volume, labels, kind=kind)
    assert seg.SegmentationType == kind
    wanted = [(k, v) for v in (1, 2, 3) for k in range(4) if (labels[k] == v).any()]
    if kind == "LABELMAP":
        wanted = [(k, 0) for k in (0, 1, 3)]
    assert seg.NumberOfFrames == len(wanted) == len(seg.PerFrameFunctionalGroupsSequence)
    assert volume.source is not None
    for (index, number), group in zip(wanted, seg.PerFrameFunctionalGroupsSequence, strict=True):
        image = group.DerivationImageSequence[0].SourceImageSequence[0]
        source = volume.source.instances[index]
        assert image.ReferencedSOPInstanceUID == source.instance_uid
        assert image.SpatialLocationsPreserved == "YES"
        position = group.PlanePositionSequence[0].ImagePositionPatient
        assert list(position) == list(source.header.ImagePositionPatient)
        if number:
            said = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            assert said == number
    indices = [
        tuple(group.FrameContentSequence[0].DimensionIndexValues)
        if kind == "BINARY"
        else (group.FrameContentSequence[0].DimensionIndexValues,)
        for group in seg.PerFrameFunctionalGroupsSequence
    ]
    assert len(set(indices)) == len(indices)
    assert len(indices[0]) == len(seg.DimensionIndexSequence)
    assert min(i[-1] for i in indices) == 1
    assert max(i[-1] for i in indices) == 3


def test_a_described_segment_without_voxels_has_no_frame(volume: Volume) -> None:
    labels = np.where(thirds(SHAPE) == 2, 2, 0).astype(np.uint8)
    seg = make(volume, labels)
    assert [item.SegmentNumber for item in seg.SegmentSequence] == [1, 2, 3]
    numbers = {
        group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        for group in seg.PerFrameFunctionalGroupsSequence
    }
    assert numbers == {2}


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_one_segment_alone_is_read_back_by_highdicom(
    volume: Volume, tmp_path: Path, kind: Any
) -> None:
    labels = (thirds(SHAPE) == 1).astype(np.uint8)
    write_dicom(make(volume, labels, segments=SEGMENTS[:1], kind=kind), tmp_path / "seg.dcm")
    expected = points(labels == 1, volume.affine_lps)
    np.testing.assert_allclose(points_by_highdicom(tmp_path / "seg.dcm", 1), expected, atol=0.001)


def test_labels_that_do_not_count_from_one_are_counted_in_binary_and_kept_in_a_label_map(
    volume: Volume, tmp_path: Path
) -> None:
    segments = [segment(300, "a", SEGMENTS[0].type), segment(7, "b", SEGMENTS[2].type)]
    assert segment_numbers(segments) == {300: 1, 7: 2}
    assert segment_numbers(segments, "LABELMAP") == {7: 7, 300: 300}
    labels = np.zeros(SHAPE, dtype=np.uint16)
    labels[1, 2, 3], labels[2, 4, 6] = 300, 7
    for kind, number in (("BINARY", 1), ("LABELMAP", 300)):
        path = tmp_path / f"{kind}.dcm"
        write_dicom(make(volume, labels, segments=segments, kind=kind), path)
        expected = points(labels == 300, volume.affine_lps)
        np.testing.assert_allclose(points_by_highdicom(path, number), expected, atol=0.001)


def test_a_multiframe_source_is_named_frame_by_frame(tmp_path: Path) -> None:
    order = (2, 0, 3, 1)
    values = thirds(SHAPE).astype(np.int16) * 100
    image = enhanced_mr(values, affine_from(SPACING_MM, orientation=OBLIQUE), frame_order=order)
    read = read_only_series([save(image, tmp_path / "mr.dcm")])
    labels = (read.array // 100).astype(np.uint8)
    seg = make(read, labels)
    assert len(seg.SourceImageSequence) == 1
    for group in seg.PerFrameFunctionalGroupsSequence:
        named = group.DerivationImageSequence[0].SourceImageSequence[0]
        assert named.ReferencedSOPInstanceUID == image.SOPInstanceUID
        frame = image.PerFrameFunctionalGroupsSequence[named.ReferencedFrameNumber - 1]
        assert np.allclose(
            frame.PlanePositionSequence[0].ImagePositionPatient,
            group.PlanePositionSequence[0].ImagePositionPatient,
        )
    write_dicom(seg, tmp_path / "seg.dcm")
    expected = points(labels == 1, read.affine_lps)
    np.testing.assert_allclose(points_by_highdicom(tmp_path / "seg.dcm", 1), expected, atol=0.001)


def test_a_resampled_tilted_stack_has_frames_of_its_own(tmp_path: Path) -> None:
    affine = affine_from(SPACING_MM, shear_mm=(0.0, 0.7, 0.0))
    files = write_series(tmp_path / "ct", thirds(SHAPE).astype(np.int16), affine)
    read = read_only_series(files, tilt="resample")
    seg = make(read)
    assert not any(g.DerivationImageSequence for g in seg.PerFrameFunctionalGroupsSequence)
    assert len(seg.SourceImageSequence) == 4
    write_dicom(seg, tmp_path / "seg.dcm")
    expected = points(thirds(read.array.shape) == 1, read.affine_lps)
    np.testing.assert_allclose(points_by_highdicom(tmp_path / "seg.dcm", 1), expected, atol=0.001)


def test_a_slice_a_little_off_the_even_grid_keeps_its_own_position(tmp_path: Path) -> None:
    series = ct_series(slices=5)
    z_mm = float(series[2].ImagePositionPatient[2]) + 0.04
    series[2].ImagePositionPatient[2] = z_mm
    read = read_only_series(write_instances(tmp_path / "ct", series))
    seg = make(read)
    assert z_mm in {
        float(group.PlanePositionSequence[0].ImagePositionPatient[2])
        for group in seg.PerFrameFunctionalGroupsSequence
    }


def test_it_says_who_made_it_and_that_it_is_for_research(volume: Volume) -> None:
    seg = make(volume)
    assert seg.SeriesInstanceUID == IDENTITY.uid("seg-series")
    assert seg.SOPInstanceUID == IDENTITY.uid("seg") == seg.file_meta.MediaStorageSOPInstanceUID
    assert seg.SeriesNumber > 9000
    assert seg.SeriesDescription.startswith("AI SEG ct_thorax_seg")
    assert "research" in seg.SeriesDescription
    assert len(seg.SeriesDescription) <= 64
    assert seg.ContentDescription == "research use, not for primary diagnosis"
    assert seg.ContentQualification == "RESEARCH"
    assert seg.Manufacturer == "clinfer"
    (equipment,) = seg.ContributingEquipmentSequence
    assert equipment.DeviceUID == ALGORITHM.device_uid
    assert equipment.ManufacturerModelName == "ct_thorax_seg"
    assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert ALGORITHM.weights_sha256 in equipment.SoftwareVersions
    local = IDENTITY.created_at.astimezone().strftime("%Y%m%d%H%M%S%z")
    assert equipment.ContributionDateTime == local.removesuffix("+0000")
    assert "research use" in equipment.ContributionDescription
    for item, each in zip(seg.SegmentSequence, SEGMENTS, strict=True):
        assert item.SegmentLabel == item.TrackingID == each.name
        assert item.TrackingUID == IDENTITY.tracking_uid(each.label)
        assert item.SegmentAlgorithmType == "AUTOMATIC"
        assert item.SegmentedPropertyTypeCodeSequence[0].CodeValue == each.type.value
        algorithm = item.SegmentationAlgorithmIdentificationSequence[0]
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("ct_thorax_seg", "1.2.0")
        assert ALGORITHM.weights_sha256 in algorithm.AlgorithmParameters
        lab = hd.color.CIELabColor.from_rgb(*each.color_rgb)
        assert list(item.RecommendedDisplayCIELabValue) == list(lab.value)
    (kind,) = seg.SegmentSequence[0].SegmentedPropertyTypeCodeSequence
    modifier = kind.SegmentedPropertyTypeModifierCodeSequence[0]
    assert (modifier.CodeValue, modifier.CodeMeaning) == (LEFT.value, "Left")
    released = make(volume, algorithm=replace(ALGORITHM, is_research=False))
    assert released.ContentQualification == "PRODUCT"
    assert "not verified" in released.ContentDescription
    assert "research" not in released.SeriesDescription


def test_the_same_result_is_the_same_bytes_and_another_revision_another_object(
    volume: Volume, tmp_path: Path
) -> None:
    write_dicom(make(volume), tmp_path / "one.dcm")
    write_dicom(make(volume), tmp_path / "two.dcm")
    assert (tmp_path / "one.dcm").read_bytes() == (tmp_path / "two.dcm").read_bytes()
    second = make(volume, identity=replace(IDENTITY, revision=2))
    assert second.SOPInstanceUID != IDENTITY.uid("seg")
    assert second.InstanceNumber == 2
    tracked = second.SegmentSequence[0].TrackingUID
    assert tracked == IDENTITY.tracking_uid(1), "a revision follows the same structure"


def test_a_long_model_name_gives_way_to_the_research_notice(volume: Volume) -> None:
    seg = make(volume, algorithm=replace(ALGORITHM, name="x" * 64))
    assert len(seg.SeriesDescription) == 64
    assert seg.SeriesDescription.endswith("~ (research, not for diagnosis)")
    assert seg.ContributingEquipmentSequence[0].ManufacturerModelName == "x" * 64


@pytest.mark.parametrize(
    "attribute", ["StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID"]
)
@pytest.mark.parametrize("value", ["", " ", None])
def test_a_missing_identifier_refuses_the_result_by_name(
    volume: Volume, attribute: str, value: Any
) -> None:
    assert volume.source is not None
    field = {
        "StudyInstanceUID": "study_uid",
        "SeriesInstanceUID": "series_uid",
        "FrameOfReferenceUID": "frame_of_reference_uid",
    }.get(attribute)
    if field is None:
        instances = list(volume.source.instances)
        instances[2] = replace(instances[2], instance_uid=value)
        source = replace(volume.source, instances=tuple(instances))
    else:
        source = replace(volume.source, **{field: value})
    with pytest.raises(MissingIdentifierError, match=attribute) as caught:
        make(replace(volume, source=source))
    assert caught.value.attribute == attribute
    assert caught.value.slice_index == (2 if attribute == "SOPInstanceUID" else None)
    assert "send it again" in str(caught.value)


def test_a_volume_without_dicom_source_is_refused(volume: Volume) -> None:
    with pytest.raises(NoDicomSourceError):
        make(replace(volume, source=None))


def test_slices_in_another_order_than_their_instances_are_refused(volume: Volume) -> None:
    assert volume.source is not None
    swapped = list(volume.source.instances)
    swapped[1], swapped[2] = swapped[2], swapped[1]
    source = replace(volume.source, instances=tuple(swapped))
    with pytest.raises(SourceGridMismatchError) as caught:
        make(replace(volume, source=source))
    assert caught.value.slice_index == 1
    assert caught.value.distance_mm == pytest.approx(2.0)


def bad_labels(field: str) -> tuple[NDArray[Any], str]:
    labels: NDArray[Any] = thirds(SHAPE)
    if field == "labels.shape":
        return labels[:, :, :-1], "volume's"
    if field == "labels.dtype":
        return labels.astype(np.int64), "int64"
    if field == "labels":
        labels[3, 1, 1] = 9
        return labels, "value 9 in slice 3"
    return np.zeros_like(labels), "no segment has a voxel"


@pytest.mark.parametrize("field", ["labels.shape", "labels.dtype", "labels", "labels (empty)"])
def test_labels_that_do_not_fit_are_refused(volume: Volume, field: str) -> None:
    labels, problem = bad_labels(field)
    with pytest.raises(ResultInputError, match=problem) as caught:
        make(volume, labels)
    assert caught.value.field == field.removesuffix(" (empty)")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"algorithm": replace(ALGORITHM, name="x" * 65)}, "algorithm.name"),
        ({"algorithm": replace(ALGORITHM, version="")}, "algorithm.version"),
        ({"algorithm": replace(ALGORITHM, manufacturer="a\\b")}, "algorithm.manufacturer"),
        ({"segments": [replace(SEGMENTS[0], name="x" * 65)]}, "segments[1].name"),
        ({"segments": [*SEGMENTS, replace(SEGMENTS[0], label=4)]}, "segments"),
        ({"segments": [*SEGMENTS, segment(3, "again", SEGMENTS[0].type)]}, "segments"),
        ({"segments": [segment(0, "zero", SEGMENTS[0].type)]}, "segments"),
        ({"segments": []}, "segments"),
    ],
)
def test_names_and_segments_that_do_not_fit_are_refused(
    volume: Volume, change: dict[str, Any], field: str
) -> None:
    with pytest.raises(ResultInputError) as caught:
        make(volume, **change)
    assert caught.value.field == field


def test_time_is_told_in_the_zone_of_the_source(tmp_path: Path) -> None:
    series = ct_series()
    for instance in series:
        instance.TimezoneOffsetFromUTC = "-0330"
    read = read_only_series(write_instances(tmp_path / "ct", series))
    seg = make(read)
    assert (seg.ContentDate, seg.ContentTime) == ("20261122", "093507")
    assert seg.TimezoneOffsetFromUTC == "-0330"


def test_memory_does_not_grow_with_classes_times_voxels(tmp_path: Path) -> None:
    shape, n_classes = (16, 256, 256), 60
    files = write_series(tmp_path / "ct", np.zeros(shape, np.int16), affine_from((1.0, 0.5, 0.5)))
    read = read_only_series(files)
    segments = [
        segment(label, f"part {label}", SEGMENTS[0].type) for label in range(1, n_classes + 1)
    ]
    labels = np.random.default_rng(1).integers(0, n_classes + 1, shape).astype(np.uint8)
    make(read, labels, segments=segments)  # warm: highdicom's own tables
    tracemalloc.start()
    seg = make(read, labels, segments=segments)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    packed = len(seg.PixelData)
    assert packed == n_classes * labels.size // 8
    # the packed bits twice (parts, then joined), the frames' groups, the header: not 60 masks
    assert peak < 2 * packed + 5_000_000 < n_classes * labels.size / 2


def test_the_written_file_says_what_the_dataset_said(volume: Volume, tmp_path: Path) -> None:
    """Frames are encoded by our own hand: pydicom must read back what it would have written."""
    seg = make(volume)
    write_dicom(seg, tmp_path / "seg.dcm")
    again = dcmread(tmp_path / "seg.dcm")
    assert again.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert again.to_json_dict() == seg.to_json_dict()
    again.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient[0] += 0
    for group in again.PerFrameFunctionalGroupsSequence:  # decode all, so that all is encoded anew
        group.walk(lambda _, element: element.value)
    write_dicom(again, tmp_path / "again.dcm")
    assert dcmread(tmp_path / "again.dcm").to_json_dict() == seg.to_json_dict()


def test_who_the_patient_is_comes_from_the_source(tmp_path: Path) -> None:
    who = Identity(patient_name="Built^Patient", patient_id="X-9", body_part="CHEST")
    read = read_only_series(write_instances(tmp_path / "ct", ct_series(identity=who)))
    seg = make(read)
    assert (seg.PatientName, seg.PatientID) == ("Built^Patient", "X-9")
    assert seg.BodyPartExamined == "CHEST"
    assert seg.StudyInstanceUID == who.study_uid
    assert seg.FrameOfReferenceUID == who.frame_of_reference_uid
