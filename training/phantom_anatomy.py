"""A made-up patient: sizes and places of the thorax phantom's organs, drawn from a seed.

Patient axes relative to the carina, in millimetres: ``x`` left, ``y`` back, ``z`` head.
The heart, the stomach and the spleen are left, the liver right, the right diaphragm higher.
Sizes are rounded from anatomy textbooks' adult ranges; they are for pictures and for training,
not for dosimetry.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.phantom_shapes import Tube

Point = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class GasPocket:
    """A stomach bubble or a bowel loop: an ellipsoid of gas with a wall."""

    centre_mm: Point
    axes_mm: Point
    turn_rad: float
    level_mm: float
    """Fluid lies behind this ``y``; gas before it (the patient lies on the back)."""


@dataclass(frozen=True, kw_only=True)
class Dome:
    """One dome of the diaphragm: ``top_mm`` at its centre, falling as a paraboloid."""

    centre_mm: tuple[float, float]
    top_mm: float
    half_width_mm: float
    half_depth_mm: float
    fall_mm: float
    """How much lower it is at its half width or half depth."""


@dataclass(frozen=True, kw_only=True)
class Rim:
    """Lung between diaphragm and chest wall: a thin rim around the abdomen.

    It begins at ``low_mm`` and grows ``slope`` millimetres thick per millimetre of height, up to
    ``height_mm`` above; ``back_shift`` and ``left_shift`` of its thickness are added at that side
    and taken from the other.
    """

    low_mm: float
    height_mm: float
    slope: float
    back_shift: float
    left_shift: float


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """Everything that differs between two phantoms."""

    chest_half_width_mm: float
    chest_half_depth_mm: float
    chest_power: float
    fat_mm: float
    muscle_mm: float
    lung_top_mm: float
    tilt_mm: float
    """How far the midline leans to the left at the back."""
    domes: tuple[Dome, ...]
    """The diaphragm: left, right, and the flatter middle that the heart lies on."""
    rim: Rim
    mediastinum_mm: tuple[float, float, float]
    """Half width at the front, in the middle and beside the spine."""
    heart_centre_mm: Point
    heart_axes_mm: Point
    heart_turn_rad: float
    spine_y_mm: float
    spine_radius_mm: float
    vertebra_mm: float
    vertebra_phase_mm: float
    rib_spacing_mm: float
    rib_phase_mm: float
    rib_drop_mm: float
    aorta_radius_mm: float
    arms: str
    breast_mm: float
    blood_hu: float
    liver_hu: float
    lung_hu: tuple[float, float]
    """Parenchyma at the front and at the back (denser: the patient lies on the back)."""
    texture_hu: float
    noise_hu: float
    couch: str
    airways: tuple[Tube, ...]
    bronchi: tuple[Tube, ...]
    vessels: tuple[Tube, ...]
    nodules: tuple[tuple[Point, float], ...]
    gas: tuple[GasPocket, ...]


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draw one patient; the same generator state gives the same patient."""
    half_width = rng.uniform(118, 166)
    half_depth = half_width * rng.uniform(0.62, 0.78)
    spine_y = half_depth * rng.uniform(0.50, 0.60)
    right_dome = rng.uniform(-95, -45)
    left_dome = right_dome - rng.uniform(-2, 24)
    size = half_width / 145
    airways, bronchi = _airways(rng, size)
    return Anatomy(
        chest_half_width_mm=half_width,
        chest_half_depth_mm=half_depth,
        chest_power=rng.uniform(2.05, 2.6),
        fat_mm=rng.uniform(6, 32),
        muscle_mm=rng.uniform(9, 18),
        lung_top_mm=rng.uniform(85, 130) * size,
        tilt_mm=rng.uniform(-8, 8),
        domes=_domes(rng, half_width, half_depth, left_dome, right_dome),
        mediastinum_mm=(rng.uniform(2, 14), rng.uniform(20, 34), rng.uniform(18, 27)),
        heart_centre_mm=(rng.uniform(14, 34) * size, -0.36 * half_depth, rng.uniform(-76, -56)),
        heart_axes_mm=(rng.uniform(52, 70) * size, rng.uniform(36, 46) * size, rng.uniform(38, 50)),
        heart_turn_rad=rng.uniform(0.2, 0.8),
        spine_y_mm=spine_y,
        spine_radius_mm=rng.uniform(15, 20),
        vertebra_mm=rng.uniform(22, 30),
        vertebra_phase_mm=rng.uniform(0, 30),
        rib_spacing_mm=rng.uniform(24, 34),
        rib_phase_mm=rng.uniform(0, 34),
        rib_drop_mm=rng.uniform(55, 110),
        aorta_radius_mm=rng.uniform(10, 15),
        arms=str(rng.choice(["down", "up", "up"])),
        breast_mm=float(rng.choice([0.0, rng.uniform(20, 55)])),
        blood_hu=float(rng.choice([rng.uniform(30, 55), rng.uniform(120, 350)])),
        liver_hu=rng.uniform(45, 115),
        lung_hu=(rng.uniform(-930, -840), rng.uniform(-860, -700)),
        texture_hu=rng.uniform(10, 45),
        noise_hu=rng.uniform(5, 45),
        couch=str(rng.choice(["curved", "curved", "flat", "none"])),
        airways=airways,
        bronchi=bronchi,
        vessels=_vessels(rng, half_width, half_depth),
        nodules=_nodules(rng, half_width),
        gas=_gas_pockets(rng, half_width, half_depth, left_dome, right_dome),
        rim=_rim(rng, left_dome),
    )


