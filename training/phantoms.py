"""A thorax made of numbers: a CT phantom with lungs whose place and volume are known.

Used for training next to real cases, for the demo's study and in tests. Everything comes from the
seed: the same seed, shape and spacing give the same voxels. A phantom is one patient; a finer grid
shows the same patient sharper.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.phantom_anatomy import Anatomy, draw_anatomy
from training.phantom_frame import paint_body, paint_couch, paint_ribs, paint_spine
from training.phantom_organs import (
    below_diaphragm_distance,
    cavity_distance,
    great_vessels,
    heart_distance,
    lung_distance,
    paint_abdomen,
)
from training.phantom_shapes import (
    Float32,
    SliceGrid,
    coverage,
    ellipsoid,
    paint,
    paint_tube,
    tube_distance,
)

LEFT_LUNG = 1
RIGHT_LUNG = 2
AIR_HU = -1000.0
SLICES_AT_ONCE = 16
DEFAULT_CENTRE_Z_MM = -35.0
"""Height of the grid's middle above the carina, so that a tall grid holds both lungs whole."""


def thorax_phantom(
    seed: int,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    *,
    centre_z_mm: float = DEFAULT_CENTRE_Z_MM,
) -> tuple[NDArray[np.int16], NDArray[np.uint8], NDArray[np.float64]]:
    """Build a CT of a thorax.

    Parameters
    ----------
    seed : picks the patient
    shape, spacing_mm : (slice, row, column); slices to the head, rows to the back, columns left
    centre_z_mm : height of the grid's middle above the carina; -110 shows the lung bases

    Returns
    -------
    array (slice, row, column) int16 Hounsfield units, labels uint8 (1 left lung, 2 right lung),
    and affine_lps (4, 4); the LPS origin is the carina
    """
    anatomy = draw_anatomy(np.random.default_rng([seed, 0]))
    # Texture and noise come from a second stream, so the patient does not depend on the grid.
    rng = np.random.default_rng([seed, 1])
    first_mm = [-(n - 1) / 2 * s for n, s in zip(shape, spacing_mm, strict=True)]
    first_mm[0] += centre_z_mm
    z, y, x = (
        (f + np.arange(n) * s).astype(np.float32)
        for f, n, s in zip(first_mm, shape, spacing_mm, strict=True)
    )
    edge_mm = max(spacing_mm[1:])
    array = np.empty(shape, np.int16)
    labels = np.zeros(shape, np.uint8)
    texture = _texture(rng, shape, spacing_mm)

    def painted(index: int) -> Float32:
        grid = SliceGrid(x_mm=x[None], y_mm=y[:, None], z_mm=float(z[index]), edge_mm=edge_mm)
        image, labels[index] = _slice(anatomy, grid, texture(index) * anatomy.texture_hu)
        return image

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for first in range(0, shape[0], SLICES_AT_ONCE):
            indices = range(first, min(first + SLICES_AT_ONCE, shape[0]))
            for index, image in zip(indices, pool.map(painted, indices), strict=True):
                # Noise is drawn in slice order, whatever the order in which slices were painted.
                noisy = image + _noise(rng, image.shape, anatomy.noise_hu)
                array[index] = np.clip(np.rint(noisy), -1024, 3071)
    affine_lps = np.eye(4)
    affine_lps[:3, :3] = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]]) * np.asarray(spacing_mm)
    affine_lps[:3, 3] = first_mm[::-1]
    return array, labels, affine_lps


def _slice(
    anatomy: Anatomy, grid: SliceGrid, texture: Float32
) -> tuple[Float32, NDArray[np.uint8]]:
    """One axial slice in Hounsfield units, without noise, and its labels."""
    rows, columns = grid.y_mm.shape[0], grid.x_mm.shape[1]
    image = np.full((rows, columns), AIR_HU, np.float32)
    paint_couch(image, anatomy, grid)
    paint_body(image, anatomy, grid)
    cavity = cavity_distance(anatomy, grid)
    below = below_diaphragm_distance(anatomy, grid)
    paint(image, cavity, -70.0, grid.edge_mm)
    paint_abdomen(image, anatomy, grid, np.maximum(cavity + 4.0, below + 1.2))
    heart = heart_distance(anatomy, grid)
    paint(image, np.maximum(heart, -below), anatomy.blood_hu * 0.8 + 10, grid.edge_mm)
    for tube in great_vessels(anatomy):
        paint_tube(image, grid, tube, anatomy.blood_hu)
    paint_spine(image, anatomy, grid)
    labels = _paint_lungs(image, anatomy, grid, cavity, below, heart, texture)
    for tube in anatomy.airways:
        paint_tube(image, grid, tube, 30.0, margin_mm=1.5)
    for tube in anatomy.airways:
        paint_tube(image, grid, tube, AIR_HU)
    paint_ribs(image, anatomy, grid, cavity)
    return image, labels


