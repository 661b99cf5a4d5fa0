"""Frames of one instance, one at a time, as they are stored or as plain little-endian values."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from struct import unpack_from

import numpy as np
from rle.utils import decode_pixel_data as decode_rle

from dicom_io.codec_pool import CodecPool, DecodeFailedError
from dicom_io.codestream import UnreadableCodestreamError, codestream_size
from dicom_io.decode import CODECS, RLE_LOSSLESS
from dicom_io.errors import (
    CodestreamError,
    PixelLengthError,
    UnsupportedPixelsError,
    UnsupportedTransferSyntaxError,
)
from dicom_io.instance_file import InstanceFile

_BITS_OF_TAG = {0x7FE00008: 32, 0x7FE00009: 64}
_ITEM_HEAD = 8


@dataclass(frozen=True, kw_only=True)
class FrameLayout:
    """How the pixels of an instance are laid out.

    ``bits``: of one sample; 1 for a binary segmentation. ``kind``: "u", "i" or "f".
    """

    rows: int
    columns: int
    samples: int
    bits: int
    n_frames: int
    kind: str
    photometric: str
    is_planar: bool

    @property
    def frame_bits(self) -> int:
        """Bits of one frame when it is not compressed."""
        samples = 2 if self.photometric.startswith("YBR_FULL_422") else self.samples
        return self.rows * self.columns * samples * self.bits

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame by itself: it begins at a byte."""
        return -(-self.frame_bits // 8)


class Frames:
    """The frames of an open instance.

    Raises
    ------
    UnsupportedPixelsError
        It has no pixels, or their header says nothing usable.
    PixelLengthError
        They are shorter than the header says.
    """

    def __init__(self, file: InstanceFile, *, instance_uid: str) -> None:
        self._file, self._instance_uid = file, instance_uid
        self.layout = _layout(file, instance_uid)
        pixels = file.pixels
        assert pixels is not None, "the layout was read"
        self._pixels = pixels
        self._fragments: list[tuple[int, int]] | None = None
        if pixels.is_encapsulated:
            return
        expected = -(-self.layout.frame_bits * self.layout.n_frames // 8)
        if pixels.end - pixels.begin < expected:
            raise PixelLengthError(
                instance_uid=instance_uid,
                expected_bytes=expected,
                found_bytes=pixels.end - pixels.begin,
            )

    def __len__(self) -> int:
        return self.layout.n_frames

    @property
    def is_compressed(self) -> bool:
        """Whether each frame is a stream of its own."""
        return self._pixels.is_encapsulated

    @property
    def can_be_decoded(self) -> bool:
        """Whether `plain` can give every frame: a plain one, or one of a known codec."""
        return not self.is_compressed or is_decodable(
            self._file.transfer_syntax_uid, self.layout.samples
        )

    def stored(self, number: int) -> bytes:
        """Return frame ``number`` (from 1): its stream as it is, or plain values."""
        if not self.is_compressed:
            return self._native(number)
        begin, end = self._streams()[number - 1]
        pieces = []
        while begin < end:
            head = self._file.read(begin, begin + _ITEM_HEAD)
            length = unpack_from("<I", head, 4)[0]
            pieces.append(self._file.read(begin + _ITEM_HEAD, begin + _ITEM_HEAD + length))
            begin += _ITEM_HEAD + length
        return b"".join(pieces)

    def plain(self, number: int, pool: CodecPool) -> bytes:
        """Return frame ``number`` (from 1) as little-endian values, whatever it is stored as.

        Raises
        ------
        CodestreamError, UnsupportedTransferSyntaxError
        """
        if not self.is_compressed:
            return self._native(number)
        syntax = self._file.transfer_syntax_uid
        if not self.can_be_decoded:
            raise UnsupportedTransferSyntaxError(
                instance_uid=self._instance_uid, transfer_syntax_uid=syntax
            )
        raw = self.stored(number)
        try:
            return self._rle(raw) if syntax == RLE_LOSSLESS else self._codec(raw, pool)
        except (UnreadableCodestreamError, DecodeFailedError, ValueError) as error:
            raise CodestreamError(
                instance_uid=self._instance_uid, frame_number=number, problem=str(error)
            ) from error

    def all_plain(self, pool: CodecPool) -> Iterator[bytes]:
        """Yield the value of Pixel Data when nothing is compressed, padded to an even length."""
        if not self.is_compressed and self._file.encoding.little:
            yield from self._file.pieces(self._pixels.begin, self._pixels.end)
            return
        n_bytes = 0
        for number in range(1, len(self) + 1):
            frame = self.plain(number, pool)
            n_bytes += len(frame)
            yield frame
        if n_bytes % 2:
            yield b"\0"

    @property
    def plain_bytes(self) -> int:
        """Length of what `all_plain` yields."""
        if not self.is_compressed and self._file.encoding.little:
            return self._pixels.end - self._pixels.begin
        n_bytes = self.layout.frame_bytes * len(self)
        return n_bytes + n_bytes % 2

    def _native(self, number: int) -> bytes:
        bits, layout = self.layout.frame_bits, self.layout
        first, last = (number - 1) * bits, number * bits
        begin = self._pixels.begin + first // 8
        end = self._pixels.begin + -(-last // 8)
        if layout.bits == 1:
            return _aligned(self._file.read(begin, end), first % 8, bits)
        if self._file.encoding.little:
            return self._file.read(begin, end)
        return self._swapped(begin, end)

    def _swapped(self, begin: int, end: int) -> bytes:
        """Big endian to little; 8-bit pixels written as words are swapped pairs (PS3.5 8.1.1)."""
        width = self.layout.bits // 8
        if width == 1 and self._pixels.vr != "OW":
            return self._file.read(begin, end)
        size = max(width, 2)
        offset = (begin - self._pixels.begin) % size
        first = begin - offset
        last = min(first + -(-(end - first) // size) * size, self._pixels.end)
        words = np.frombuffer(self._file.read(first, last), f">u{size}")
        return words.astype(f"<u{size}").tobytes()[offset : offset + end - begin]

    def _rle(self, raw: bytes) -> bytes:
        layout = self.layout
        if unpack_from("<I", raw)[0] != layout.samples * layout.bits // 8:
            raise ValueError("the number of segments is not that of a pixel's bytes")
        decoded = bytes(
            decode_rle(
                raw,
                version=2,
                rows=layout.rows,
                columns=layout.columns,
                bits_allocated=layout.bits,
            )
        )
        if len(decoded) != layout.frame_bytes:
            raise ValueError(f"{len(decoded)} bytes where {layout.frame_bytes} belong")
        if layout.samples == 1 or layout.is_planar:
            return decoded
        planes = np.frombuffer(decoded, f"<u{layout.bits // 8}").reshape(layout.samples, -1)
        return np.ascontiguousarray(planes.T).tobytes()

    def _codec(self, raw: bytes, pool: CodecPool) -> bytes:
        layout, size = self.layout, codestream_size(raw)
        found = (size.rows, size.columns, size.components, 8 * size.bytes_per_sample)
        said = (layout.rows, layout.columns, layout.samples, layout.bits)
        if found != said or size.precision > 16:
            raise UnreadableCodestreamError(
                f"rows, columns, samples and bits are {found} in the stream, {said} in the header"
            )
        codec = CODECS[self._file.transfer_syntax_uid]
        decoded = pool.decode(codec, raw, layout.frame_bytes)
        shift = layout.bits - size.precision
        if not shift or size.is_signed == (layout.kind == "i"):
            return decoded
        # Only DICOM's header knows the sign of most streams: read the precision's top bit by it.
        values = np.frombuffer(decoded, f"<{layout.kind}{layout.bits // 8}")
        return ((values << shift) >> shift).tobytes()

    def _streams(self) -> list[tuple[int, int]]:
        """Where each frame's first fragment begins and its last one ends."""
        if self._fragments is None:
            self._fragments = _streams_of(self._file, len(self), self._instance_uid)
        return self._fragments


def is_decodable(transfer_syntax_uid: str, samples: int) -> bool:
    """Whether compressed pixels of this kind can be made plain here.

    JPEG's kinds only in grey: in colour they change the photometric interpretation too.
    """
    if transfer_syntax_uid == RLE_LOSSLESS:
        return samples in (1, 3)
    return samples == 1 and transfer_syntax_uid in CODECS


def _layout(file: InstanceFile, instance_uid: str) -> FrameLayout:
    pixels = file.pixels
    if pixels is None:
        raise UnsupportedPixelsError(instance_uid=instance_uid, keyword="PixelData", value="none")
    bits = _BITS_OF_TAG.get(pixels.tag) or file.number(0x00280100, 0)
    rows, columns = file.number(0x00280010, 0), file.number(0x00280011, 0)
    n_frames = file.number(0x00280008, 1)
    for keyword, value, allowed in (
        ("BitsAllocated", bits, bits in (1, 8, 16, 32, 64)),
        ("Rows", rows, rows > 0),
        ("Columns", columns, columns > 0),
        ("NumberOfFrames", n_frames, n_frames > 0),
    ):
        if not allowed:
            raise UnsupportedPixelsError(
                instance_uid=instance_uid, keyword=keyword, value=str(value)
            )
    is_float = pixels.tag in _BITS_OF_TAG
    return FrameLayout(
        rows=rows,
        columns=columns,
        samples=file.number(0x00280002, 1),
        bits=bits,
        n_frames=n_frames,
        kind="f" if is_float else "i" if file.is_signed else "u",
        photometric=file.text(0x00280004),
        is_planar=file.number(0x00280006, 0) == 1,
    )


def _aligned(data: bytes, shift: int, n_bits: int) -> bytes:
    """Move bits that begin at bit ``shift``, least significant first, to a byte's first bit."""
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    return np.packbits(bits[shift : shift + n_bits], bitorder="little").tobytes()


def _streams_of(file: InstanceFile, n_frames: int, instance_uid: str) -> list[tuple[int, int]]:
    pixels = file.pixels
    assert pixels is not None
    places: list[tuple[int, int]] = []
    position = pixels.begin
    while position < pixels.end:
        length = unpack_from("<I", file.read(position, position + _ITEM_HEAD), 4)[0]
        places.append((position, position + _ITEM_HEAD + length))
        position += _ITEM_HEAD + length
    table, fragments = (places[0], places[1:]) if places else ((0, 0), [])
    if fragments and n_frames == 1:
        return [(fragments[0][0], fragments[-1][1])]
    if len(fragments) == n_frames:
        return fragments
    starts = _extended_offsets(file) or _offsets(file.read(table[0] + _ITEM_HEAD, table[1]))
    begins = [begin for begin, _ in fragments]
    origin = begins[0] if begins else 0
    edges = [bisect_right(begins, origin + start) - 1 for start in starts]
    is_right = len(starts) == n_frames and all(
        begins[edge] == origin + start for edge, start in zip(edges, starts, strict=True)
    )
    if not is_right or sorted(set(edges)) != edges:
        raise CodestreamError(
            instance_uid=instance_uid,
            frame_number=1,
            problem=f"{len(fragments)} fragments for {n_frames} frames and no offset table that"
            " fits them",
        )
    return [(begins[one], fragments[two - 1][1]) for one, two in pairwise([*edges, len(fragments)])]


def _offsets(table: bytes) -> list[int]:
    return list(unpack_from(f"<{len(table) // 4}I", table))


def _extended_offsets(file: InstanceFile) -> list[int]:
    table = file.raw(0x7FE00001)
    return list(unpack_from(f"<{len(table) // 8}Q", table))