def _domes(
    rng: np.random.Generator,
    half_width_mm: float,
    half_depth_mm: float,
    left_top_mm: float,
    right_top_mm: float,
) -> tuple[Dome, ...]:
    """Both domes mostly lie towards the front: there the deep recess of the lung is at the back."""
    sides = [
        Dome(
            centre_mm=(side * 0.45 * half_width_mm, -rng.uniform(-0.2, 0.4) * half_depth_mm),
            top_mm=top,
            half_width_mm=0.62 * half_width_mm,
            half_depth_mm=rng.uniform(0.95, 1.15) * half_depth_mm,
            fall_mm=rng.uniform(38, 75),
        )
        for side, top in ((1.0, left_top_mm), (-1.0, right_top_mm))
    ]
    middle = Dome(
        centre_mm=(0.0, -0.2 * half_depth_mm),
        top_mm=left_top_mm - rng.uniform(4, 16),
        half_width_mm=0.5 * half_width_mm,
        half_depth_mm=0.8 * half_depth_mm,
        fall_mm=rng.uniform(20, 45),
    )
    return (*sides, middle)


def _rim(rng: np.random.Generator, left_top_mm: float) -> Rim:
    """Draw a rim of 30 to 80 mm height, 1 to 16 mm thick at its upper end."""
    height = rng.uniform(30, 80)
    return Rim(
        low_mm=left_top_mm - rng.uniform(5, 30) - height,
        height_mm=height,
        slope=rng.uniform(0.04, 0.2),
        back_shift=rng.uniform(-1.2, 1.2),
        left_shift=rng.uniform(-0.8, 0.8),
    )


def _airways(rng: np.random.Generator, size: float) -> tuple[tuple[Tube, ...], tuple[Tube, ...]]:
    """Trachea and main bronchi (never lung), and the lobar bronchi inside the lungs."""
    radius = rng.uniform(7, 11)
    y = rng.uniform(-4, 10)
    carina = (rng.uniform(-4, 4), y, 0.0)
    trachea = Tube(
        start_mm=(0.0, y - 12, 260.0), end_mm=carina, start_radius_mm=radius, end_radius_mm=radius
    )
    main: list[Tube] = [trachea]
    lobar: list[Tube] = []
    for side, drop in ((1.0, rng.uniform(25, 38)), (-1.0, rng.uniform(28, 45))):
        reach = (48.0 if side > 0 else 38.0) * size
        hilum = (side * reach, y + 6, -drop)
        main.append(
            Tube(
                start_mm=carina,
                end_mm=hilum,
                start_radius_mm=radius * 0.75,
                end_radius_mm=radius * 0.6,
            )
        )
        for _ in range(4):
            direction = np.array(
                [side * rng.uniform(0.3, 1), rng.uniform(-1, 1), rng.uniform(-1, 1)]
            )
            end = np.asarray(hilum) + direction / np.linalg.norm(direction) * rng.uniform(25, 50)
            lobar.append(
                Tube(
                    start_mm=hilum,
                    end_mm=(float(end[0]), float(end[1]), float(end[2])),
                    start_radius_mm=radius * 0.5,
                    end_radius_mm=1.5,
                )
            )
    return tuple(main), tuple(lobar)


