"""Reference lungs by classical image processing, to be looked at before anything learns from them.

Air inside the body, less bowel gas and airways, parted into two sides, vessels filled in. It knows
anatomy only where each step says so, and it fails where lungs are consolidated or collapsed: its
result is a proposal for a person who looks at every slice. docs/models/ct_lung_seg.md tells what
was looked at; ``python -m training.lung_sheet SERIES -o sheet.png`` draws the pictures again.

What counts as lung: parenchyma with the vessels, small airways and nodules inside it. What does
not: trachea, main and lobar bronchi with their walls, and the vessels of the hilum.
"""

from __future__ import annotations

from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.pipeline.preprocess import to_canonical

Mask = NDArray[np.bool_]
Spacing = tuple[float, float, float]
Float32 = NDArray[np.float32]

LEFT_LUNG, RIGHT_LUNG = 1, 2

BODY_HU = -300.0
"""Skin, fat and muscle lie above it; clothes, blankets and the couch's foam mostly below."""
LUNG_HU = -400.0
"""Half way between parenchyma (about -850) and soft tissue (about 50): where the edge lies."""
AIRWAY_HU = -900.0
GAS_MEDIAN_HU = -945.0
"""Bowel gas is as empty as outside air; the median of a lung, even with emphysema, is above."""
AIRWAY_WALL_MM = 2.0
LARGEST_AIRWAY_ML = 110.0
SMALLEST_PART_ML = 1.5
LARGE_SHARE = 0.05
"""A part of at least this share of the largest is lung wherever it lies; a smaller one must lie
within NEAR_MM of such a part."""
NEAR_MM = 8.0
LEAST_DEPTH_MM = 12.0
"""Skin, fat and ribs over the lung are thicker; folds between back and couch are not."""
VESSEL_CLOSING_MM = 7.0


def segment_lungs(
    array: NDArray[Any], affine_lps: NDArray[np.float64], *, nodules: Mask | None = None
) -> NDArray[np.uint8]:
    """Label the lungs of a CT: 1 left, 2 right, by the patient's sides.

    Parameters
    ----------
    array : (slice, row, column), Hounsfield units, any orientation
    affine_lps : (4, 4)
    nodules : same shape; solid nodules outlined by others, which belong to the lung they touch
    """
    view = to_canonical(array, affine_lps)
    image = np.maximum(view.array.astype(np.float32), -1024.0)
    spacing = view.spacing_mm
    body = body_mask(image, spacing)
    air = (image < LUNG_HU) & body
    airways = airway_mask(image, air, spacing)
    parts = _lung_parts(image, air & ~airways, body, spacing)
    sides = _part_sides(parts, body, spacing)
    canonical = np.zeros(image.shape, np.uint8)
    taken = airways | ~body
    for side in (LEFT_LUNG, RIGHT_LUNG):
        filled = _fill_vessels(sides == side, spacing)
        canonical[filled & ~taken & ((sides == 0) | (sides == side)) & (canonical == 0)] = side
    if nodules is not None:
        _join_nodules(canonical, view.axes.view(nodules))
    labels = np.zeros(array.shape, np.uint8)
    view.axes.view(labels)[...] = canonical
    return labels


def body_mask(image: Float32, spacing: Spacing) -> Mask:
    """Find the trunk: dense voxels opened, the largest part, holes of each slice filled."""
    dense = image > BODY_HU
    opened = _opened_2d(dense, 3.0, spacing)
    parts: NDArray[Any] = cc3d.connected_components(opened, connectivity=6, binary_image=True)
    sizes = np.bincount(parts.reshape(-1))
    sizes[0] = 0
    body: Mask = parts == sizes.argmax()
    for plane in body:
        ndimage.binary_fill_holes(plane, output=plane)
    return body


def airway_mask(image: Float32, air: Mask, spacing: Spacing) -> Mask:
    """Find trachea and large bronchi with their walls.

    Seeds are round spots of air near the midline that soft tissue surrounds on a slice. From them
    the emptiest air grows, at the highest threshold that does not leak into the parenchyma.
    """
    seeds = _airway_seeds(image, air, spacing)
    if not seeds.any():
        return seeds
    smooth = ndimage.gaussian_filter(image, [0.6 / s for s in spacing])
    voxel_ml = float(np.prod(spacing)) / 1000
    grown = seeds
    for threshold in np.arange(-990.0, AIRWAY_HU + 71, 10.0):
        parts: NDArray[Any] = cc3d.connected_components(
            (smooth < threshold) & air, connectivity=6, binary_image=True
        )
        touched = np.unique(parts[seeds])
        candidate = np.isin(parts, touched[touched > 0]) | seeds
        n_before, n_now = int(grown.sum()), int(candidate.sum())
        if n_now * voxel_ml > LARGEST_AIRWAY_ML or n_now > 1.6 * n_before + 2.0 / voxel_ml:
            break
        grown = candidate
    return _dilated(grown, AIRWAY_WALL_MM, spacing)


