"""A torso-like CT of full size, for benchmarks and for timing tests; made in a few seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.builders.dicom import Identity, affine_from, write_series

AIR_HU, LUNG_HU, FAT_HU, SOFT_TISSUE_HU, SPLEEN_HU, BONE_HU = -1000, -850, -90, 45, 55, 700
NOISE_SD_HU = 12.0


def torso(slices: int = 300, size: int = 512, *, seed: int = 5) -> NDArray[np.int16]:
    """Body, fat, lungs, spine, liver and spleen as ellipsoids with noise, in Hounsfield units.

    (slice, row, column) = (superior, posterior, left) of a patient seen from the feet.
    """
    rng = np.random.default_rng(seed)
    along = np.linspace(-1, 1, slices)[:, None, None]
    down = np.linspace(-1, 1, size)[None, :, None]
    across = np.linspace(-1, 1, size)[None, None, :]

    def ball(z: float, y: float, x: float, rz: float, ry: float, rx: float) -> NDArray[np.bool_]:
        distance = ((along - z) / rz) ** 2 + ((down - y) / ry) ** 2 + ((across - x) / rx) ** 2
        return np.asarray(distance <= 1)

    array = np.full((slices, size, size), AIR_HU, np.int16)
    for value, parts in {
        FAT_HU: [(0, 0, 0, 9, 0.70, 0.90)],
        SOFT_TISSUE_HU: [(0, 0, 0, 9, 0.62, 0.82)],
        LUNG_HU: [(0.55, -0.02, -0.38, 0.6, 0.45, 0.30), (0.55, -0.02, 0.40, 0.6, 0.43, 0.28)],
        BONE_HU: [(0, 0.45, 0, 9, 0.10, 0.09)],
        SPLEEN_HU: [(-0.2, 0.15, 0.55, 0.20, 0.22, 0.14), (-0.2, -0.05, -0.4, 0.3, 0.35, 0.3)],
    }.items():
        for part in parts:
            array[ball(*part)] = value
    for slice_ in array:
        slice_ += np.rint(rng.standard_normal((size, size), np.float32) * NOISE_SD_HU).astype(
            np.int16
        )
    return np.clip(array, -1024, 3071, out=array)


def write_large_ct(
    folder: Path,
    *,
    slices: int = 300,
    size: int = 512,
    spacing_mm: tuple[float, float, float] = (1.0, 0.75, 0.75),
    identity: Identity | None = None,
) -> tuple[Path, ...]:
    """Write the torso as explicit little-endian slices, file names in random order."""
    array = torso(slices, size)
    affine = affine_from(spacing_mm, origin_mm=(-192.0, -192.0, -1000.0))
    return write_series(folder, array, affine, "CT", identity=identity)
