"""Memory: predicted from a header, planned into a budget or refused; labels stay the same."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import nn

from inference.domain.errors import RefusedError
from inference.pipeline.engine import run_network
from inference.pipeline.memory import MIB, activation_bytes, default_budget_mib, plan_memory
from inference.pipeline.network import build_network
from inference.pipeline.preprocess import ModelGrid, model_grid, to_canonical
from inference.pipeline.segment import Segmentation, segment_volume
from inference.pipeline.spec import ModelSpec
from tests.inference.pipeline.built import CODE, all_orientations, grid, spec_of

SHAPE = (37, 45, 51)


def _with_classes(n: int, **tables: object) -> ModelSpec:
    label = {"category": CODE, "type": CODE, "color_rgb": [1, 2, 3]}
    labels = [{"value": k, "name": f"box {k}", **label} for k in range(1, n)]
    return spec_of(labels=labels, **tables)


def _header(spec: ModelSpec, shape: tuple[int, int, int]) -> ModelGrid:
    """A grid as a header gives it: no voxel is held."""
    nothing = np.broadcast_to(np.int16(0), shape)
    affine = np.diag([0.75, 0.75, 1.0, 1.0])[:, [2, 1, 0, 3]]
    return model_grid(to_canonical(nothing, affine), spec.preprocessing)


def test_what_a_networks_tensors_hold_is_counted_without_running_it() -> None:
    # One convolution block down, one up: MONAI's UNet of 4 and 8 channels on 16 x 24 x 20 windows
    # holds at least its input, the skip connection of 4 / 8 channels' worth and the output.
    spec = spec_of()
    voxels = 16 * 24 * 20
    found = activation_bytes(spec, 4)
    assert 4 * voxels * (1 + 4) <= found <= 4 * voxels * 40
    assert activation_bytes(spec, 2) == found // 2
    wider = spec_of(network={"args": {"channels": [8, 16], "strides": [2]}})
    assert found < activation_bytes(wider, 4) < 3 * found


def test_twice_the_slices_add_only_image_and_labels() -> None:
    spec = _with_classes(104, preprocessing={"spacing_mm": [1.5, 1.5, 1.5]})
    one, two = (
        plan_memory(_header(spec, (n, 512, 512)), spec, budget_mib=10_000, resident_mib=400)
        for n in (300, 600)
    )
    for part in ("slab", "network", "answers"):
        assert two.parts_mib[part] == one.parts_mib[part]
    # 200 x 256 x 256 float32 and 300 x 512 x 512 uint8, in MiB
    assert one.parts_mib["image"] == pytest.approx(50, rel=0.02)
    assert one.parts_mib["labels"] == 75
    added = two.needed_mib - one.needed_mib
    assert added == pytest.approx(50 + 75, rel=0.02)


def test_a_budget_is_kept_by_strips() -> None:
    spec = _with_classes(104, preprocessing={"spacing_mm": [1.5, 1.5, 1.5]})
    header = _header(spec, (300, 512, 512))
    # 104 classes x 17 planes x 256 x 256 x 4 bytes: 442 MiB of scores at once.
    free = plan_memory(header, spec, budget_mib=10_000, resident_mib=400)
    assert free.parts_mib["slab"] == pytest.approx(442, rel=0.02)
    assert (free.n_strips, free.keep_constant) == (1, True)
    tight = plan_memory(header, spec, budget_mib=700, resident_mib=400)
    assert tight.n_strips > 1
    assert tight.needed_mib <= 700


def test_what_fits_no_plan_is_refused_with_both_figures() -> None:
    spec = _with_classes(104, preprocessing={"spacing_mm": [1.5, 1.5, 1.5]})
    with pytest.raises(RefusedError, match="memory_budget_mib") as caught:
        plan_memory(_header(spec, (300, 512, 512)), spec, budget_mib=500, resident_mib=400)
    found = re.search(r"needs at least (\d+) MiB .* and 500 MiB may be used", str(caught.value))
    assert found is not None
    assert 500 < int(found[1]) < 700
    assert "bf16 would need" in str(caught.value)


def test_a_volume_that_is_too_large_is_refused_before_a_voxel_is_resampled() -> None:
    array = np.zeros(SHAPE, np.int16)
    affine = grid(all_orientations()[5], (1.7, 1.1, 0.9), SHAPE)
    with pytest.raises(RefusedError, match="may be used"):
        Segmentation(array, affine, spec_of(), memory_budget_mib=1.0)


def test_strips_change_no_label(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    spec = spec_of()
    network = build_network(spec).eval()
    array = np.random.default_rng(1).integers(-100, 300, SHAPE).astype(np.int16)
    affine = grid(all_orientations()[29], (1.7, 1.1, 0.9), SHAPE)
    whole = segment_volume(array, affine, spec, network, probability_of=2)
    assert whole.report["memory"]["strips"] == 1
    from inference.pipeline import memory

    def in_strips(*_: object, **__: object) -> memory.MemoryPlan:
        return memory.MemoryPlan(n_strips=3, keep_constant=True, parts_mib={}, budget_mib=1.0)

    monkeypatch.setattr("inference.pipeline.segment.plan_memory", in_strips)
    cut = segment_volume(array, affine, spec, network, probability_of=2)
    assert cut.report["memory"]["strips"] == 3
    assert cut.report["n_windows"] > whole.report["n_windows"]
    np.testing.assert_array_equal(cut.labels, whole.labels)
    assert cut.probability is not None
    assert whole.probability is not None
    np.testing.assert_array_equal(cut.probability, whole.probability)


def test_the_default_budget_is_a_share_of_the_machines_memory() -> None:
    assert 256 < default_budget_mib() < 2**30 / MIB * 1e6


class Counting(nn.Module):
    """Counts the windows that it is given."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.n = network, 0

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        self.n += len(patches)
        found: torch.Tensor = self.network(patches)
        return found


