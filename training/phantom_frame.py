"""The thorax phantom's frame: skin, fat, muscle, arms, bones and the couch under them."""

from __future__ import annotations

import numpy as np

from training.phantom_anatomy import Anatomy
from training.phantom_shapes import (
    Float32,
    SliceGrid,
    Tube,
    ellipsoid,
    paint,
    paint_tube,
    superellipse,
    tube_distance,
)

FAT_HU, MUSCLE_HU, MARROW_HU, BONE_HU = -100.0, 55.0, 180.0, 650.0


def _body(anatomy: Anatomy, grid: SliceGrid) -> Float32:
    """Distance to the skin: the trunk, narrowing to the neck above the shoulders."""
    wall = anatomy.fat_mm + anatomy.muscle_mm
    neck = np.clip((grid.z_mm - anatomy.lung_top_mm - 5) / 60.0, 0.0, 1.0)
    width = (anatomy.chest_half_width_mm + wall) * (1 - neck) + 75.0 * neck
    depth = (anatomy.chest_half_depth_mm + wall * 0.9) * (1 - neck) + 75.0 * neck
    shoulder = 25.0 * np.exp(-(((grid.z_mm - anatomy.lung_top_mm + 15) / 40.0) ** 2))
    return superellipse(grid.x_mm, grid.y_mm, width + shoulder, depth, 2.3)


def paint_body(image: Float32, anatomy: Anatomy, grid: SliceGrid) -> None:
    """Skin, fat and muscle of the trunk; arms and breasts where the patient has them."""
    parts = [_body(anatomy, grid)]
    wall = anatomy.chest_half_width_mm + anatomy.fat_mm + anatomy.muscle_mm
    if anatomy.arms == "down":
        parts += [
            superellipse(grid.x_mm - s * (wall + 52), grid.y_mm - 18, 44, 50) for s in (1, -1)
        ]
    elif grid.z_mm > anatomy.lung_top_mm - 25:
        parts += [superellipse(grid.x_mm - s * (wall - 25), grid.y_mm - 5, 55, 50) for s in (1, -1)]
    if anatomy.breast_mm:
        front = -anatomy.chest_half_depth_mm - anatomy.fat_mm
        parts += [
            ellipsoid(
                grid, (s * 0.5 * wall, front, -45.0), (60.0, anatomy.breast_mm, 55.0), s * -0.3
            )
            for s in (1, -1)
        ]
    skin = np.minimum.reduce(parts)
    paint(image, skin, 10.0, grid.edge_mm)
    paint(image, skin + 2.0, FAT_HU, grid.edge_mm)
    paint(image, parts[0] + anatomy.fat_mm, MUSCLE_HU, grid.edge_mm)
    if anatomy.breast_mm:
        paint(image, np.minimum(parts[-1], parts[-2]) + 14.0, 0.0, grid.edge_mm)
    if anatomy.arms == "down" or grid.z_mm > anatomy.lung_top_mm - 25:
        for arm in parts[1:3]:
            paint(image, arm + 10.0, MUSCLE_HU, grid.edge_mm)
            paint(image, arm + 34.0, BONE_HU, grid.edge_mm)
            paint(image, arm + 39.0, MARROW_HU, grid.edge_mm)
    for side in (1, -1):  # shoulder blades
        if -60 < grid.z_mm < anatomy.lung_top_mm + 15:
            blade = Tube(
                start_mm=(side * (wall - 35), anatomy.chest_half_depth_mm * 0.35, grid.z_mm),
                end_mm=(side * 0.48 * wall, anatomy.chest_half_depth_mm + 6, grid.z_mm),
                start_radius_mm=4.5,
                end_radius_mm=3.0,
            )
            paint_tube(image, grid, blade, BONE_HU * 0.7)


