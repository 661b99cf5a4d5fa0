"""Pictures of reference lungs, every slice, for a person who checks them.

``python -m training.lung_sheet SERIES -o sheet.png`` segments SERIES (NIfTI file, DICOM folder or
archive) with `lung_reference` and draws left red and right blue; nothing may be learnt from a
case before this picture was looked at.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image

from inference.pipeline.preprocess import to_canonical
from training.lung_reference import LEFT_LUNG, segment_lungs
from training.reading import read_any

TILE_PX = 160
N_COLUMNS = 11
GREY_HU = (-1000.0, 250.0)
COLORS = np.array([[0, 0, 0], [230, 85, 60], [70, 150, 220]], np.float32)


def draw_sheet(
    array: NDArray[Any], labels: NDArray[Any], affine_lps: NDArray[np.float64]
) -> Image.Image:
    """Draw every slice from foot to head, the patient's right on the left of each tile."""
    image = to_canonical(array, affine_lps).array
    canonical = to_canonical(labels, affine_lps).array
    tiles = [_tile(plane, mask) for plane, mask in zip(image, canonical, strict=True)]
    n_rows = -(-len(tiles) // N_COLUMNS)
    sheet = Image.new("RGB", (min(N_COLUMNS, len(tiles)) * TILE_PX, n_rows * TILE_PX))
    for number, tile in enumerate(tiles):
        row, column = divmod(number, N_COLUMNS)
        sheet.paste(tile, (column * TILE_PX, row * TILE_PX))
    return sheet


def _tile(plane: NDArray[Any], mask: NDArray[Any]) -> Image.Image:
    low, high = GREY_HU
    grey = np.clip((plane.astype(np.float32) - low) / (high - low), 0, 1)[..., None] * 255
    share = np.where(mask > 0, 0.35, 0.0)[..., None]
    mixed = grey * (1 - share) + COLORS[mask] * share
    tile = Image.fromarray(mixed.astype(np.uint8))
    tile.thumbnail((TILE_PX, TILE_PX), Image.Resampling.BILINEAR)
    return tile


def main(
    series: Annotated[Path, typer.Argument(help="NIfTI file, DICOM folder or archive.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="The PNG to write.")],
) -> None:
    """Segment the lungs of SERIES and draw every slice."""
    volume = read_any(series)
    labels = segment_lungs(volume.array, volume.affine_lps)
    draw_sheet(volume.array, labels, volume.affine_lps).save(out, optimize=True)
    millilitres = volume.voxel_volume_mm3 / 1000
    left = (labels == LEFT_LUNG).sum() * millilitres
    right = (labels > LEFT_LUNG).sum() * millilitres
    typer.echo(f"left {left:.0f} ml, right {right:.0f} ml; look at {out} before using it")


if __name__ == "__main__":
    typer.run(main)
