"""The strip: the lead on millimetre paper, 25 mm/s and 10 mm/mV, with each beat marked."""

from __future__ import annotations

import base64
import html
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dicom_io.signal_units import MILLIVOLTS
from inference.signals.analyse import SignalResult
from inference.signals.report import NOTICE

PX_PER_MM = 4
MM_PER_S, MM_PER_MV = 25, 10
ROW_S, N_ROWS, ROW_MM = 10.0, 6, 30
HEADER_PX, MARGIN_PX = 92, 14
PAPER, FINE, COARSE = (255, 250, 248), (250, 224, 220), (238, 176, 170)
INK, TEXT, BEAT, WARNING = (20, 20, 30), (40, 40, 50), (190, 20, 30), (160, 60, 0)
BAD = (235, 225, 160)


def write_strip(path: Path, result: SignalResult) -> None:
    """Draw the first minute of the lead, or the first minute from its first beat on, as PNG."""
    lead = result.lead
    rate_hz = lead.sampling_rate_hz
    samples_mv = lead.samples * MILLIVOLTS[lead.unit]
    rows_s = min(N_ROWS * ROW_S, max(lead.duration_s, 1.0))
    start_s = 0.0
    if result.beats and result.beats[0].time_s > rows_s:
        start_s = result.beats[0].time_s - 1.0
    n_rows = int(np.ceil(rows_s / ROW_S))
    width = 2 * MARGIN_PX + int(ROW_S * MM_PER_S * PX_PER_MM)
    row_px = ROW_MM * PX_PER_MM
    image = Image.new("RGB", (width, HEADER_PX + n_rows * (row_px + MARGIN_PX)), PAPER)
    draw = ImageDraw.Draw(image)
    _draw_header(draw, result)
    beats = np.array([beat.sample for beat in result.beats], np.int64)
    for row in range(n_rows):
        first = round((start_s + row * ROW_S) * rate_hz)
        last = min(first + round(ROW_S * rate_hz), len(samples_mv))
        top = HEADER_PX + row * (row_px + MARGIN_PX)
        _shade(draw, result, first, last, top)
        _draw_grid(draw, top)
        _draw_row(draw, samples_mv[first:last], rate_hz, top, beats, first)
        draw.text((MARGIN_PX + 4, top + 2), f"{first / rate_hz:.0f} s", TEXT, _font(12))
    image.save(path, format="PNG")


def write_page(path: Path, result: SignalResult, content: dict[str, Any], strip: Path) -> None:
    """Write one page that holds everything: the notice, the table, the strip (as data)."""
    picture = base64.b64encode(strip.read_bytes()).decode("ascii")
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{_figure(row.get('median'))}</td>"
        f"<td>{_figure(row.get('quartile_1'))} to {_figure(row.get('quartile_3'))}</td>"
        f"<td>{row['n']}</td></tr>"
        for name, row in (content["intervals"] or {}).items()
    )
    reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in result.reasons)
    title = f"{result.recording.record}, lead {result.lead.name}"
    alternative = f"The lead with {len(result.beats)} beats marked"
    path.write_text(
        "<!doctype html><html lang='en'><meta charset='utf-8'>"
        f"<title>{html.escape(title)}</title>"
        "<style>body{font:16px sans-serif;margin:2rem;max-width:70rem}"
        "table{border-collapse:collapse}"
        "td,th{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #ccc}"
        "img{max-width:100%}.notice{background:#fff3d6;padding:.6rem}</style>"
        f"<h1>{html.escape(title)}</h1><p class='notice'>{html.escape(NOTICE)}</p>"
        f"<p>Status: <b>{result.status}</b>, {len(result.beats)} beats found.</p><ul>{reasons}</ul>"
        + (
            "<table><tr><th>quantity</th><th>median</th><th>quartiles</th><th>beats</th></tr>"
            f"{rows}</table>"
            if rows
            else "<p>No intervals are given.</p>"
        )
        + f"<p><img src='data:image/png;base64,{picture}' alt='{html.escape(alternative)}'></p>"
        "</html>\n",
        encoding="utf-8",
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)


def _draw_header(draw: ImageDraw.ImageDraw, result: SignalResult) -> None:
    lead = result.lead
    draw.text((MARGIN_PX, 8), f"{result.recording.record}, lead {lead.name}", TEXT, _font(20))
    line = f"{len(result.beats)} beats, {MM_PER_S} mm/s, {MM_PER_MV} mm/mV, {result.status}"
    draw.text((MARGIN_PX, 36), "; ".join((line, *result.reasons))[:150], TEXT, _font(14))
    draw.text((MARGIN_PX, 58), NOTICE, WARNING, _font(15))


def _draw_grid(draw: ImageDraw.ImageDraw, top: int) -> None:
    """Draw millimetre paper, a stronger line every 5 mm."""
    right = MARGIN_PX + int(ROW_S * MM_PER_S * PX_PER_MM)
    for color, every in ((FINE, 1), (COARSE, 5)):
        for mm in range(0, int(ROW_S * MM_PER_S) + 1, every):
            x = MARGIN_PX + mm * PX_PER_MM
            draw.line((x, top, x, top + ROW_MM * PX_PER_MM), color)
        for mm in range(0, ROW_MM + 1, every):
            y = top + mm * PX_PER_MM
            draw.line((MARGIN_PX, y, right, y), color)


def _shade(
    draw: ImageDraw.ImageDraw, result: SignalResult, first: int, last: int, top: int
) -> None:
    """Put a ground of its own behind windows that cannot be used, above the row."""
    px_per_sample = MM_PER_S * PX_PER_MM / result.lead.sampling_rate_hz
    for window in result.windows:
        begin = max(window.first_sample, first)
        end = min(window.first_sample + window.n_samples, last)
        if window.grade == "unusable" and begin < end:
            left = MARGIN_PX + (begin - first) * px_per_sample
            right = MARGIN_PX + (end - first) * px_per_sample
            draw.rectangle((left, top - 10, right, top - 2), BAD)
            draw.text((left + 4, top - 13), ", ".join(window.states), WARNING, _font(11))


def _draw_row(
    draw: ImageDraw.ImageDraw,
    samples_mv: NDArray[np.float64],
    rate_hz: float,
    top: int,
    beats: NDArray[np.int64],
    first: int,
) -> None:
    """Draw one row around its own median; what leaves the row is cut at its edge."""
    if not np.isfinite(samples_mv).any():
        return
    level = float(np.nanmedian(samples_mv))
    middle = top + ROW_MM * PX_PER_MM * 0.6
    x = MARGIN_PX + np.arange(len(samples_mv)) / rate_hz * MM_PER_S * PX_PER_MM
    y = np.clip(
        middle - (samples_mv - level) * MM_PER_MV * PX_PER_MM, top, top + ROW_MM * PX_PER_MM
    )
    is_there = np.isfinite(samples_mv)
    edges = np.flatnonzero(np.diff(is_there)) + 1
    for part in np.split(np.arange(len(samples_mv)), edges):
        if len(part) > 1 and is_there[part[0]]:
            draw.line(list(zip(x[part].tolist(), y[part].tolist(), strict=True)), INK, 1)
    for beat in beats[(beats >= first) & (beats < first + len(samples_mv))] - first:
        at = float(x[beat])
        draw.polygon([(at - 4, top + 14), (at + 4, top + 14), (at, top + 22)], BEAT)
        draw.line((at, top + 22, at, float(y[beat])), (235, 150, 150))