def paint_couch(image: Float32, anatomy: Anatomy, grid: SliceGrid) -> None:
    """Paint the table: a light core in a thin denser shell, under the back."""
    if anatomy.couch == "none":
        return
    back = anatomy.chest_half_depth_mm + 0.9 * (anatomy.fat_mm + anatomy.muscle_mm) + 3.0
    if anatomy.couch == "flat":
        depth = np.abs(grid.y_mm - (back + 20.0)) - 20.0
        table = np.maximum(depth, np.abs(grid.x_mm) - 235.0)
    else:
        outer = superellipse(grid.x_mm, grid.y_mm - (back - 390.0), 420.0, 420.0)
        table = np.maximum(np.maximum(outer, -outer - 26.0), back - 60.0 - grid.y_mm)
        table = np.maximum(table, np.abs(grid.x_mm) - 215.0)
    table = np.broadcast_to(table, image.shape).astype(np.float32)
    paint(image, table, -150.0, grid.edge_mm)
    paint(image, table + 3.0, -880.0, grid.edge_mm)


def paint_spine(image: Float32, anatomy: Anatomy, grid: SliceGrid) -> None:
    """Vertebral bodies and discs, the arch, the canal and a spinous process."""
    y, radius, edge = anatomy.spine_y_mm + 16.0, anatomy.spine_radius_mm, grid.edge_mm
    x_mm, y_mm = grid.x_mm, grid.y_mm
    phase = (grid.z_mm - anatomy.vertebra_phase_mm) % anatomy.vertebra_mm
    arch = superellipse(x_mm, y_mm - (y + radius + 8), 19.0, 12.0)
    process = Tube(
        start_mm=(0.0, y + radius + 12, grid.z_mm),
        end_mm=(0.0, y + radius + 34, grid.z_mm),
        start_radius_mm=4.0,
        end_radius_mm=3.0,
    )
    paint(image, arch, 350.0, edge)
    if phase > anatomy.vertebra_mm * 0.35:
        paint(image, tube_distance(x_mm, y_mm, grid.z_mm, process), 350.0, edge)
    paint(image, superellipse(x_mm, y_mm - (y + radius + 7), 9.0, 8.0), 25.0, edge)
    body = superellipse(x_mm, y_mm - y, radius * 1.1, radius * 0.9, 2.4)
    if phase < 5.0:
        paint(image, body, 85.0, edge)
    else:
        paint(image, body, 420.0, edge)
        paint(image, body + 2.5, MARROW_HU, edge)


def paint_ribs(image: Float32, anatomy: Anatomy, grid: SliceGrid, cavity: Float32) -> None:
    """Ribs fall from the spine to the front; breast bone and collar bones close the ring."""
    angle = np.arctan2(np.abs(grid.x_mm), grid.y_mm)  # 0 at the spine, pi at the breast bone
    height = grid.z_mm + anatomy.rib_drop_mm * (angle / np.pi) ** 1.3 - anatomy.rib_phase_mm
    from_rib = (height + anatomy.rib_spacing_mm / 2) % anatomy.rib_spacing_mm
    across = (from_rib - anatomy.rib_spacing_mm / 2) * 0.8
    rib = np.hypot((cavity - 6.0) / 4.5, across / 5.0) * 5.0 - 5.0
    bony = (angle > 0.35) & (angle < 2.45) & (grid.z_mm < anatomy.lung_top_mm + 15)
    rib = np.where(bony, rib, 9.0).astype(np.float32)
    paint(image, rib, BONE_HU, grid.edge_mm)
    paint(image, rib + 2.0, MARROW_HU + 60, grid.edge_mm)
    if -85 < grid.z_mm < anatomy.lung_top_mm - 15:
        front = superellipse(
            grid.x_mm,
            grid.y_mm + anatomy.chest_half_depth_mm * _front_share(anatomy, grid) + 9,
            20.0,
            6.0,
            3.0,
        )
        paint(image, front, 400.0, grid.edge_mm)
        paint(image, front + 2.0, MARROW_HU, grid.edge_mm)
    for side in (1.0, -1.0):
        collar = Tube(
            start_mm=(side * 14.0, -0.55 * anatomy.chest_half_depth_mm, anatomy.lung_top_mm - 8),
            end_mm=(side * 130.0, 8.0, anatomy.lung_top_mm + 22),
            start_radius_mm=7.0,
            end_radius_mm=6.0,
        )
        paint_tube(image, grid, collar, BONE_HU * 0.8)


def _front_share(anatomy: Anatomy, grid: SliceGrid) -> float:
    """How far the front wall has come back at this height, as in ``_cavity``."""
    high = float(np.clip(grid.z_mm / max(anatomy.lung_top_mm, 1.0), 0.0, 1.3))
    return 1.0 - 0.22 * high**2
