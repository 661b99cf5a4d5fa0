"""One frame as a picture: grey by rescale and window, colour as stored (PS3.3 C.11)."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dicom_io.codec_pool import CodecPool
from dicom_io.dicom_json import JsonContext, dataset_json
from dicom_io.errors import UnsupportedPixelsError
from dicom_io.instance_file import InstanceFile
from dicom_io.instance_frames import Frames
from dicom_io.raw_elements import raw_items
from inference.domain.dicom_index import value_of

JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
PER_FRAME, SHARED = 0x52009230, 0x52009229
VALUE_TRANSFORMATION, FRAME_VOI = 0x00289145, 0x00289132
RESCALE_INTERCEPT, RESCALE_SLOPE = 0x00281052, 0x00281053
WINDOW_CENTER, WINDOW_WIDTH = 0x00281050, 0x00281051

WindowFunction = Literal["linear", "linear-exact", "sigmoid"]


@dataclass(frozen=True, kw_only=True)
class GreyWindow:
    """A window on modality values, with the function of PS3.3 C.11.2.1.2 and C.11.2.1.3."""

    center: float
    width: float
    function: WindowFunction = "linear"


@dataclass(frozen=True, kw_only=True)
class Viewport:
    """The largest size of the picture, and the part of the frame to show.

    Attributes
    ----------
    width, height : pixels; the picture keeps its shape within them
    source : left, top, width, height in the frame; a negative size turns it round. None: all
    """

    width: int
    height: int
    source: tuple[int, int, int | None, int | None] | None = None


def draw_frame(
    instance: InstanceFile,
    frames: Frames,
    number: int,
    pool: CodecPool,
    window: GreyWindow | None = None,
) -> Image.Image:
    """Draw frame ``number`` (from 1): "L" or "RGB".

    Raises
    ------
    UnsupportedPixelsError, CodestreamError
    """
    layout = frames.layout
    if is_baseline_color(instance, frames):
        with Image.open(io.BytesIO(frames.stored(number))) as opened:
            return opened.convert("RGB")
    raw = frames.plain(number, pool)
    if layout.bits == 1:
        bits = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")
        mask = bits[: layout.rows * layout.columns].reshape(layout.rows, layout.columns)
        return Image.fromarray(mask.astype(bool))
    values = np.frombuffer(raw, f"<{layout.kind}{layout.bits // 8}")
    if layout.samples == 3:
        return _color(instance, frames, values)
    pixels = values.reshape(layout.rows, layout.columns)
    if layout.photometric == "PALETTE COLOR":
        return _palette(instance, pixels)
    grey8 = _grey(instance, number, pixels, window)
    if layout.photometric == "MONOCHROME1":
        grey8 = np.bitwise_not(grey8)
    return Image.fromarray(grey8)


def is_baseline_color(instance: InstanceFile, frames: Frames) -> bool:
    """Whether frames are ordinary colour JPEG pictures, which need no DICOM decoder."""
    return instance.transfer_syntax_uid == JPEG_BASELINE and frames.layout.samples == 3


def place(picture: Image.Image, viewport: Viewport) -> Image.Image:
    """Cut the part to be shown and scale it to fit."""
    if viewport.source is not None:
        left, top, wide, high = viewport.source
        wide = picture.width - left if wide is None else wide
        high = picture.height - top if high is None else high
        box = (left, top, left + abs(wide), top + abs(high))
        picture = picture.crop(box)
        if wide < 0:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if high < 0:
            picture = picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    scale = min(viewport.width / picture.width, viewport.height / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.BILINEAR)


def window_grey(values: NDArray[np.float64], window: GreyWindow) -> NDArray[np.uint8]:
    """Map modality values to 0..255."""
    center, width = window.center, window.width
    if window.function == "sigmoid":
        shown = 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    elif window.function == "linear-exact" or width <= 1:
        shown = (values - center) / max(width, 1e-9) + 0.5
    else:
        shown = (values - (center - 0.5)) / (width - 1) + 0.5
    rounded: NDArray[np.uint8] = np.rint(np.clip(shown, 0, 1) * 255).astype(np.uint8)
    return rounded


def _grey(
    instance: InstanceFile, number: int, pixels: NDArray[Any], window: GreyWindow | None
) -> NDArray[np.uint8]:
    slope, intercept, stored_window = _display(instance, number)
    values = pixels.astype(np.float64) * slope + intercept
    chosen = window or stored_window
    if chosen is None:
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        chosen = GreyWindow(
            center=(low + high) / 2, width=max(high - low, 1e-9), function="linear-exact"
        )
    return window_grey(np.nan_to_num(values, nan=-np.inf), chosen)


def _display(instance: InstanceFile, number: int) -> tuple[float, float, GreyWindow | None]:
    """Rescale slope and intercept, and the first window that the header names for a frame."""
    tags = (RESCALE_SLOPE, RESCALE_INTERCEPT, WINDOW_CENTER, WINDOW_WIDTH)
    found = {tag: _first_number(instance.text(tag)) for tag in tags}
    for groups in (_groups(instance, PER_FRAME, number - 1), _groups(instance, SHARED, 0)):
        for sequence in (VALUE_TRANSFORMATION, FRAME_VOI):
            for item in groups.get(f"{sequence:08X}", {}).get("Value", [])[:1]:
                for tag in tags:
                    value = value_of(item, tag, None)
                    if found[tag] is None and isinstance(value, int | float):
                        found[tag] = float(value)
    slope, intercept = found[RESCALE_SLOPE], found[RESCALE_INTERCEPT]
    center, width = found[WINDOW_CENTER], found[WINDOW_WIDTH]
    window = None
    if center is not None and width is not None and width > 0:
        window = GreyWindow(center=center, width=width)
    return 1.0 if slope is None else slope, 0.0 if intercept is None else intercept, window


def _groups(instance: InstanceFile, tag: int, number: int) -> Mapping[str, Any]:
    """Functional groups: one item of a sequence, as DICOM JSON."""
    sequence = instance.elements.get(tag)
    if sequence is None or not sequence.is_sequence:
        return {}
    places = raw_items(instance.stream, sequence.begin, sequence.end, sequence.encoding)
    for index, (begin, end) in enumerate(places):
        if index == number:
            return dataset_json(instance.stream, begin, end, sequence.encoding, JsonContext())
    return {}


def _first_number(text: str) -> float | None:
    try:
        number = float(text.split("\\")[0])
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _color(instance: InstanceFile, frames: Frames, values: NDArray[Any]) -> Image.Image:
    layout = frames.layout
    if layout.bits != 8 or layout.photometric not in ("RGB", "YBR_FULL"):
        raise UnsupportedPixelsError(
            instance_uid=instance.text(0x00080018),
            keyword="PhotometricInterpretation",
            value=layout.photometric,
        )
    if layout.is_planar:
        pixels = np.moveaxis(values.reshape(3, layout.rows, layout.columns), 0, -1)
    else:
        pixels = values.reshape(layout.rows, layout.columns, 3)
    mode = "RGB" if layout.photometric == "RGB" else "YCbCr"
    size = (layout.columns, layout.rows)
    picture = Image.frombytes(mode, size, np.ascontiguousarray(pixels).tobytes())
    return picture.convert("RGB")


def _palette(instance: InstanceFile, pixels: NDArray[Any]) -> Image.Image:
    """Colours by three look-up tables (PS3.3 C.7.6.3.1.5, C.7.6.3.1.6)."""
    channels = []
    for number in (1, 2, 3):
        raw = instance.raw(0x00281100 + number)
        table = instance.raw(0x00281200 + number)
        order = "<" if instance.encoding.little else ">"
        if len(raw) != 6 or not table:
            raise UnsupportedPixelsError(
                instance_uid=instance.text(0x00080018),
                keyword="RedPaletteColorLookupTableDescriptor",
                value="",
            )
        n_entries, first, bits = np.frombuffer(raw, f"{order}u2").tolist()
        n_entries = n_entries or 65536
        is_wide = bits > 8 or len(table) >= 2 * n_entries
        entries = np.frombuffer(table, f"{order}u2" if is_wide else "u1")[:n_entries]
        shown = (entries >> 8 if bits > 8 else entries).astype(np.uint8)
        places = np.clip(pixels.astype(np.int64) - first, 0, len(shown) - 1)
        channels.append(shown[places])
    return Image.fromarray(np.stack(channels, axis=-1))
