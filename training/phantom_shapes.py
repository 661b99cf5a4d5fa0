"""Shapes that the thorax phantom is painted with, as distances on one axial slice.

A shape is a signed distance in millimetres, negative inside. Coordinates are patient axes relative
to the phantom's origin: ``x`` to the left, ``y`` to the back, ``z`` to the head.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class SliceGrid:
    """Coordinates of one slice's voxel centres: ``x_mm`` (1, columns), ``y_mm`` (rows, 1)."""

    x_mm: Float32
    y_mm: Float32
    z_mm: float
    edge_mm: float

    def box(self, x: float, y: float, reach_mm: float) -> tuple[slice, slice]:
        """Rows and columns within ``reach_mm`` of a point; empty where the point is far away."""
        rows = np.searchsorted(self.y_mm[:, 0], (y - reach_mm, y + reach_mm))
        columns = np.searchsorted(self.x_mm[0], (x - reach_mm, x + reach_mm))
        return slice(int(rows[0]), int(rows[1])), slice(int(columns[0]), int(columns[1]))

    def around(
        self, centre_mm: tuple[float, float, float], reach_mm: float
    ) -> tuple[tuple[slice, slice], SliceGrid] | None:
        """Return the part of the slice within ``reach_mm`` of a point, or None if all is farther.

        A voxel's width is added to the reach, so that no partly covered voxel is missed.
        """
        reach = reach_mm + self.edge_mm
        if abs(self.z_mm - centre_mm[2]) > reach:
            return None
        rows, columns = self.box(centre_mm[0], centre_mm[1], reach)
        if rows.stop <= rows.start or columns.stop <= columns.start:
            return None
        part = SliceGrid(
            x_mm=self.x_mm[:, columns],
            y_mm=self.y_mm[rows],
            z_mm=self.z_mm,
            edge_mm=self.edge_mm,
        )
        return (rows, columns), part


def coverage(distance: Float32, edge_mm: float) -> Float32:
    """Share of a voxel inside a shape: 1 inside, 0 outside, a ramp one voxel wide between."""
    value: Float32 = np.clip(0.5 - distance / np.float32(edge_mm), 0.0, 1.0).astype(np.float32)
    return value


def paint(image: Float32, distance: Float32, value_hu: float | Float32, edge_mm: float) -> None:
    """Mix a value into an image in place, by coverage: partial volume at the border."""
    share = coverage(distance, edge_mm)
    image += share * (value_hu - image)


def superellipse(
    x: Float32, y: Float32, half_width_mm: float, half_depth_mm: float, power: float = 2.0
) -> Float32:
    """Radial distance to a superellipse around the origin; exact for a circle."""
    radius = np.hypot(x, y)
    level = (np.abs(x / half_width_mm) ** power + np.abs(y / half_depth_mm) ** power) ** (1 / power)
    value: Float32 = (radius - radius / np.maximum(level, 1e-3)).astype(np.float32)
    return value


def ellipsoid(
    grid: SliceGrid,
    centre_mm: tuple[float, float, float],
    axes_mm: tuple[float, float, float],
    turn_rad: float = 0.0,
) -> Float32:
    """Radial distance to an ellipsoid turned about the head-foot axis."""
    x = grid.x_mm - np.float32(centre_mm[0])
    y = grid.y_mm - np.float32(centre_mm[1])
    z = np.float32(grid.z_mm - centre_mm[2])
    along = x * np.float32(np.cos(turn_rad)) + y * np.float32(np.sin(turn_rad))
    across = y * np.float32(np.cos(turn_rad)) - x * np.float32(np.sin(turn_rad))
    level = np.sqrt((along / axes_mm[0]) ** 2 + (across / axes_mm[1]) ** 2 + (z / axes_mm[2]) ** 2)
    radius = np.sqrt(x * x + y * y + z * z)
    value: Float32 = np.where(
        level > 1e-3, radius - radius / np.maximum(level, 1e-3), -min(axes_mm)
    ).astype(np.float32)
    return value


@dataclass(frozen=True, kw_only=True)
class Tube:
    """A straight piece of a vessel, an airway or a bone: a cone with round ends."""

    start_mm: tuple[float, float, float]
    end_mm: tuple[float, float, float]
    start_radius_mm: float
    end_radius_mm: float


def paint_tube(
    image: Float32, grid: SliceGrid, tube: Tube, value_hu: float, *, margin_mm: float = 0.0
) -> None:
    """Paint a tube, wider by ``margin_mm``, touching only the voxels near it."""
    a, b = np.asarray(tube.start_mm), np.asarray(tube.end_mm)
    reach = max(tube.start_radius_mm, tube.end_radius_mm) + margin_mm + grid.edge_mm
    low, high = min(a[2], b[2]) - reach, max(a[2], b[2]) + reach
    if not low <= grid.z_mm <= high:
        return
    middle = (a + b) / 2
    half = float(np.hypot(*(b - a)[:2])) / 2 + reach
    rows, columns = grid.box(float(middle[0]), float(middle[1]), half)
    if rows.stop <= rows.start or columns.stop <= columns.start:
        return
    distance = tube_distance(grid.x_mm[:, columns], grid.y_mm[rows], grid.z_mm, tube) - margin_mm
    paint(image[rows, columns], distance.astype(np.float32), value_hu, grid.edge_mm)


def tube_distance(x: Float32, y: Float32, z: float, tube: Tube) -> Float32:
    """Distance to a tube's surface: to its axis, less its radius there."""
    a, b = np.asarray(tube.start_mm), np.asarray(tube.end_mm)
    axis = b - a
    length_squared = max(float(axis @ axis), 1e-6)
    dx, dy, dz = x - a[0], y - a[1], z - a[2]
    along = np.clip((dx * axis[0] + dy * axis[1] + dz * axis[2]) / length_squared, 0.0, 1.0)
    radius = tube.start_radius_mm + along * (tube.end_radius_mm - tube.start_radius_mm)
    away = np.sqrt(
        (dx - along * axis[0]) ** 2 + (dy - along * axis[1]) ** 2 + (dz - along * axis[2]) ** 2
    )
    value: Float32 = (away - radius).astype(np.float32)
    return value
