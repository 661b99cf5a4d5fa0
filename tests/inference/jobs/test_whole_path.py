"""Orientation, through the whole path: files in, objects out, nothing misplaced.

The phantom is three unequal boxes known as a function of the patient point. Each object that comes
out is read here with pydicom, nibabel and NumPy alone, and every voxel of it is asked that
function: a flip, a swapped axis or a slice too far cannot pass.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from dicom_io.nifti import read_nifti, write_nifti
from dicom_io.series import scan
from dicom_io.volume import Volume
from inference.domain.job import Priority
from inference.domain.ports import Prediction
from inference.jobs.analysis import Analysis, analyse_series
from inference.pipeline.preprocess import to_canonical
from inference.pipeline.segment import segment_volume
from inference.pipeline.spec import ModelSpec
from tests.builders.dicom import write_series
from tests.inference.pipeline.built import (
    HU_OF_LABEL,
    Levels,
    all_orientations,
    boxes,
    centres,
    grid,
    rotation,
    spec_of,
)

SPACING_MM = (2.0, 1.25, 0.9)
SHAPE = (20, 31, 43)
ROTATIONS = [d for d in all_orientations() if np.linalg.det(d) > 0]
"""DICOM orders slices along the normal, so a series has one of 24 orientations."""
OBLIQUE = [rotation((1, 2, 3), 17.0) @ ROTATIONS[k] for k in (0, 7, 19)]


class OnePredictor:
    """The real model path with a network whose answer is known voxel by voxel."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    def predict(
        self,
        model: str,
        volume: Volume,
        *,
        priority: Priority = Priority.ROUTINE,
        deadline_s: float | None = None,
    ) -> Prediction:
        done = segment_volume(volume.array, volume.affine_lps, self.spec, Levels(4))
        return Prediction(labels=done.labels, report=done.report)


def test_every_orientation_in_both_file_orders_comes_back_in_its_place_as_dicom(
    tmp_path: Path,
) -> None:
    misplaced = {}
    for number, directions in enumerate(ROTATIONS):
        for file_order in ("forward", "reverse"):
            folder = tmp_path / f"{number}-{file_order}"
            analysis = _through_dicom(folder, directions, file_order)
            misplaced[number, file_order] = _misplaced_voxels(analysis)
    assert len(misplaced) == 48
    assert set(misplaced.values()) == {0}


@pytest.mark.parametrize("number", range(len(OBLIQUE)))
def test_oblique_series_come_back_in_their_place(tmp_path: Path, number: int) -> None:
    analysis = _through_dicom(tmp_path, OBLIQUE[number], "shuffled")
    assert _misplaced_voxels(analysis) == 0


@pytest.mark.parametrize("number", range(48))
def test_every_orientation_comes_back_in_its_place_as_nifti(tmp_path: Path, number: int) -> None:
    affine_lps = grid(all_orientations()[number], SPACING_MM, SHAPE)
    truth = boxes(centres(SHAPE, affine_lps))
    # Written by nibabel, so that the reader is not checked against our own writer.
    affine_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine_lps
    nib.save(nib.Nifti1Image(HU_OF_LABEL[truth], affine_ras), tmp_path / "image.nii.gz")

    volume = read_nifti(tmp_path / "image.nii.gz")
    spec = _spec_at_spacing_of(volume.array, volume.affine_lps)
    labels = OnePredictor(spec).predict(spec.name, volume).labels
    write_nifti(tmp_path / "labels.nii.gz", labels, volume.affine_lps)

    written = nib.load(tmp_path / "labels.nii.gz")
    points = centres(written.shape, np.diag([-1.0, -1.0, 1.0, 1.0]) @ written.affine)
    assert truth.any()
    np.testing.assert_array_equal(np.asarray(written.dataobj), boxes(points))


def test_a_misplaced_object_would_be_seen(tmp_path: Path) -> None:
    """The check above is worth something: shift one frame of the object and it counts voxels."""
    analysis = _through_dicom(tmp_path, ROTATIONS[0], "forward")
    dataset = pydicom.dcmread(analysis.files["seg"])
    plane = dataset.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence[0]
    plane.ImagePositionPatient[2] = float(plane.ImagePositionPatient[2]) + SPACING_MM[0]
    dataset.save_as(analysis.files["seg"])
    assert _misplaced_voxels(analysis) > 0