def _paint_lungs(
    image: Float32,
    anatomy: Anatomy,
    grid: SliceGrid,
    cavity: Float32,
    below: Float32,
    heart: Float32,
    texture: Float32,
) -> NDArray[np.uint8]:
    """Parenchyma with vessels, airways and nodules; returns the labels of this slice."""
    left = lung_distance(anatomy, grid, 1.0, cavity, below, heart)
    right = lung_distance(anatomy, grid, -1.0, cavity, below, heart)
    either = np.minimum(left, right)
    labels = np.zeros(image.shape, np.uint8)
    if not (either < grid.edge_mm).any():
        return labels
    back = np.clip(grid.y_mm / anatomy.chest_half_depth_mm / 2 + 0.5, 0.0, 1.0)
    inside = anatomy.lung_hu[0] + (anatomy.lung_hu[1] - anatomy.lung_hu[0]) * back + texture
    inside = np.broadcast_to(inside, image.shape).astype(np.float32).copy()
    for tube in anatomy.bronchi:
        paint_tube(inside, grid, tube, 0.0, margin_mm=1.2)
    for tube in anatomy.vessels:
        paint_tube(inside, grid, tube, anatomy.blood_hu)
    for tube in anatomy.bronchi:
        paint_tube(inside, grid, tube, AIR_HU)
    for centre, radius in anatomy.nodules:
        near = grid.around(centre, radius)
        if near is not None:
            nodule = ellipsoid(near[1], centre, (radius, radius, radius))
            paint(inside[near[0]], nodule, 30.0, grid.edge_mm)
    share = coverage(either, grid.edge_mm)
    image += share * (inside - image)
    airway = np.minimum.reduce(
        [tube_distance(grid.x_mm, grid.y_mm, grid.z_mm, tube) for tube in anatomy.airways]
    )
    labels[(left < 0) & (airway > 1.5)] = LEFT_LUNG
    labels[(right < 0) & (right < left) & (airway > 1.5)] = RIGHT_LUNG
    return labels


class _Texture:
    """Smooth random shading of the lungs, made coarse once and sampled slice by slice."""

    def __init__(
        self,
        rng: np.random.Generator,
        shape: tuple[int, int, int],
        spacing_mm: tuple[float, float, float],
    ) -> None:
        size = [max(2, round(n * s / 12.0)) for n, s in zip(shape, spacing_mm, strict=True)]
        self._coarse = rng.normal(0, 1, size).astype(np.float32)
        self._shape = shape

    def __call__(self, index: int) -> Float32:
        height = index / max(self._shape[0] - 1, 1) * (self._coarse.shape[0] - 1)
        low = int(height)
        high = min(low + 1, self._coarse.shape[0] - 1)
        plane = self._coarse[low] * (1 - height + low) + self._coarse[high] * (height - low)
        zoom = [n / c for n, c in zip(self._shape[1:], plane.shape, strict=True)]
        smooth: Float32 = ndimage.zoom(plane, zoom, order=1, grid_mode=True, mode="nearest")
        return smooth


def _texture(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
) -> _Texture:
    return _Texture(rng, shape, spacing_mm)


def _noise(rng: np.random.Generator, shape: tuple[int, ...], sd_hu: float) -> Float32:
    """Noise of a reconstructed slice: half white, half smoothed over neighbours."""
    white = rng.normal(0, 1, shape).astype(np.float32)
    smooth = ndimage.gaussian_filter(white, 0.8)
    value: Float32 = (sd_hu * (0.5 * white + 0.5 * smooth / max(float(smooth.std()), 1e-6))).astype(
        np.float32
    )
    return value
