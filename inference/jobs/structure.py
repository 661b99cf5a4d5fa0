"""Walk a DICOM file's elements without decoding them: what it says it is, and whether it is whole.

pydicom reads a file cut by some bytes, a Pixel Data length of 2 GiB with 100 bytes behind it, and
recurses once for each level of nesting; none of that may reach the store. This walk is iterative,
never copies a long value, and refuses what does not add up.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.datadict import dictionary_VR
from pydicom.uid import (
    UID,
    AllTransferSyntaxes,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    MPEGTransferSyntaxes,
)

from inference.domain.dicom_index import INDEXED_TAGS
from inference.jobs.errors import (
    DamagedFileError,
    NotDicomError,
    TooLargeError,
    UnsupportedObjectError,
)

PREAMBLE_BYTES = 128
LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
SHORT_VRS = frozenset(
    {
        b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT",
        b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US",
    }
)  # fmt: skip
UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PIXEL_TAGS = {0x7FE00008: 32, 0x7FE00009: 64, 0x7FE00010: None}
"""Float, double float and integer pixels; bits of one value where the tag fixes them."""

CHARACTER_SET = 0x00080005
WANTED = frozenset(
    {
        CHARACTER_SET,
        0x00080016,  # SOP Class UID
        0x00080018,  # SOP Instance UID
        0x00080020,  # Study Date
        0x00080030,  # Study Time
        0x00080050,  # Accession Number
        0x00080060,  # Modality
        0x00081030,  # Study Description
        0x0008103E,  # Series Description
        0x00100010,  # Patient's Name
        0x00100020,  # Patient ID
        0x00100021,  # Issuer of Patient ID
        0x00100030,  # Patient's Birth Date
        0x00100040,  # Patient's Sex
        0x00180015,  # Body Part Examined
        0x0020000D,  # Study Instance UID
        0x0020000E,  # Series Instance UID
        0x00201208,  # Number of Study Related Instances
        0x00280002,  # Samples per Pixel
        0x00280004,  # Photometric Interpretation
        0x00280008,  # Number of Frames
        0x00280010,  # Rows
        0x00280011,  # Columns
        0x00280100,  # Bits Allocated
        *INDEXED_TAGS,
    }
)
ISSUER_QUALIFIERS = 0x00100024
WANTED_OF_ISSUER = frozenset({0x00400032, 0x00400033})
"""Universal Entity ID and its type, inside Issuer of Patient ID Qualifiers: no other value of a
sequence is wanted."""
MAX_VALUE_BYTES = 1024
REQUEST_ATTRIBUTES = 0x00400275
MAX_SEQUENCE_BYTES = 64 * 1024
"""The one sequence that is kept, as its items' bytes; a longer one is left out."""


@dataclass(frozen=True, kw_only=True)
class StructureLimits:
    """What one instance may ask of us."""

    max_depth: int = 64
    max_elements: int = 5_000_000
    max_decoded_bytes: int = 1024**3


@dataclass(frozen=True, kw_only=True)
class FileMeta:
    """File meta information; ``dataset_offset`` is where the dataset's bytes begin."""

    transfer_syntax_uid: str
    sop_class_uid: str
    instance_uid: str
    dataset_offset: int


@dataclass(kw_only=True)
class Structure:
    """What the walk found: raw bytes of the wanted top-level values, and the pixel elements."""

    is_little_endian: bool
    values: dict[int, bytes] = field(default_factory=dict)
    pixel_tag: int | None = None
    pixel_bytes: int = 0
    n_fragments: int | None = None

    def number(self, tag: int, default: int) -> int:
        """US value, or an IS value, of a wanted tag."""
        raw = self.values.get(tag, b"")
        if tag in (0x00280008, 0x00201208):
            text = raw.strip(b" \0")
            if text and not text.isdigit():
                raise DamagedFileError(field=f"{tag:08X}", problem=f"{text[:16]!r} is no count")
            return int(text) if text else default
        if len(raw) < 2:
            return default
        return int(struct.unpack_from("<H" if self.is_little_endian else ">H", raw)[0])


