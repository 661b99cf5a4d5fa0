"""Walk the data elements of one DICOM file up to its pixels, within limits.

pydicom parses values; this module finds where each element begins and ends. It does that itself
for three reasons: a claimed length is checked against the file before anything is allocated (a
truncated file is otherwise read without a word), nesting and inflation are limited, and only the
first few kilobytes of a file are read, so that the pixels are read once, by the decoder.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

from pydicom.charset import convert_encodings
from pydicom.dataelem import DataElement, RawDataElement, empty_value_for_VR
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.tag import BaseTag

from dicom_io.attributes import text
from dicom_io.element_stream import (
    DEFAULT_FILE_LIMITS,
    KNOWN_VRS,
    LENGTH,
    LONG_VRS,
    TAG_VR_LENGTH,
    UNDEFINED_LENGTH,
    ElementStream,
    Encoding,
    FileLimits,
    NeedMoreError,
    check_depth,
    element_head,
    end_of_items,
    is_item,
)
from dicom_io.errors import (
    FileLimitError,
    MalformedFileError,
    NotDicomError,
    TruncatedFileError,
)

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"

_HEAD_BYTES = 32 * 1024  # holds the header of most slices; doubled (x 8) until the pixels are met
_INFLATE_RATIO_FROM_BYTES = 64 * 1024 * 1024  # an all-zero slice honestly inflates 1000:1
_CHARACTER_SET = 0x00080005
_PIXEL_TAGS = {
    0x7FE00008: "FloatPixelData",
    0x7FE00009: "DoubleFloatPixelData",
    0x7FE00010: "PixelData",
}


Elements = dict[BaseTag, DataElement | RawDataElement]


@dataclass(frozen=True, kw_only=True)
class PixelElement:
    """Where the pixels are: ``offset`` of the value in the file (of the inflated data set).

    ``length`` is None for encapsulated (compressed) pixels, which end at a delimiter.
    """

    keyword: str
    vr: str
    offset: int
    length: int | None


@dataclass(frozen=True, kw_only=True)
class ParsedFile:
    """The header of one file, and where its pixels are (None: it has none)."""

    header: FileDataset
    transfer_syntax_uid: str
    pixels: PixelElement | None
    size_bytes: int


def parse_file(path: Path, *, limits: FileLimits = DEFAULT_FILE_LIMITS) -> ParsedFile:
    """Read the header of one file, without its pixels.

    Raises
    ------
    NotDicomError, TruncatedFileError, MalformedFileError, FileLimitError
    """
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limits.max_file_bytes:
            raise FileLimitError(path=path, limit="max_file_bytes", allowed=limits.max_file_bytes)
        data = file.read(_HEAD_BYTES)
        while True:
            try:
                return _parse(ElementStream(path, data, size, limits))
            except NeedMoreError:
                more = file.read(7 * len(data))
                if not more:
                    raise TruncatedFileError(
                        path=path, tag="the file", needed=size, present=len(data)
                    ) from None
                data += more


def inflate(path: Path, data: bytes, limits: FileLimits = DEFAULT_FILE_LIMITS) -> bytes:
    """Undo the deflation of a data set (PS3.5 A.5), in steps, within ``limits``."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    parts: list[bytes] = []
    total, rest = 0, data
    while rest and not inflater.eof:
        try:
            part = inflater.decompress(rest, 1024 * 1024)
        except zlib.error as error:
            raise MalformedFileError(path=path, problem=f"deflated data: {error}") from error
        parts.append(part)
        total += len(part)
        if total > limits.max_inflated_bytes:
            raise FileLimitError(
                path=path, limit="max_inflated_bytes", allowed=limits.max_inflated_bytes
            )
        if total > max(_INFLATE_RATIO_FROM_BYTES, limits.max_inflate_ratio * len(data)):
            raise FileLimitError(
                path=path, limit="max_inflate_ratio", allowed=limits.max_inflate_ratio
            )
        rest = inflater.unconsumed_tail
    if not inflater.eof:
        raise TruncatedFileError(path=path, tag="deflated data", needed=total + 1, present=total)
    return b"".join(parts)


def dataset_start(data: bytes) -> int:
    """Offset of the first data element after the File Meta Information."""
    position = 132 if data[128:132] == b"DICM" else 0
    while int.from_bytes(data[position : position + 2], "little") == 0x0002:
        vr = data[position + 4 : position + 6]
        long = vr in LONG_VRS
        length = int.from_bytes(data[position + (8 if long else 6) :][: 4 if long else 2], "little")
        position += (12 if long else 8) + length
    return position


