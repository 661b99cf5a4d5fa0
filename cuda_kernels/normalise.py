"""Intensities as a network wants them: window or z-score, and the cast, in one pass.

NumPy has no bf16, so bf16 comes back as its bits in uint16 (torch: ``.view(torch.bfloat16)``).
Both 16-bit types are rounded to nearest, ties to even, as torch and NumPy do.
"""

from __future__ import annotations

import math
from typing import Any, Literal

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
    jit_cuda_device,
    jit_inline,
    prange,
)

Precision = Literal["fp32", "fp16", "bf16"]
_CODES: dict[Precision, int] = {"fp32": 0, "fp16": 1, "bf16": 2}
_INFINITY = float("inf")


def clip_scale_reference(image: NDArray[Any], lower: float, upper: float) -> NDArray[np.float32]:
    """Say what the kernels must compute, before the cast."""
    scaled = (image.astype(np.float64) - lower) / (upper - lower)
    return np.clip(scaled, 0, 1).astype(np.float32)


def zscore_reference(
    image: NDArray[Any], mean: float, sd: float, clip: tuple[float, float], *, nonzero: bool
) -> NDArray[np.float32]:
    """Say what the kernels must compute, before the cast."""
    scaled = (np.clip(image.astype(np.float64), *clip) - mean) / sd
    return np.where((image == 0) & nonzero, 0, scaled).astype(np.float32)


def bits_reference(values: NDArray[np.float32], precision: Precision) -> NDArray[Any]:
    """Say what the cast must give: NumPy's for fp16; for bf16, half a unit added and cut."""
    if precision == "fp32":
        return values
    if precision == "fp16":
        return values.astype(np.float16)
    wide = values.view(np.uint32).astype(np.uint64)
    return ((wide + 0x7FFF + ((wide >> 16) & 1)) >> 16).astype(np.uint16)


def _normalised(
    given: Any,
    low: Any,
    high: Any,
    shift: Any,
    width: Any,
    floor: Any,
    ceiling: Any,
    keep_zero: bool,
) -> Any:
    """Clip, shift, scale, clip again; all in float32."""
    value = np.float32(given)
    if keep_zero and value == np.float32(0):
        return value
    value = (min(max(value, low), high) - shift) / width
    return min(max(value, floor), ceiling)


_normalised_cpu, _normalised_cuda = jit_both(_normalised)


def _half_bits(value: Any, is_bf16: bool) -> int:
    """Round a finite float32 to the nearest 16-bit float, ties to even; return its bits.

    The mantissa is taken as a whole number of the smallest steps that the type has there, so normal
    and subnormal numbers go the same way, and a carry grows into the exponent by itself.
    """
    wide = float(value)
    sign = 0x8000 if math.copysign(1.0, wide) < 0 else 0
    wide = abs(wide)
    if wide == 0.0:
        return sign
    digits = 7 if is_bf16 else 10  # of the mantissa, without the leading 1
    lowest = -126 if is_bf16 else -14  # exponent of the smallest normal number
    exponent = max(math.frexp(wide)[1] - 1, lowest)
    steps = math.ldexp(wide, digits - exponent)
    whole = int(steps)
    rest = steps - whole
    if rest > 0.5 or (rest == 0.5 and whole % 2 == 1):
        whole += 1
    bits = ((exponent - lowest) << digits) + whole
    return sign | min(bits, 0x7F80 if is_bf16 else 0x7C00)


_half_bits_cuda = jit_cuda_device(_half_bits)


@jit_inline
def _row_bits_cpu(row: Any, bits: Any, is_bf16: bool) -> None:
    """Do the same for a row by whole-number arithmetic on its bits, which the CPU's lanes share."""
    words = row.view(np.uint32)
    if is_bf16:
        for x in range(row.size):
            word = words[x]
            odd = (word >> np.uint32(16)) & np.uint32(1)
            bits[x] = np.uint16((word + np.uint32(0x7FFF) + odd) >> np.uint32(16))
        return
    for x in range(row.size):
        word = words[x] & np.uint32(0x7FFFFFFF)
        sign = (words[x] >> np.uint32(16)) & np.uint32(0x8000)
        if word < np.uint32(113 << 23):  # below fp16's smallest normal number: steps of 2**-24
            steps = np.float64(abs(row[x])) * np.float64(2**24)
            half = np.uint32(np.rint(steps))
        else:
            odd = (word >> np.uint32(13)) & np.uint32(1)
            half = (word - np.uint32(112 << 23) + np.uint32(0xFFF) + odd) >> np.uint32(13)
            half = min(half, np.uint32(0x7C00))
        bits[x] = np.uint16(half | sign)


