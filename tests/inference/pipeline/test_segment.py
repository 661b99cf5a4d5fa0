"""Volume in, labels out: equal to MONAI's own way, and never flipped or misplaced."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data.meta_tensor import MetaTensor
from monai.inferers.inferer import SlidingWindowInferer
from monai.transforms.compose import Compose
from monai.transforms.intensity.dictionary import ScaleIntensityRanged
from monai.transforms.post.dictionary import Activationsd, AsDiscreted, Invertd
from monai.transforms.spatial.dictionary import Orientationd, Spacingd
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import nn

from inference.domain.errors import InferenceError, RefusedError
from inference.pipeline.engine import ready_network, run_network
from inference.pipeline.network import build_network
from inference.pipeline.segment import Segmentation, StoppedError, segment_volume
from inference.pipeline.spec import ClipScale, ModelSpec
from tests.inference.pipeline.built import (
    HU_OF_LABEL,
    Levels,
    all_orientations,
    boxes,
    centres,
    dice,
    grid,
    rotation,
    spec_of,
)

SHAPE = (37, 45, 51)
FEW_WINDOWS = {"roi_size": [32, 40, 48], "overlap": 0.25}


def _smooth_noise(shape: tuple[int, int, int]) -> NDArray[np.int16]:
    rng = np.random.default_rng(3)
    noise = gaussian_filter(rng.normal(size=shape), 2) * 1500 + 100
    return noise.astype(np.int16)


def _monai_labels(
    array: NDArray[np.int16], affine_lps: NDArray[np.float64], spec: ModelSpec, network: nn.Module
) -> NDArray[Any]:
    """Segment the plain MONAI way: the independent implementation."""
    intensity = spec.preprocessing.intensity
    assert isinstance(intensity, ClipScale)
    affine_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine_lps
    before = Compose(
        [
            Orientationd("image", axcodes="SPL", labels=None),
            Spacingd("image", pixdim=spec.preprocessing.spacing_mm),
            ScaleIntensityRanged("image", intensity.lower, intensity.upper, 0, 1, clip=True),
        ]
    )
    image = MetaTensor(torch.from_numpy(array[None].astype(np.float32)), affine=affine_ras)
    data = before({"image": image})
    windows = SlidingWindowInferer(
        spec.window.roi_size,
        overlap=spec.window.overlap,
        mode="gaussian",
        sigma_scale=spec.window.sigma_scale,
        cval=intensity.padding_value,
    )
    with torch.inference_mode():
        data["pred"] = windows(data["image"][None], network)[0]
    data["pred"].applied_operations = data["image"].applied_operations
    after = Compose(
        [
            Activationsd("pred", softmax=True),
            Invertd("pred", before, orig_keys="image", nearest_interp=False, to_tensor=True),
            AsDiscreted("pred", argmax=True),
        ]
    )
    labels: NDArray[Any] = after(data)["pred"].numpy()[0]
    return labels


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "orientation"),
    [
        ((37, 45, 52), (1.7, 1.1, 0.9), 0),
        ((31, 29, 40), (1.5, 2.0, 1.0), 20),  # a coronal series at the model's own spacings
        ((9, 29, 60), (3.1, 0.8, 0.7), 41),  # smaller than a window on two axes
        ((30, 7, 5), (5.0, 4.0, 4.0), 11),  # finer on the model's grid than on the scanner's
    ],
)
# No length is half-way between two voxel counts: there MONAI's rounding depends on float noise.
def test_labels_equal_those_of_monai(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], orientation: int
) -> None:
    torch.manual_seed(0)
    spec = spec_of(
        preprocessing={
            "intensity": {"kind": "clip_scale", "lower": -100, "upper": 300, "padding_value": 0.3}
        }
    )
    network = build_network(spec).eval()
    directions = rotation((0.2, 0.1, 1.0), 11.0) @ all_orientations()[orientation]
    affine = grid(directions, spacing_mm, shape)
    array = _smooth_noise(shape)
    expected = _monai_labels(array, affine, spec, network)
    found = segment_volume(array, affine, spec, network).labels
    assert len(np.unique(expected)) > 1
    # MONAI resamples in float64 and we in float32: a voxel may differ where classes tie.
    assert (found == expected).mean() >= 0.9999


def test_batch_normalisation_inside_the_convolutions_changes_nothing() -> None:
    torch.manual_seed(0)
    args = {"channels": [4, 8, 8], "strides": [2, 2], "num_res_units": 1, "norm": "BATCH"}
    spec = spec_of(network={"args": args})
    network = build_network(spec)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):  # as after training: no longer 0 and 1
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    network.eval()
    ready = ready_network(network, spec.engine, torch.device("cpu"))
    assert not any(isinstance(module, nn.BatchNorm3d) for module in ready.modules())
    assert ready_network(ready, spec.engine, torch.device("cpu")) is ready
    patches = torch.rand(1, 1, 16, 24, 20)
    with torch.inference_mode():
        expected = network(patches)
    torch.testing.assert_close(run_network(ready, patches, spec.engine), expected)


def _phantom(affine: NDArray[np.float64]) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    truth = boxes(centres(SHAPE, affine))
    return HU_OF_LABEL[truth], truth


@pytest.mark.parametrize("turn", [0.0, 14.0])
def test_at_the_models_spacing_every_voxel_comes_back_from_all_48_orientations(
    turn: float,
) -> None:
    spec = spec_of(preprocessing={"spacing_mm": [1.0, 1.0, 1.0]}, window=FEW_WINDOWS)
    tilt = rotation((3.0, 1.0, 2.0), turn)
    for directions in all_orientations():
        array, truth = _phantom(grid(tilt @ directions, (1.0, 1.0, 1.0), SHAPE))
        affine = grid(tilt @ directions, (1.0, 1.0, 1.0), SHAPE)
        result = segment_volume(array, affine, spec, Levels(4))
        np.testing.assert_array_equal(result.labels, truth)


def test_resampled_labels_stay_in_place_from_all_48_orientations() -> None:
    # Probabilities of half a voxel's width at 1 mm: boxes of 5 mm and more keep 0.98 of Dice
    # only where nothing moved by a voxel.
    spec = spec_of(preprocessing={"spacing_mm": [0.5, 0.5, 0.5]}, window=FEW_WINDOWS)
    for number, directions in enumerate(all_orientations()[::4]):
        affine = grid(rotation((1, 1, 0), 3.0 * number) @ directions, (0.9, 0.8, 0.7), SHAPE)
        array, truth = _phantom(affine)
        labels = segment_volume(array, affine, spec, Levels(4)).labels
        assert dice(labels > 0, truth > 0) >= 0.98


def test_oblique_grids_keep_their_own_directions() -> None:
    spec = spec_of(preprocessing={"spacing_mm": [1.0, 1.0, 1.0]}, window=FEW_WINDOWS)
    for axis, degrees in (((1, 0, 0), 30.0), ((0, 1, 0), -40.0), ((1, 2, 3), 44.0)):
        affine = grid(rotation(axis, degrees)[:, [2, 1, 0]], (1.0, 1.0, 1.0), SHAPE)
        array, truth = _phantom(affine)
        np.testing.assert_array_equal(segment_volume(array, affine, spec, Levels(4)).labels, truth)


def test_interpolating_logits_is_another_choice() -> None:
    torch.manual_seed(0)
    probabilities = spec_of()
    network = build_network(probabilities).eval()
    affine = grid(np.eye(3)[:, [2, 1, 0]], (1.7, 1.1, 0.9), SHAPE)
    array = _smooth_noise(SHAPE)
    logits = spec_of(network={"interpolate": "logits"})
    a = segment_volume(array, affine, probabilities, network).labels
    b = segment_volume(array, affine, logits, network).labels
    assert 0 < (a != b).mean() < 0.05


def test_the_same_volume_gives_the_same_labels_and_interleaving_changes_nothing() -> None:
    torch.manual_seed(0)
    spec = spec_of()
    network = build_network(spec).eval()
    affine = grid(np.eye(3)[:, [2, 1, 0]], (1.7, 1.1, 0.9), SHAPE)
    first, second = _smooth_noise(SHAPE), _smooth_noise(SHAPE)[::-1]
    alone = [segment_volume(a, affine, spec, network).labels for a in (first, second, first)]
    np.testing.assert_array_equal(alone[0], alone[2])
    runs = [Segmentation(a, affine, spec) for a in (first, second)]
    while not all(run.is_done for run in runs):
        for run in runs:
            if not run.is_done:
                run.accept(run_network(network, run.next_patch(), spec.engine), network_s=0.0)
    for run, expected in zip(runs, alone, strict=False):
        np.testing.assert_array_equal(run.finish().labels, expected)


def test_bf16_stays_near_fp32() -> None:
    torch.manual_seed(0)
    spec = spec_of()
    network = build_network(spec).eval()
    affine = grid(np.eye(3)[:, [2, 1, 0]], (1.7, 1.1, 0.9), SHAPE)
    array = _smooth_noise(SHAPE)
    fp32 = segment_volume(array, affine, spec, network)
    bf16 = segment_volume(
        array, affine, spec_of(engine={"precision": "bf16", "channels_last": True}), network
    )
    assert bf16.report["precision"] == "bf16"
    assert next(network.parameters()).dtype == torch.float32  # the caller's network is untouched
    # Random weights put many voxels near a tie; a trained network has a margin.
    assert (fp32.labels == bf16.labels).mean() > 0.97


def test_the_report_says_how_it_was_made() -> None:
    spec = spec_of()
    affine = grid(np.eye(3)[:, [2, 1, 0]], (2.0, 1.5, 1.0), SHAPE)
    seen: list[tuple[int, int]] = []
    result = segment_volume(
        _smooth_noise(SHAPE), affine, spec, Levels(4), progress=lambda i, n: seen.append((i, n))
    )
    report = result.report
    assert report["model_grid_shape"] == [37, 45, 51]
    # Steps of 8, 12 and 10 from 0 until 16, 24 and 20 reach the end: 4 x 3 x 5 windows.
    assert report["n_windows"] == 60
    assert seen == [(k, 60) for k in range(1, 61)]
    assert set(report["timings_s"]) == {
        "resample", "network", "merge", "interpolate", "postprocess", "total",
    }  # fmt: skip
    assert report["peak_memory_mib"] > 100
    assert report["weights_sha256"] == "0" * 64
    assert result.labels.dtype == np.uint8


def test_the_probability_of_one_label_comes_on_request() -> None:
    torch.manual_seed(0)
    spec = spec_of(labels=[spec_of().model_dump(by_alias=True)["labels"][0]])
    network = build_network(spec).eval()
    affine = grid(all_orientations()[13], (1.7, 1.1, 0.9), SHAPE)
    array = _smooth_noise(SHAPE)
    assert segment_volume(array, affine, spec, network).probability is None
    result = segment_volume(array, affine, spec, network, probability_of=1)
    assert result.probability is not None
    assert result.probability.shape == array.shape
    # With two classes the label is 1 exactly where its probability is above a half.
    certain = np.abs(result.probability - 0.5) > 1e-5
    np.testing.assert_array_equal(
        (result.probability > 0.5)[certain], (result.labels == 1)[certain]
    )
    assert 0 < (result.labels == 1).mean() < 1
    with pytest.raises(RefusedError, match="probability_of: 2"):
        segment_volume(array, affine, spec, network, probability_of=2)


def test_it_stops_between_windows_when_asked() -> None:
    answers = iter([False, False, True])
    affine = grid(np.eye(3)[:, [2, 1, 0]], (2.0, 1.5, 1.0), SHAPE)
    with pytest.raises(StoppedError, match="window 3 of 60"):
        segment_volume(
            _smooth_noise(SHAPE), affine, spec_of(), Levels(4), should_stop=lambda: next(answers)
        )


class Broken(nn.Module):
    def __init__(self, answer: torch.Tensor | None) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        if self.answer is None:
            raise RuntimeError("out of memory")
        return self.answer.expand(1, *self.answer.shape[1:2], *patches.shape[2:])


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (torch.full((1, 4, 1, 1, 1), torch.nan), "not finite"),
        (torch.full((1, 4, 1, 1, 1), torch.inf), "not finite"),
        (torch.zeros((1, 3, 1, 1, 1)), "expected"),
        (None, "out of memory"),
    ],
)
def test_a_network_that_fails_is_an_inference_error(answer: torch.Tensor | None, word: str) -> None:
    affine = grid(np.eye(3)[:, [2, 1, 0]], (2.0, 1.5, 1.0), SHAPE)
    with pytest.raises(InferenceError, match=word):
        segment_volume(_smooth_noise(SHAPE), affine, spec_of(), Broken(answer))


def test_a_volume_outside_the_scope_is_refused_with_unit_and_range() -> None:
    affine = grid(np.eye(3)[:, [2, 1, 0]], (2.0, 1.5, 1.0), SHAPE)
    spec = spec_of(scope={"min_extent_mm": [200.0, 10.0, 10.0]})
    with pytest.raises(RefusedError, match=r"slice extent: 74 mm is below .* 200 mm"):
        segment_volume(_smooth_noise(SHAPE), affine, spec, Levels(4))


def test_a_step_too_few_is_refused() -> None:
    affine = grid(np.eye(3)[:, [2, 1, 0]], (2.0, 1.5, 1.0), SHAPE)
    with pytest.raises(InferenceError, match="0 of 60 windows"):
        Segmentation(_smooth_noise(SHAPE), affine, spec_of()).finish()
