"""Inputs and checks shared by the CPU, simulator and GPU runs of every kernel.

Each check takes ``put`` and ``get`` (host to device and back; the identity on the CPU) and raises
AssertionError where a kernel differs from its reference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cuda_kernels.accumulate import accumulate, accumulate_reference, gaussian_map
from cuda_kernels.axis import linear_axis
from cuda_kernels.interpolate_argmax import interpolate_argmax, interpolate_argmax_reference
from cuda_kernels.label_statistics import label_statistics, label_statistics_reference
from cuda_kernels.merge import merge, merge_reference
from cuda_kernels.resample import resample, resample_reference
from tests.cuda_kernels import cases_bits, cases_distance, cases_normalise, cases_resample

Move = Callable[[Any], Any]

# One voxel; one block of 256 threads and one more; an odd shape with no two sizes equal.
SHAPES = ((1, 1, 1), (1, 1, 257), (3, 5, 7))


def axes_of(shape: tuple[int, ...], steps: tuple[float, float, float]) -> Any:
    """Return axes from ``shape`` to about ``shape / steps``."""
    return tuple(
        linear_axis(n, max(1, round((n - 1) / step) + 1), step)
        for n, step in zip(shape, steps, strict=True)
    )


def check_resample(put: Move, get: Move) -> None:
    rng = np.random.default_rng(1)
    for shape in SHAPES:
        axes = axes_of(shape, (0.7, 1.3, 1.9))
        for dtype in (np.int16, np.float32):
            image = rng.integers(-1000, 1000, shape).astype(dtype)
            out = get(resample(put(image), axes))
            # float32 products of values up to 1000: 8 roundings of 6e-8 each
            np.testing.assert_allclose(out, resample_reference(image, axes), atol=1e-3)
            out = get(resample(put(image), axes, lower=-200.0, upper=300.0))
            np.testing.assert_allclose(
                out, resample_reference(image, axes, -200.0, 300.0), atol=2e-6
            )
            assert out.min() >= 0
            assert out.max() <= 1


def check_accumulate(put: Move, get: Move) -> None:
    rng = np.random.default_rng(2)
    for roi in ((1, 1, 1), (2, 3, 43), (4, 6, 5)):
        slab = (roi[0] + 2, roi[1] + 1, roi[2] + 3)
        importance = gaussian_map(roi, 0.125)
        total, weight = rng.normal(size=(3, *slab)).astype(np.float32), np.zeros(slab, np.float32)
        expected_total, expected_weight = total.copy(), weight.copy()
        there, weight_there, importance_there = put(total), put(weight), put(importance)
        for start in ((0, 0, 0), (2, 1, 3), (1, 1, 0)):
            logits = rng.normal(size=(3, *roi)).astype(np.float32)
            accumulate(put(logits), importance_there, there, weight_there, start)
            accumulate_reference(logits, importance, expected_total, expected_weight, start)
        np.testing.assert_allclose(get(there), expected_total, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(get(weight_there), expected_weight, rtol=1e-6)


def check_merge(put: Move, get: Move) -> None:
    rng = np.random.default_rng(3)
    for n_classes, shape in ((2, (1, 1, 1)), (3, (1, 1, 257)), (5, (4, 5, 7))):
        total = (rng.normal(size=(n_classes, *shape)) * 5).astype(np.float32)
        weight = rng.uniform(0.001, 3, shape).astype(np.float32)
        for softmax in (True, False):
            first, last = (1, 3) if shape[0] > 3 else (0, shape[0])
            there, labels = put(total.copy()), put(np.zeros(shape, np.uint16))
            assert merge(there, put(weight), labels, first=first, last=last, softmax=softmax)
            scores, best = merge_reference(total, weight, softmax=softmax)
            done = slice(first, last)
            np.testing.assert_allclose(get(there)[:, done], scores[:, done], rtol=2e-5, atol=1e-7)
            np.testing.assert_array_equal(get(labels)[done], best[done])
            np.testing.assert_array_equal(get(there)[:, last:], total[:, last:])


def check_merge_not_finite(put: Move, get: Move) -> None:
    del get
    for value in (np.nan, np.inf, -np.inf):
        total = np.zeros((2, 3, 2, 2), np.float32)
        total[1, 1, 0, 1] = value
        weight, labels = np.ones((3, 2, 2), np.float32), np.zeros((3, 2, 2), np.uint16)
        for softmax in (True, False):
            finite = merge(
                put(total.copy()), put(weight), put(labels), first=0, last=3, softmax=softmax
            )
            assert not finite, (value, softmax)


def check_interpolate_argmax(put: Move, get: Move) -> None:
    rng = np.random.default_rng(4)
    for n_classes, shape in ((2, (1, 1, 1)), (2, (1, 1, 257)), (3, (3, 5, 7)), (14, (4, 3, 6))):
        # Plateaus of one class with boundaries between them, and noise.
        scores = rng.normal(size=(n_classes, *shape)).astype(np.float32)
        scores[n_classes - 1, :, :, : shape[2] // 2] += 4
        best = scores.argmax(axis=0).astype(np.uint16)
        axes = axes_of(shape, (0.4, 0.6, 0.3))
        for dtype in (np.uint8, np.uint16):
            out = put(np.full(tuple(len(a) for a in axes), 77, dtype))
            interpolate_argmax(put(scores), put(best), axes, out)
            expected = interpolate_argmax_reference(scores, axes)
            # Float32 against float64 may part where two classes tie; random scores do not tie.
            np.testing.assert_array_equal(get(out), expected)


def check_interpolate_argmax_of_halves(put: Move, get: Move) -> None:
    rng = np.random.default_rng(6)
    scores = rng.normal(size=(3, 3, 5, 7)).astype(np.float32)
    axes = axes_of((3, 5, 7), (0.4, 0.6, 0.3))
    bf16 = (scores.view(np.uint32) >> 16).astype(np.uint16)  # cut, not rounded: exact bf16 values
    for half, bits, values in (
        ("fp16", scores.astype(np.float16).view(np.uint16), scores.astype(np.float16)),
        ("bf16", bf16, (bf16.astype(np.uint32) << 16).view(np.float32)),
    ):
        exact = values.astype(np.float32)
        best = exact.argmax(axis=0).astype(np.uint16)
        out = put(np.zeros(tuple(len(a) for a in axes), np.uint8))
        interpolate_argmax(put(bits), put(best), axes, out, half=half)
        np.testing.assert_array_equal(get(out), interpolate_argmax_reference(exact, axes))


def check_label_statistics(put: Move, get: Move) -> None:
    del get
    rng = np.random.default_rng(5)
    for shape in (*SHAPES, (9, 11, 6)):
        labels = rng.integers(0, 4, shape).astype(np.uint8)
        labels[labels == 2] = 0  # a label in the middle that no voxel has
        for dtype in (np.int16, np.float32):
            image = (rng.normal(size=shape) * 20 + 1000).astype(dtype)
            asked = (0.0, 12.5, 50.0, 99.0, 100.0)
            found = label_statistics(put(labels), put(image), 5, percentiles=asked)
            expected = label_statistics_reference(labels, image, 5, asked)
            for name, value in vars(expected).items():
                np.testing.assert_allclose(getattr(found, name), value, rtol=1e-9, err_msg=name)


MODULES = (cases_bits, cases_distance, cases_normalise, cases_resample)
CHECKS: dict[str, Callable[[Move, Move], None]] = {
    name.removeprefix("check_"): check
    for names in (globals(), *(vars(module) for module in MODULES))
    for name, check in names.copy().items()
    if name.startswith("check_")
}