def _through_dicom(folder: Path, directions: NDArray[np.float64], file_order: Any) -> Analysis:
    affine_lps = grid(directions, SPACING_MM, SHAPE)
    array = HU_OF_LABEL[boxes(centres(SHAPE, affine_lps))]
    files = write_series(folder / "in", array, affine_lps, "CT", file_order=file_order)
    spec = _spec_at_spacing_of(array, affine_lps)
    (series,) = scan(files).series
    outcome = analyse_series(series, (spec,), OnePredictor(spec), folder / "out")
    assert not outcome.refusals, [str(refusal.error) for refusal in outcome.refusals]
    (analysis,) = outcome.analyses
    return analysis


def _spec_at_spacing_of(array: NDArray[Any], affine_lps: NDArray[np.float64]) -> ModelSpec:
    """A model at the volume's own spacing, so that every voxel must come back exactly."""
    spacing_mm = to_canonical(array, affine_lps).spacing_mm
    return spec_of(preprocessing={"spacing_mm": list(spacing_mm)})


def _misplaced_voxels(analysis: Analysis) -> int:
    """Count the SEG's voxels that differ from the phantom at their patient point.

    Frames are unpacked and placed with NumPy from the attributes that PS3.3 C.7.6.16 gives them.
    """
    seg = pydicom.dcmread(analysis.files["seg"])
    rows, columns = seg.Rows, seg.Columns
    bits = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little")
    shared = seg.SharedFunctionalGroupsSequence[0]
    wrong = 0
    seen = dict.fromkeys((1, 2, 3), 0)
    for index, group in enumerate(seg.PerFrameFunctionalGroupsSequence):
        mask = bits[index * rows * columns : (index + 1) * rows * columns].reshape(rows, columns)
        segment = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        orientation = (group.get("PlaneOrientationSequence") or shared.PlaneOrientationSequence)[
            0
        ].ImageOrientationPatient
        spacing = (group.get("PixelMeasuresSequence") or shared.PixelMeasuresSequence)[0]
        affine = np.eye(4)
        affine[:3, 1] = np.array(orientation[3:], float) * float(spacing.PixelSpacing[0])
        affine[:3, 2] = np.array(orientation[:3], float) * float(spacing.PixelSpacing[1])
        affine[:3, 3] = group.PlanePositionSequence[0].ImagePositionPatient
        truth = boxes(centres((1, rows, columns), affine))[0] == segment
        wrong += int((truth != mask.astype(bool)).sum())
        seen[segment] += int(mask.sum())
    labels = nib.load(analysis.files["labels"])
    points = centres(labels.shape, np.diag([-1.0, -1.0, 1.0, 1.0]) @ labels.affine)
    expected = boxes(points)
    wrong += int((np.asarray(labels.dataobj) != expected).sum())
    wrong += sum(abs(seen[label] - int((expected == label).sum())) for label in seen)
    return wrong


def test_a_destination_that_takes_label_maps_gets_one_with_its_own_report(tmp_path: Path) -> None:
    affine_lps = grid(ROTATIONS[0], SPACING_MM, SHAPE)
    array = HU_OF_LABEL[boxes(centres(SHAPE, affine_lps))]
    files = write_series(tmp_path / "in", array, affine_lps, "CT")
    spec = _spec_at_spacing_of(array, affine_lps)
    (series,) = scan(files).series
    outcome = analyse_series(
        series, (spec,), OnePredictor(spec), tmp_path, encodings=("sr_labelmap",)
    )
    (analysis,) = outcome.analyses
    assert set(analysis.files) == {"seg", "sr", "seg_labelmap", "sr_labelmap", "labels", "sheet"}
    binary, label_map = (pydicom.dcmread(analysis.files[k]) for k in ("seg", "seg_labelmap"))
    assert label_map.SegmentationType == "LABELMAP"
    assert label_map.SOPInstanceUID != binary.SOPInstanceUID
    report = pydicom.dcmread(analysis.files["sr_labelmap"])
    assert str(label_map.SOPInstanceUID) in str(report.CurrentRequestedProcedureEvidenceSequence)