def _in_air(margin: int = 40) -> np.ndarray:
    """A body in the middle, everything around it below the model's lower bound."""
    rng = np.random.default_rng(4)
    array = rng.integers(-1000, -150, (60, 90, 90)).astype(np.int16)
    array[20:40, margin:-margin, margin:-margin] = rng.integers(
        -100, 300, (20, 90 - 2 * margin, 90 - 2 * margin)
    )
    return array


def _run(array: np.ndarray, spec: ModelSpec, network: nn.Module) -> tuple[np.ndarray, int, dict]:
    counting = Counting(network)
    run = Segmentation(array, np.diag([1.0, 1.5, 2.0, 1.0])[:, [2, 1, 0, 3]], spec)
    while not run.is_done:
        run.accept(run_network(counting, run.next_patch(), spec.engine), network_s=0.0)
    done = run.finish()
    return done.labels, counting.n, done.report


def test_windows_of_air_are_run_once_and_the_labels_are_the_same() -> None:
    torch.manual_seed(0)
    skipping, running = spec_of(), spec_of(window={"skip_constant": False})
    network = build_network(skipping).eval()  # random weights: air is no background to them
    array = _in_air()
    labels, n_run, report = _run(array, skipping, network)
    expected, n_all, plain = _run(array, running, network)
    np.testing.assert_array_equal(labels, expected)
    assert len(np.unique(expected)) > 1
    assert plain["n_windows_reused"] == 0
    assert n_all == report["n_windows"] == plain["n_windows"]
    assert report["n_windows_reused"] == n_all - n_run
    assert n_run < 0.7 * n_all


def test_one_voxel_that_is_not_air_is_enough_to_run_a_window() -> None:
    torch.manual_seed(0)
    spec = spec_of()
    network = build_network(spec).eval()
    air = np.full((60, 90, 90), -500, np.int16)
    _, n_air, _ = _run(air, spec, network)
    assert n_air == 1
    air[30, 3, 4] = 50
    labels, n_one, _ = _run(air, spec, network)
    # Windows 8, 12 and 10 apart and 16, 24 and 20 long: the voxel lies in 2 x 1 x 1 of them.
    assert n_one == n_air + 2
    expected, _, _ = _run(air, spec_of(window={"skip_constant": False}), network)
    np.testing.assert_array_equal(labels, expected)