def read_file_meta(path: Path) -> FileMeta:
    """Read the preamble's magic and group 0002, always Explicit VR Little Endian.

    Raises
    ------
    NotDicomError, DamagedFileError, UnsupportedObjectError
    """
    if path.stat().st_size < PREAMBLE_BYTES + 8:
        raise NotDicomError(field="file", problem="too short for a DICOM file")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[PREAMBLE_BYTES : PREAMBLE_BYTES + 4] != b"DICM":
            raise NotDicomError(field="file", problem="no DICM after a preamble of 128 bytes")
        walk = _Walk(data, PREAMBLE_BYTES + 4, implicit=False, endian="<")
        try:
            values = walk.file_meta()
        except struct.error as error:
            raise DamagedFileError(field="file meta information", problem="is cut off") from error
        offset = walk.position
    syntax = _uid(values.get(0x00020010, b""))
    if not syntax:
        raise NotDicomError(field="TransferSyntaxUID (0002,0010)", problem="is missing")
    if syntax not in AllTransferSyntaxes:
        raise UnsupportedObjectError(
            field="TransferSyntaxUID (0002,0010)", problem=f"{syntax[:64]!r} is not known"
        )
    return FileMeta(
        transfer_syntax_uid=syntax,
        sop_class_uid=_uid(values.get(0x00020002, b"")),
        instance_uid=_uid(values.get(0x00020003, b"")),
        dataset_offset=offset,
    )


def walk_dataset(
    path: Path, offset: int, transfer_syntax_uid: str, limits: StructureLimits
) -> Structure:
    """Walk every element from ``offset`` to the end of the file.

    A deflated dataset must be inflated first and is then walked as Explicit VR Little Endian.

    Raises
    ------
    DamagedFileError, TooLargeError
    """
    if path.stat().st_size <= offset:
        raise DamagedFileError(field="dataset", problem="is empty")
    is_big = transfer_syntax_uid == ExplicitVRBigEndian
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        walk = _Walk(
            data,
            offset,
            implicit=transfer_syntax_uid == ImplicitVRLittleEndian,
            endian=">" if is_big else "<",
        )
        try:
            found = walk.run(limits)
        except struct.error as error:
            raise DamagedFileError(
                field="dataset", problem=f"ends inside an element at byte {walk.position}"
            ) from error
    _check_pixels(found, limits, UID(transfer_syntax_uid))
    return found


@dataclass(slots=True)
class _Frame:
    """An open sequence or item; ``end`` is None where a delimiter ends it."""

    is_sequence: bool
    end: int | None
    implicit: bool


