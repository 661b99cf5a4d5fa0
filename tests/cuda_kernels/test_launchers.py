"""What launchers refuse, what placement means, and that a second process need not compile."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data.utils import compute_importance_map

from cuda_kernels.accumulate import accumulate, gaussian_map
from cuda_kernels.axis import LinearAxis, linear_axis
from cuda_kernels.errors import KernelInputError, ThreadingLayerError
from cuda_kernels.interpolate_argmax import interpolate_argmax
from cuda_kernels.jit import require_omp
from cuda_kernels.label_statistics import label_statistics
from cuda_kernels.merge import merge
from cuda_kernels.resample import resample

AXES = (linear_axis(3, 3, 1.0), linear_axis(4, 4, 1.0), linear_axis(5, 5, 1.0))


def test_an_axis_by_hand() -> None:
    axis = linear_axis(4, 6, 0.75)  # 0, 0.75, 1.5, 2.25, 3, 3.75 -> 3
    assert axis.low.tolist() == [0, 0, 1, 2, 3, 3]
    assert axis.high.tolist() == [1, 1, 2, 3, 3, 3]
    np.testing.assert_allclose(axis.weight, [0, 0.75, 0.5, 0.25, 0, 0])
    part = axis.part(2, 4, shift=1)
    assert part.low.tolist() == [0, 1]
    assert len(part) == 2


def test_a_step_that_float_cannot_hold_lands_on_voxels() -> None:
    axis = linear_axis(1000, 1000, 0.1 * 3 / 0.3)
    assert (axis.weight == 0).all()


@pytest.mark.parametrize("roi", [(16, 24, 20), (96, 96, 96), (5, 4, 7)])
def test_the_gaussian_is_that_of_monai(roi: tuple[int, int, int]) -> None:
    expected = compute_importance_map(roi, mode="gaussian", sigma_scale=0.125)
    np.testing.assert_allclose(gaussian_map(roi, 0.125), expected.numpy(), rtol=2e-6)


def test_windows_merged_with_an_identity_give_the_input_back() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(size=(1, 9, 8, 11)).astype(np.float32)
    total, weight = np.zeros_like(image), np.zeros(image.shape[1:], np.float32)
    importance = gaussian_map((5, 4, 7), 0.125)
    for z in (0, 2, 4):
        for y in (0, 2, 4):
            for x in (0, 3, 4):
                patch = np.ascontiguousarray(image[:, z : z + 5, y : y + 4, x : x + 7])
                accumulate(patch, importance, total, weight, (z, y, x))
    labels = np.zeros(weight.shape, np.uint16)
    assert merge(total, weight, labels, first=0, last=9, softmax=False)
    np.testing.assert_allclose(total, image, atol=1e-6)


@pytest.mark.parametrize("image", [np.zeros((3, 4, 5), np.float64), np.zeros((3, 4), np.int16)])
def test_resample_refuses_other_types_and_shapes(image: np.ndarray) -> None:
    with pytest.raises(KernelInputError, match="image"):
        resample(image, AXES)


def test_resample_refuses_an_index_outside() -> None:
    with pytest.raises(KernelInputError, match="axes"):
        resample(np.zeros((2, 4, 5), np.int16), AXES)


def test_resample_refuses_half_a_range() -> None:
    with pytest.raises(KernelInputError, match="lower, upper"):
        resample(np.zeros((3, 4, 5), np.int16), AXES, lower=1.0)


def test_accumulate_refuses_a_window_outside_the_slab() -> None:
    total, weight = np.zeros((2, 4, 4, 4), np.float32), np.zeros((4, 4, 4), np.float32)
    importance = gaussian_map((4, 4, 4), 0.125)
    with pytest.raises(KernelInputError, match="start"):
        accumulate(total.copy(), importance, total, weight, (1, 0, 0))
    with pytest.raises(KernelInputError, match="logits"):
        accumulate(total[:, :3].copy(), importance, total, weight, (0, 0, 0))
    with pytest.raises(KernelInputError, match="total"):
        accumulate(total.copy(), importance, total[:1], weight, (0, 0, 0))


def test_merge_refuses_planes_that_are_not_there() -> None:
    total, weight = np.zeros((2, 4, 4, 4), np.float32), np.ones((4, 4, 4), np.float32)
    labels = np.zeros((4, 4, 4), np.uint16)
    with pytest.raises(KernelInputError, match="first, last"):
        merge(total, weight, labels, first=2, last=5, softmax=True)


def test_interpolate_argmax_refuses_what_does_not_fit() -> None:
    scores, best = np.zeros((2, 3, 4, 5), np.float32), np.zeros((3, 4, 5), np.uint16)
    out = np.zeros((3, 4, 5), np.uint8)
    with pytest.raises(KernelInputError, match="float64 with half None"):
        interpolate_argmax(scores.astype(np.float64), best, AXES, out)
    with pytest.raises(KernelInputError, match="float32 with half bf16"):
        interpolate_argmax(scores, best, AXES, out, half="bf16")
    with pytest.raises(KernelInputError, match="best"):
        interpolate_argmax(scores, best[1:], AXES, out)
    with pytest.raises(KernelInputError, match="out"):
        interpolate_argmax(scores, best, AXES, out[1:])
    outside = LinearAxis(low=AXES[0].low, high=AXES[0].high + 1, weight=AXES[0].weight)
    with pytest.raises(KernelInputError, match="axes"):
        interpolate_argmax(scores, best, (outside, AXES[1], AXES[2]), out)


def test_torch_bf16_and_numpy_fp16_scores_give_the_labels_of_their_values() -> None:
    scores = torch.randn((3, 3, 4, 5), generator=torch.Generator().manual_seed(1))
    axes = tuple(linear_axis(n, 2 * n, 0.45) for n in (3, 4, 5))
    shape = (6, 8, 10)
    for given, values, half in (
        (scores.bfloat16().view(torch.uint16).numpy(), scores.bfloat16().float().numpy(), "bf16"),
        (scores.half().numpy(), scores.half().float().numpy(), None),
    ):
        best = values.argmax(axis=0).astype(np.uint16)
        found, expected = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
        interpolate_argmax(given, best, axes, found, half=half)
        interpolate_argmax(values, best, axes, expected)
        np.testing.assert_array_equal(found, expected)
        assert len(np.unique(found)) == 3


def test_label_statistics_refuses_a_label_too_large() -> None:
    labels = np.full((2, 2, 2), 3, np.uint8)
    with pytest.raises(KernelInputError, match="3 or more"):
        label_statistics(labels, np.zeros((2, 2, 2), np.int16), 3)
    with pytest.raises(KernelInputError, match="shape"):
        label_statistics(labels, np.zeros((2, 2, 3), np.int16), 4)


def test_torch_tensors_in_host_memory_are_not_taken_for_device_arrays() -> None:
    from cuda_kernels.jit import is_on_device

    assert not is_on_device(torch.zeros(3))
    assert not is_on_device(np.zeros(3))


def test_threads_that_are_not_openmp_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    require_omp()
    script = (
        "import numba\n"
        "import numpy as np\n"
        "numba.config.THREADING_LAYER = 'workqueue'\n"
        "@numba.njit(parallel=True)\n"
        "def f(x):\n"
        "    for i in numba.prange(x.size):\n"
        "        x[i] += 1\n"
        "f(np.zeros(4))\n"
        "from cuda_kernels.jit import set_threads\n"
        "set_threads(1)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert run.returncode != 0
    assert "ThreadingLayerError" in run.stderr
    assert "must be 'omp', not 'workqueue'" in run.stderr
    monkeypatch.setitem(sys.modules, "numba.np.ufunc.omppool", None)
    with pytest.raises(ThreadingLayerError, match="libgomp1"):
        require_omp()


def test_a_second_process_finds_the_kernels_compiled() -> None:
    script = (
        "from cuda_kernels.warm_up import warm_up\n"
        "from cuda_kernels import accumulate, interpolate_argmax, merge, resample\n"
        "from cuda_kernels import label_statistics\n"
        "warm_up()\n"
        "kernels = [resample._resample_cpu, accumulate._accumulate_cpu, merge._merge_cpu,\n"
        "    interpolate_argmax._interpolate_argmax_cpu, label_statistics._whole_cpu,\n"
        "    label_statistics._floats_cpu]\n"
        "print(sum(sum(k.stats.cache_misses.values()) for k in kernels))\n"
    )

    def misses() -> int:
        run = subprocess.run(
            [sys.executable, "-c", script],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        return int(run.stdout)

    misses()
    assert misses() == 0
