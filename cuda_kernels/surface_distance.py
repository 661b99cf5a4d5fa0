"""How far apart two masks' surfaces lie: ASSD, HD95 and surface Dice, from exact distances.

A surface voxel is a mask voxel with a face neighbour outside the mask or outside the array;
distances run between voxel centres. Both directions are kept: from each surface voxel of one mask
to the nearest of the other's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from cuda_kernels.edt import Spacing, distance_transform
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


@dataclass(frozen=True, kw_only=True)
class SurfaceDistances:
    """Distances in mm of every surface voxel of each mask to the other's surface.

    Attributes
    ----------
    there : (n,) from the first mask's surface to the second's
    back : (m,) from the second mask's surface to the first's
    """

    there: Float32
    back: Float32

    def assd_mm(self) -> float:
        """Average symmetric surface distance: the mean over both surfaces' voxels together."""
        return float(np.concatenate([self.there, self.back]).mean(dtype=np.float64))

    def hausdorff_mm(self, percentile: float = 95.0) -> float:
        """Return the larger of the two directed percentiles; 100 gives the Hausdorff distance."""
        return float(
            max(np.percentile(self.there, percentile), np.percentile(self.back, percentile))
        )

    def surface_dice(self, tolerance_mm: float) -> float:
        """Return the share of both surfaces' voxels within a tolerance of the other surface.

        Nikolov et al., J Med Internet Res 2021;23:e26151, with voxels in place of surface elements.

        Raises
        ------
        KernelInputError
            The tolerance is negative or not a number.
        """
        if not tolerance_mm >= 0:
            raise KernelInputError(f"tolerance_mm: {tolerance_mm} is not 0 or more")
        within = int((self.there <= tolerance_mm).sum()) + int((self.back <= tolerance_mm).sum())
        return within / (self.there.size + self.back.size)


def surface_reference(mask: NDArray[Any]) -> NDArray[np.bool_]:
    """Say what the kernels must compute: the mask without its erosion by face neighbours."""
    found: NDArray[np.bool_] = (mask != 0) & ~ndimage.binary_erosion(mask != 0)
    return found


def surface_distances_reference(
    first: NDArray[Any], second: NDArray[Any], spacing_mm: Spacing
) -> SurfaceDistances:
    """Say what the kernels must compute: the nearest of all points, surface voxels in order."""
    one, other = (
        np.argwhere(surface_reference(mask)) * np.asarray(spacing_mm) for mask in (first, second)
    )
    there, back = cKDTree(other).query(one)[0], cKDTree(one).query(other)[0]
    return SurfaceDistances(there=there.astype(np.float32), back=back.astype(np.float32))


def _is_surface(mask: Any, z: int, y: int, x: int) -> bool:
    """Whether a voxel of the mask has a face neighbour that is not in it."""
    if not mask[z, y, x]:
        return False
    n_z, n_y, n_x = mask.shape
    if z == 0 or y == 0 or x == 0 or z == n_z - 1 or y == n_y - 1 or x == n_x - 1:
        return True
    return not (
        mask[z - 1, y, x]
        and mask[z + 1, y, x]
        and mask[z, y - 1, x]
        and mask[z, y + 1, x]
        and mask[z, y, x - 1]
        and mask[z, y, x + 1]
    )


_is_surface_cpu, _is_surface_cuda = jit_both(_is_surface)


@jit
def _surface_cpu(mask: Any, away: Any) -> None:
    n_z, n_y, n_x = mask.shape
    for zy in prange(n_z * n_y):
        z = zy // n_y
        y = zy % n_y
        for x in range(n_x):
            away[z, y, x] = 0 if _is_surface_cpu(mask, z, y, x) else 1


@jit_cuda
def _surface_kernel(mask: Any, away: Any) -> None:
    # One thread per voxel.
    i = cuda.grid(1)
    n_y = mask.shape[1]
    n_x = mask.shape[2]
    if i >= mask.shape[0] * n_y * n_x:
        return
    z = i // (n_y * n_x)
    y = (i // n_x) % n_y
    x = i % n_x
    away[z, y, x] = 0 if _is_surface_cuda(mask, z, y, x) else 1


def away_from_surface(mask: Any) -> Any:
    """Return 0 on a mask's surface voxels and 1 elsewhere (uint8), where the data is.

    Parameters
    ----------
    mask : (slice, row, column), bool or uint8; any value but 0 is inside
    """
    if is_on_device(mask):
        on_device = cuda.device_array(tuple(mask.shape), np.uint8)
        n = on_device.size
        _surface_kernel[blocks(n), 256](device_view(mask), on_device)
        return on_device
    away = np.empty(mask.shape, np.uint8)
    _surface_cpu(mask.view(np.uint8) if mask.dtype == np.bool_ else mask, away)
    return away


def surface_distances(first: Any, second: Any, spacing_mm: Spacing) -> SurfaceDistances:
    """Measure both directed surface distances, computed where the data is.

    Memory is 14 bytes a voxel of the box around both masks (host arrays are cut to it).

    Parameters
    ----------
    first, second : (slice, row, column), bool or uint8, on one grid with rectangular axes
    spacing_mm : (slice, row, column)

    Raises
    ------
    KernelInputError
        Shapes differ, or a mask is empty: then there is no distance, and the caller says what
        that means.
    """
    if tuple(first.shape) != tuple(second.shape) or len(first.shape) != 3:
        raise KernelInputError(f"second: shape {second.shape} is not the first's {first.shape}")
    if not is_on_device(first):
        for mask in (first, second):
            if mask.dtype not in (np.bool_, np.uint8):
                raise KernelInputError(f"mask: dtype {mask.dtype} is neither bool nor uint8")
        box = _box_of_both(first, second)
        first, second = first[box], second[box]
    away, other_away = away_from_surface(first), away_from_surface(second)
    to_first = _host(distance_transform(away, spacing_mm))
    to_second = _host(distance_transform(other_away, spacing_mm))
    there, back = to_second[_host(away) == 0], to_first[_host(other_away) == 0]
    if there.size == 0 or back.size == 0:
        raise KernelInputError("first, second: a mask has no voxel, so there is no distance")
    return SurfaceDistances(there=there, back=back)


def _box_of_both(first: NDArray[Any], second: NDArray[Any]) -> tuple[slice, ...]:
    box = []
    for axis in range(3):
        others = tuple(k for k in range(3) if k != axis)
        seen = np.flatnonzero(first.any(axis=others) | second.any(axis=others))
        if seen.size == 0:
            raise KernelInputError("first, second: both masks are empty")
        box.append(slice(int(seen[0]), int(seen[-1]) + 1))
    return tuple(box)


def _host(array: Any) -> NDArray[Any]:
    found: NDArray[Any] = array.copy_to_host() if is_on_device(array) else array
    return found
