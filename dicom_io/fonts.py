"""Fonts for pictures and printed reports: one that holds every character, or a refusal.

Plain English text needs no font file: Pillow's own for pictures, Helvetica for PDF. Other text,
Chinese first of all, needs a font of the system: the Debian package fonts-wqy-microhei (WenQuanYi
Micro Hei; Apache-2.0 or GPL-3 with the font exception), which has Chinese, Japanese, Latin, Greek
and Cyrillic characters and is embedded in the PDF.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from PIL import ImageFont
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont

from dicom_io.result_errors import FontError

PACKAGE = "fonts-wqy-microhei"
FONT_FILES = (
    Path("/usr/share/fonts/truetype/wqy/wqy-microhei.ttc"),
    Path("/usr/share/fonts/wqy-microhei/wqy-microhei.ttc"),
    Path("/usr/share/fonts/wqy-microhei-fonts/wqy-microhei.ttc"),
)
"""Where Debian, Arch and Fedora put it."""
PLAIN_PDF_FONT = "Helvetica"
WIDE_PDF_FONT = "WenQuanYiMicroHei"


def picture_font(text: str, size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return a font for pictures that holds every character of the text.

    Raises
    ------
    FontError
    """
    if text.isascii():
        return ImageFont.load_default(size_px)
    _check(text)
    return ImageFont.truetype(_font_file(), size_px, index=0)


def pdf_font(text: str) -> str:
    """Return the name of a font for PDF that holds every character; it is registered.

    Raises
    ------
    FontError
    """
    if text.isascii():
        return PLAIN_PDF_FONT
    _check(text)
    return WIDE_PDF_FONT


def _check(text: str) -> None:
    known = _wide_font().face.charToGlyph
    unknown = sorted({character for character in text if ord(character) not in known} - {"\n"})
    if unknown:
        codes = ", ".join(f"U+{ord(character):04X}" for character in unknown[:5])
        raise FontError(problem=f"{_font_file().name} has no {codes}")


@cache
def _wide_font() -> TTFont:
    font = TTFont(WIDE_PDF_FONT, str(_font_file()), subfontIndex=0)
    pdfmetrics.registerFont(font)
    return font


@cache
def _font_file() -> Path:
    for path in FONT_FILES:
        if path.is_file():
            return path
    raise FontError(
        problem=f"no font with Chinese characters: install the Debian package {PACKAGE}"
    )
