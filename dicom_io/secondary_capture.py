"""Write pictures with the overlay burned in as Secondary Capture: the one object any viewer shows.

One montage and one picture for each key slice, RGB, in a series of their own. They are courtesy
copies of SEG and SR, without geometry, and say in pixels and attributes that a machine made them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_io.equipment import check_names, leave_laterality_open, notice, stamp
from dicom_io.evidence import referenced, source_references
from dicom_io.labelled import LabelledVolume, grid_on_images, shown_slices
from dicom_io.picture import draw_key_slice, draw_montage
from dicom_io.report_words import Language
from dicom_io.results import Algorithm, ResultIdentity
from dicom_io.segmentation import check_labels
from dicom_io.source_grid import FrameReference
from dicom_io.source_header import result_header

SERIES_NUMBER = 9004
SLICES_WITHOUT_FINDING = 9
_NOT_IN_CAPTURES = ("FrameOfReferenceUID", "PositionReferenceIndicator")


def pictured_slices(found: LabelledVolume) -> tuple[int, ...]:
    """Slices of the montage; where nothing was found, some spread over the whole volume."""
    shown = shown_slices(found.labels, [segment.label for segment in found.segments])
    if shown:
        return shown
    last = len(found.volume.array) - 1
    spread = np.linspace(0, last, min(SLICES_WITHOUT_FINDING, last + 1))
    return tuple(sorted({int(index) for index in spread.round()}))


def make_secondary_captures(
    found: LabelledVolume,
    *,
    algorithm: Algorithm,
    identity: ResultIdentity,
    language: Language = "en",
) -> Iterator[Dataset]:
    """Draw the montage, then each key slice (none where nothing was found), one at a time.

    Yields
    ------
    Dataset
        With file meta, Explicit VR Little Endian. Instance 1 is the montage.

    Raises
    ------
    ResultInputError, FontError, NoDicomSourceError, MissingIdentifierError
    """
    check_names(algorithm, found.segments)
    check_labels(found.volume, found.labels, found.segments)
    _, references = grid_on_images(found.volume)
    indices = pictured_slices(found)
    montage = draw_montage(found, indices, algorithm, language)
    shown = [references[index] for index in indices]
    yield _capture(found, montage, shown, "montage", 1, algorithm, identity)
    for number, index in enumerate(indices if found.measurements else (), start=2):
        picture = draw_key_slice(found, index, algorithm, language)
        words = f"slice {index + 1} of {len(references)}"
        yield _capture(found, picture, [references[index]], words, number, algorithm, identity)


def _capture(
    found: LabelledVolume,
    picture: NDArray[np.uint8],
    shown: list[FrameReference],
    what: str,
    number: int,
    algorithm: Algorithm,
    identity: ResultIdentity,
) -> Dataset:
    words = [algorithm.name, algorithm.manufacturer]
    header = result_header(found.volume, words)
    for keyword in _NOT_IN_CAPTURES:
        if keyword in header:
            del header[keyword]
    leave_laterality_open(header)
    image = Dataset()
    image.SOPClassUID = SecondaryCaptureImageStorage
    image.Modality = "OT"
    image.ConversionType = "WSD"
    image.ImageType = ["DERIVED", "SECONDARY"]
    image.PatientOrientation = ""
    image.SamplesPerPixel = 3
    image.PhotometricInterpretation = "RGB"
    image.PlanarConfiguration = 0
    image.Rows, image.Columns = picture.shape[:2]
    image.BitsAllocated = image.BitsStored = 8
    image.HighBit = 7
    image.PixelRepresentation = 0
    image.BurnedInAnnotation = "YES"
    image.RecognizableVisualFeatures = "NO"
    image.LossyImageCompression = "00"
    image.DerivationDescription = (
        f"{what}, segments of {algorithm.name} {algorithm.version} drawn in; {notice(algorithm)}"
    )
    image.ImageComments = notice(algorithm)
    image.SourceImageSequence = referenced(shown)
    pixels = picture.tobytes()
    image.PixelData = pixels + b"\0" * (len(pixels) % 2)
    image["PixelData"].VR = "OB"
    series = Dataset()
    series.SeriesInstanceUID = str(found.volume.source.series_uid) if found.volume.source else ""
    series.ReferencedInstanceSequence = referenced(source_references(found.volume))
    image.ReferencedSeriesSequence = [series]
    return stamp(
        image,
        header,
        algorithm,
        identity,
        kind="sc",
        description="picture",
        series_number=SERIES_NUMBER,
        number=number,
    )


def read_picture(path: Path) -> tuple[Dataset, NDArray[np.uint8]]:
    """Read a picture back: its attributes, and its pixels as (row, column, 3)."""
    dataset = dcmread(path)
    pixels = np.frombuffer(dataset.PixelData, np.uint8)
    shape = (int(dataset.Rows), int(dataset.Columns), 3)
    return dataset, pixels[: np.prod(shape)].reshape(shape)