@jit
def _normalise_cpu(
    image: Any, wide: Any, bits: Any, code: int, limits: Any, keep_zero: bool
) -> None:
    n_y, n_x = image.shape[1], image.shape[2]
    low, high, shift, width, floor, ceiling = limits
    for zy in prange(image.shape[0] * n_y):
        source = image[zy // n_y, zy % n_y]
        if code == 0:
            target = wide[zy // n_y, zy % n_y]
            for x in range(n_x):
                target[x] = _normalised_cpu(
                    source[x], low, high, shift, width, floor, ceiling, keep_zero
                )
        else:
            row = np.empty(n_x, np.float32)
            for x in range(n_x):
                row[x] = _normalised_cpu(
                    source[x], low, high, shift, width, floor, ceiling, keep_zero
                )
            _row_bits_cpu(row, bits[zy // n_y, zy % n_y], code == 2)


@jit_cuda
def _normalise_cuda(
    image: Any, wide: Any, bits: Any, code: int,
    low: Any, high: Any, shift: Any, width: Any, floor: Any, ceiling: Any, keep_zero: bool,
) -> None:  # fmt: skip
    # One thread per voxel.
    i = cuda.grid(1)
    n_y, n_x = image.shape[1], image.shape[2]
    if i >= image.shape[0] * n_y * n_x:
        return
    z, y, x = i // (n_y * n_x), (i // n_x) % n_y, i % n_x
    value = _normalised_cuda(image[z, y, x], low, high, shift, width, floor, ceiling, keep_zero)
    if code == 0:
        wide[z, y, x] = value
    else:
        bits[z, y, x] = _half_bits_cuda(value, code == 2)


def clip_scale(image: Any, lower: float, upper: float, *, precision: Precision = "fp32") -> Any:
    """Clip to [lower, upper], scale to [0, 1] and cast, where the data is.

    Parameters
    ----------
    image : (slice, row, column), int16 or float32, finite, any strides
    lower, upper : in the image's unit

    Returns
    -------
    float32, float16, or uint16 with the bits of bf16; C-contiguous (on a device, fp16 is uint16
    bits too)

    Raises
    ------
    KernelInputError
    """
    if not (math.isfinite(lower) and math.isfinite(upper) and lower < upper):
        raise KernelInputError(f"lower, upper: {lower}, {upper} are not finite and in order")
    limits = (-_INFINITY, _INFINITY, lower, upper - lower, 0.0, 1.0)
    return _normalise(image, limits, keep_zero=False, precision=precision, out=None)


def zscore(
    image: Any,
    mean: float,
    sd: float,
    *,
    clip: tuple[float, float] = (-_INFINITY, _INFINITY),
    nonzero: bool = False,
    precision: Precision = "fp32",
    out: NDArray[np.float32] | None = None,
) -> Any:
    """Clip, subtract the mean, divide by the SD and cast, where the data is.

    Parameters
    ----------
    image : (slice, row, column), int16 or float32, finite, any strides
    mean, sd, clip : in the image's unit
    nonzero : leave voxels that are exactly 0 as they are
    out : for fp32 on the host, where to write; may be ``image`` itself

    Returns
    -------
    As `clip_scale`; ``out`` if it was given

    Raises
    ------
    KernelInputError
    """
    if not (math.isfinite(mean) and math.isfinite(sd) and sd > 0):
        raise KernelInputError(f"mean, sd: {mean}, {sd} are not finite with sd above 0")
    if not clip[0] <= clip[1]:
        raise KernelInputError(f"clip: {clip} is not in order")
    limits = (*clip, mean, sd, -_INFINITY, _INFINITY)
    return _normalise(image, limits, keep_zero=nonzero, precision=precision, out=out)


def _normalise(
    image: Any,
    limits: tuple[float, ...],
    *,
    keep_zero: bool,
    precision: Precision,
    out: NDArray[np.float32] | None,
) -> Any:
    if len(image.shape) != 3 or 0 in image.shape:
        raise KernelInputError(f"image: shape {image.shape} is not three axes of at least 1")
    if str(image.dtype).removeprefix("torch.") not in ("int16", "float32"):
        raise KernelInputError(f"image: dtype {image.dtype} is neither int16 nor float32")
    if precision not in _CODES:
        raise KernelInputError(f"precision: '{precision}' is not one of {tuple(_CODES)}")
    shape, code = tuple(image.shape), _CODES[precision]
    numbers = tuple(np.float32(limit) for limit in limits)
    nothing = (0, 0, 0)
    if is_on_device(image):
        if out is not None:
            raise KernelInputError("out: only for arrays in host memory")
        wide = cuda.device_array(shape if code == 0 else nothing, np.float32)
        bits = cuda.device_array(nothing if code == 0 else shape, np.uint16)
        n = shape[0] * shape[1] * shape[2]
        _normalise_cuda[blocks(n), 256](device_view(image), wide, bits, code, *numbers, keep_zero)
        return wide if code == 0 else bits
    if out is not None and (code != 0 or out.shape != shape or out.dtype != np.float32):
        raise KernelInputError(f"out: {out.dtype} {out.shape} does not take fp32 {shape}")
    wide = np.empty(shape if code == 0 else nothing, np.float32) if out is None else out
    bits = np.empty(nothing if code == 0 else shape, np.uint16)
    _normalise_cpu(image, wide, bits, code, numbers, keep_zero)
    if code == 0:
        return wide
    return bits.view(np.float16) if precision == "fp16" else bits