def _airway_seeds(image: Float32, air: Mask, spacing: Spacing) -> Mask:
    """Spots of 40 to 700 mm2 within 45 mm of the body's midline, in a ring of soft tissue."""
    seeds = np.zeros(air.shape, bool)
    pixel_mm2 = spacing[1] * spacing[2]
    for plane, values, out in zip(air, image, seeds, strict=True):
        parts, n = ndimage.label(plane)
        if not n:
            continue
        tissue_columns = np.flatnonzero((values > BODY_HU).any(axis=0))
        middle = float(tissue_columns.mean()) if len(tissue_columns) else plane.shape[1] / 2
        areas = np.bincount(parts.reshape(-1)) * pixel_mm2
        for number, box in enumerate(ndimage.find_objects(parts), 1):
            if box is None or not 40 <= areas[number] <= 700:
                continue
            if abs((box[1].start + box[1].stop) / 2 - middle) * spacing[2] > 45:
                continue
            height, width = ((b.stop - b.start) * s for b, s in zip(box, spacing[1:], strict=True))
            if max(height, width) > 3.2 * min(height, width):
                continue
            wide = tuple(slice(max(b.start - 4, 0), b.stop + 4) for b in box)
            spot = parts[wide] == number
            ring = ndimage.binary_dilation(spot, iterations=3) & ~ndimage.binary_dilation(spot)
            if values[wide][ring].mean() > -250 and np.median(values[wide][spot]) < AIRWAY_HU + 60:
                out[wide] |= spot
    return _long_enough(seeds, spacing)


def _long_enough(seeds: Mask, spacing: Spacing) -> Mask:
    """Keep seeds that run on for 20 mm or to the end of a short series: bowel loops do not."""
    parts: NDArray[Any] = cc3d.connected_components(seeds, connectivity=26, binary_image=True)
    kept = np.zeros(seeds.shape, bool)
    least_mm = min(20.0, 0.4 * seeds.shape[0] * spacing[0])
    top_half = seeds.shape[0] // 2
    for number, box in enumerate(ndimage.find_objects(parts), 1):
        if box is None:
            continue
        is_long = (box[0].stop - box[0].start) * spacing[0] >= least_mm
        if is_long and (box[0].stop > top_half):
            kept[box] |= parts[box] == number
    return kept


def _lung_parts(image: Float32, air: Mask, body: Mask, spacing: Spacing) -> NDArray[Any]:
    """Keep connected air that is lung: large or beside it, deep enough, not as empty as gas."""
    opened = _opened_2d(air, 1.0, spacing)
    parts: NDArray[Any] = cc3d.connected_components(opened, connectivity=6, binary_image=True)
    boxes = ndimage.find_objects(parts)
    sizes = np.bincount(parts.reshape(-1)) * (float(np.prod(spacing)) / 1000)
    depth_mm = np.stack([ndimage.distance_transform_edt(p, sampling=spacing[1:]) for p in body])
    lungs = []
    for number in np.flatnonzero(sizes >= SMALLEST_PART_ML):
        if number == 0:
            continue
        box = boxes[number - 1]
        part = parts[box] == number
        core = ndimage.binary_erosion(part)
        values = image[box][core if core.sum() > 50 else part]
        is_shallow = np.median(depth_mm[box][part]) < LEAST_DEPTH_MM
        if not (is_shallow or np.median(values) < GAS_MEDIAN_HU or _is_gas(image[box], part)):
            lungs.append(int(number))
    largest = max((float(sizes[number]) for number in lungs), default=0.0)
    large = [number for number in lungs if sizes[number] >= LARGE_SHARE * largest]
    kept = np.where(np.isin(parts, large), parts, 0)
    near = _dilated(kept > 0, NEAR_MM, spacing)
    for number in set(lungs) - set(large):
        box = boxes[number - 1]
        part = parts[box] == number
        if near[box][part].any():
            kept[box][part] = number
    return kept


def _is_gas(image: Float32, part: Mask) -> bool:
    """Whether a small part is a bubble: mostly empty, or its emptiest tenth as empty as air."""
    values = image[part]
    return bool((values < -960).mean() > 0.25)


