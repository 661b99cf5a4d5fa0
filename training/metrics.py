"""How well two masks agree: Dice overlap and the 95th percentile Hausdorff distance.

Conventions where a mask is empty: both empty gives None for either figure (there is nothing to
agree on, and a free 1.0 would flatter a mean); one empty gives Dice 0 and no distance (None).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from cuda_kernels.surface_distance import surface_distances

RIGHT_ANGLE = 1e-6
"""Largest cosine between two axes that changes no distance by more than a millionth of it."""

Mask = NDArray[np.bool_]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Figures of one label in one case; volumes by the case's own voxel size."""

    dice: float | None
    hd95_mm: float | None
    reference_ml: float
    predicted_ml: float


def agreement(predicted: Mask, reference: Mask, affine: Float64) -> Agreement:
    """Compare two masks on one grid.

    Parameters
    ----------
    predicted, reference : same shape
    affine : (4, 4), voxel index to millimetres; may be oblique or sheared
    """
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000.0
    n_predicted, n_reference = int(predicted.sum()), int(reference.sum())
    return Agreement(
        dice=dice(predicted, reference),
        hd95_mm=hd95_mm(predicted, reference, affine),
        reference_ml=n_reference * voxel_ml,
        predicted_ml=n_predicted * voxel_ml,
    )


def dice(predicted: Mask, reference: Mask) -> float | None:
    """Return 2 |A and B| / (|A| + |B|); None where both are empty."""
    total = int(predicted.sum()) + int(reference.sum())
    if total == 0:
        return None
    return 2.0 * int(np.logical_and(predicted, reference).sum()) / total


def hd95_mm(predicted: Mask, reference: Mask, affine: Float64) -> float | None:
    """Return the larger of the two directed 95th percentiles of surface distance.

    A surface voxel is a mask voxel with a face neighbour outside the mask or outside the array;
    distances run between voxel centres. None where either mask is empty. Where the grid's axes are
    at right angles, exact distance transforms do it; a sheared grid takes a tree of points.
    """
    if not predicted.any() or not reference.any():
        return None
    columns = affine[:3, :3]
    spacing = np.linalg.norm(columns, axis=0)
    cosines = (columns / spacing).T @ (columns / spacing)
    if np.abs(cosines - np.eye(3)).max() < RIGHT_ANGLE:
        z, y, x = (float(mm) for mm in spacing)
        return surface_distances(predicted, reference, (z, y, x)).hausdorff_mm(95)
    first, second = surface_points_mm(predicted, affine), surface_points_mm(reference, affine)
    there, _ = cKDTree(second).query(first, workers=-1)
    back, _ = cKDTree(first).query(second, workers=-1)
    return float(max(np.percentile(there, 95), np.percentile(back, 95)))


def surface_points_mm(mask: Mask, affine: Float64) -> Float64:
    """Return the centres of a mask's surface voxels, (n, 3), in the affine's millimetres."""
    box = ndimage.find_objects(mask.view(np.uint8) if mask.dtype == np.bool_ else mask)
    if not box or box[0] is None:
        return np.empty((0, 3))
    inside = mask[box[0]]
    surface = inside & ~ndimage.binary_erosion(inside)
    first = np.array([axis.start for axis in box[0]])
    indices = np.argwhere(surface) + first
    points: Float64 = indices @ affine[:3, :3].T + affine[:3, 3]
    return points


def mean_of(values: list[float | None]) -> float | None:
    """Return the mean of the figures that are there, or None."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def as_json(found: Agreement) -> dict[str, Any]:
    """Return plain numbers, rounded to what they are good for."""
    return {
        "dice": None if found.dice is None else round(found.dice, 5),
        "hd95_mm": None if found.hd95_mm is None else round(found.hd95_mm, 3),
        "reference_ml": round(found.reference_ml, 4),
        "predicted_ml": round(found.predicted_ml, 4),
    }
