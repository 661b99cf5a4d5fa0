"""Fill the slices between two drawn ones: shape-based interpolation of signed distances.

Raya and Udupa, IEEE Trans Med Imaging 1990;9:32-42: each drawn outline becomes a map of signed
distances to it (positive inside); between the slices the maps are mixed linearly, and what is
positive is inside. Exact Euclidean distances, in millimetres, from `cuda_kernels.edt`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cuda_kernels.edt import distance_transform
from inference.domain.errors import RefusedError

Mask = NDArray[np.bool_]


def fill_between(
    first: Mask, last: Mask, n_between: int, pixel_spacing_mm: tuple[float, float]
) -> Mask:
    """Return the masks of equally spaced slices between two, (n_between, row, column).

    Raises
    ------
    RefusedError
        One of both is empty: there is no outline to begin or end with.
    """
    if not first.any() or not last.any():
        raise RefusedError("interpolation: both slices need at least one drawn pixel")
    start, end = (signed_distance_mm(one, pixel_spacing_mm) for one in (first, last))
    shares = np.arange(1, n_between + 1, dtype=np.float32) / (n_between + 1)
    mixed = (1 - shares)[:, None, None] * start + shares[:, None, None] * end
    filled: Mask = mixed > 0
    return filled


def signed_distance_mm(mask: Mask, pixel_spacing_mm: tuple[float, float]) -> NDArray[np.float32]:
    """Distance of each pixel's centre to the outline: positive inside, negative outside.

    The transform measures to the nearest pixel of the other kind; half a pixel less is the outline.
    """
    half = min(pixel_spacing_mm) / 2
    spacing = (1.0, *pixel_spacing_mm)
    inside = distance_transform(np.ascontiguousarray(mask[None]).astype(np.uint8), spacing)[0]
    outside = distance_transform(np.ascontiguousarray(~mask[None]).astype(np.uint8), spacing)[0]
    largest = np.float32(np.hypot(*(np.array(mask.shape) * pixel_spacing_mm)))
    inside, outside = (np.minimum(one, largest) for one in (inside, outside))
    signed: NDArray[np.float32] = np.where(mask, inside - half, half - outside).astype(np.float32)
    return signed
