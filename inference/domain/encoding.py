"""The kinds of object that one result is written as, and what their names mean.

A kind is a base and what varies in it: ``seg_labelmap``, ``sc_zh``. Where a kind is several
instances (pictures, maps of several segments) their files are ``sc-01``, ``sc-02``, ...
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Base = Literal["seg", "sr", "gsps", "sc", "rtstruct", "pdf", "ko", "pmap"]
SegmentationEncoding = Literal["BINARY", "LABELMAP", "FRACTIONAL"]
Language = Literal["en", "zh"]

BASES: tuple[Base, ...] = ("seg", "sr", "gsps", "sc", "rtstruct", "pdf", "ko", "pmap")
"""In the order of writing and sending: a report comes after what it refers to."""
ALWAYS = ("seg", "sr")
"""Written for every result, whoever takes them."""
_SEGMENTATIONS: dict[str, SegmentationEncoding] = {
    "": "BINARY",
    "labelmap": "LABELMAP",
    "fractional": "FRACTIONAL",
}
_LANGUAGES: dict[str, Language] = {"": "en", "zh": "zh"}
_OF_SEGMENTATION = {"seg", "sr"}
_OF_LANGUAGE = {"gsps", "sc", "pdf"}


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """One kind of object: its base, and the segmentation or language it comes in."""

    base: Base
    segmentation: SegmentationEncoding = "BINARY"
    language: Language = "en"

    @property
    def suffix(self) -> str:
        """What stands behind the base in the name, without the underscore; "" for the default."""
        if self.base in _OF_SEGMENTATION and self.segmentation != "BINARY":
            return self.segmentation.lower()
        if self.base in _OF_LANGUAGE and self.language != "en":
            return self.language
        return ""

    @property
    def name(self) -> str:
        """Name of the kind, as files, deliveries and the API have it."""
        return f"{self.base}_{self.suffix}" if self.suffix else self.base

    @property
    def needs_probabilities(self) -> bool:
        """Whether labels alone are not enough to write it."""
        return self.base == "pmap" or (
            self.base in _OF_SEGMENTATION and self.segmentation == "FRACTIONAL"
        )


ENCODINGS: dict[str, Encoding] = {
    encoding.name: encoding
    for base in BASES
    for encoding in (
        [Encoding(base=base, segmentation=one) for one in _SEGMENTATIONS.values()]
        if base in _OF_SEGMENTATION
        else [Encoding(base=base, language=one) for one in _LANGUAGES.values()]
        if base in _OF_LANGUAGE
        else [Encoding(base=base)]
    )
}
"""Every kind by name."""


def kinds_of(
    bases: Iterable[Base], segmentation: SegmentationEncoding, language: Language
) -> tuple[str, ...]:
    """Names of the kinds that a destination takes, in the order of sending."""
    asked = set(bases)
    return tuple(
        Encoding(base=base, segmentation=segmentation, language=language).name
        for base in BASES
        if base in asked
    )


def planned(kinds: Iterable[str]) -> tuple[Encoding, ...]:
    """Return what to write so that every kind is there: each once, what is pointed at first.

    SEG and SR (BINARY) are always among them, and the SEG of every SR.

    Raises
    ------
    KeyError
        A kind that does not exist.
    """
    wanted = {*ALWAYS, *kinds}
    wanted |= {kind.replace("sr", "seg", 1) for kind in wanted if kind.split("_")[0] == "sr"}
    unknown = wanted - ENCODINGS.keys()
    if unknown:
        raise KeyError(sorted(unknown)[0])
    return tuple(encoding for name, encoding in ENCODINGS.items() if name in wanted)


def files_of(kind: str, names: Iterable[str]) -> Sequence[str]:
    """Names of a result's files that are of a kind, in order: "sc" is "sc-01", "sc-02", ..."""
    return sorted(name for name in names if name == kind or name.startswith(f"{kind}-"))
