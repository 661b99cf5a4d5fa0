"""The thorax phantom's organs, as distances: cavity, diaphragm, heart, vessels, abdomen, lungs."""

from __future__ import annotations

import numpy as np

from training.phantom_anatomy import Anatomy
from training.phantom_shapes import (
    Float32,
    SliceGrid,
    Tube,
    ellipsoid,
    paint,
    superellipse,
    tube_distance,
)

AIR_HU, FAT_HU = -1000.0, -100.0


def cavity_distance(anatomy: Anatomy, grid: SliceGrid) -> Float32:
    """Distance to the inside of the rib cage."""
    high = np.clip(grid.z_mm / max(anatomy.lung_top_mm, 1.0), 0.0, 1.3)
    shrink = 1.0 - 0.36 * high**2
    return superellipse(
        grid.x_mm,
        grid.y_mm,
        anatomy.chest_half_width_mm * shrink,
        anatomy.chest_half_depth_mm * (1.0 - 0.22 * high**2),
        anatomy.chest_power,
    )


def below_diaphragm_distance(anatomy: Anatomy, grid: SliceGrid) -> Float32:
    """Distance to the space under the diaphragm: negative below a dome, inside the rim."""
    heights = []
    for dome in anatomy.domes:
        across = ((grid.x_mm - dome.centre_mm[0]) / dome.half_width_mm) ** 2
        along = ((grid.y_mm - dome.centre_mm[1]) / dome.half_depth_mm) ** 2
        heights.append(dome.top_mm - dome.fall_mm * (across + along))
    domes = (grid.z_mm - np.maximum.reduce(heights)) * 0.7
    value: Float32 = np.maximum(domes, _rim_distance(anatomy, grid)).astype(np.float32)
    return value


def _rim_distance(anatomy: Anatomy, grid: SliceGrid) -> Float32:
    """Distance to what the rim of lung along the chest wall encloses."""
    rim = anatomy.rim
    thick_mm = rim.slope * float(np.clip(grid.z_mm - rim.low_mm, 0.0, rim.height_mm))
    return superellipse(
        grid.x_mm + np.float32(rim.left_shift * thick_mm),
        grid.y_mm + np.float32(rim.back_shift * thick_mm),
        anatomy.chest_half_width_mm - thick_mm,
        anatomy.chest_half_depth_mm - thick_mm,
        anatomy.chest_power,
    )


def heart_distance(anatomy: Anatomy, grid: SliceGrid) -> Float32:
    """Distance to the heart with its fat."""
    return ellipsoid(grid, anatomy.heart_centre_mm, anatomy.heart_axes_mm, anatomy.heart_turn_rad)


def great_vessels(anatomy: Anatomy) -> tuple[Tube, ...]:
    """Descending aorta, arch, ascending aorta, superior vena cava, pulmonary trunk and arteries."""
    radius, back = anatomy.aorta_radius_mm, anatomy.spine_y_mm - 14.0
    heart_x, heart_y, heart_z = anatomy.heart_centre_mm

    def tube(start: tuple[float, float, float], end: tuple[float, float, float], r: float) -> Tube:
        return Tube(start_mm=start, end_mm=end, start_radius_mm=r, end_radius_mm=r)

    return (
        tube((20.0, back - 6, 25.0), (12.0, back, -240.0), radius),
        tube((20.0, back - 6, 25.0), (-8.0, -25.0, 32.0), radius * 1.05),
        tube((-8.0, -25.0, 32.0), (heart_x - 25, heart_y, heart_z + 15), radius * 1.2),
        tube((-24.0, -14.0, 80.0), (-26.0, -10.0, heart_z), 8.5),
        tube((8.0, -30.0, 5.0), (heart_x - 5, heart_y - 8, heart_z + 10), 12.5),
        tube((8.0, -26.0, 2.0), (38.0, -2.0, -12.0), 9.0),
        tube((8.0, -24.0, -2.0), (-34.0, -6.0, -20.0), 9.0),
    )


