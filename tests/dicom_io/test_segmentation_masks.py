"""Segmentations of others are read as their own tools read them."""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage

from dicom_io.result_errors import UnsupportedObjectError
from dicom_io.segmentation_masks import read_segmentation

REFERENCE_OBJECTS = [
    "dcmqi/liver_seg.dcm",
    "dcmqi/partial_overlaps_seg.dcm",
    "dcmqi/sr-example/seg.dcm",
    "highdicom/seg_image_ct_binary.dcm",
    "highdicom/seg_image_ct_binary_overlap.dcm",
]


@pytest.mark.parametrize("name", REFERENCE_OBJECTS)
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # odd values in these files are known
def test_frames_of_others_have_the_pixels_and_places_that_highdicom_reads(
    shared_data: Path, name: str
) -> None:
    path = shared_data / "seg-sr" / name
    masks = read_segmentation(dcmread(path))
    theirs = hd.seg.segread(path)
    assert len(masks.frames) == theirs.NumberOfFrames
    assert set(masks.segments) == set(theirs.segment_numbers)
    shared = theirs.SharedFunctionalGroupsSequence[0]
    total = 0
    for frame, group in zip(masks.frames, theirs.PerFrameFunctionalGroupsSequence, strict=True):
        pixels = theirs.get_stored_frame(frame.index + 1)
        number = frame.segment_number
        assert number is not None
        np.testing.assert_array_equal(masks.mask(frame, number), pixels == 1)
        assert not masks.mask(frame, number + 1).any()
        total += int(pixels.sum())

        def macro(name: str, group: object = group) -> object:
            return getattr(group, name, None) or getattr(shared, name)

        transform = hd.spatial.PixelToReferenceTransformer(
            image_position=macro("PlanePositionSequence")[0].ImagePositionPatient,  # type: ignore[index]
            image_orientation=macro("PlaneOrientationSequence")[0].ImageOrientationPatient,  # type: ignore[index]
            pixel_spacing=macro("PixelMeasuresSequence")[0].PixelSpacing,  # type: ignore[index]
        )
        row, column = 3, 11
        mine = (frame.affine_lps @ [0, row, column, 1])[:3]
        np.testing.assert_allclose(mine, transform(np.array([[column, row]]))[0], atol=1e-6)
    assert total > 0


def test_overlapping_segments_keep_their_shared_voxels(shared_data: Path) -> None:
    path = shared_data / "seg-sr" / "highdicom" / "seg_image_ct_binary_overlap.dcm"
    masks = read_segmentation(dcmread(path))
    theirs = hd.seg.segread(path)
    for number in masks.segments:
        mine = sum(int(masks.mask(frame, number).sum()) for frame in masks.frames)
        got = theirs.get_volume(segment_numbers=[number], combine_segments=True).array
        assert mine == int(np.count_nonzero(got)) > 0


def test_a_fractional_object_is_refused_by_name(shared_data: Path) -> None:
    path = shared_data / "seg-sr" / "highdicom" / "seg_image_ct_true_fractional.dcm"
    with pytest.raises(UnsupportedObjectError, match="FRACTIONAL") as caught:
        read_segmentation(dcmread(path))
    assert caught.value.field == "SegmentationType"


def test_an_image_is_refused_by_name(shared_data: Path) -> None:
    path = shared_data / "seg-sr" / "highdicom" / "ct_image.dcm"
    with pytest.raises(UnsupportedObjectError) as caught:
        read_segmentation(dcmread(path))
    assert (caught.value.field, caught.value.value) == ("SOPClassUID", CTImageStorage)


def test_missing_frames_and_pixels_are_refused_by_name(shared_data: Path) -> None:
    dataset = dcmread(shared_data / "seg-sr" / "highdicom" / "seg_image_ct_binary.dcm")
    whole = dataset.PixelData
    dataset.PixelData = whole[: len(whole) // 2]
    masks = read_segmentation(dataset)
    with pytest.raises(UnsupportedObjectError, match="too short"):
        masks.pixels(len(masks.frames) - 1)
    dataset.NumberOfFrames = dataset.NumberOfFrames + 1
    with pytest.raises(UnsupportedObjectError) as caught:
        read_segmentation(dataset)
    assert caught.value.field == "PerFrameFunctionalGroupsSequence"