def _part_sides(parts: NDArray[Any], body: Mask, spacing: Spacing) -> NDArray[np.uint8]:
    """Give each part to the left or the right lung; a part that is both lungs is cut in two."""
    sides = np.zeros(parts.shape, np.uint8)
    columns = np.flatnonzero(body.any(axis=(0, 1)))
    middle = float(columns.mean()) if len(columns) else parts.shape[2] / 2
    for number, box in enumerate(ndimage.find_objects(parts), 1):
        if box is None:
            continue
        part = parts[box] == number
        centre = ndimage.center_of_mass(part)[2] + box[2].start
        share_left = (np.argwhere(part)[:, 2] + box[2].start > middle).mean()
        if 0.12 < share_left < 0.88 and part.sum() > 0.2 * (parts > 0).sum():
            sides[box][part] = _cut_in_two(part, spacing)[part]
        else:
            sides[box][part] = LEFT_LUNG if centre > middle else RIGHT_LUNG
    return sides


def _cut_in_two(part: Mask, spacing: Spacing) -> NDArray[np.uint8]:
    """Erode until two large pieces remain; every voxel then follows the nearer piece."""
    depth: NDArray[Any] = ndimage.distance_transform_edt(part, sampling=spacing)
    for least_mm in np.arange(1.0, 20.0, 0.75):
        pieces: NDArray[Any] = cc3d.connected_components(
            depth > least_mm, connectivity=6, binary_image=True
        )
        sizes = np.bincount(pieces.reshape(-1))
        sizes[0] = 0
        first, second = np.argsort(sizes)[::-1][:2] if len(sizes) > 2 else (0, 0)
        if second and sizes[second] > 0.2 * sizes[first]:
            nearest = ndimage.distance_transform_edt(
                (pieces != first) & (pieces != second),
                sampling=spacing,
                return_distances=False,
                return_indices=True,
            )
            followed = pieces[tuple(nearest)]
            columns = [ndimage.center_of_mass(pieces == piece)[2] for piece in (first, second)]
            left = first if columns[0] > columns[1] else second
            return np.where(followed == left, LEFT_LUNG, RIGHT_LUNG).astype(np.uint8)
    middle = ndimage.center_of_mass(part)[2]
    columns_of = np.arange(part.shape[2])[None, None]
    return np.broadcast_to(np.where(columns_of > middle, LEFT_LUNG, RIGHT_LUNG), part.shape).astype(
        np.uint8
    )


def _fill_vessels(lung: Mask, spacing: Spacing) -> Mask:
    """Close gaps narrower than a vessel, slice by slice, then fill what is enclosed."""
    filled = np.zeros_like(lung)
    for plane, out in zip(lung, filled, strict=True):
        if not plane.any():
            continue
        rows, columns = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
        box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        out[box] = ndimage.binary_fill_holes(_closed(plane[box], VESSEL_CLOSING_MM, spacing[1:]))
    return filled


def _join_nodules(labels: NDArray[np.uint8], nodules: Mask) -> None:
    """Give each nodule to the lung that most of its surroundings belong to."""
    parts, _ = ndimage.label(nodules)
    for number, box in enumerate(ndimage.find_objects(parts), 1):
        wide = tuple(slice(max(b.start - 3, 0), b.stop + 3) for b in box)
        spot = parts[wide] == number
        around = labels[wide][ndimage.binary_dilation(spot, iterations=2)]
        counts = np.bincount(around[around > 0], minlength=3)
        if counts.sum():
            labels[wide][spot & (labels[wide] == 0)] = counts.argmax()


def _closed(plane: Mask, radius_mm: float, spacing: tuple[float, ...]) -> Mask:
    """Dilate by a distance and erode by it; the outside of the box counts as empty."""
    margin = [int(np.ceil(radius_mm / s)) + 1 for s in spacing]
    padded = np.pad(plane, [(m, m) for m in margin])
    wide = ndimage.distance_transform_edt(~padded, sampling=spacing) <= radius_mm
    back = ndimage.distance_transform_edt(wide, sampling=spacing) > radius_mm
    crop = tuple(slice(m, m + n) for m, n in zip(margin, plane.shape, strict=True))
    closed: Mask = (padded | back)[crop]
    return closed


def _dilated(mask: Mask, radius_mm: float, spacing: Spacing) -> Mask:
    wide: Mask = ndimage.distance_transform_edt(~mask, sampling=spacing) <= radius_mm
    return wide


def _opened_2d(mask: Mask, radius_mm: float, spacing: Spacing) -> Mask:
    """Remove what is thinner than twice the radius on each slice."""
    opened = np.zeros_like(mask)
    for plane, out in zip(mask, opened, strict=True):
        core = ndimage.distance_transform_edt(plane, sampling=spacing[1:]) > radius_mm
        out[...] = (
            ndimage.distance_transform_edt(~core, sampling=spacing[1:]) <= radius_mm
        ) & plane
    return opened