def paint_abdomen(image: Float32, anatomy: Anatomy, grid: SliceGrid, space: Float32) -> None:
    """Organs under the diaphragm, kept inside it: liver right, spleen and stomach left, bowel."""
    half_width, half_depth = anatomy.chest_half_width_mm, anatomy.chest_half_depth_mm
    left_top, right_top = (dome.top_mm for dome in anatomy.domes[:2])
    edge = grid.edge_mm
    if float(space.min()) > edge:
        return  # above the diaphragm
    paint(image, space, FAT_HU, edge)
    liver = ellipsoid(
        grid,
        (-0.42 * half_width, -8.0, right_top - 75),
        (0.78 * half_width, half_depth, 95.0),
        0.15,
    )
    paint(image, np.maximum(liver, space), anatomy.liver_hu, edge)
    spleen = ellipsoid(
        grid, (0.68 * half_width, 0.35 * half_depth, left_top - 62), (34.0, 50.0, 55.0), -0.4
    )
    paint(image, np.maximum(spleen, space), anatomy.liver_hu - 5, edge)
    for side in (1.0, -1.0):
        kidney = ellipsoid(
            grid, (side * 62.0, 0.48 * half_depth, left_top - 135), (27.0, 30.0, 55.0), 0.3
        )
        paint(image, np.maximum(kidney, space), 40.0, edge)
    for pocket in anatomy.gas:
        near = grid.around(pocket.centre_mm, max(pocket.axes_mm))
        if near is None:
            continue
        box, part = near
        shape = ellipsoid(part, pocket.centre_mm, pocket.axes_mm, pocket.turn_rad)
        wall = np.maximum(shape, space[box])
        paint(image[box], wall, 40.0, edge)
        inside = wall + 3.0
        paint(image[box], inside, 15.0, edge)
        gas = np.maximum(inside, part.y_mm - np.float32(pocket.level_mm))
        paint(image[box], gas.astype(np.float32), AIR_HU + 20, edge)


def lung_distance(
    anatomy: Anatomy, grid: SliceGrid, side: float, cavity: Float32, below: Float32, heart: Float32
) -> Float32:
    """Distance to one lung: the cavity less mediastinum, heart, spine, aorta and diaphragm."""
    x = side * (grid.x_mm - anatomy.tilt_mm * grid.y_mm / anatomy.chest_half_depth_mm)
    front, middle, back = anatomy.mediastinum_mm
    half_width = (
        front
        + (middle - front) * np.exp(-(((grid.y_mm - 5.0) / 42.0) ** 2))
        + (back - front) * np.clip((grid.y_mm - 25.0) / 30.0, 0.0, 1.0)
    )
    parts = [cavity + 2.0, half_width - x, -below + 2.0, 4.0 - heart]
    parts.append(
        4.0
        - superellipse(
            grid.x_mm,
            grid.y_mm - (anatomy.spine_y_mm + 16.0),
            anatomy.spine_radius_mm * 1.1,
            anatomy.spine_radius_mm * 0.9,
        )
    )
    parts += [
        2.0 - tube_distance(grid.x_mm, grid.y_mm, grid.z_mm, tube)
        for tube in great_vessels(anatomy)[:5]
    ]
    if grid.z_mm > 10.0:
        high = (grid.z_mm - 10.0) / max(anatomy.lung_top_mm - 10.0, 1.0)
        narrow = float(np.sqrt(max(1.0 - high**2, 0.0)))
        parts.append(
            superellipse(
                grid.x_mm - np.float32(side * 0.42 * anatomy.chest_half_width_mm),
                grid.y_mm - 12.0,
                max(0.62 * anatomy.chest_half_width_mm * narrow, 0.1),
                max(1.05 * anatomy.chest_half_depth_mm * narrow, 0.1),
            )
            + (1000.0 if high >= 1 else 0.0)
        )
    shape = (grid.y_mm.shape[0], grid.x_mm.shape[1])
    value: Float32 = np.maximum.reduce([np.broadcast_to(part, shape) for part in parts]).astype(
        np.float32
    )
    return value
