"""Draw slices with their segments, a caution, a legend and direction letters: for any viewer.

A picture is for looking, not for measuring. No name, birth date or patient id is drawn into it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dicom_io.fonts import picture_font
from dicom_io.labelled import LabelArray, LabelledVolume
from dicom_io.picture_layout import (
    BAND_PX,
    FILL_OPACITY,
    LEGEND_PX,
    LEGEND_ROW_PX,
    MARGIN_PX,
    Layout,
    Tile,
    key_slice_layout,
    montage_layout,
    source_pixels,
)
from dicom_io.report_words import Language, cautions, unit_name, words
from dicom_io.results import Algorithm, Segment
from dicom_io.source_header import dicom_source
from dicom_io.volume import Float64, Volume

RGB = NDArray[np.uint8]
BLACK = (0, 0, 0)
TEXT = (235, 235, 235)
WARNING = (255, 190, 92)
DISPLAY_PERCENTILES = (1.0, 99.0)
"""Grey range of a volume whose source names no window."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """Modality values shown as black and as white."""

    black: float
    white: float


def draw_key_slice(
    found: LabelledVolume, slice_index: int, algorithm: Algorithm, language: Language
) -> RGB:
    """Draw one slice with its segments, (row, column, 3)."""
    rows = _legend(found, language)
    layout = key_slice_layout(found.volume, slice_index, len(rows))
    return _draw(found, layout, rows, algorithm, language)


def draw_montage(
    found: LabelledVolume, slice_indices: Sequence[int], algorithm: Algorithm, language: Language
) -> RGB:
    """Draw several slices in one picture, (row, column, 3)."""
    rows = _legend(found, language)
    layout = montage_layout(found.volume, slice_indices, len(rows))
    return _draw(found, layout, rows, algorithm, language)


def display_window(volume: Volume) -> Window:
    """Return the window that the source names first, else percentiles of its values."""
    header = dicom_source(volume).instances[0].header
    centers, widths = header.get("WindowCenter"), header.get("WindowWidth")
    if centers not in (None, "") and widths not in (None, ""):
        center = float(np.atleast_1d(centers)[0])
        width = float(np.atleast_1d(widths)[0])
        if np.isfinite([center, width]).all() and width >= 1:
            return Window(black=center - width / 2, white=center + width / 2)
    sample = volume.array[:: max(1, len(volume.array) // 16), ::2, ::2]
    black, white = np.percentile(sample, DISPLAY_PERCENTILES)
    return Window(black=float(black), white=float(max(white, black + 1)))


def direction_letters(affine_lps: Float64) -> tuple[str, str, str, str]:
    """Patient directions at the (left, right, top, bottom) edges of a slice: L, R, P, A, H, F."""
    return (
        _letter(-affine_lps[:3, 2]),
        _letter(affine_lps[:3, 2]),
        _letter(-affine_lps[:3, 1]),
        _letter(affine_lps[:3, 1]),
    )


def _letter(direction_lps: Float64) -> str:
    axis = int(np.argmax(np.abs(direction_lps)))
    return ("LPH" if direction_lps[axis] > 0 else "RAF")[axis]


@dataclass(frozen=True, kw_only=True)
class _LegendRow:
    color_rgb: tuple[int, int, int] | None
    name: str
    detail: str


def _legend(found: LabelledVolume, language: Language) -> list[_LegendRow]:
    said = words(language)
    rows = []
    for segment, measured in found.found:
        unit = unit_name(measured.unit)
        detail = f"{measured.volume_ml:.1f} ml, {said.mean} {measured.mean:.1f} {unit}".rstrip()
        rows.append(_LegendRow(color_rgb=segment.color_rgb, name=segment.name, detail=detail))
    if not rows:
        rows.append(_LegendRow(color_rgb=None, name=said.nothing_found, detail=""))
    rows += [
        _LegendRow(color_rgb=None, name=segment.name, detail=said.not_found)
        for segment in found.missing
    ]
    return rows


def _draw(
    found: LabelledVolume,
    layout: Layout,
    rows: list[_LegendRow],
    algorithm: Algorithm,
    language: Language,
) -> RGB:
    image = Image.new("RGB", (layout.width, layout.height), BLACK)
    window = display_window(found.volume)
    for tile in layout.tiles:
        pixels = draw_slice(
            found.volume.array[tile.slice_index],
            found.labels[tile.slice_index],
            found.segments,
            window,
            (tile.height, tile.width),
        )
        image.paste(Image.fromarray(pixels), (tile.left, tile.top))
    draw = ImageDraw.Draw(image)
    _write_band(draw, layout, algorithm, language)
    for tile in layout.tiles:
        _write_around(draw, tile, found.volume, language)
    _write_legend(draw, layout, rows)
    return np.asarray(image)


def draw_slice(
    values: NDArray[np.int16] | NDArray[np.float32],
    labels: LabelArray,
    segments: Sequence[Segment],
    window: Window,
    size: tuple[int, int],
) -> RGB:
    """Draw one slice, (height, width, 3): grey, segments tinted, their edges in full colour.

    Parameters
    ----------
    values, labels : (row, column)
    size : (height, width) of the picture
    """
    grey = (values.astype(np.float32) - window.black) / (window.white - window.black)
    shown = Image.fromarray((np.clip(grey, 0, 1) * 255).astype(np.uint8))
    grey8 = np.asarray(shown.resize((size[1], size[0]), Image.Resampling.BILINEAR))
    picture = np.repeat(grey8[..., None], 3, axis=2)  # (height, width, 3)
    rows = source_pixels(values.shape[0], size[0])
    columns = source_pixels(values.shape[1], size[1])
    drawn = labels[np.ix_(rows, columns)]
    edge = _is_edge(drawn)
    for segment in segments:
        mask = drawn == segment.label
        if mask.any():
            color = np.array(segment.color_rgb, np.float32)
            tinted = (1 - FILL_OPACITY) * picture[mask] + FILL_OPACITY * color
            picture[mask] = np.rint(tinted).astype(np.uint8)
            picture[mask & edge] = segment.color_rgb
    return picture


def _is_edge(labels: LabelArray) -> NDArray[np.bool_]:
    """Pixels with a neighbour of another label."""
    edge = np.zeros(labels.shape, dtype=bool)
    edge[1:] |= labels[1:] != labels[:-1]
    edge[:-1] |= labels[1:] != labels[:-1]
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edge[:, :-1] |= labels[:, 1:] != labels[:, :-1]
    return edge


def _write_band(
    draw: ImageDraw.ImageDraw, layout: Layout, algorithm: Algorithm, language: Language
) -> None:
    first, second = cautions(algorithm, language)
    lines = (
        (first, WARNING, 24),
        (second, WARNING, 16),
        (
            f"{algorithm.name} {algorithm.version}   SHA-256 {algorithm.weights_sha256[:16]}...",
            TEXT,
            16,
        ),
    )
    top = 4
    for text, color, size in lines:
        _write_fitting(draw, (MARGIN_PX, top), text, color, size, layout.width - 2 * MARGIN_PX)
        top += size + 8
    assert top <= BAND_PX


def _write_around(
    draw: ImageDraw.ImageDraw, tile: Tile, volume: Volume, language: Language
) -> None:
    """Direction letters and the slice's number, in the margin."""
    left, right, top, bottom = direction_letters(volume.affine_lps)
    font = picture_font("LRPAHF", 15)
    middle = (tile.left + tile.width / 2, tile.top + tile.height / 2)
    draw.text((tile.left - 4, middle[1]), left, WARNING, font, "rm")
    draw.text((tile.left + tile.width + 4, middle[1]), right, WARNING, font, "lm")
    draw.text((middle[0], tile.top - 3), top, WARNING, font, "md")
    draw.text((middle[0], tile.top + tile.height + 3), bottom, WARNING, font, "ma")
    said = f"{words(language).slice} {tile.slice_index + 1}/{len(volume.array)}"
    draw.text((tile.left, tile.top - 3), said, TEXT, picture_font(said, 14), "ld")


def _write_legend(draw: ImageDraw.ImageDraw, layout: Layout, rows: list[_LegendRow]) -> None:
    per_column = -(-len(rows) // layout.legend_columns)
    for place, row in enumerate(rows):
        left = layout.legend_left + place // per_column * LEGEND_PX
        top = BAND_PX + MARGIN_PX + place % per_column * LEGEND_ROW_PX
        if row.color_rgb is not None:
            draw.rectangle((left, top + 2, left + 14, top + 16), row.color_rgb)
        room = LEGEND_PX - 22 - MARGIN_PX
        _write_fitting(draw, (left + 22, top), row.name, TEXT, 17, room)
        _write_fitting(draw, (left + 22, top + 21), row.detail, TEXT, 14, room)


def _write_fitting(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    color: tuple[int, int, int],
    size_px: int,
    room_px: int,
) -> None:
    """Write in the largest size up to this one that fits; nothing is cut off."""
    while size_px > 6 and draw.textlength(text, picture_font(text, size_px)) > room_px:
        size_px -= 1
    draw.text(place, text, color, picture_font(text, size_px), "la")
