"""What the screen shows: sides, order, letters, grey values, and labels in their place."""

from __future__ import annotations

import gzip
import io
import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dicom_io.volume import Volume
from inference.api.errors import ApiError
from inference.api.slices import DisplayVolume, edge_letter, window_to_grey
from inference.pipeline.screen import PLANES
from tests.builders.two_boxes import (
    LEFT_BOX,
    RIGHT_BOX,
    SHAPE,
    two_boxes_affine,
    two_boxes_array,
)


def boxes_volume() -> Volume:
    return Volume(array=two_boxes_array(), affine_lps=two_boxes_affine(), modality="CT")


def boxes_labels() -> NDArray[np.uint8]:
    labels = np.zeros(SHAPE, np.uint8)
    labels[LEFT_BOX], labels[RIGHT_BOX] = 1, 2
    return labels


def pixels(png: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(png)))


def label_slice(volume: DisplayVolume, labels: NDArray[np.uint8], plane: str, index: int):
    shown = volume.attach(labels, two_boxes_affine())
    geometry = volume.planes[plane]
    flat = np.frombuffer(gzip.decompress(shown.gzipped(plane, index)), np.uint8)
    return flat.reshape(geometry.height, geometry.width)


def reoriented(
    array: NDArray[np.generic], affine: NDArray[np.float64], order: tuple[int, ...], flips
) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    """The same patient stored along other axes."""
    moved = array.transpose(order)[tuple(slice(None, None, -1 if f else 1) for f in flips)]
    columns = affine[:3, :3][:, list(order)]
    origin = affine[:3, 3].copy()
    for axis, flip in enumerate(flips):
        if flip:
            origin = origin + columns[:, axis] * (moved.shape[axis] - 1)
            columns[:, axis] = -columns[:, axis]
    new = np.eye(4)
    new[:3, :3], new[:3, 3] = columns, origin
    return np.ascontiguousarray(moved), new


def test_the_patients_left_is_at_the_right_of_the_screen() -> None:
    volume = DisplayVolume(boxes_volume())
    labels = label_slice(volume, boxes_labels(), "axial", SHAPE[0] - 1 - 7)  # both boxes
    rows, columns = np.nonzero(labels == 1)
    assert columns.min() == 16  # the box of the patient's left
    assert rows.max() == 11  # near the front, hence at the top
    rows, columns = np.nonzero(labels == 2)
    assert columns.max() == 8
    assert rows.min() == 18


def test_the_head_is_the_first_axial_slice_and_the_top_of_the_others() -> None:
    volume = DisplayVolume(boxes_volume())
    shown = volume.attach(boxes_labels(), two_boxes_affine())
    # Box 1 fills native slices 2 to 8 of 14; from the head down that is 5 to 11.
    assert shown.presence("axial", 1) == {"first": 5, "last": 11, "largest": 5}
    coronal = label_slice(volume, boxes_labels(), "coronal", 5)
    assert np.nonzero(coronal)[0].min() == SHAPE[0] - LEFT_BOX[0].stop
    sagittal = label_slice(volume, boxes_labels(), "sagittal", 17)
    rows, columns = np.nonzero(sagittal)
    assert (rows.min(), columns.min()) == (SHAPE[0] - 9, 4)  # front at the left


@pytest.mark.parametrize("plane", PLANES)
def test_letters_name_the_edges(plane: str) -> None:
    letters = DisplayVolume(boxes_volume()).planes[plane].letters
    expected = {
        "axial": {"top": "A", "bottom": "P", "left": "R", "right": "L"},
        "coronal": {"top": "S", "bottom": "I", "left": "R", "right": "L"},
        "sagittal": {"top": "S", "bottom": "I", "left": "A", "right": "P"},
    }
    assert letters == expected[plane]


