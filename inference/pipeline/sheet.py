"""The contact sheet: a grid of slices with the overlay, for a quick look by a person.

Slices are shown as they were acquired (DICOM's rows down, columns to the right), in true aspect,
with the patient's directions at the edges of each. It is for looking, not for measuring.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dicom_io.results import Measurement, Segment
from dicom_io.volume import Float64, Volume
from inference.domain.ports import Labels
from inference.pipeline.spec import ClipScale, ModelSpec

N_COLUMNS = 5
N_SLICES = 20
TILE_PX = 260
MARGIN_PX = 6
HEADER_PX = 96
LEGEND_ROW_PX = 22
FILL_OPACITY = 0.35
BACKGROUND = (16, 18, 22)
TEXT = (232, 234, 238)
FAINT = (150, 156, 166)
WARNING = (255, 190, 92)
DISPLAY_PERCENTILES = (1.0, 99.0)
"""Grey range of a volume whose model has no fixed intensity window."""


@dataclass(frozen=True, kw_only=True)
class GreyRange:
    """Voxel values shown as black and as white."""

    black: float
    white: float


def write_contact_sheet(
    path: Path,
    volume: Volume,
    labels: Labels,
    measurements: Sequence[Measurement],
    spec: ModelSpec,
) -> None:
    """Write the sheet as PNG.

    Parameters
    ----------
    volume, labels : same (slice, row, column) shape
    measurements : of the segments found; empty where nothing was
    """
    indices = slices_to_show(labels)
    size = _tile_size(volume)
    n_rows = -(-len(indices) // N_COLUMNS)
    legend_px = LEGEND_ROW_PX * (max(len(measurements), 1) + 1)
    sheet = Image.new(
        "RGB",
        (
            MARGIN_PX + N_COLUMNS * (TILE_PX + MARGIN_PX),
            HEADER_PX + n_rows * (size[1] + MARGIN_PX) + legend_px + MARGIN_PX,
        ),
        BACKGROUND,
    )
    _draw_header(ImageDraw.Draw(sheet), spec)
    grey = grey_range(volume, spec)
    letters = edge_letters(volume.affine_lps)
    for position, index in enumerate(indices):
        row, column = divmod(position, N_COLUMNS)
        tile = draw_slice(volume.array[index], labels[index], spec.segments, grey).resize(
            size, Image.Resampling.LANCZOS
        )
        _draw_tile_text(ImageDraw.Draw(tile), size, index, len(volume.array), letters)
        left = MARGIN_PX + column * (TILE_PX + MARGIN_PX) + (TILE_PX - size[0]) // 2
        sheet.paste(tile, (left, HEADER_PX + row * (size[1] + MARGIN_PX)))
    top = HEADER_PX + n_rows * (size[1] + MARGIN_PX)
    _draw_legend(ImageDraw.Draw(sheet), top, measurements, spec.segments)
    sheet.save(path, format="PNG", compress_level=1)


def slices_to_show(labels: Labels) -> list[int]:
    """Return at most ``N_SLICES`` slice indices, spread over the labelled part with a margin."""
    labelled = np.flatnonzero(labels.any(axis=(1, 2)))
    first, last = (labelled[0], labelled[-1]) if len(labelled) else (0, len(labels) - 1)
    margin = max(1, (last - first) // 10)
    first, last = max(0, first - margin), min(len(labels) - 1, last + margin)
    return [int(i) for i in np.unique(np.linspace(first, last, N_SLICES).round().astype(int))]


def grey_range(volume: Volume, spec: ModelSpec) -> GreyRange:
    """Return the grey range: the model's own window for CT, percentiles otherwise."""
    intensity = spec.preprocessing.intensity
    if isinstance(intensity, ClipScale):
        return GreyRange(black=intensity.lower, white=intensity.upper)
    sample = volume.array[:: max(1, len(volume.array) // 16), ::2, ::2]
    black, white = np.percentile(sample, DISPLAY_PERCENTILES)
    return GreyRange(black=float(black), white=float(max(white, black + 1)))


def draw_slice(
    image: NDArray[np.int16] | NDArray[np.float32],
    labels: Labels,
    segments: Sequence[Segment],
    grey: GreyRange,
) -> Image.Image:
    """Draw one (row, column) slice in grey with filled and outlined segments."""
    shown = (image.astype(np.float32) - grey.black) / (grey.white - grey.black)
    rgb = np.repeat((np.clip(shown, 0, 1) * 255)[..., None], 3, axis=2)  # (row, column, 3)
    for segment in segments:
        mask = labels == segment.label
        if not mask.any():
            continue
        color = np.array(segment.color_rgb, np.float32)
        rgb[mask] = (1 - FILL_OPACITY) * rgb[mask] + FILL_OPACITY * color
        rgb[_outline(mask)] = color
    return Image.fromarray(rgb.astype(np.uint8))


def edge_letters(affine_lps: Float64) -> tuple[str, str, str, str]:
    """Return the patient directions at the (left, right, top, bottom) edges of a slice."""
    right = _direction_letter(affine_lps[:3, 2])
    left = _direction_letter(-affine_lps[:3, 2])
    bottom = _direction_letter(affine_lps[:3, 1])
    top = _direction_letter(-affine_lps[:3, 1])
    return left, right, top, bottom


def _direction_letter(direction_lps: Float64) -> str:
    """Name the patient direction that a vector points to most: L, R, P, A, S (head) or I."""
    axis = int(np.argmax(np.abs(direction_lps)))
    return ("LPS" if direction_lps[axis] > 0 else "RAI")[axis]


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the voxels of a (row, column) mask that have a neighbour outside it."""
    padded = np.pad(mask, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    outline: NDArray[np.bool_] = mask & ~inside
    return outline


def _tile_size(volume: Volume) -> tuple[int, int]:
    """Return (width, height) of a tile in pixels, in the slice's true aspect."""
    _, row_mm, column_mm = volume.spacing_mm
    height_mm, width_mm = volume.array.shape[1] * row_mm, volume.array.shape[2] * column_mm
    scale = TILE_PX / max(height_mm, width_mm)
    return max(1, round(width_mm * scale)), max(1, round(height_mm * scale))


def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)


def _draw_header(draw: ImageDraw.ImageDraw, spec: ModelSpec) -> None:
    draw.text((MARGIN_PX + 4, 8), spec.title, TEXT, _font(22))
    draw.text((MARGIN_PX + 4, 38), f"{spec.name} {spec.version}", FAINT, _font(14))
    notice = "AI result, not verified. Decision support: a person decides."
    if spec.status == "research":
        notice = f"Research model, not for primary diagnosis. {notice}"
    draw.text((MARGIN_PX + 4, 62), notice, WARNING, _font(15))


def _draw_tile_text(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    index: int,
    n_slices: int,
    letters: tuple[str, str, str, str],
) -> None:
    width, height = size
    left, right, top, bottom = letters
    font = _font(13)

    def write(x: float, y: float, text: str, color: tuple[int, int, int], anchor: str) -> None:
        # A dark rim keeps the letters readable over bright tissue.
        draw.text((x, y), text, color, font, anchor, stroke_width=2, stroke_fill=BACKGROUND)

    write(4, 3, f"{index + 1}/{n_slices}", TEXT, "la")
    write(4, height / 2, left, WARNING, "lm")
    write(width - 4, height / 2, right, WARNING, "rm")
    write(width / 2, 3, top, WARNING, "ma")
    write(width / 2, height - 4, bottom, WARNING, "md")


def _draw_legend(
    draw: ImageDraw.ImageDraw,
    top: int,
    measurements: Sequence[Measurement],
    segments: Sequence[Segment],
) -> None:
    if not measurements:
        draw.text((MARGIN_PX + 4, top + 4), "Nothing found.", TEXT, _font(15))
        return
    by_label = {segment.label: segment for segment in segments}
    for row, found in enumerate(measurements):
        segment = by_label[found.label]
        y = top + 6 + row * LEGEND_ROW_PX
        draw.rectangle((MARGIN_PX + 4, y + 2, MARGIN_PX + 18, y + 16), segment.color_rgb)
        unit = {"[hnsf'U]": " HU", "1": ""}.get(found.unit, f" {found.unit}")
        text = (
            f"{segment.name}: {found.volume_ml:.1f} ml, "
            f"mean {found.mean:.0f}{unit}, SD {found.sd:.0f}{unit}"
        )
        draw.text((MARGIN_PX + 26, y), text, TEXT, _font(15))
