"""Batches: a window's logits depend on the window alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from inference.domain.errors import InferenceError, ModelSpecError
from inference.pipeline.batch import BatchRunner, batch_size_on
from inference.pipeline.network import build_network
from inference.pipeline.segment import Segmentation, segment_volume
from inference.pipeline.spec import ModelSpec
from tests.inference.pipeline.built import grid, spec_of

CPU = torch.device("cpu")
NETWORKS = {
    "unet": {"class": "unet", "args": {"channels": [4, 8, 8], "strides": [2, 2]}},
    "dynunet": {
        "class": "dynunet",
        "args": {
            "kernel_size": [3, 3, 3],
            "strides": [1, 2, 2],
            "upsample_kernel_size": [2, 2],
            "filters": [4, 8, 8],
            "norm_name": ["INSTANCE", {"affine": True}],
        },
    },
}
ENGINES = {"fp32": {}, "bf16": {"precision": "bf16", "channels_last": True}}


def spec_with(size: int | None, network: str = "unet", engine: str = "fp32") -> ModelSpec:
    window = {"roi_size": [8, 12, 16], "overlap": 0.5}
    if size is not None:
        window["batch_size"] = size
    return spec_of(window=window, network=NETWORKS[network], engine=ENGINES[engine])


def runner_of(spec: ModelSpec) -> BatchRunner:
    torch.manual_seed(4)
    return BatchRunner(build_network(spec).eval(), spec, CPU)


def windows(n: int) -> list[torch.Tensor]:
    random = np.random.default_rng(8)
    arrays = random.uniform(0, 1, (n, 1, 1, 8, 12, 16)).astype(np.float32)
    return [torch.from_numpy(array) for array in arrays]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("network", NETWORKS)
def test_logits_depend_on_neither_neighbours_nor_place(network: str, engine: str) -> None:
    """Bit for bit: results are compared and named by hashes."""
    runner = runner_of(spec_with(4, network, engine))
    a, b, c, d = windows(4)
    (alone,) = runner.run([a])
    assert float(alone.std()) > 0
    for batch in ([a, b], [b, a], [d, c, b, a], [a, a, a, a], [c, d, a]):
        for window, logits in zip(batch, runner.run(batch), strict=True):
            if window is a:
                assert torch.equal(logits, alone)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("network", NETWORKS)
def test_logits_of_batches_of_another_size_agree_up_to_rounding(network: str, engine: str) -> None:
    # Sums in another order: float32 keeps 24 bits, bf16 stores 8 between layers.
    tolerance = {"fp32": 1e-4, "bf16": 0.1}[engine]
    (a,) = windows(1)
    (one,) = runner_of(spec_with(1, network, engine)).run([a])
    (four,) = runner_of(spec_with(4, network, engine)).run([a])
    assert float((one - four).abs().max()) <= tolerance * float(one.abs().max())


def test_the_rest_of_a_batch_is_not_answered() -> None:
    assert len(runner_of(spec_with(4)).run(windows(3))) == 3


@pytest.mark.parametrize("n", [0, 3])
def test_more_windows_than_a_batch_holds_are_refused(n: int) -> None:
    with pytest.raises(InferenceError, match=f"{n} windows for a batch of 1 to 2"):
        runner_of(spec_with(2)).run(windows(n))


def test_the_size_is_the_models_or_the_devices() -> None:
    assert batch_size_on(spec_with(3), CPU) == 3
    assert batch_size_on(spec_with(None), CPU) == 1
    assert batch_size_on(spec_with(None), torch.device("cuda")) == 4


@pytest.mark.parametrize("size", [0, 65])
def test_a_size_out_of_range_names_the_field(size: int) -> None:
    with pytest.raises(ModelSpecError) as caught:
        spec_with(size)
    assert caught.value.field == "window.batch_size"


@pytest.mark.parametrize("engine", ENGINES)
def test_studies_that_share_batches_have_the_labels_that_they_have_alone(engine: str) -> None:
    spec = spec_with(3, "unet", engine)
    torch.manual_seed(4)
    network = build_network(spec).eval()
    affine = grid(np.eye(3)[:, [2, 1, 0]], (1.7, 1.1, 0.9), (14, 18, 22))
    random = np.random.default_rng(1)
    arrays = [random.integers(-100, 300, (k, 18, 22)).astype(np.int16) for k in (14, 12, 9)]
    alone = [segment_volume(array, affine, spec, network).labels for array in arrays]
    assert all(np.unique(labels).size > 1 for labels in alone)

    runner = BatchRunner(network, spec, CPU)
    runs = [Segmentation(array, affine, spec) for array in arrays]
    while any(run.n_left for run in runs):
        # One window of each in turn: no batch is the one that a study alone would have.
        batch = [run for run in runs if run.n_left][: runner.size]
        logits = runner.run([run.next_patch() for run in batch])
        for run, one in zip(batch, logits, strict=True):
            run.accept(one, network_s=0.0)
    for run, expected in zip(runs, alone, strict=True):
        done = run.finish()
        np.testing.assert_array_equal(done.labels, expected)
        assert done.report["batch_size"] == 3