def test_oblique_directions_get_a_second_letter() -> None:
    assert edge_letter(np.array([1.0, 0.1, 0.0])) == "L"
    assert edge_letter(np.array([-0.9, 0.4, 0.0])) == "RP"
    assert edge_letter(np.array([0.3, 0.0, -0.95])) == "IL"


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_however_the_voxels_are_stored_the_same_picture_is_shown(order: tuple[int, ...]) -> None:
    expected = DisplayVolume(boxes_volume())
    for flips in itertools.product((False, True), repeat=3):
        array, affine = reoriented(two_boxes_array(), two_boxes_affine(), order, flips)
        labels, _ = reoriented(boxes_labels(), two_boxes_affine(), order, flips)
        shown = DisplayVolume(Volume(array=array, affine_lps=affine, modality="CT"))
        attached = shown.attach(labels, affine)
        for plane in PLANES:
            assert shown.png(plane, 7, center=200, width=1000) == expected.png(
                plane, 7, center=200, width=1000
            )
            theirs = expected.attach(boxes_labels(), two_boxes_affine())
            assert attached.gzipped(plane, 7) == theirs.gzipped(plane, 7)
            assert shown.planes[plane].letters == expected.planes[plane].letters
        acquired = {0: "axial", 1: "coronal", 2: "sagittal"}[order[0]]
        assert shown.acquired_plane == acquired


def test_positions_lead_back_to_the_voxels() -> None:
    geometry = DisplayVolume(boxes_volume()).planes["sagittal"]
    # Slice 17, row 3, column 6 is native (13 - 3, 6, 17).
    place = (
        np.array(geometry.origin_lps_mm)
        + 17 * np.array(geometry.slice_step_lps_mm)
        + 3 * np.array(geometry.row_step_lps_mm)
        + 6 * np.array(geometry.column_step_lps_mm)
    )
    expected = (two_boxes_affine() @ [10, 6, 17, 1])[:3]
    np.testing.assert_allclose(place, expected, atol=1e-9)


def test_grey_values_follow_the_standard_window() -> None:
    # PS3.3 C.11.2.1.2.1, the note: c = 2048, w = 4096 maps 0 to 0 and 4095 to the maximum.
    grey = window_to_grey(np.array([-5, 0, 2047, 4095, 5000]), 2048, 4096)
    assert grey.tolist() == [0, 0, 127, 255, 255]
    fine = window_to_grey(np.array([0.0, 0.25, 0.5], np.float32), 0.25, 0.5)
    assert fine.tolist() == [0, 128, 255]


def test_integer_and_float_volumes_are_drawn_alike() -> None:
    array = two_boxes_array()
    whole = DisplayVolume(Volume(array=array, affine_lps=two_boxes_affine(), modality="CT"))
    real = DisplayVolume(
        Volume(array=array.astype(np.float32), affine_lps=two_boxes_affine(), modality="CT")
    )
    assert whole.png("axial", 4, center=40, width=400) == real.png("axial", 4, center=40, width=400)


def test_labels_of_another_grid_are_not_drawn() -> None:
    volume = DisplayVolume(boxes_volume())
    moved = two_boxes_affine()
    moved[0, 3] += 1.0
    with pytest.raises(ApiError) as caught:
        volume.attach(boxes_labels(), moved)
    assert caught.value.problem_code == "not_drawable"
    with pytest.raises(ApiError):
        volume.attach(boxes_labels()[:-1], two_boxes_affine())


def test_more_than_255_labels_take_two_bytes() -> None:
    volume = DisplayVolume(boxes_volume())
    labels = boxes_labels().astype(np.int32)
    labels[LEFT_BOX] = 300
    shown = volume.attach(labels, two_boxes_affine())
    assert shown.bytes_per_pixel == 2
    flat = np.frombuffer(gzip.decompress(shown.gzipped("axial", 6)), "<u2")
    assert set(np.unique(flat)) == {0, 2, 300}


@pytest.mark.parametrize("index", [-1, 14])
def test_a_slice_that_is_not_there_is_named(index: int) -> None:
    with pytest.raises(ApiError, match="slices 0 to 13"):
        DisplayVolume(boxes_volume()).png("axial", index, center=0, width=1)


def test_images_without_units_begin_with_a_window_over_what_is_there() -> None:
    array = np.zeros(SHAPE, np.float32)
    array[LEFT_BOX] = np.linspace(100, 200, array[LEFT_BOX].size).reshape(array[LEFT_BOX].shape)
    volume = DisplayVolume(Volume(array=array, affine_lps=two_boxes_affine(), modality="MR"))
    first = volume.presets[0]
    assert first.name == "Auto"
    assert 100 <= first.center - first.width / 2 < first.center + first.width / 2 <= 200
