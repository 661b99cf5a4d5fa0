"""How the source's stored pixels become grey in a presentation state, image by image.

A presentation state replaces what the image says about its grey values, so it must say all of it:
rescale, window, and which end is white (PS3.3 C.11, C.11.8, C.11.6).
"""

from __future__ import annotations

from collections.abc import Mapping

from pydicom.dataset import Dataset

from dicom_io.evidence import referenced
from dicom_io.frame_groups import decimal
from dicom_io.picture import Window, display_window
from dicom_io.source_grid import FrameReference, functional_group
from dicom_io.source_header import dicom_source
from dicom_io.volume import Volume

_RESCALE_TYPES = {"CT": "HU"}


def grey_pipeline(volume: Volume, images: Mapping[int, FrameReference]) -> Dataset:
    """Modality LUT, softcopy VOI LUT and presentation LUT for the images that are shown.

    Images of one rescale share it, and one window in modality values. Where rescales differ (PET)
    there is no common one: the object then has none, and each image a window in stored values.

    Parameters
    ----------
    images : slice index to the image or frame that the slice is
    """
    window = display_window(volume)
    rescales = {index: _rescale(volume, index) for index in images}
    made = Dataset()
    if len(set(rescales.values())) == 1:
        slope, intercept = next(iter(rescales.values()))
        made.RescaleSlope, made.RescaleIntercept = decimal(slope), decimal(intercept)
        made.RescaleType = _RESCALE_TYPES.get(volume.modality, "US")
        made.SoftcopyVOILUTSequence = [_voi(window, (1.0, 0.0))]
    else:
        made.SoftcopyVOILUTSequence = []
        for index, reference in images.items():
            item = _voi(window, rescales[index])
            item.ReferencedImageSequence = referenced([reference])
            made.SoftcopyVOILUTSequence.append(item)
    header, _ = _header_of(volume, next(iter(images)))
    is_inverse = header.get("PhotometricInterpretation") == "MONOCHROME1"
    made.PresentationLUTShape = "INVERSE" if is_inverse else "IDENTITY"
    return made


def _voi(window: Window, rescale: tuple[float, float]) -> Dataset:
    """Window on values before the rescale: (value - intercept) / slope."""
    slope, intercept = rescale
    item = Dataset()
    item.WindowCenter = decimal(((window.black + window.white) / 2 - intercept) / slope)
    item.WindowWidth = decimal(max(1.0, (window.white - window.black) / slope))
    return item


def _rescale(volume: Volume, index: int) -> tuple[float, float]:
    """(slope, intercept) of a slice's image; (1, 0) where it names none, as reading takes it."""
    header, frame_number = _header_of(volume, index)
    holder = header
    if "PerFrameFunctionalGroupsSequence" in header:
        found = functional_group(header, frame_number, "PixelValueTransformationSequence")
        holder = Dataset() if found is None else found
    return float(holder.get("RescaleSlope") or 1.0), float(holder.get("RescaleIntercept") or 0.0)


def _header_of(volume: Volume, index: int) -> tuple[Dataset, int]:
    frames = [
        (instance.header, number)
        for instance in dicom_source(volume).instances
        for number in instance.frame_numbers
    ]
    return frames[index]
