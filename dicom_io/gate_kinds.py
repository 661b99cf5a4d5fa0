"""The gate for every kind of object: read a written file back and check it by its kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    EncapsulatedPDFStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    ParametricMapStorage,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
)

from dicom_io.gate import check_placement
from dicom_io.gate_drawn import (
    check_picture,
    check_presentation_state,
    check_references,
    check_structure_set,
)
from dicom_io.gate_maps import check_probabilities
from dicom_io.labelled import LabelledVolume
from dicom_io.picture_layout import key_slice_layout, montage_layout
from dicom_io.result_errors import PlacementError
from dicom_io.secondary_capture import read_picture
from dicom_io.source_header import dicom_source

Probabilities = Mapping[int, NDArray[np.float32]]


def check_object(
    path: Path,
    found: LabelledVolume,
    *,
    segmentation: Path | None = None,
    probabilities: Probabilities | None = None,
) -> None:
    """Check that a written object says of places and amounts what the labels say.

    Parameters
    ----------
    segmentation : for an SR, the SEG on disk that it points at
    probabilities : for a Parametric Map or a FRACTIONAL SEG, by label

    Raises
    ------
    PlacementError, UnsupportedObjectError
    """
    dataset = dcmread(path, defer_size="1 MB")
    kind = str(dataset.get("SOPClassUID", ""))
    study_uid = dicom_source(found.volume).study_uid
    if str(dataset.get("StudyInstanceUID")) != study_uid:
        raise PlacementError(
            field="StudyInstanceUID", expected=study_uid, found=dataset.get("StudyInstanceUID")
        )
    given = (found.volume, found.labels, found.segments)
    is_fractional = dataset.get("SegmentationType") == "FRACTIONAL"
    if kind == ParametricMapStorage or is_fractional:
        check_probabilities(dataset, found.volume, probabilities or {}, found.segments)
    elif kind == GrayscaleSoftcopyPresentationStateStorage:
        check_presentation_state(dataset, *given)
    elif kind == RTStructureSetStorage:
        check_structure_set(dataset, *given)
    elif kind == SecondaryCaptureImageStorage:
        check_references(dataset, found.volume)
        _check_capture(path, found)
    elif kind in (EncapsulatedPDFStorage, KeyObjectSelectionDocumentStorage):
        check_references(dataset, found.volume)
        _check_pdf(dataset)
    else:
        check_placement(path, *given, segmentation=segmentation)


def _check_capture(path: Path, found: LabelledVolume) -> None:
    """Find the tiles of a picture by the images that it names, and check each."""
    dataset, pixels = read_picture(path)
    source = dicom_source(found.volume)
    slices = {
        (str(instance.instance_uid), number): index
        for index, (instance, number) in enumerate(
            (instance, number) for instance in source.instances for number in instance.frame_numbers
        )
    }
    indices = []
    for item in dataset.SourceImageSequence:
        numbers = item.get("ReferencedFrameNumber", 1)
        frames = [numbers] if isinstance(numbers, int) else numbers
        indices += [slices[str(item.ReferencedSOPInstanceUID), int(frame)] for frame in frames]
    is_montage = int(dataset.InstanceNumber) == 1
    layout = (
        montage_layout(found.volume, indices, 1)
        if is_montage
        else key_slice_layout(found.volume, indices[0], 1)
    )
    check_picture(pixels, layout.tiles, found.labels, found.segments)


def _check_pdf(dataset: Dataset) -> None:
    content = dataset.get("EncapsulatedDocument")
    if content is not None and not content.startswith(b"%PDF-"):
        raise PlacementError(
            field="EncapsulatedDocument", expected="a PDF", found=repr(content[:8])
        )
