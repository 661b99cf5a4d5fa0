"""Write outlines and text as a Grayscale Softcopy Presentation State, for classic viewers.

One object for the key slices. Each segment has a graphic layer in its colour; its lines follow
pixel edges, holes included, so that filling them by the even-odd rule gives the segment back.
Pixel coordinates: (column, row), (0, 0) is the outer corner of the first pixel (PS3.3 C.10.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage

from dicom_io.equipment import check_names, leave_laterality_open, notice, stamp
from dicom_io.evidence import referenced
from dicom_io.frame_groups import decimal
from dicom_io.grey_pipeline import grey_pipeline
from dicom_io.labelled import LabelledVolume, grid_on_images, shown_slices
from dicom_io.report_words import Language, cautions
from dicom_io.result_errors import ResultInputError
from dicom_io.results import Algorithm, ResultIdentity, Segment
from dicom_io.rings import rings
from dicom_io.segmentation import check_labels
from dicom_io.source_grid import FrameReference
from dicom_io.source_header import dicom_source, result_header

SERIES_NUMBER = 9003
CONTENT_LABEL = "AI_OUTLINES"
NOTICE_LAYER = "AI_NOTICE"
NOTICE_RGB = (255, 190, 92)
MAX_LINE_POINTS = 8191
"""VR FL has a 16-bit length in Explicit VR: 65534 bytes, 8 of them a point."""
_NOT_IN_STATES = ("FrameOfReferenceUID", "PositionReferenceIndicator")


def layer_name(label: int) -> str:
    """Graphic layer of a segment (VR CS)."""
    return f"SEGMENT_{label}"


@dataclass(frozen=True, kw_only=True)
class _KeyImage:
    index: int
    reference: FrameReference


def make_presentation_state(
    found: LabelledVolume,
    *,
    algorithm: Algorithm,
    identity: ResultIdentity,
    language: Language = "en",
) -> Dataset:
    """Draw the outlines of every segment on its key slices.

    Returns
    -------
    Dataset
        With file meta, Explicit VR Little Endian.

    Raises
    ------
    ResultInputError
        No segment has a voxel, the slices are not those of the source, or an outline has more
        corners than the format holds.
    NoDicomSourceError, MissingIdentifierError, SourceGridMismatchError
    """
    check_names(algorithm, found.segments)
    check_labels(found.volume, found.labels, found.segments)
    if not found.measurements:
        raise ResultInputError(
            field="labels", problem="no segment has a voxel; there is nothing to outline"
        )
    grid, references = grid_on_images(found.volume)
    indices = shown_slices(found.labels, [segment.label for segment in found.segments])
    images = [_KeyImage(index=index, reference=references[index]) for index in indices]
    notices = (*cautions(algorithm, language), f"{algorithm.name} {algorithm.version}")
    texts = [algorithm.name, algorithm.manufacturer, *notices]
    header = result_header(found.volume, [*texts, *(segment.name for segment in found.segments)])
    for keyword in _NOT_IN_STATES:
        if keyword in header:
            del header[keyword]
    leave_laterality_open(header)
    state = Dataset()
    state.SOPClassUID = GrayscaleSoftcopyPresentationStateStorage
    state.Modality = "PR"
    state.ContentLabel = CONTENT_LABEL
    state.ContentDescription = notice(algorithm)
    state.ContentCreatorName = ""
    series = Dataset()
    series.SeriesInstanceUID = str(dicom_source(found.volume).series_uid)
    series.ReferencedImageSequence = referenced([image.reference for image in images])
    state.ReferencedSeriesSequence = [series]
    state.GraphicLayerSequence = _layers(found)
    state.GraphicAnnotationSequence = [
        *_outlines(found, images, identity),
        _notice_text(images, notices),
    ]
    state.DisplayedAreaSelectionSequence = [_whole_image(found, grid.pixel_spacing_mm)]
    state.update(grey_pipeline(found.volume, {image.index: image.reference for image in images}))
    stamped = stamp(
        state,
        header,
        algorithm,
        identity,
        kind="gsps",
        description="outlines",
        series_number=SERIES_NUMBER,
    )
    stamped.PresentationCreationDate = stamped.ContentDate
    stamped.PresentationCreationTime = stamped.ContentTime
    return stamped


def _layers(found: LabelledVolume) -> list[Dataset]:
    """One layer for each segment that was found, and one for the caution on top."""
    rows = [(layer_name(one.label), one.name, one.color_rgb) for one, _ in found.found]
    rows.append((NOTICE_LAYER, "caution", NOTICE_RGB))
    layers = []
    for order, (name, description, color_rgb) in enumerate(rows, start=1):
        layer = Dataset()
        layer.GraphicLayer = name
        layer.GraphicLayerOrder = order
        layer.GraphicLayerDescription = description
        layer.GraphicLayerRecommendedDisplayCIELabValue = list(
            hd.color.CIELabColor.from_rgb(*color_rgb).value
        )
        layers.append(layer)
    return layers


def _outlines(
    found: LabelledVolume, images: list[_KeyImage], identity: ResultIdentity
) -> list[Dataset]:
    """One annotation for each key image and segment in it."""
    annotations = []
    for image in images:
        for segment, measured in found.found:
            mask = found.labels[image.index] == segment.label
            if not mask.any():
                continue
            parts = rings(mask)
            annotation = Dataset()
            annotation.ReferencedImageSequence = referenced([image.reference])
            annotation.GraphicLayer = layer_name(segment.label)
            annotation.GraphicObjectSequence = [
                _line(points, segment, identity) for part in parts for points in part
            ]
            largest = max((part[0] for part in parts), key=lambda line: np.ptp(line, axis=0).sum())
            annotation.TextObjectSequence = [
                _label_text(f"{segment.name}: {measured.volume_ml:.1f} ml", largest)
            ]
            annotations.append(annotation)
    return annotations


def _line(points: NDArray[np.float64], segment: Segment, identity: ResultIdentity) -> Dataset:
    if len(points) > MAX_LINE_POINTS:
        raise ResultInputError(
            field=f"labels (segment {segment.label})",
            problem=f"an outline of {len(points)} corners; a presentation state holds at most "
            f"{MAX_LINE_POINTS} in a line",
        )
    line = Dataset()
    line.GraphicAnnotationUnits = "PIXEL"
    line.GraphicDimensions = 2
    line.NumberOfGraphicPoints = len(points)
    line.GraphicData = [float(value) for value in points.ravel()]
    line.GraphicType = "POLYLINE"
    line.GraphicFilled = "N"
    line.TrackingID = segment.name
    line.TrackingUID = identity.tracking_uid(segment.label)
    return line


def _label_text(text: str, line: NDArray[np.float64]) -> Dataset:
    """Name and volume, anchored at the top of the segment's outline."""
    top = line[int(np.argmin(line[:, 1]))]
    item = Dataset()
    item.UnformattedTextValue = text
    item.AnchorPointAnnotationUnits = "PIXEL"
    item.AnchorPoint = [float(value) for value in top]
    item.AnchorPointVisibility = "Y"
    return item