class _Walk:
    def __init__(self, data: mmap.mmap, position: int, *, implicit: bool, endian: str) -> None:
        self.data, self.position, self.implicit = data, position, implicit
        self._top_sequence = 0
        self.tag_format = struct.Struct(endian + "HH")
        self.u16, self.u32 = struct.Struct(endian + "H"), struct.Struct(endian + "L")
        self.requests: tuple[int, int] | None = None

    def element_header(self) -> tuple[int, bytes, int]:
        """Read tag, VR (b"" where implicit) and length; leave the position at the value."""
        group, element = self.tag_format.unpack_from(self.data, self.position)
        tag = (group << 16) | element
        if self.implicit or group == 0xFFFE:
            length = self.u32.unpack_from(self.data, self.position + 4)[0]
            self.position += 8
            return tag, b"", length
        vr = self.data[self.position + 4 : self.position + 6]
        if vr in LONG_VRS:
            length = self.u32.unpack_from(self.data, self.position + 8)[0]
            self.position += 12
        elif vr in SHORT_VRS:
            length = self.u16.unpack_from(self.data, self.position + 6)[0]
            self.position += 8
        else:
            raise DamagedFileError(
                field=f"{tag:08X}", problem=f"has no value representation {vr!r}"
            )
        return tag, vr, length

    def file_meta(self) -> dict[int, bytes]:
        """Read group 0002 and stop behind it."""
        values: dict[int, bytes] = {}
        while self.data[self.position : self.position + 2] == b"\x02\0":
            tag, _, length = self.element_header()
            end = self._end_of(tag, length)
            if length <= MAX_VALUE_BYTES:
                values[tag] = self.data[self.position : end]
            self.position = end
        return values

    def run(self, limits: StructureLimits) -> Structure:
        found = Structure(is_little_endian=self.u16.format[0] == "<")
        stack: list[_Frame] = []
        size = len(self.data)
        for _ in range(limits.max_elements):
            self._close_finished(stack)
            if not stack and self.position == size:
                self._note_requests(found)
                return found
            if self.position >= size:
                raise DamagedFileError(
                    field="dataset", problem="ends inside a sequence" if stack else "is cut off"
                )
            if len(stack) > 2 * limits.max_depth:
                raise TooLargeError(
                    field="dataset", problem=f"nesting depth over {limits.max_depth}"
                )
            self._step(stack, found)
        raise TooLargeError(field="dataset", problem=f"more than {limits.max_elements} elements")

    def _close_finished(self, stack: list[_Frame]) -> None:
        while stack and stack[-1].end is not None and self.position >= stack[-1].end:
            if self.position > stack[-1].end:
                raise DamagedFileError(
                    field="dataset", problem=f"a value runs past its item at byte {self.position}"
                )
            self._pop(stack)

    def _pop(self, stack: list[_Frame]) -> None:
        # A frame remembers the encoding around it: UN of undefined length is always implicit.
        self.implicit = stack.pop().implicit
        if not stack and self.requests is not None and self.requests[1] == 0:
            self.requests = (self.requests[0], self.position)

    def _step(self, stack: list[_Frame], found: Structure) -> None:
        start = self.position
        tag, vr, length = self.element_header()
        inside = stack[-1] if stack else None
        if inside is not None and inside.is_sequence:
            if tag == ITEM:
                end = None if length == UNDEFINED else self._end_of(tag, length)
                stack.append(_Frame(False, end, self.implicit))
            elif tag == SEQUENCE_END and inside.end is None:
                self._pop(stack)
            else:
                raise DamagedFileError(
                    field=f"{tag:08X}", problem=f"stands where an item must, at byte {start}"
                )
        elif tag == ITEM_END and inside is not None and inside.end is None:
            self._pop(stack)
        elif tag >> 16 == 0xFFFE:
            raise DamagedFileError(field=f"{tag:08X}", problem=f"out of place at byte {start}")
        elif length == UNDEFINED and vr in (b"OB", b"OW"):
            self._walk_fragments(tag, found, is_top=not stack)
        elif length == UNDEFINED or self._is_sequence(tag, vr):
            end = None if length == UNDEFINED else self._end_of(tag, length)
            if tag == REQUEST_ATTRIBUTES and not stack:
                self.requests = (self.position, 0)
            if not stack:
                self._top_sequence = tag
            stack.append(_Frame(True, end, self.implicit))
            self.implicit = self.implicit or vr == b"UN"
        else:
            end = self._end_of(tag, length)
            if not stack:
                self._note(tag, length, found)
            elif tag in WANTED_OF_ISSUER and self._top_sequence == ISSUER_QUALIFIERS:
                self._keep(tag, length, found)
            self.position = end

    def _end_of(self, tag: int, length: int) -> int:
        end = self.position + length
        if end > len(self.data):
            raise DamagedFileError(
                field=f"({tag >> 16:04X},{tag & 0xFFFF:04X})",
                problem=f"says {length} bytes, {len(self.data) - self.position} are there",
            )
        return end

    def _note(self, tag: int, length: int, found: Structure) -> None:
        if tag in WANTED:
            self._keep(tag, length, found)
        elif tag in PIXEL_TAGS:
            found.pixel_tag, found.pixel_bytes = tag, length

    def _note_requests(self, found: Structure) -> None:
        begin, end = self.requests or (0, 0)
        if end - begin <= MAX_SEQUENCE_BYTES:
            found.values[REQUEST_ATTRIBUTES] = self.data[begin:end]

    def _keep(self, tag: int, length: int, found: Structure) -> None:
        found.values[tag] = self.data[self.position : self.position + min(length, MAX_VALUE_BYTES)]

    def _is_sequence(self, tag: int, vr: bytes) -> bool:
        if vr:
            return vr == b"SQ"
        if tag >> 16 & 1 or tag & 0xFFFF == 0:
            return False
        try:
            return dictionary_VR(tag) == "SQ"
        except KeyError:
            return False

    def _walk_fragments(self, tag: int, found: Structure, *, is_top: bool) -> None:
        """Step over an offset table and fragments, up to the delimiter."""
        n_items, n_bytes, table = 0, 0, (0, 0)
        while True:
            item, _, length = self.element_header()
            if item == SEQUENCE_END:
                break
            if item != ITEM or length == UNDEFINED:
                raise DamagedFileError(field=f"{tag:08X}", problem="has a malformed fragment")
            end = self._end_of(tag, length)
            if n_items == 0:
                table = (self.position, length)
            else:
                n_bytes += length
            n_items += 1
            self.position = end
        if is_top and tag in PIXEL_TAGS:
            found.pixel_tag, found.pixel_bytes, found.n_fragments = tag, n_bytes, n_items - 1
            self._check_offsets(table, n_bytes + 8 * (n_items - 1))

    def _check_offsets(self, table: tuple[int, int], n_bytes: int) -> None:
        start, length = table
        for position in range(start, start + length - 3, 4):
            if self.u32.unpack_from(self.data, position)[0] >= max(n_bytes, 1):
                raise DamagedFileError(
                    field="PixelData (7FE0,0010)", problem="an offset points outside the pixels"
                )


