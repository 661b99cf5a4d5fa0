"""Lay out the printed report: patient, caution, measurements, pictures, and how it was made.

The same input gives the same bytes. Text that is not plain English is set in an embedded font.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from PIL import Image as PillowImage
from pydicom.dataset import Dataset
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Image, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

from dicom_io.contours import outlines
from dicom_io.diameters import Diameters, diameters
from dicom_io.fonts import pdf_font
from dicom_io.labelled import LabelledVolume, areas_by_label
from dicom_io.picture import draw_montage
from dicom_io.report_words import Language, Words, cautions, unit_name, words
from dicom_io.results import Algorithm, ResultIdentity
from dicom_io.secondary_capture import pictured_slices
from dicom_io.source_header import dicom_source

MARGIN = 18 * mm
WIDTH = A4[0] - 2 * MARGIN
_GREY = colors.HexColor("#5a5f66")
_LINE = colors.HexColor("#c9cdd2")
_AMBER = colors.HexColor("#8a4b00")
_PALE_AMBER = colors.HexColor("#fff3df")
_PICTURE_QUALITY = 90


@dataclass(frozen=True, kw_only=True)
class _Style:
    """One font for the whole report, and its sizes."""

    font: str

    def paragraph(self, text: str, size: float = 9, **options: object) -> Paragraph:
        style = ParagraphStyle("text", fontName=self.font, fontSize=size, leading=size * 1.35)
        for name, value in options.items():
            setattr(style, name, value)
        # Chinese has no spaces to break at; identifiers neither.
        style.wordWrap = "CJK" if not text.isascii() or " " not in text else None
        return Paragraph(escape(text), style)


def report_pdf(
    found: LabelledVolume,
    header: Dataset,
    *,
    algorithm: Algorithm,
    identity: ResultIdentity,
    language: Language,
) -> bytes:
    """Return the report as PDF.

    Parameters
    ----------
    header : patient and study as the result objects repeat them

    Raises
    ------
    FontError
    """
    said = words(language)
    patient = _patient_rows(found, header, said)
    result = _result_rows(found, said)
    making = _making_rows(found, algorithm, identity, said)
    warnings = cautions(algorithm, language)
    everything = [said.report, said.axes_note, said.page, said.nothing_found, *warnings]
    everything += [cell for row in [*patient, *result, *making] for cell in row]
    missing = ", ".join(segment.name for segment in found.missing)
    style = _Style(font=pdf_font("".join([*everything, said.not_found, missing])))
    parts = [
        style.paragraph(said.report, 17, spaceAfter=4),
        _caution_box(style, warnings),
        Spacer(1, 3 * mm),
        _pairs(style, patient),
        Spacer(1, 4 * mm),
    ]
    if found.measurements:
        parts += [_measurements(style, result, found), Spacer(1, 1.5 * mm)]
        parts.append(style.paragraph(said.axes_note, 7.5, textColor=_GREY))
    else:
        parts.append(style.paragraph(said.nothing_found, 12))
    if missing:
        parts.append(style.paragraph(f"{said.not_found}: {missing}", 9, spaceBefore=4))
    parts += [Spacer(1, 4 * mm), _picture(found, algorithm, language), Spacer(1, 4 * mm)]
    parts.append(_pairs(style, making))
    buffer = io.BytesIO()
    document = SimpleDocTemplate(
        buffer,
        pagesize=A4,
        leftMargin=MARGIN,
        rightMargin=MARGIN,
        topMargin=14 * mm,
        bottomMargin=18 * mm,
        title=f"{said.report} {algorithm.name} {algorithm.version}",
        author=f"{algorithm.manufacturer} {algorithm.software_version}",
        invariant=1,
    )
    footer = f"{warnings[0]}   |   {algorithm.name} {algorithm.version}"

    def numbered(canvas: Canvas, _: SimpleDocTemplate) -> None:
        canvas.saveState()
        canvas.setFont(style.font, 7.5)
        canvas.setFillColor(_GREY)
        canvas.drawString(MARGIN, 10 * mm, footer)
        canvas.drawRightString(A4[0] - MARGIN, 10 * mm, f"{said.page} {canvas.getPageNumber()}")
        canvas.restoreState()

    document.build(parts, onFirstPage=numbered, onLaterPages=numbered)
    return buffer.getvalue()


def key_diameters(found: LabelledVolume) -> dict[int, Diameters]:
    """Diameters of each segment's largest part in the slice with its largest area."""
    row_mm, column_mm = found.volume.spacing_mm[1:]
    measured = {}
    areas = areas_by_label(found.labels, [segment.label for segment, _ in found.found])
    for label, area in areas.items():
        mask = found.labels[int(area.argmax())] == label
        (outline,) = outlines(mask, at_most=1)
        measured[label] = diameters(outline.points, (row_mm, column_mm))
    return measured


