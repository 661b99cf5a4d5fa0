"""Stored pixels of one instance: read, decompress, check; no rescale.

Decoders are chosen here by transfer syntax and never left to what happens to be installed:
RLE by pylibjpeg-rle (Rust, in this process), JPEG 2000 by pylibjpeg-openjpeg, JPEG by
pylibjpeg-libjpeg, JPEG-LS by pyjpegls (these three in processes of their own).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rle.utils import decode_pixel_data as decode_rle

from dicom_io.codec_pool import CodecPool, DecodeFailedError
from dicom_io.codestream import UnreadableCodestreamError, codestream_size
from dicom_io.elements import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    dataset_start,
    inflate,
)
from dicom_io.encapsulated import encapsulated_frames
from dicom_io.errors import (
    CodestreamError,
    FileChangedError,
    PixelLengthError,
    StoredBitsError,
    UnsupportedPixelsError,
    UnsupportedTransferSyntaxError,
)
from dicom_io.frames import PixelFormat, pixel_format
from dicom_io.series import InstanceHeader

StoredArray = NDArray[np.integer[Any]]

NATIVE_SYNTAXES = {
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
}
RLE_LOSSLESS = "1.2.840.10008.1.2.5"
CODECS = {
    "1.2.840.10008.1.2.4.50": b"jpeg",  # JPEG baseline
    "1.2.840.10008.1.2.4.51": b"jpeg",  # JPEG extended, 12 bits
    "1.2.840.10008.1.2.4.57": b"jpeg",  # JPEG lossless
    "1.2.840.10008.1.2.4.70": b"jpeg",  # JPEG lossless, selection value 1
    "1.2.840.10008.1.2.4.80": b"jls_",  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.81": b"jls_",  # JPEG-LS near-lossless
    "1.2.840.10008.1.2.4.90": b"j2k_",  # JPEG 2000 lossless
    "1.2.840.10008.1.2.4.91": b"j2k_",  # JPEG 2000
}
MAX_DECODED_BYTES = 1024**3
"""Most bytes that the compressed pixels of one instance may grow to."""


def frames_lie_plain(instance: InstanceHeader, pixels: PixelFormat) -> bool:
    """Whether frames can be read from the file one by one, just as they are."""
    plain = NATIVE_SYNTAXES - {DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN}
    return instance.transfer_syntax_uid in plain and not _has_swapped_bytes(instance, pixels)


def read_pixels(instance: InstanceHeader) -> StoredArray:
    """All stored pixels of one instance, whatever it shows.

    Returns
    -------
    (frame, row, column), or (frame, row, column, sample) where there are several samples
        As stored: no rescale, no palette, no colour conversion.

    Raises
    ------
    PixelError, AttributeValueError, FileError
    """
    pixels = pixel_format(instance)
    data = instance.path.read_bytes()
    with CodecPool(1) as pool:
        frames = [
            stored_frame(instance, pixels, raw, number, pool)
            for number, raw in enumerate(raw_frames(instance, pixels, data), start=1)
        ]
    return np.stack(frames)


def check_pixel_element(instance: InstanceHeader, pixels: PixelFormat) -> None:
    """Refuse, by the header alone, pixels that cannot be decoded.

    Raises
    ------
    UnsupportedPixelsError, UnsupportedTransferSyntaxError, PixelLengthError
    """
    uid, syntax = instance.instance_uid, instance.transfer_syntax_uid
    element = instance.pixels
    expected = pixels.frame_bytes * pixels.n_frames
    if element is None:
        raise PixelLengthError(instance_uid=uid, expected_bytes=expected, found_bytes=0)
    if element.keyword != "PixelData":
        raise UnsupportedPixelsError(instance_uid=uid, keyword=element.keyword, value="")
    if syntax not in NATIVE_SYNTAXES and syntax not in CODECS and syntax != RLE_LOSSLESS:
        raise UnsupportedTransferSyntaxError(instance_uid=uid, transfer_syntax_uid=syntax)
    if (element.length is None) == (syntax in NATIVE_SYNTAXES):
        raise UnsupportedTransferSyntaxError(instance_uid=uid, transfer_syntax_uid=syntax)
    if element.length is None:
        if pixels.samples != 1:
            raise UnsupportedPixelsError(
                instance_uid=uid, keyword="SamplesPerPixel", value=str(pixels.samples)
            )
        if expected > MAX_DECODED_BYTES:
            raise PixelLengthError(
                instance_uid=uid, expected_bytes=expected, found_bytes=MAX_DECODED_BYTES
            )
    elif not expected <= element.length <= expected + expected % 2:  # padded to an even length
        raise PixelLengthError(
            instance_uid=uid, expected_bytes=expected, found_bytes=element.length
        )


def raw_frames(
    instance: InstanceHeader, pixels: PixelFormat, data: bytes
) -> Sequence[bytes | memoryview]:
    """Cut the bytes of a whole file into the bytes of its frames, still compressed if they were."""
    check_pixel_element(instance, pixels)
    assert instance.pixels is not None
    if len(data) != instance.size_bytes:
        raise FileChangedError(path=instance.path, problem="changed after it was scanned")
    if instance.pixels.length is None:
        return encapsulated_frames(instance, data, pixels.n_frames)
    if instance.transfer_syntax_uid == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        data = inflate(instance.path, data[dataset_start(data) :])
    begin, size = instance.pixels.offset, pixels.frame_bytes
    view = memoryview(data)
    if _has_swapped_bytes(instance, pixels):
        words = np.frombuffer(view[begin : begin + instance.pixels.length], "<u2")
        view, begin = memoryview(words.byteswap().tobytes()), 0
    return [view[begin + size * k : begin + size * (k + 1)] for k in range(pixels.n_frames)]


def stored_frame(
    instance: InstanceHeader,
    pixels: PixelFormat,
    raw: bytes | memoryview,
    frame_number: int,
    pool: CodecPool,
) -> StoredArray:
    """Decode one frame to its stored values, (row, column[, sample]).

    A view of ``raw`` where that is possible, so do not write into it.
    """
    syntax = instance.transfer_syntax_uid
    if syntax in CODECS:
        return _decompressed(instance, pixels, bytes(raw), frame_number, pool)
    order = ">" if syntax == EXPLICIT_VR_BIG_ENDIAN else "<"
    kind = "i" if pixels.is_signed else "u"
    if syntax == RLE_LOSSLESS:
        raw = _decompressed_rle(instance, pixels, bytes(raw), frame_number)
    stored = np.frombuffer(raw, f"{order}{kind}{pixels.bits_allocated // 8}")
    return _shaped(stored, pixels)


def within_bits_stored(
    stored: StoredArray, instance: InstanceHeader, pixels: PixelFormat
) -> tuple[StoredArray, int, int]:
    """Values without their unused high bits, and the lowest and highest of them.

    Unused bits hold the sign, zeros, or an old overlay (then 60xx,0102 says which bit); anything
    else means that the header or the pixels are wrong.

    Raises
    ------
    StoredBitsError
    """
    low, high = int(stored.min()), int(stored.max())
    bits = pixels.bits_stored
    bottom, top = (
        (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if pixels.is_signed else (0, 2**bits - 1)
    )
    if bottom <= low and high <= top:
        return stored, low, high
    is_unextended = pixels.is_signed and low >= 0 and high < 2**bits
    if not is_unextended and not _has_overlay_in_pixels(instance):
        raise StoredBitsError(
            instance_uid=instance.instance_uid, bits_stored=bits, minimum=low, maximum=high
        )
    shift = pixels.bits_allocated - bits
    native = stored.astype(stored.dtype.newbyteorder("="))
    corrected = (native << shift) >> shift
    return corrected, int(corrected.min()), int(corrected.max())


def _has_swapped_bytes(instance: InstanceHeader, pixels: PixelFormat) -> bool:
    """Whether 8-bit pixels are stored as words, whose bytes big endian swaps (PS3.5 8.1.1)."""
    assert instance.pixels is not None
    is_big_endian = instance.transfer_syntax_uid == EXPLICIT_VR_BIG_ENDIAN
    return is_big_endian and pixels.bits_allocated == 8 and instance.pixels.vr == "OW"


def _shaped(stored: StoredArray, pixels: PixelFormat) -> StoredArray:
    if pixels.samples == 1:
        return stored.reshape(pixels.rows, pixels.columns)
    if pixels.planar:
        planes = stored.reshape(pixels.samples, pixels.rows, pixels.columns)
        return np.moveaxis(planes, 0, -1)
    return stored.reshape(pixels.rows, pixels.columns, pixels.samples)


def _has_overlay_in_pixels(instance: InstanceHeader) -> bool:
    """Whether an overlay lives in unused bits (retired; PS3.5-2004 8.1.2): position not 0."""
    header = instance.header
    for group in range(0x6000, 0x6020, 2):
        if (group, 0x0102) in header and (group, 0x3000) not in header:
            return True
    return False


def _decompressed_rle(
    instance: InstanceHeader, pixels: PixelFormat, raw: bytes, frame_number: int
) -> bytes:
    try:
        n_segments = int.from_bytes(raw[:4], "little")
        if n_segments != pixels.bits_allocated // 8:
            raise ValueError(f"{n_segments} segments where each byte of a pixel has one")
        decoded = decode_rle(
            raw,
            version=2,
            rows=pixels.rows,
            columns=pixels.columns,
            bits_allocated=pixels.bits_allocated,
        )
    except ValueError as error:
        raise CodestreamError(
            instance_uid=instance.instance_uid, frame_number=frame_number, problem=str(error)
        ) from error
    if len(decoded) != pixels.frame_bytes:
        raise CodestreamError(
            instance_uid=instance.instance_uid,
            frame_number=frame_number,
            problem=f"{len(decoded)} bytes decoded where {pixels.frame_bytes} belong",
        )
    return bytes(decoded)


def _decompressed(
    instance: InstanceHeader,
    pixels: PixelFormat,
    raw: bytes,
    frame_number: int,
    pool: CodecPool,
) -> StoredArray:
    """Decode one JPEG, JPEG-LS or JPEG 2000 frame, after comparing its header with DICOM's."""
    uid = instance.instance_uid
    try:
        size = codestream_size(raw)
        found = (size.rows, size.columns, size.components, 8 * size.bytes_per_sample)
        said = (pixels.rows, pixels.columns, pixels.samples, pixels.bits_allocated)
        if found != said or size.precision > 16:
            raise UnreadableCodestreamError(
                f"rows, columns, samples and bits are {found} in the stream, {said} in the header"
            )
        codec = CODECS[instance.transfer_syntax_uid]
        decoded = pool.decode(codec, raw, pixels.frame_bytes)
    except (UnreadableCodestreamError, DecodeFailedError) as error:
        raise CodestreamError(
            instance_uid=uid, frame_number=frame_number, problem=str(error)
        ) from error
    kind = "i" if pixels.is_signed else "u"
    stored = np.frombuffer(decoded, f"<{kind}{pixels.bits_allocated // 8}")
    shift = pixels.bits_allocated - size.precision
    if shift and size.is_signed != pixels.is_signed:
        # Only DICOM's header knows the sign of most streams: read the precision's top bit by it.
        stored = (stored << shift) >> shift
    return _shaped(stored, pixels)
