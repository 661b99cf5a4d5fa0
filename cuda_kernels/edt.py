"""Exact Euclidean distance of every voxel of a mask to the nearest voxel outside it, in mm.

Axis after axis, the squared distance is the lower envelope of one parabola per voxel of the line
(Felzenszwalb and Huttenlocher, Theory of Computing 2012;8:415-428). A voxel outside the mask has
distance 0 and splits its line: only the runs between are worked on.
"""

from __future__ import annotations

import math
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
    jit_inline,
    prange,
)

Float32 = NDArray[np.float32]
Spacing = tuple[float, float, float]
TILE = 32
"""Lines taken together where they run across memory: two cache lines of float32."""
DEVICE_THREADS = 2**16
"""Most lines that a GPU works on at once; each has its own scratch memory of 12 bytes a voxel."""


def distance_transform_reference(mask: NDArray[Any], spacing_mm: Spacing) -> Float32:
    """Say what the kernels must compute: SciPy's, but infinity where nothing is outside."""
    inside = np.asarray(mask) != 0
    if inside.all():
        return np.full(inside.shape, np.inf, np.float32)
    found: Float32 = ndimage.distance_transform_edt(inside, spacing_mm).astype(np.float32)
    return found


def _row_distance(mask: Any, line: Any, step2: Any) -> bool:
    """Write the squared distance within one row; whether any voxel is in the mask."""
    infinite = np.float32(np.inf)
    far = infinite
    found = False
    for i in range(line.size):
        if mask[i]:
            far += np.float32(1)
            found = True
        else:
            far = np.float32(0)
        line[i] = far
    far = infinite
    for k in range(line.size):
        i = line.size - 1 - k
        far = far + np.float32(1) if mask[i] else np.float32(0)
        nearest = min(line[i], far)
        line[i] = nearest * nearest * step2
    return found


_row_distance_cpu, _row_distance_cuda = jit_both(_row_distance)


def _run_distance(
    line: Any, start: int, stop: int, step2: Any, site: Any, height: Any, bound: Any
) -> None:
    """Replace a run's values by the lower envelope of the parabolas that stand on them.

    ``line[start:stop]`` is a run inside the mask with, where the line goes on, the 0 at each end.
    ``site``, ``height`` and ``bound`` are scratch: each parabola of the envelope, and from where
    on it is the lowest.
    """
    infinite = np.float32(np.inf)
    half = np.float32(0.5)
    top = -1
    for q in range(start, stop):
        f = line[q]
        if f == infinite:
            continue
        crossing = -infinite
        while top >= 0:
            v = site[top]
            crossing = (f - height[top]) * (half / (step2 * np.float32(q - v))) + half * np.float32(
                q + v
            )
            if crossing > bound[top]:
                break
            top -= 1
            crossing = -infinite
        top += 1
        site[top] = q
        height[top] = f
        bound[top] = crossing
    if top < 0:
        return
    k = 0
    for q in range(start, stop):
        while k < top and bound[k + 1] < q:
            k += 1
        away = np.float32(q - site[k])
        line[q] = away * away * step2 + height[k]


_run_distance_cpu, _run_distance_cuda = jit_both(_run_distance)


def _next_run(line: Any, start: int) -> tuple[int, int]:
    """Return the next run of voxels in the mask from ``start`` on; empty at the line's end."""
    zero = np.float32(0)
    n = line.size
    first = start
    while first < n and line[first] == zero:
        first += 1
    last = first
    while last < n and line[last] != zero:
        last += 1
    return first, last


_next_run_cpu, _next_run_cuda = jit_both(_next_run)


@jit_inline
def _tiles_cpu(plane: Any, step2: Any, root: bool) -> None:
    """Work down every column of a plane, some at a time; finish with the square root if asked."""
    n, n_x = plane.shape
    tile = np.empty((TILE, n), np.float32)
    site = np.empty(n, np.int32)
    height = np.empty(n, np.float32)
    bound = np.empty(n, np.float32)
    zero = np.float32(0)
    for x0 in range(0, n_x, TILE):
        width = min(TILE, n_x - x0)
        top = zero
        for i in range(n):
            source = plane[i]
            for j in range(width):
                value = source[x0 + j]
                tile[j, i] = value
                top = max(top, value)
        if top == zero:
            continue
        for j in range(width):
            line = tile[j]
            first, last = _next_run_cpu(line, 0)
            while first < n:
                start = first - 1 if first > 0 else 0
                stop = last + 1 if last < n else n
                _run_distance_cpu(line, start, stop, step2, site, height, bound)
                first, last = _next_run_cpu(line, last)
        for i in range(n):
            target = plane[i]
            for j in range(width):
                target[x0 + j] = np.sqrt(tile[j, i]) if root else tile[j, i]


