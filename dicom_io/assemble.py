"""Decode ordered frames into one array of modality values, on all cores.

The array is made once and each slice is decoded into its place, so that memory stays near the
array's size. Reading, hashing, checking and rescaling of uncompressed slices release Python's lock
and run on threads; compressed frames are decoded by the processes of a `CodecPool`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from dicom_io.codec_pool import CodecPool
from dicom_io.decode import (
    StoredArray,
    check_pixel_element,
    frames_lie_plain,
    raw_frames,
    stored_frame,
    within_bits_stored,
)
from dicom_io.errors import FileChangedError, PixelPaddingError
from dicom_io.frames import Frame, PixelFormat, padding_range
from dicom_io.series import InstanceHeader, sha256_of_file
from dicom_io.volume import VoxelArray

CT_BACKGROUND_HU = -900
"""CT padding up to here looks like the air it stands for, and is left as every reader leaves it."""

_INT16 = np.iinfo(np.int16)


class _NeedsFloatError(Exception):
    """A value does not fit int16."""


@dataclass(frozen=True)
class _Slice:
    """A frame and what its instance says about its pixels."""

    frame: Frame
    pixels: PixelFormat
    padding: tuple[int, int] | None


def assemble(
    frames: Sequence[Frame], formats: Mapping[InstanceHeader, PixelFormat], *, workers: int
) -> tuple[VoxelArray, dict[InstanceHeader, str]]:
    """Decode ``frames``, in this order, to modality values.

    Returns
    -------
    array : (slice, row, column), int16 where every value is a whole number that fits, else float32
    sha256 : of each instance's file, taken from the bytes that were decoded

    Raises
    ------
    PixelError, FileError
    """
    slices = [
        _Slice(frame, formats[frame.instance], padding_range(frame.instance, pixels))
        for frame in frames
        for pixels in (formats[frame.instance],)
    ]
    for piece in slices:
        check_pixel_element(piece.frame.instance, piece.pixels)
    first = slices[0].pixels
    shape = (len(slices), first.rows, first.columns)
    is_whole = all(frame.slope.is_integer() and frame.intercept.is_integer() for frame in frames)
    with CodecPool(workers) as pool:
        if is_whole:
            try:
                array: Any = np.empty(shape, np.int16)
                return array, _fill(array, slices, pool, workers)
            except _NeedsFloatError:
                del array
        array = np.empty(shape, np.float32)
        return array, _fill(array, slices, pool, workers)


def stored_slice(frame: Frame, pixels: PixelFormat) -> StoredArray:
    """Return the stored values of one frame, (row, column)."""
    with CodecPool(1) as pool:
        fetch, _ = _open(frame.instance, pixels)
        return stored_frame(
            frame.instance, pixels, fetch(frame.frame_number), frame.frame_number, pool
        )


def available_workers() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _fill(
    array: VoxelArray, slices: Sequence[_Slice], pool: CodecPool, workers: int
) -> dict[InstanceHeader, str]:
    """Decode each slice into its place; return the hash of each instance."""
    instances = list(dict.fromkeys(piece.frame.instance for piece in slices))
    with ThreadPoolExecutor(workers) as threads:
        try:
            if len(instances) == len(slices):
                digests = list(
                    threads.map(
                        lambda k: _fill_from_file(array[k], slices[k], pool), range(len(slices))
                    )
                )
                return dict(zip(instances, digests, strict=True))
            fetch, digest = _open(instances[0], slices[0].pixels)
            for _ in threads.map(
                lambda k: _fill_slice(
                    array[k], slices[k], fetch(slices[k].frame.frame_number), pool
                ),
                range(len(slices)),
            ):
                pass
            return {instances[0]: digest}
        except BaseException:
            threads.shutdown(wait=True, cancel_futures=True)
            raise


def _fill_from_file(out: NDArray[Any], piece: _Slice, pool: CodecPool) -> str:
    """Read, hash and decode a single-frame file into ``out``."""
    instance = piece.frame.instance
    data = instance.path.read_bytes()
    raw = raw_frames(instance, piece.pixels, data)[piece.frame.frame_number - 1]
    _fill_slice(out, piece, raw, pool)
    return hashlib.sha256(data).hexdigest()


def _open(
    instance: InstanceHeader, pixels: PixelFormat
) -> tuple[Callable[[int], bytes | memoryview], str]:
    """Return a function from frame number to raw bytes, and the file's hash.

    Uncompressed frames are read when asked for, so that a large multi-frame file is never held
    beside the array made from it.
    """
    check_pixel_element(instance, pixels)
    if frames_lie_plain(instance, pixels):
        assert instance.pixels is not None
        if instance.path.stat().st_size != instance.size_bytes:
            raise FileChangedError(path=instance.path, problem="changed after it was scanned")
        begin, size = instance.pixels.offset, pixels.frame_bytes
        path = instance.path

        def fetch(frame_number: int) -> bytes:
            with path.open("rb", buffering=0) as file:
                file.seek(begin + size * (frame_number - 1))
                return cast(bytes, file.read(size))

        return fetch, sha256_of_file(path)
    data = instance.path.read_bytes()
    raw = raw_frames(instance, pixels, data)
    return lambda frame_number: raw[frame_number - 1], hashlib.sha256(data).hexdigest()


def _fill_slice(out: NDArray[Any], piece: _Slice, raw: bytes | memoryview, pool: CodecPool) -> None:
    """Decode one frame, check its values, and write its modality values into ``out``."""
    frame, pixels = piece.frame, piece.pixels
    instance = frame.instance
    stored = stored_frame(instance, pixels, raw, frame.frame_number, pool)
    stored, low, high = within_bits_stored(stored, instance, pixels)
    if piece.padding is not None:
        _check_padding(stored, low, high, piece)
    if out.dtype == np.float32:
        out[...] = stored * np.float64(frame.slope) + frame.intercept
        return
    slope, intercept = int(frame.slope), int(frame.intercept)
    ends = (low * slope + intercept, high * slope + intercept)
    if min(ends) < _INT16.min or max(ends) > _INT16.max:
        raise _NeedsFloatError
    # The result fits int16, so arithmetic modulo 2^16 gives it, whatever happens in between.
    np.copyto(out, stored, casting="unsafe")
    if slope != 1:
        out *= _wrapped(slope)
    if intercept != 0:
        out += _wrapped(intercept)


def _wrapped(value: int) -> np.int16:
    return np.int16((value + 0x8000) % 0x10000 - 0x8000)


def _check_padding(stored: StoredArray, low: int, high: int, piece: _Slice) -> None:
    """Refuse padding that is used and is brighter than background (PS3.3 C.7.5.1.1.2).

    Darker padding stays: below air in CT; the darkest value, or nothing, elsewhere.
    """
    assert piece.padding is not None
    frame, (bottom, top) = piece.frame, piece.padding
    if top < low or bottom > high:
        return
    ends = {end: frame.slope * end + frame.intercept for end in (bottom, top)}
    padding_value, brightest = max(ends.items(), key=lambda item: item[1])
    darkest_used = min(frame.slope * end + frame.intercept for end in (low, high))
    if frame.instance.modality == "CT":
        is_dark = brightest <= CT_BACKGROUND_HU
    else:
        is_dark = brightest <= max(0.0, darkest_used)
    if not is_dark and bool(np.any((stored >= bottom) & (stored <= top))):
        raise PixelPaddingError(
            instance_uid=frame.instance.instance_uid,
            padding_value=padding_value,
            rescaled_value=brightest,
        )
