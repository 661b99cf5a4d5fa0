"""Checks of bit packing, for the CPU, simulator and GPU runs; see `cases`."""

from __future__ import annotations

from typing import Any

import numpy as np

from cuda_kernels.bits import (
    labels_present,
    labels_present_reference,
    pack_masks,
    pack_masks_reference,
)

# Frames shorter than a byte, ending within one, and whole bytes; one block of bytes and more.
FRAME_SHAPES = ((2, 1, 1), (4, 1, 3), (3, 5, 7), (9, 3, 3), (5, 8, 8), (3, 27, 31))


def check_pack_masks(put: Any, get: Any) -> None:
    rng = np.random.default_rng(11)
    for shape in FRAME_SHAPES:
        for dtype in (np.uint8, np.uint16):
            labels = rng.choice(np.array([0, 0, 1, 2, 200], dtype), shape)
            present = labels_present(put(labels), 201)
            np.testing.assert_array_equal(present, labels_present_reference(labels, 201))
            values = [200, 1, 2]
            frames = [(k, z) for k in range(3) for z in range(shape[0]) if present[z, values[k]]]
            packed = get(pack_masks(put(labels), values, frames))
            np.testing.assert_array_equal(packed, pack_masks_reference(labels, values, frames))


def check_pack_masks_of_nothing(put: Any, get: Any) -> None:
    assert get(pack_masks(put(np.zeros((2, 3, 5), np.uint8)), [1], [])).size == 0