def _notice_text(images: list[_KeyImage], lines: tuple[str, ...]) -> Dataset:
    """Write the caution at the lower edge of every key image, relative to the displayed area."""
    texts = []
    for row, text in enumerate(lines):
        item = Dataset()
        item.UnformattedTextValue = text
        item.BoundingBoxAnnotationUnits = "DISPLAY"
        item.BoundingBoxTopLeftHandCorner = [0.02, 0.86 + 0.045 * row]
        item.BoundingBoxBottomRightHandCorner = [0.98, 0.9 + 0.045 * row]
        item.BoundingBoxTextHorizontalJustification = "LEFT"
        texts.append(item)
    annotation = Dataset()
    annotation.ReferencedImageSequence = referenced([image.reference for image in images])
    annotation.GraphicLayer = NOTICE_LAYER
    annotation.TextObjectSequence = texts
    return annotation


def _whole_image(found: LabelledVolume, pixel_spacing_mm: tuple[float, float]) -> Dataset:
    rows, columns = found.volume.array.shape[1:]
    area = Dataset()
    area.DisplayedAreaTopLeftHandCorner = [1, 1]
    area.DisplayedAreaBottomRightHandCorner = [columns, rows]
    area.PresentationSizeMode = "SCALE TO FIT"
    area.PresentationPixelSpacing = [decimal(value) for value in pixel_spacing_mm]
    return area
