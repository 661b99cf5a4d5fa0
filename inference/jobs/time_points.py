"""What a result keeps so that a later one can be compared with it: acquisition, axes, structure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cuda_kernels.label_areas import label_areas
from dicom_io.contours import outlines
from dicom_io.diameters import Diameters, diameters
from dicom_io.results import derived_uid
from dicom_io.volume import Volume
from inference.domain.change import Acquisition


def acquisition_of(volume: Volume) -> Acquisition:
    """Return what about the images decides whether their measurements may be compared."""
    assert volume.source is not None, "only a DICOM volume has results"
    header = volume.source.instances[0].header
    return Acquisition(
        modality=volume.modality,
        slice_spacing_mm=round(float(np.linalg.norm(volume.affine_lps[:3, 0])), 4),
        kernel=_text(header.get("ConvolutionKernel")),
        contrast=_text(header.get("ContrastBolusAgent")),
    )


def longest_axes(
    volume: Volume, labels: NDArray[np.uint8] | NDArray[np.uint16], found: Sequence[int]
) -> dict[int, Diameters]:
    """Measure the largest part of each label on the slice where the label's area is largest."""
    spacing_mm = (
        float(np.linalg.norm(volume.affine_lps[:3, 1])),
        float(np.linalg.norm(volume.affine_lps[:3, 2])),
    )
    axes: dict[int, Diameters] = {}
    if not found:
        return axes
    areas, _, _ = label_areas(np.ascontiguousarray(labels), int(labels.max()) + 1)
    for label in found:
        mask = labels[int(areas[:, label].argmax())] == label
        for outline in outlines(mask, at_most=1):
            axes[label] = diameters(outline.points, spacing_mm)
    return axes


def structure_name(volume: Volume, model: str) -> str:
    """Name whose structures a model's segments are; "" where the patient has no number.

    The number counts together with who issued it. The name is a hash: it goes into UIDs only.
    """
    assert volume.source is not None, "only a DICOM volume has results"
    header = volume.source.instances[0].header
    patient_id = _text(header.get("PatientID"))
    if not patient_id:
        return ""
    issuer = _text(header.get("IssuerOfPatientID"))
    return derived_uid(f"structures/{len(issuer)}:{issuer}/{len(patient_id)}:{patient_id}/{model}")


def _text(value: object) -> str:
    if value is None:
        return ""
    many = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
    return "\\".join(str(one).strip("\0 ") for one in many)
