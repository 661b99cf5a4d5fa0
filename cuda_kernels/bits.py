"""Pack the masks of a label map into one stream of bits, as a BINARY segmentation stores them.

One frame per label and slice that has a voxel, a bit per pixel, the first pixel in the lowest bit,
frame behind frame without a gap (PS3.5, section 8.1.1): where rows x columns is no multiple of 8,
two frames share a byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cuda_kernels.errors import KernelInputError
from cuda_kernels.jit import (
    blocks,
    cuda,
    device_view,
    is_on_device,
    jit,
    jit_both,
    jit_cuda,
    jit_inline,
    prange,
)

Bytes = NDArray[np.uint8]
DTYPES = ("uint8", "uint16")


def pack_masks_reference(
    labels: NDArray[Any], values: Sequence[int], frames: Sequence[tuple[int, int]]
) -> Bytes:
    """Say what the kernels must compute; ``frames`` are (place in ``values``, slice)."""
    bits = [labels[z].reshape(-1) == values[k] for k, z in frames]
    return np.packbits(np.concatenate([np.empty(0, bool), *bits]), bitorder="little")


def labels_present_reference(labels: NDArray[Any], n_labels: int) -> NDArray[np.bool_]:
    """Say what the kernel must compute: which labels each slice holds, (slice, label)."""
    return np.stack([np.bincount(p.reshape(-1), minlength=n_labels) > 0 for p in labels])


def _note_present(row: Any, present: Any) -> bool:
    """Mark the labels of one slice; whether each of them has a place in ``present``."""
    last = -1
    fits = True
    for i in range(row.size):
        label = int(row[i])
        if label != last:
            if label < present.size:
                present[label] = 1
            else:
                fits = False
            last = label
    return fits


_note_present_cpu, _note_present_cuda = jit_both(_note_present)


@jit
def _labels_present_cpu(labels: Any, present: Any, outside: Any) -> None:
    for z in prange(labels.shape[0]):
        if not _note_present_cpu(labels[z], present[z]):
            outside[z] = 1


@jit_cuda
def _labels_present_kernel(labels: Any, present: Any, outside: Any) -> None:
    # One thread per slice.
    z = cuda.grid(1)
    if z < labels.shape[0] and not _note_present_cuda(labels[z], present[z]):
        outside[z] = 1


def _packed_byte(row: Any, value: int, first: int) -> int:
    """Eight pixels from ``first`` on; bits outside the frame are 0."""
    byte = 0
    for bit in range(8):
        i = first + bit
        if 0 <= i < row.size and row[i] == value:
            byte |= 1 << bit
    return byte


_packed_byte_cpu, _packed_byte_cuda = jit_both(_packed_byte)


@jit
def _pack_masks_cpu(labels: Any, values: Any, numbers: Any, out: Any) -> None:
    n_pixels = labels.shape[1]
    for z in prange(labels.shape[0]):
        row = labels[z]
        for k in range(values.size):
            if numbers[z, k] < 0:
                continue
            value = values[k]
            first_bit = numbers[z, k] * n_pixels
            # Bytes that lie wholly in this frame: no other thread writes them.
            first_byte = (first_bit + 7) // 8
            n_bytes = (first_bit + n_pixels) // 8 - first_byte
            begin = first_byte * 8 - first_bit
            pixels = row[begin : begin + 8 * max(n_bytes, 0)]
            target = out[first_byte : first_byte + max(n_bytes, 0)]
            for b in range(target.size):
                i = 8 * b
                target[b] = (
                    np.uint8(pixels[i] == value)
                    | np.uint8(pixels[i + 1] == value) << 1
                    | np.uint8(pixels[i + 2] == value) << 2
                    | np.uint8(pixels[i + 3] == value) << 3
                    | np.uint8(pixels[i + 4] == value) << 4
                    | np.uint8(pixels[i + 5] == value) << 5
                    | np.uint8(pixels[i + 6] == value) << 6
                    | np.uint8(pixels[i + 7] == value) << 7
                )


@jit_inline
def _pack_edges_cpu(labels: Any, values: Any, places: Any, out: Any) -> None:
    """Add the bits of bytes that two frames share; one thread, for the bytes are shared."""
    n_pixels = labels.shape[1]
    for frame in range(places.shape[0]):
        k = places[frame, 0]
        z = places[frame, 1]
        first_bit = frame * n_pixels
        head = first_bit // 8
        tail = (first_bit + n_pixels) // 8
        if first_bit % 8:
            out[head] |= _packed_byte_cpu(labels[z], values[k], head * 8 - first_bit)
        if (first_bit + n_pixels) % 8 and (tail != head or first_bit % 8 == 0):
            out[tail] |= _packed_byte_cpu(labels[z], values[k], tail * 8 - first_bit)


@jit_cuda
def _pack_masks_cuda(labels: Any, values: Any, places: Any, out: Any) -> None:
    # One thread per byte of the stream; a byte may hold the end of a frame and others behind it.
    i = cuda.grid(1)
    if i >= out.size:
        return
    n_pixels = labels.shape[1]
    frame = i * 8 // n_pixels
    byte = 0
    while frame < places.shape[0] and frame * n_pixels < i * 8 + 8:
        row = labels[places[frame, 1]]
        byte |= _packed_byte_cuda(row, values[places[frame, 0]], i * 8 - frame * n_pixels)
        frame += 1
    out[i] = byte


def labels_present(labels: Any, n_labels: int) -> NDArray[np.bool_]:
    """Return which labels each slice holds, computed where the data is.

    Parameters
    ----------
    labels : (slice, row, column), uint8 or uint16

    Returns
    -------
    (slice, ``n_labels``)

    Raises
    ------
    KernelInputError
        Wrong shape or dtype, or a label is ``n_labels`` or more.
    """
    flat = _flat(labels)
    present = np.zeros((labels.shape[0], n_labels), np.uint8)
    outside = np.zeros(labels.shape[0], np.uint8)
    if is_on_device(labels):
        there, outside_there = cuda.to_device(present), cuda.to_device(outside)
        _labels_present_kernel[blocks(labels.shape[0]), 256](flat, there, outside_there)
        present, outside = there.copy_to_host(), outside_there.copy_to_host()
    else:
        _labels_present_cpu(flat, present, outside)
    if outside.any():
        raise KernelInputError(f"labels: a value is {n_labels} or more")
    return present.astype(bool)


def pack_masks(labels: Any, values: Sequence[int], frames: Sequence[tuple[int, int]]) -> Any:
    """Pack one mask per frame, computed where the data is.

    Parameters
    ----------
    labels : (slice, row, column), uint8 or uint16
    values : the labels that frames name by their place here
    frames : (place in ``values``, slice) of each frame, in the stream's order, none twice

    Returns
    -------
    uint8, ``ceil(frames * rows * columns / 8)`` bytes; unused bits of the last byte are 0

    Raises
    ------
    KernelInputError
    """
    flat = _flat(labels)
    places = np.asarray(frames, np.int64).reshape(-1, 2)
    highest = int(np.iinfo(str(flat.dtype)).max)
    if not all(0 <= value <= highest for value in values):
        raise KernelInputError(f"values: one lies outside 0 to {highest}")
    wanted = np.asarray(values, str(flat.dtype))  # as narrow as the pixels, for vector compares
    limits = (wanted.size, labels.shape[0])
    if (places < 0).any() or (places >= limits).any():
        raise KernelInputError(f"frames: a (value, slice) lies outside {limits}")
    numbers = np.full((labels.shape[0], wanted.size), -1, np.int64)
    numbers[places[:, 1], places[:, 0]] = np.arange(len(places))
    if (numbers >= 0).sum() != len(places):
        raise KernelInputError("frames: one is named twice")
    n_pixels = labels.shape[1] * labels.shape[2]
    n_bytes = -(-len(places) * n_pixels // 8)
    if is_on_device(labels):
        on_device = cuda.device_array(n_bytes, np.uint8)
        tables = cuda.to_device(wanted), cuda.to_device(places)
        if n_bytes:
            _pack_masks_cuda[blocks(n_bytes), 256](flat, *tables, on_device)
        return on_device
    if n_pixels % 8 == 0:
        out = np.empty(n_bytes, np.uint8)
        _pack_masks_cpu(flat, wanted, numbers, out)
        return out
    out = np.zeros(n_bytes, np.uint8)
    _pack_masks_cpu(flat, wanted, numbers, out)
    _pack_edges_cpu(flat, wanted, places, out)
    return out


def _flat(labels: Any) -> Any:
    """See each slice as one row of pixels; copies where the rows do not lie one behind another."""
    if len(labels.shape) != 3 or 0 in labels.shape:
        raise KernelInputError(f"labels: shape {labels.shape} is not three axes of at least 1")
    if str(labels.dtype).removeprefix("torch.") not in DTYPES:
        raise KernelInputError(f"labels: dtype {labels.dtype} is not one of {DTYPES}")
    shape = (labels.shape[0], labels.shape[1] * labels.shape[2])
    if is_on_device(labels):
        return device_view(labels).reshape(shape)
    return np.ascontiguousarray(labels).reshape(shape)