@jit
def _slices_cpu(mask: Any, out: Any, step2_y: Any, step2_x: Any) -> None:
    for z in prange(mask.shape[0]):
        found = False
        for y in range(mask.shape[1]):
            if _row_distance_cpu(mask[z, y], out[z, y], step2_x):
                found = True
        if found:
            _tiles_cpu(out[z], step2_y, False)


@jit
def _columns_cpu(out: Any, step2_z: Any, root: bool) -> None:
    for y in prange(out.shape[1]):
        _tiles_cpu(out[:, y], step2_z, root)


@jit_cuda
def _rows_cuda(mask: Any, out: Any, step2: Any) -> None:
    # One thread per row.
    i = cuda.grid(1)
    n_y = mask.shape[1]
    if i < mask.shape[0] * n_y:
        _row_distance_cuda(mask[i // n_y, i % n_y], out[i // n_y, i % n_y], step2)


@jit_cuda
def _lines_cuda(out: Any, step2: Any, root: bool, site: Any, height: Any, bound: Any) -> None:
    # out is (outer, n, inner): one thread takes every `step`-th line along the middle axis.
    thread = cuda.grid(1)
    step = site.shape[0]
    if thread >= step:
        return
    n, n_inner = out.shape[1], out.shape[2]
    for i in range(thread, out.shape[0] * n_inner, step):
        line = out[i // n_inner, :, i % n_inner]
        first, last = _next_run_cuda(line, 0)
        while first < n:
            start = first - 1 if first > 0 else 0
            stop = last + 1 if last < n else n
            _run_distance_cuda(
                line, start, stop, step2, site[thread], height[thread], bound[thread]
            )
            first, last = _next_run_cuda(line, last)
        if root:
            for k in range(n):
                line[k] = math.sqrt(line[k])


def distance_transform(mask: Any, spacing_mm: Spacing, *, squared: bool = False) -> Any:
    """Distance of each voxel of a mask to the nearest voxel outside, computed where the data is.

    Distances run between voxel centres; beyond the array there is nothing (a mask that touches the
    border is not cut there).

    Parameters
    ----------
    mask : (slice, row, column), bool or uint8; any value but 0 is inside
    spacing_mm : (slice, row, column)
    squared : give mm squared, without the root

    Returns
    -------
    float32, 0 outside the mask, infinity everywhere if no voxel is outside. Relative error at most
    1e-6 (float32 throughout).

    Raises
    ------
    KernelInputError
    """
    if len(mask.shape) != 3 or 0 in mask.shape:
        raise KernelInputError(f"mask: shape {mask.shape} is not three axes of at least 1")
    if str(mask.dtype).removeprefix("torch.") not in ("bool", "uint8"):
        raise KernelInputError(f"mask: dtype {mask.dtype} is neither bool nor uint8")
    if len(spacing_mm) != 3 or not all(0 < mm < math.inf for mm in spacing_mm):
        raise KernelInputError(f"spacing_mm: {spacing_mm} is not three finite values above 0")
    z, y, x = (np.float32(mm * mm) for mm in spacing_mm)
    shape = tuple(mask.shape)
    if not is_on_device(mask):
        inside = mask.view(np.uint8) if mask.dtype == np.bool_ else mask
        out = np.empty(shape, np.float32)
        _slices_cpu(inside, out, y, x)
        _columns_cpu(out, z, not squared)
        return out
    n_z, n_y, n_x = shape
    on_device = cuda.device_array(shape, np.float32)
    _rows_cuda[blocks(n_z * n_y), 256](device_view(mask), on_device, x)
    for view, n, n_lines, step2, root in (
        (on_device, n_y, n_z * n_x, y, False),
        (on_device.reshape((1, n_z, n_y * n_x)), n_z, n_y * n_x, z, not squared),
    ):
        threads = min(n_lines, DEVICE_THREADS)
        scratch = [cuda.device_array((threads, n), t) for t in (np.int32, np.float32, np.float32)]
        _lines_cuda[blocks(threads), 256](view, step2, root, *scratch)
    return on_device
