"""The classical lung segmentation: right on phantoms whose lungs are known, in any orientation."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from dicom_io.volume import Volume
from training.lung_reference import segment_lungs
from training.metrics import dice
from training.phantoms import thorax_phantom
from training.reading import read_any

SHAPE, SPACING_MM = (60, 120, 150), (5.0, 2.8, 2.8)


@pytest.fixture(scope="module")
def phantom() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return thorax_phantom(901, SHAPE, SPACING_MM)


def test_it_finds_both_lungs_of_a_phantom(
    phantom: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    array, labels, affine_lps = phantom
    found = segment_lungs(array, affine_lps)
    for side in (1, 2):
        # Vessels at the hilum and thin recesses are where both may differ honestly.
        assert dice(found == side, labels == side) > 0.96


def test_sides_are_the_patients_whatever_the_order_of_the_voxels(
    phantom: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    array, _, affine_lps = phantom
    expected = segment_lungs(array, affine_lps)
    mirrored = affine_lps.copy()
    mirrored[:3, 3] += mirrored[:3, 2] * (SHAPE[2] - 1)
    mirrored[:3, 2] *= -1
    found = segment_lungs(np.ascontiguousarray(array[:, :, ::-1]), mirrored)
    np.testing.assert_array_equal(found[:, :, ::-1], expected)


def test_a_body_without_lungs_has_none() -> None:
    y, x = np.mgrid[-60:60, -75:75]
    plane = np.where(np.hypot(x / 1.3, y) < 50, 40, -1000).astype(np.int16)
    array = np.repeat(plane[None], 12, axis=0)
    array[:, 40:46, 70:80] = -1000  # a bowel gas bubble
    assert segment_lungs(array, np.diag([2.5, 2.5, 5.0, 1.0])[[2, 1, 0, 3]]).max() == 0


def test_lidc_0001_holds_the_readers_nodule_and_two_lungs_of_like_size(shared_data: Path) -> None:
    folder = shared_data / "ct-dicom" / "lidc-idri-0001-partial"
    volume = read_any(folder)
    labels = segment_lungs(volume.array, volume.affine_lps)
    millilitres = [(labels == side).sum() * volume.voxel_volume_mm3 / 1000 for side in (1, 2)]
    assert millilitres == pytest.approx([445, 468], rel=0.02)
    points = _nodule_points(folder / "69.xml", volume)
    assert len(points) > 100
    inside = labels[tuple(points.T)] == 1
    # Four readers outlined the nodule in the left lung without knowing this mask.
    assert inside.mean() > 0.97


def _nodule_points(path: Path, volume: Volume) -> np.ndarray:
    """Indices of the outline points of every reader's nodules of 3 mm and more."""
    name = "{http://www.nih.gov}"
    slice_of = {
        round(float((volume.affine_lps @ [k, 0, 0, 1])[2]), 2): k
        for k in range(volume.array.shape[0])
    }
    points = []
    for roi in ET.parse(path).getroot().iter(f"{name}roi"):  # noqa: S314 - a file of the data set
        edge = [
            (int(p.findtext(f"{name}yCoord", "")), int(p.findtext(f"{name}xCoord", "")))
            for p in roi.findall(f"{name}edgeMap")
        ]
        index = slice_of.get(round(float(roi.findtext(f"{name}imageZposition", "nan")), 2))
        if index is not None and len(edge) > 1:  # one point marks a nodule below 3 mm
            points += [(index, row, column) for row, column in edge]
    return np.array(points)