def _vessels(
    rng: np.random.Generator, half_width_mm: float, half_depth_mm: float
) -> tuple[Tube, ...]:
    """Two trees of vessels, each growing out of its hilum by repeated forking."""
    tubes: list[Tube] = []
    for side in (1.0, -1.0):
        hilum = np.array([side * 0.24 * half_width_mm, rng.uniform(-5, 12), rng.uniform(-35, -12)])
        for _ in range(13):
            direction = np.array([side * rng.uniform(0.05, 1.0), *rng.normal(0, [0.6, 1.0])])
            _grow(
                rng,
                tubes,
                hilum,
                direction / np.linalg.norm(direction),
                radius_mm=rng.uniform(3.5, 6.5),
                length_mm=rng.uniform(0.25, 0.4) * half_depth_mm,
                generations=5,
            )
    return tuple(tubes)


def _grow(
    rng: np.random.Generator,
    tubes: list[Tube],
    start: NDArray[np.float64],
    direction: NDArray[np.float64],
    *,
    radius_mm: float,
    length_mm: float,
    generations: int,
) -> None:
    """Add a tube and, at its end, two thinner ones."""
    end = start + direction * length_mm
    tubes.append(
        Tube(
            start_mm=(float(start[0]), float(start[1]), float(start[2])),
            end_mm=(float(end[0]), float(end[1]), float(end[2])),
            start_radius_mm=radius_mm,
            end_radius_mm=radius_mm * 0.75,
        )
    )
    if generations <= 1:
        return
    for _ in range(2):
        turned = direction + rng.normal(0, 0.45, 3)
        _grow(
            rng,
            tubes,
            end,
            turned / np.linalg.norm(turned),
            radius_mm=radius_mm * 0.76,
            length_mm=length_mm * 0.82,
            generations=generations - 1,
        )


def _nodules(rng: np.random.Generator, half_width_mm: float) -> tuple[tuple[Point, float], ...]:
    """Up to three solid nodules, some of them large; they belong to the lung."""
    return tuple(
        (
            (
                float(rng.choice([-1, 1]) * rng.uniform(0.35, 0.75) * half_width_mm),
                rng.uniform(-50, 55),
                rng.uniform(-60, 60),
            ),
            rng.uniform(3, 14),
        )
        for _ in range(int(rng.integers(0, 4)))
    )


def _gas_pockets(
    rng: np.random.Generator,
    half_width_mm: float,
    half_depth_mm: float,
    left_dome_mm: float,
    right_dome_mm: float,
) -> tuple[GasPocket, ...]:
    """Stomach below the left dome, colon loops across the front below both domes."""
    stomach_z = left_dome_mm - rng.uniform(32, 50)
    stomach_y = rng.uniform(-25, 5)
    pockets = [
        GasPocket(
            centre_mm=(0.45 * half_width_mm, stomach_y, stomach_z),
            axes_mm=(rng.uniform(28, 42), rng.uniform(28, 42), rng.uniform(26, 40)),
            turn_rad=rng.uniform(0, 3.1),
            level_mm=stomach_y + rng.uniform(-25, 15),
        )
    ]
    for _ in range(int(rng.integers(2, 14))):
        x = rng.uniform(-0.75, 0.95) * half_width_mm
        top = left_dome_mm - 12 if x > 0 else right_dome_mm - 145
        y = rng.uniform(-0.8, 0.35) * half_depth_mm
        radius = rng.uniform(7, 24)
        pockets.append(
            GasPocket(
                centre_mm=(x, y, top - rng.uniform(0, 130)),
                axes_mm=(radius * rng.uniform(1, 2.2), radius, radius * rng.uniform(0.8, 1.5)),
                turn_rad=rng.uniform(-0.8, 0.8),
                level_mm=y + rng.uniform(-0.3, 1.2) * radius,
            )
        )
    return tuple(pockets)
