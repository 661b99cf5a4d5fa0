"""Per-frame functional groups of a segmentation, encoded straight to bytes.

A result has one item per slice and segment, nearly all alike. Building them as pydicom datasets
and walking them again to write them costs more than everything else in a SEG; encoded here they
cost microseconds. The bytes go into the dataset as pydicom's own not-yet-decoded element: reading
it decodes it as if it came from a file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydicom.dataelem import RawDataElement
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.tag import Tag
from pydicom.valuerep import format_number_as_ds

from dicom_io.source_grid import FrameReference

_LONG_FORM = {b"SQ"}
_PER_FRAME_GROUPS = 0x52009230


@dataclass(frozen=True, kw_only=True)
class SliceGroups:
    """What all frames of one slice say alike: where they come from, and where they lie."""

    derivation: bytes
    position: bytes


def slice_groups(position_mm: Sequence[float], reference: FrameReference | None) -> SliceGroups:
    """Encode the functional groups that the frames of one slice share.

    Parameters
    ----------
    position_mm : LPS centre of the frames' first pixel
    reference : the source frame with the same pixels, or None
    """
    return SliceGroups(
        derivation=_sequence(0x00089124, [] if reference is None else [_derivation(reference)]),
        position=_sequence(
            0x00209113, [_text(0x00200032, b"DS", "\\".join(map(decimal, position_mm)))]
        ),
    )


def frame_group(
    dimension_indices: Sequence[int], of_slice: SliceGroups, segment_number: int | None
) -> bytes:
    """Encode the functional groups of one frame.

    Parameters
    ----------
    dimension_indices : values for the object's Dimension Index Sequence, 1-based
    segment_number : None for a label map, whose frames hold all segments
    """
    indices = struct.pack(f"<{len(dimension_indices)}I", *dimension_indices)
    content = _sequence(0x00209111, [_element(0x00209157, b"UL", indices)])
    groups = of_slice.derivation + content + of_slice.position
    if segment_number is None:
        return groups
    identification = _element(0x0062000B, b"US", struct.pack("<H", segment_number))
    return groups + _sequence(0x0062000A, [identification])


def per_frame_groups(frames: Iterable[bytes]) -> RawDataElement:
    """Return the PerFrameFunctionalGroupsSequence that holds these items."""
    value = b"".join(_item(frame) for frame in frames)
    return RawDataElement(
        tag=Tag(_PER_FRAME_GROUPS),
        VR="SQ",
        length=len(value),
        value=value,
        value_tell=0,
        is_implicit_VR=False,
        is_little_endian=True,
    )


def decimal(value: float) -> str:
    """Write a number as a DICOM decimal string: the closest within 16 characters."""
    return format_number_as_ds(float(value))


def _derivation(reference: FrameReference) -> bytes:
    """Encode: segmented from that source frame, pixel for pixel."""
    image = _text(0x00081150, b"UI", reference.sop_class_uid)
    image += _text(0x00081155, b"UI", reference.instance_uid)
    if reference.frame_number is not None:
        image += _text(0x00081160, b"IS", str(reference.frame_number))
    image += _text(0x0028135A, b"CS", "YES")  # Spatial Locations Preserved
    purpose = _code(codes.DCM.SourceImageForImageProcessingOperation)
    image += _sequence(0x0040A170, [purpose])
    return _sequence(0x00082112, [image]) + _sequence(
        0x00089215, [_code(codes.cid7203.SegmentationImageDerivation)]
    )


def _code(code: Code) -> bytes:
    return (
        _text(0x00080100, b"SH", code.value)
        + _text(0x00080102, b"SH", code.scheme_designator)
        + _text(0x00080104, b"LO", code.meaning)
    )


def _text(tag: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii")
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    return _element(tag, vr, value)


def _sequence(tag: int, items: Sequence[bytes]) -> bytes:
    return _element(tag, b"SQ", b"".join(map(_item, items)))


def _item(content: bytes) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content


def _element(tag: int, vr: bytes, value: bytes) -> bytes:
    """Encode in Explicit VR Little Endian (PS3.5, section 7.1.2)."""
    if vr in _LONG_FORM:
        return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value
