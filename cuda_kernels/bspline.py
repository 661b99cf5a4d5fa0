"""Coefficients of the cubic B-spline that passes through every voxel, mirrored at the borders.

Unser, IEEE Signal Processing Magazine 1999;16(6):22-38, box 2: one pole, once forwards and once
backwards along each axis. Equal to `scipy.ndimage.spline_filter` (order 3, mode "mirror").
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cuda_kernels.errors import KernelInputError
from cuda_kernels.jit import (
    blocks,
    cuda,
    device_view,
    is_on_device,
    jit,
    jit_both,
    jit_cuda,
    prange,
)

Float32 = NDArray[np.float32]
POLE = float(np.sqrt(3.0) - 2.0)
HORIZON = 40
"""Terms of the first value's sum: the pole to this power is 1e-23, nothing in float32."""
CHUNK = 256
"""Columns filtered together by one thread."""


def prefilter_reference(image: NDArray[Any]) -> Float32:
    """Say what the kernels must compute: SciPy's, in float64."""
    found: Float32 = ndimage.spline_filter(image.astype(np.float64), order=3, mode="mirror").astype(
        np.float32
    )
    return found


def _prefilter_lines(lines: Any) -> None:
    """Turn values into coefficients in place; ``lines`` is (along the axis, beside each other)."""
    pole = np.float32(POLE)
    six = np.float32(6)
    n, n_beside = lines.shape
    if n < 2:
        return
    power_n = np.float32(POLE ** (n - 1))
    last_factor = np.float32(POLE / (POLE * POLE - 1.0))
    for b in range(n_beside):
        first = lines[0, b] + power_n * lines[n - 1, b]
        power = pole
        for i in range(1, min(n - 1, HORIZON)):
            first += power * (lines[i, b] + power_n * lines[n - 1 - i, b])
            power *= pole
        lines[0, b] = six * first / (np.float32(1) - power_n * power_n)
    for i in range(1, n):
        for b in range(n_beside):
            lines[i, b] = six * lines[i, b] + pole * lines[i - 1, b]
    for b in range(n_beside):
        lines[n - 1, b] = (pole * lines[n - 2, b] + lines[n - 1, b]) * last_factor
    for k in range(n - 1):
        i = n - 2 - k
        for b in range(n_beside):
            lines[i, b] = pole * (lines[i + 1, b] - lines[i, b])


_prefilter_lines_cpu, _prefilter_lines_cuda = jit_both(_prefilter_lines)


@jit
def _prefilter_cpu(values: Any) -> None:
    n_chunks = (values.shape[2] + CHUNK - 1) // CHUNK
    for job in prange(values.shape[0] * n_chunks):
        start = (job % n_chunks) * CHUNK
        _prefilter_lines_cpu(values[job // n_chunks, :, start : start + CHUNK])


@jit_cuda
def _prefilter_cuda(values: Any) -> None:
    # One thread per line.
    i = cuda.grid(1)
    n_b = values.shape[2]
    if i < values.shape[0] * n_b:
        b = i % n_b
        _prefilter_lines_cuda(values[i // n_b, :, b : b + 1])


def prefilter(image: Any) -> Any:
    """Return the spline's coefficients, where the data is.

    Parameters
    ----------
    image : (slice, row, column), int16 or float32, finite

    Returns
    -------
    float32, C-contiguous, of the image's shape; within 1e-6 of the largest absolute value of
    SciPy's in float64

    Raises
    ------
    KernelInputError
    """
    if len(image.shape) != 3 or 0 in image.shape:
        raise KernelInputError(f"image: shape {image.shape} is not three axes of at least 1")
    if str(image.dtype).removeprefix("torch.") not in ("int16", "float32"):
        raise KernelInputError(f"image: dtype {image.dtype} is neither int16 nor float32")
    n_z, n_y, n_x = image.shape
    if is_on_device(image):
        there = cuda.device_array((n_z, n_y, n_x), np.float32)
        n = n_z * n_y * n_x
        _copy_cuda[blocks(n), 256](device_view(image), there)
        views = [(1, n_z, n_y * n_x), (n_z, n_y, n_x), (n_z * n_y, n_x, 1)]
        for a, length, b in views:
            _prefilter_cuda[blocks(a * b), 256](there.reshape((a, length, b)))
        return there
    out = np.array(image, dtype=np.float32, order="C")
    _prefilter_cpu(out.reshape(1, n_z, n_y * n_x))
    _prefilter_cpu(out)
    _prefilter_cpu(out.reshape(n_z * n_y, n_x, 1))
    return out


@jit_cuda
def _copy_cuda(image: Any, out: Any) -> None:
    # One thread per voxel: to float32, any strides to contiguous.
    i = cuda.grid(1)
    n_y = out.shape[1]
    n_x = out.shape[2]
    if i < out.shape[0] * n_y * n_x:
        out[i // (n_y * n_x), (i // n_x) % n_y, i % n_x] = image[
            i // (n_y * n_x), (i // n_x) % n_y, i % n_x
        ]