def _check_pixels(found: Structure, limits: StructureLimits, transfer_syntax: UID) -> None:
    is_native = not transfer_syntax.is_encapsulated
    rows, columns = found.number(0x00280010, 0), found.number(0x00280011, 0)
    if found.pixel_tag is None:
        if rows and columns:
            raise DamagedFileError(
                field="PixelData (7FE0,0010)", problem="is missing from an instance with rows"
            )
        return
    samples, frames = found.number(0x00280002, 1), found.number(0x00280008, 1)
    bits = PIXEL_TAGS[found.pixel_tag] or found.number(0x00280100, 0)
    if found.values.get(0x00280004, b"").startswith(b"YBR_FULL_422") and is_native:
        samples = 2  # one Y each, one Cb and one Cr for two pixels
    expected = -(-rows * columns * samples * frames * bits // 8)
    if expected > limits.max_decoded_bytes:
        raise TooLargeError(field="PixelData (7FE0,0010)", problem=f"{expected} bytes when decoded")
    if found.n_fragments is not None:
        is_video = transfer_syntax in MPEGTransferSyntaxes  # all frames are one stream there
        if found.n_fragments < (1 if is_video else max(frames, 1)):
            raise DamagedFileError(
                field="PixelData (7FE0,0010)",
                problem=f"{found.n_fragments} fragments for {frames} frames",
            )
    elif is_native and not expected <= found.pixel_bytes <= expected + 1:
        raise DamagedFileError(
            field="PixelData (7FE0,0010)",
            problem=f"has {found.pixel_bytes} bytes; rows, columns and frames need {expected}",
        )


def is_deflated(transfer_syntax_uid: str) -> bool:
    """Whether the dataset's bytes are compressed as a whole."""
    return transfer_syntax_uid == DeflatedExplicitVRLittleEndian


def _uid(raw: bytes) -> str:
    return raw.rstrip(b"\0 ").decode("ascii", "backslashreplace")