def _patient_rows(found: LabelledVolume, header: Dataset, said: Words) -> list[tuple[str, str]]:
    source = dicom_source(found.volume)
    images = source.instances[0].header
    series = " ".join(
        str(part)
        for part in (images.get("SeriesNumber", ""), images.get("SeriesDescription", ""))
        if part not in ("", None)
    )
    return [
        (said.patient, _name(header)),
        (said.patient_id, _with_issuer(header)),
        (said.birth_date, _date(header, "PatientBirthDate")),
        (said.sex, str(header.get("PatientSex") or "")),
        (said.study_date, _date(header, "StudyDate")),
        (said.accession, str(header.get("AccessionNumber") or "")),
        (said.study, str(header.get("StudyDescription") or "")),
        (said.series, f"{series} ({found.volume.modality})"),
    ]


def _name(header: Dataset) -> str:
    """Every group of the name (alphabetic, ideographic, phonetic), as a person writes it."""
    groups = str(header.get("PatientName") or "").split("=")
    return "  ".join(" ".join(part for part in group.split("^") if part) for group in groups)


def _with_issuer(header: Dataset) -> str:
    issuer = str(header.get("IssuerOfPatientID") or "")
    return str(header.get("PatientID") or "") + (f" ({issuer})" if issuer else "")


def _date(header: Dataset, keyword: str) -> str:
    value = str(header.get(keyword) or "")
    return f"{value[:4]}-{value[4:6]}-{value[6:]}" if len(value) == 8 else value


def _result_rows(found: LabelledVolume, said: Words) -> list[tuple[str, ...]]:
    heads = (said.segment, said.volume, said.mean, said.sd, said.range)
    rows: list[tuple[str, ...]] = [("", *heads, said.long_axis, said.short_axis)]
    axes = key_diameters(found)
    for segment, measured in found.found:
        unit = unit_name(measured.unit)
        across = axes[segment.label]
        rows.append(
            (
                "",
                segment.name,
                f"{measured.volume_ml:.1f}",
                f"{measured.mean:.1f} {unit}".rstrip(),
                f"{measured.sd:.1f} {unit}".rstrip(),
                f"{measured.minimum:g} / {measured.maximum:g}",
                f"{across.long_axis_mm:.1f}",
                f"{across.short_axis_mm:.1f}",
            )
        )
    return rows


def _making_rows(
    found: LabelledVolume, algorithm: Algorithm, identity: ResultIdentity, said: Words
) -> list[tuple[str, str]]:
    source = dicom_source(found.volume)
    return [
        (said.model, f"{algorithm.name} {algorithm.version} ({algorithm.manufacturer})"),
        (said.weights, algorithm.weights_sha256),
        (said.software, algorithm.software_version),
        (said.engine, algorithm.engine),
        (said.device_uid, algorithm.device_uid),
        (said.created, identity.created_at.strftime("%Y-%m-%d %H:%M:%S %Z")),
        (said.study_uid, str(source.study_uid)),
        (said.input_images, f"{source.series_uid}: {len(source.instances)}"),
    ]


def _caution_box(style: _Style, lines: Sequence[str]) -> Table:
    cells = [[style.paragraph(line, 10.5, textColor=_AMBER)] for line in lines]
    box = Table(cells, colWidths=[WIDTH])
    box.setStyle(
        TableStyle(
            [
                ("BACKGROUND", (0, 0), (-1, -1), _PALE_AMBER),
                ("BOX", (0, 0), (-1, -1), 0.8, _AMBER),
                ("TOPPADDING", (0, 0), (-1, -1), 2),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
            ]
        )
    )
    return box


def _pairs(style: _Style, rows: Sequence[tuple[str, str]]) -> Table:
    cells = [
        [style.paragraph(name, 8.5, textColor=_GREY), style.paragraph(value, 8.5)]
        for name, value in rows
    ]
    table = Table(cells, colWidths=[34 * mm, WIDTH - 34 * mm])
    table.setStyle(
        TableStyle(
            [
                ("LINEBELOW", (0, 0), (-1, -1), 0.3, _LINE),
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("TOPPADDING", (0, 0), (-1, -1), 1),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5),
            ]
        )
    )
    return table


def _measurements(style: _Style, rows: Sequence[tuple[str, ...]], found: LabelledVolume) -> Table:
    cells = [[style.paragraph(cell, 8) for cell in row] for row in rows]
    widths = [5, 36, 20, 24, 22, 27, 20, 20]
    table = Table(cells, colWidths=[w * mm for w in widths], repeatRows=1)
    look = [
        ("LINEBELOW", (0, 0), (-1, -1), 0.3, _LINE),
        ("LINEBELOW", (0, 0), (-1, 0), 0.9, colors.black),
        ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
    ]
    for row, (segment, _) in enumerate(found.found, start=1):
        red, green, blue = (channel / 255 for channel in segment.color_rgb)
        look.append(("BACKGROUND", (0, row), (0, row), colors.Color(red, green, blue)))
    table.setStyle(TableStyle(look))
    return table


def _picture(found: LabelledVolume, algorithm: Algorithm, language: Language) -> Image:
    """Return the montage, as JPEG, as wide as the page or as high as half of it."""
    drawn = draw_montage(found, pictured_slices(found), algorithm, language)
    buffer = io.BytesIO()
    PillowImage.fromarray(drawn).save(buffer, "JPEG", quality=_PICTURE_QUALITY)
    buffer.seek(0)
    height, width = drawn.shape[:2]
    scale = min(WIDTH / width, 100 * mm / height)
    return Image(buffer, width=width * scale, height=height * scale)
