"""What bit packing refuses, and that other libraries unpack the same masks."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.pixels import pack_bits

from cuda_kernels.bits import labels_present, pack_masks
from cuda_kernels.errors import KernelInputError


@pytest.mark.parametrize("shape", [(3, 5, 7), (4, 8, 16), (5, 3, 3)])
def test_bits_are_those_of_pydicom(shape: tuple[int, int, int]) -> None:
    labels = np.random.default_rng(1).integers(0, 3, shape).astype(np.uint8)
    frames = [(k, z) for k in range(2) for z in range(shape[0])]
    stream = np.stack([labels[z] == (5, 2)[k] for k, z in frames])
    packed = pack_masks(labels, [5, 2], frames)
    assert packed.tobytes() == pack_bits(stream.astype(np.uint8), pad=False)


def test_a_view_that_is_not_contiguous_gives_the_same_bits() -> None:
    labels = np.random.default_rng(2).integers(0, 3, (4, 5, 7)).astype(np.uint8)
    view = labels[::-1].transpose(2, 0, 1)
    frames = [(0, 6), (0, 1)]
    np.testing.assert_array_equal(
        pack_masks(view, [1], frames), pack_masks(view.copy(), [1], frames)
    )


def test_what_does_not_fit_is_refused() -> None:
    labels = np.full((2, 3, 4), 3, np.uint8)
    with pytest.raises(KernelInputError, match="3 or more"):
        labels_present(labels, 3)
    with pytest.raises(KernelInputError, match="dtype"):
        labels_present(labels.astype(np.int32), 4)
    with pytest.raises(KernelInputError, match="shape"):
        pack_masks(labels[0], [3], [(0, 0)])
    with pytest.raises(KernelInputError, match="frames"):
        pack_masks(labels, [3], [(0, 2)])
    with pytest.raises(KernelInputError, match="twice"):
        pack_masks(labels, [3], [(0, 1), (0, 1)])
    with pytest.raises(KernelInputError, match="values"):
        pack_masks(labels, [256], [(0, 1)])
