"""Where things are in a secondary capture: shared by the one who draws and the one who checks.

A picture is a band of words above, one tile per slice with a margin for direction letters around
it, and a legend to the right. Nothing is written over a tile, so the overlay can be checked there
pixel by pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_io.volume import Volume

BAND_PX = 84
MARGIN_PX = 22
LEGEND_PX = 380
KEY_TILE_PX = 768
"""Least length of a key slice's longer side; a larger image keeps its own size."""
MONTAGE_TILE_PX = 300
LEGEND_ROW_PX = 44
FILL_OPACITY = 0.25


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One slice in a picture; pixels (top, left) to (top + height, left + width)."""

    slice_index: int
    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Size of a picture, its tiles, and where the legend begins."""

    height: int
    width: int
    tiles: tuple[Tile, ...]
    legend_left: int
    legend_columns: int


def key_slice_layout(volume: Volume, slice_index: int, n_rows: int) -> Layout:
    """Lay out one slice, with a legend of so many rows."""
    rows, columns = volume.array.shape[1:]
    height, width = _true_aspect(volume, max(KEY_TILE_PX, rows, columns))
    return _layout([slice_index], (height, width), 1, n_rows)


def montage_layout(volume: Volume, slice_indices: Sequence[int], n_rows: int) -> Layout:
    """Lay out several slices in a grid that is about square."""
    size = _true_aspect(volume, MONTAGE_TILE_PX)
    n_columns = int(np.ceil(np.sqrt(len(slice_indices))))
    return _layout(slice_indices, size, n_columns, n_rows)


def source_pixels(size: int, n_pixels: int) -> NDArray[np.int_]:
    """Source row (or column) under each of `n_pixels` picture rows: nearest by its centre."""
    return np.minimum((np.arange(n_pixels) + 0.5) * size / n_pixels, size - 1e-9).astype(np.int_)


def _true_aspect(volume: Volume, longest_px: int) -> tuple[int, int]:
    """(height, width) of a tile whose pixels are square in the patient."""
    _, row_mm, column_mm = volume.spacing_mm
    height_mm, width_mm = volume.array.shape[1] * row_mm, volume.array.shape[2] * column_mm
    scale = longest_px / max(height_mm, width_mm)
    return max(1, round(height_mm * scale)), max(1, round(width_mm * scale))


def _layout(
    indices: Sequence[int], size: tuple[int, int], n_columns: int, n_legend_rows: int
) -> Layout:
    step = (size[0] + 2 * MARGIN_PX, size[1] + 2 * MARGIN_PX)
    tiles = tuple(
        Tile(
            slice_index=index,
            top=BAND_PX + place // n_columns * step[0] + MARGIN_PX,
            left=place % n_columns * step[1] + MARGIN_PX,
            height=size[0],
            width=size[1],
        )
        for place, index in enumerate(indices)
    )
    height = BAND_PX + -(-len(indices) // n_columns) * step[0]
    room = max(1, (height - BAND_PX - MARGIN_PX) // LEGEND_ROW_PX)
    legend_columns = -(-n_legend_rows // room)
    left = n_columns * step[1]
    return Layout(
        height=height,
        width=left + legend_columns * LEGEND_PX,
        tiles=tiles,
        legend_left=left,
        legend_columns=legend_columns,
    )
