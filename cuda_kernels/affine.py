"""Resample a volume through any affine: nearest, linear or cubic B-spline.

One thread of work per output voxel. Where the affine only scales and shifts along the axes, linear
interpolation goes the faster way of `resample`.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cuda_kernels.axis import linear_axis
from cuda_kernels.bspline import prefilter
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
from cuda_kernels.resample import resample

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Shape3 = tuple[int, int, int]
Order = Literal["nearest", "linear", "cubic"]
ORDERS: dict[Order, int] = {"nearest": 0, "linear": 1, "cubic": 3}
EDGE = 1e-6
"""Voxels past the last centre that still count as inside: rounding of an affine, nothing more."""


def resample_affine_reference(
    image: NDArray[Any], matrix: Float64, shape: Shape3, order: Order, outside: float | None
) -> Float32:
    """Say what the kernels must compute: SciPy at the same places, in float64."""
    grid = np.indices(shape, dtype=np.float64).reshape(3, -1)
    places = matrix[:3, :3] @ grid + matrix[:3, 3:]
    ends = np.array(image.shape)[:, None] - 1.0
    beyond = ((places < -EDGE) | (places > ends + EDGE)).any(axis=0)
    places = np.clip(places, 0, ends)
    if order == "nearest":
        z, y, x = np.ceil(places - 0.5).astype(np.int64)
        values = image[z, y, x].astype(np.float64)
    else:
        values = ndimage.map_coordinates(
            image.astype(np.float64), places, order=ORDERS[order], mode="mirror"
        )
    if outside is not None:
        values = np.where(beyond, outside, values)
    found: Float32 = values.reshape(shape).astype(np.float32)
    return found


def _sample(image: Any, z: float, y: float, x: float, order: int) -> Any:
    """Interpolate at a place inside the image; for order 3 ``image`` holds coefficients."""
    if order == 0:  # a tie takes the lower index
        return float(image[math.ceil(z - 0.5), math.ceil(y - 0.5), math.ceil(x - 0.5)])
    n_z, n_y, n_x = image.shape
    z0, y0, x0 = int(z), int(y), int(x)
    t, s, r = z - z0, y - y0, x - x0
    if order == 1:
        z1 = min(z0 + 1, n_z - 1)
        y1 = min(y0 + 1, n_y - 1)
        x1 = min(x0 + 1, n_x - 1)
        near = (1 - s) * ((1 - r) * image[z0, y0, x0] + r * image[z0, y0, x1])
        near += s * ((1 - r) * image[z0, y1, x0] + r * image[z0, y1, x1])
        far = (1 - s) * ((1 - r) * image[z1, y0, x0] + r * image[z1, y0, x1])
        far += s * ((1 - r) * image[z1, y1, x0] + r * image[z1, y1, x1])
        return (1 - t) * near + t * far
    # Weights of the four neighbours per axis; indices past the border are mirrored there.
    w_z = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    w_y = ((1 - s) ** 3, 3 * s**3 - 6 * s**2 + 4, -3 * s**3 + 3 * s**2 + 3 * s + 1, s**3)
    w_x = ((1 - r) ** 3, 3 * r**3 - 6 * r**2 + 4, -3 * r**3 + 3 * r**2 + 3 * r + 1, r**3)
    value = 0.0
    for k in range(4):
        i_z = abs(z0 + k - 1)
        i_z = min(i_z if i_z < n_z else abs(2 * (n_z - 1) - i_z), n_z - 1)
        plane = 0.0
        for j in range(4):
            i_y = abs(y0 + j - 1)
            i_y = min(i_y if i_y < n_y else abs(2 * (n_y - 1) - i_y), n_y - 1)
            line = 0.0
            for i in range(4):
                i_x = abs(x0 + i - 1)
                i_x = min(i_x if i_x < n_x else abs(2 * (n_x - 1) - i_x), n_x - 1)
                line += w_x[i] * image[i_z, i_y, i_x]
            plane += w_y[j] * line
        value += w_z[k] * plane
    return value / 216.0


_sample_cpu, _sample_cuda = jit_both(_sample)


def _place(matrix: Any, shape: Any, z: int, y: int, x: int) -> tuple[float, float, float, bool]:
    """Return where an output voxel lies in the image, moved to its border, and if it was inside."""
    a = matrix[0, 0] * z + matrix[0, 1] * y + matrix[0, 2] * x + matrix[0, 3]
    b = matrix[1, 0] * z + matrix[1, 1] * y + matrix[1, 2] * x + matrix[1, 3]
    c = matrix[2, 0] * z + matrix[2, 1] * y + matrix[2, 2] * x + matrix[2, 3]
    end_a, end_b, end_c = float(shape[0] - 1), float(shape[1] - 1), float(shape[2] - 1)
    inside = (
        -EDGE <= a <= end_a + EDGE and -EDGE <= b <= end_b + EDGE and -EDGE <= c <= end_c + EDGE
    )
    return (
        min(max(a, 0.0), end_a), min(max(b, 0.0), end_b), min(max(c, 0.0), end_c), inside
    )  # fmt: skip


_place_cpu, _place_cuda = jit_both(_place)


@jit
def _affine_cpu(
    image: Any, out: Any, matrix: Any, order: int, is_filled: bool, outside: float
) -> None:
    n_y, n_x = out.shape[1], out.shape[2]
    for zy in prange(out.shape[0] * n_y):
        for x in range(n_x):
            a, b, c, inside = _place_cpu(matrix, image.shape, zy // n_y, zy % n_y, x)
            if is_filled and not inside:
                out[zy // n_y, zy % n_y, x] = outside
            else:
                out[zy // n_y, zy % n_y, x] = _sample_cpu(image, a, b, c, order)


@jit_cuda
def _affine_cuda(
    image: Any, out: Any, matrix: Any, order: int, is_filled: bool, outside: float
) -> None:
    # One thread per output voxel.
    i = cuda.grid(1)
    n_y, n_x = out.shape[1], out.shape[2]
    if i >= out.shape[0] * n_y * n_x:
        return
    z, y, x = i // (n_y * n_x), (i // n_x) % n_y, i % n_x
    a, b, c, inside = _place_cuda(matrix, image.shape, z, y, x)
    if is_filled and not inside:
        out[z, y, x] = outside
    else:
        out[z, y, x] = _sample_cuda(image, a, b, c, order)


def resample_affine(
    image: Any,
    matrix: NDArray[Any],
    shape: Shape3,
    *,
    order: Order = "linear",
    outside: float | None = None,
) -> Any:
    """Resample through an affine, where the data is.

    Parameters
    ----------
    image : (slice, row, column), uint8, int16 or float32, any strides
    matrix : (4, 4)
        Output index to image index: ``inv(affine_of_image) @ affine_of_output``.
    shape : of the output
    order : "nearest" (a tie takes the lower index), "linear", or "cubic" (B-spline through every
        voxel, mirrored at the borders)
    outside : value of output voxels that lie past the centre of the image's last voxels; None
        gives them the border's value

    Returns
    -------
    float32, C-contiguous; for "nearest" of the image's dtype. Places are computed in float64.

    Raises
    ------
    KernelInputError
    """
    if len(image.shape) != 3 or 0 in image.shape or len(shape) != 3 or min(shape) < 1:
        raise KernelInputError(f"image, shape: {tuple(image.shape)}, {shape}: an axis is empty")
    dtype = str(image.dtype).removeprefix("torch.")
    if dtype not in ("uint8", "int16", "float32"):
        raise KernelInputError(f"image: dtype {dtype} is not uint8, int16 or float32")
    if order not in ORDERS:
        raise KernelInputError(f"order: '{order}' is not one of {tuple(ORDERS)}")
    if dtype == "uint8" and order != "nearest":
        raise KernelInputError("image: uint8 holds labels; only order 'nearest' keeps them")
    places = np.ascontiguousarray(matrix, np.float64)
    if places.shape != (4, 4) or not np.isfinite(places).all():
        raise KernelInputError("matrix: must be 4 x 4 and finite")
    if not np.array_equal(places[3], (0, 0, 0, 1)):
        raise KernelInputError(f"matrix: its last row {places[3].tolist()} is not 0 0 0 1")
    out_dtype = np.dtype(dtype if order == "nearest" else "float32")
    if outside is not None and out_dtype.kind in "ui" and outside != out_dtype.type(outside):
        raise KernelInputError(f"outside: {outside} is no value of {out_dtype}")
    straight = np.array_equal(places[:3, :3], np.diag(np.diag(places)[:3]))
    if order == "linear" and outside is None and straight:
        z, y, x = (
            linear_axis(image.shape[k], shape[k], float(places[k, k]), start=float(places[k, 3]))
            for k in range(3)
        )
        return resample(image, (z, y, x))
    source = prefilter(image) if order == "cubic" else image
    last = (ORDERS[order], outside is not None, 0.0 if outside is None else float(outside))
    if is_on_device(image):
        on_device = cuda.device_array(tuple(shape), out_dtype)
        n = shape[0] * shape[1] * shape[2]
        there = cuda.to_device(places)
        _affine_cuda[blocks(n), 256](device_view(source), on_device, there, *last)
        return on_device
    out = np.empty(shape, out_dtype)
    _affine_cpu(source, out, places, *last)
    return out