def _parse(stream: ElementStream) -> ParsedFile:
    data, path, size = stream.data, stream.path, stream.size
    has_preamble = data[128:132] == b"DICM"
    position = 132 if has_preamble else 0
    if not has_preamble and not _looks_like_a_dataset(data):
        raise NotDicomError(path=path, problem="not a DICOM file")
    meta_elements, position, _ = _walk(stream, position, Encoding(False, True), stop_group=3)
    file_meta = FileMetaDataset(meta_elements)
    file_meta.set_original_encoding(False, True)
    syntax = text(file_meta, "TransferSyntaxUID")
    if syntax == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        if len(data) < size:
            raise NeedMoreError
        inflated = inflate(path, data[position:], stream.limits)
        stream, position = ElementStream(path, inflated, len(inflated), stream.limits), 0
    encoding = _encoding(stream, position, syntax)
    elements, _, pixels = _walk(stream, position, encoding)
    if not syntax:
        syntax = _undeclared_syntax(encoding)
    if not has_preamble and not (elements.keys() >= {0x00080016, 0x00080018}):
        raise NotDicomError(path=path, problem="no preamble, and no SOP Class and Instance UID")
    header = _file_dataset(path, data[:128] if has_preamble else None, file_meta, elements)
    header.set_original_encoding(encoding.implicit, encoding.little, _charset(elements))
    return ParsedFile(header=header, transfer_syntax_uid=syntax, pixels=pixels, size_bytes=size)


def _file_dataset(
    path: Path,
    preamble: bytes | None,
    file_meta: FileMetaDataset,
    elements: Elements,
) -> FileDataset:
    header = FileDataset("", elements, preamble, file_meta)
    header.filename = str(path)
    return header


def _looks_like_a_dataset(data: bytes) -> bool:
    """Whether a file without preamble begins like a data set (group 0002 or 0008, small length)."""
    if len(data) < 16:
        return False
    for little in (True, False):
        group, _, vr, length = TAG_VR_LENGTH[little](data, 0)
        if group in (0x0002, 0x0008):
            if vr in KNOWN_VRS:
                return int(length) <= 256 or vr in LONG_VRS
            return little and LENGTH[True](data, 4)[0] <= 256
    return False


def _encoding(stream: ElementStream, position: int, syntax: str) -> Encoding:
    """Return the declared encoding, except where the first element's VR says otherwise."""
    stream.need("the first data element", position, 8)
    little = syntax != EXPLICIT_VR_BIG_ENDIAN
    first = stream.data[position : position + 8]
    has_vr = first[4:6] in KNOWN_VRS
    if not syntax and has_vr and int.from_bytes(first[:2], "little") >= 0x0400:
        little = False  # group 0008 read with swapped bytes
    return Encoding(implicit=not has_vr, little=little)


def _undeclared_syntax(encoding: Encoding) -> str:
    if encoding.implicit:
        return IMPLICIT_VR_LITTLE_ENDIAN
    return EXPLICIT_VR_LITTLE_ENDIAN if encoding.little else EXPLICIT_VR_BIG_ENDIAN


def _charset(elements: Elements) -> str | list[str]:
    """Character encodings that the header declares, as Python knows them."""
    raw = elements.get(BaseTag(_CHARACTER_SET))
    value = (raw.value or b"").decode("ascii", "replace") if raw is not None else ""
    terms = [term.strip(" \0") for term in value.split("\\")]
    return list(convert_encodings(terms if len(terms) > 1 else terms[0]))


def _walk(
    stream: ElementStream, position: int, encoding: Encoding, *, stop_group: int = 0x10000
) -> tuple[Elements, int, PixelElement | None]:
    """Collect the elements from ``position`` to the pixels, ``stop_group`` or the end.

    Returns the elements, where they end, and the pixel element that ended them.
    """
    elements: Elements = {}
    implicit, little = encoding.implicit, encoding.little
    data, size = stream.data, stream.size
    n_read = len(data)
    while position < size:
        if position + 12 > n_read:
            stream.need("a data element", position, 8)
        tag, vr, length, begin = element_head(stream, position, implicit, little)
        if tag >> 16 >= stop_group:
            break
        if tag in _PIXEL_TAGS:
            return elements, position, _pixel_element(stream, tag, vr, begin, length)
        if length == UNDEFINED_LENGTH:
            items = Encoding(vr is None, little)
            value_end, position = end_of_items(stream, begin, items, 1)
            is_implicit, vr = items.implicit, "SQ" if vr in (None, "UN") else vr
        else:
            value_end = position = begin + length
            if position > n_read:
                stream.need(f"({tag >> 16:04X},{tag & 0xFFFF:04X})", begin, length)
            is_implicit = vr is None
            if length > 16 and (vr == "SQ" or is_item(data, begin, little)):
                check_depth(stream, begin, value_end, Encoding(is_implicit, little), 1)
        base_tag = BaseTag(tag)
        value = data[begin:value_end] or empty_value_for_VR(vr, raw=True)
        elements[base_tag] = RawDataElement._make(
            (base_tag, vr, value_end - begin, value, begin, is_implicit, little, True, False)
        )
    return elements, position, None


def _pixel_element(
    stream: ElementStream, tag: int, vr: str | None, begin: int, length: int
) -> PixelElement:
    keyword, vr = _PIXEL_TAGS[tag], vr or "OW"  # implicit pixels are words; PS3.5 A.1
    if length == UNDEFINED_LENGTH:
        return PixelElement(keyword=keyword, vr=vr, offset=begin, length=None)
    if begin + length > stream.size:
        raise TruncatedFileError(
            path=stream.path, tag=keyword, needed=length, present=stream.size - begin
        )
    return PixelElement(keyword=keyword, vr=vr, offset=begin, length=length)
