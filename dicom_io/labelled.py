"""A volume with its labels and what was measured of them: what every result object is made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_io.report_content import key_slices
from dicom_io.result_errors import ResultInputError
from dicom_io.results import Measurement, Segment
from dicom_io.source_grid import FrameReference, SliceGrid, slice_grid
from dicom_io.volume import Volume

LabelArray = NDArray[np.uint8] | NDArray[np.uint16]

MAX_KEY_SLICES = 9
"""Up to here every segment's own key slices are shown; beyond, fewer that show every segment."""
SHOWN_SHARE = 0.5
"""A slice shows a segment if at least this share of the segment's largest area lies in it."""


@dataclass(frozen=True, kw_only=True)
class LabelledVolume:
    """A volume with its labels and what was measured of them.

    Attributes
    ----------
    labels : (slice, row, column), on the volume's grid; 0 is background
    measurements : one for each segment that has a voxel
    """

    volume: Volume
    labels: LabelArray
    segments: tuple[Segment, ...]
    measurements: tuple[Measurement, ...]

    @property
    def found(self) -> tuple[tuple[Segment, Measurement], ...]:
        """Segments that have a voxel, with their measurement, in the segments' order."""
        by_label = {measurement.label: measurement for measurement in self.measurements}
        return tuple((one, by_label[one.label]) for one in self.segments if one.label in by_label)

    @property
    def missing(self) -> tuple[Segment, ...]:
        """Segments that were searched for and have no voxel."""
        found = {measurement.label for measurement in self.measurements}
        return tuple(segment for segment in self.segments if segment.label not in found)


def shown_slices(labels: LabelArray, wanted: Sequence[int]) -> tuple[int, ...]:
    """Slices worth a picture, in order.

    The key slices of every segment (largest area, a quarter and three quarters of the segment
    below). Where those are more than `MAX_KEY_SLICES`, as few slices as show every segment with at
    least half of its largest area, the one that shows most first.

    Parameters
    ----------
    wanted : label values; those without a voxel are left out
    """
    areas = areas_by_label(labels, wanted)
    areas = {label: area for label, area in areas.items() if area.any()}
    chosen = {index for area in areas.values() for index in key_slices(area)}
    if len(chosen) <= MAX_KEY_SLICES:
        return tuple(sorted(chosen))
    shows = {label: area >= SHOWN_SHARE * area.max() for label, area in areas.items()}
    chosen = set()
    while shows:
        counts = np.sum(list(shows.values()), axis=0)
        best = int(np.argmax(counts))
        chosen.add(best)
        shows = {label: shown for label, shown in shows.items() if not shown[best]}
    return tuple(sorted(chosen))


def areas_by_label(labels: LabelArray, wanted: Sequence[int]) -> dict[int, NDArray[np.float64]]:
    """Pixels of each label in each slice, (n_slices,)."""
    highest = max([*wanted, int(labels.max(initial=0))]) + 1
    counts = np.array([np.bincount(plane.ravel(), minlength=highest) for plane in labels])
    return {label: counts[:, label].astype(np.float64) for label in wanted}


def grid_on_images(volume: Volume) -> tuple[SliceGrid, tuple[FrameReference, ...]]:
    """Return the slice grid and the source image of each slice.

    Raises
    ------
    ResultInputError
        The slices are not those of the source, so there is no image to draw on.
    """
    grid = slice_grid(volume)
    if grid.references is None:
        raise ResultInputError(
            field="volume",
            problem="its slices were resampled, so there is no source image to draw on; "
            "SEG, SR, RTSTRUCT and PDF can be made of it",
        )
    return grid, grid.references
