"""Images and label maps from files, on one grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_io.nifti import read_nifti
from dicom_io.read import read_volume
from dicom_io.series import scan
from dicom_io.sources import open_source
from dicom_io.volume import Volume
from inference.pipeline.preprocess import to_canonical
from training.errors import CaseError

NIFTI_SUFFIXES = (".nii.gz", ".nii")
GRID_TOLERANCE_MM = 1e-2


@dataclass(frozen=True, kw_only=True)
class LabelledVolume:
    """A volume and its label map on one grid, (slice, row, column)."""

    volume: Volume
    labels: NDArray[np.uint8]


def read_any(path: Path) -> Volume:
    """Read a NIfTI file, or the largest image series of a DICOM folder or archive.

    Raises
    ------
    CaseError
        There is no image series.
    DicomIoError
    """
    if path.name.endswith(NIFTI_SUFFIXES):
        return read_nifti(path)
    with open_source(path) as files:
        series = [s for study in scan(files).studies for s in study.series if s.is_image]
        if not series:
            raise CaseError(case_id=path.name, problem="no image series in it")
        return read_volume(max(series, key=lambda s: len(s.instances)))


def read_labels(path: Path, case_id: str) -> tuple[NDArray[np.uint16], NDArray[np.float64]]:
    """Read a NIfTI label map as whole numbers, with its affine_lps.

    Raises
    ------
    CaseError
        A value is negative or not whole.
    """
    found = read_nifti(path)
    labels = found.array.astype(np.uint16)
    if not np.array_equal(labels, found.array):
        raise CaseError(case_id=case_id, problem="a label is negative or not a whole number")
    return labels, found.affine_lps


def read_reference(
    path: Path, case_id: str, volume: Volume, join: Mapping[int, Sequence[int]] | None
) -> NDArray[np.uint16]:
    """Read a reference label map in a volume's own axis order.

    Both are seen along canonical axes first: a reference may be stored in another axis order than
    the image, but must lie on the same grid. ``join`` says which reference labels make up which
    label, others become background; None keeps the labels as they are.

    Raises
    ------
    CaseError
    """
    labels, affine_lps = read_labels(path, case_id)
    image_view = to_canonical(volume.array, volume.affine_lps)
    label_view = to_canonical(labels, affine_lps)
    check_same_grid(
        case_id,
        image_view.array.shape,
        image_view.affine_lps,
        label_view.array.shape,
        label_view.affine_lps,
    )
    joined: NDArray[np.uint16] = label_view.array
    if join is not None:
        joined = np.zeros(label_view.array.shape, np.uint16)
        for value, sources in join.items():
            joined[np.isin(label_view.array, sources)] = value
    reference = np.zeros(volume.array.shape, np.uint16)
    image_view.axes.view(reference)[...] = joined
    return reference


def case_name(path: Path) -> str:
    """Return a file's name without the suffix of its format."""
    name = path.name
    for suffix in (*NIFTI_SUFFIXES, ".tar.xz", ".tar.gz", ".tar", ".zip"):
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name


def check_same_grid(
    case_id: str, shape: Sequence[int], affine: Any, other_shape: Sequence[int], other: Any
) -> None:
    """Raise CaseError where two grids differ in shape, or by more than 0.01 mm in place."""
    if tuple(shape) != tuple(other_shape):
        raise CaseError(
            case_id=case_id,
            problem=f"image shape {tuple(shape)} and label shape {tuple(other_shape)} differ",
        )
    corners = np.array([[0, 0, 0, 1], [*[n - 1 for n in shape], 1]], float).T
    away = float(np.abs((np.asarray(affine) - np.asarray(other)) @ corners).max())
    if away > GRID_TOLERANCE_MM:
        raise CaseError(
            case_id=case_id, problem=f"image and labels lie {away:.3f} mm apart in space"
        )
