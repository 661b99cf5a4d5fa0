"""The network of MONAI's spleen bundle, with as many classes as asked for, trained for minutes.

A UNet of 16 to 256 channels on a grid of 2 x 1.5 x 1.5 mm, windows of 96^3 with half overlap: what
the published bundle runs. It learns lungs, and balls of different density that `bench_study` puts
into a built thorax, so that its answers are as decided as those of a real model. With more classes
than there are kinds of balls its head stays random: such a model is for memory, not for answers.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.losses.dice import DiceCELoss
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn

from inference.backends.triton_config import render_config
from inference.pipeline.network import build_network
from inference.pipeline.spec import ModelSpec, parse_spec, write_spec
from training.phantoms import thorax_phantom

SPACING_MM = (2.0, 1.5, 1.5)
ROI = 96
N_BALLS = 12
BALL_RADIUS_MM = 25.0
BALL_HU = np.linspace(350, 1450, N_BALLS)
TRAINED_CLASSES = (2, 2 + N_BALLS)
STEPS = 900
TRAINING_ROI = 64
"""Smaller than the window that is run: more steps in the same minutes, and an answer as decided as
a real model's, so that engines of lower precision can pass their gate."""
LEARNING_RATE = 3e-3
CALIBRATION_WINDOWS = 24
UNTRAINED_SHA256 = "0" * 64


def bench_study(
    seed: int, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> tuple[NDArray[np.int16], NDArray[np.uint8], NDArray[np.float64]]:
    """Build a thorax with twelve balls of 65 ml, each of its own density.

    Returns
    -------
    array (slice, row, column) int16 HU, labels uint8 (1 both lungs, 2 to 13 the balls), and
    affine_lps (4, 4)
    """
    array, lungs, affine_lps = thorax_phantom(seed, shape, spacing_mm)
    labels = (lungs > 0).astype(np.uint8)
    rng = np.random.default_rng([seed, 2])
    height_mm = shape[0] * spacing_mm[0]
    places = [(u, v, w) for u in (-0.3, 0.0, 0.3) for v in (-30.0, 30.0) for w in (-75.0, 75.0)]
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    for ball, index in enumerate(rng.permutation(N_BALLS)):
        height, y, x = places[int(index)]
        centre = (height * height_mm, y, x)
        distance = sum(
            ((axis - (n - 1) / 2) * mm - c) ** 2
            for axis, n, mm, c in zip(axes, shape, spacing_mm, centre, strict=True)
        )
        inside = distance <= BALL_RADIUS_MM**2
        array[inside] = BALL_HU[ball] + rng.normal(0, 12, int(inside.sum()))
        labels[inside] = ball + 2
    return array, labels, affine_lps


def bundle_model(n_classes: int) -> Path:
    """Return a model folder with ``n_classes`` channels out, trained once and kept in the cache."""
    source = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "clinfer/benchmarks"
    folder = cache / source / f"bundle_like_{n_classes}"
    if folder.is_dir():
        return folder
    spec = _spec(n_classes, UNTRAINED_SHA256)
    torch.manual_seed(20261122)
    network = build_network(spec)
    if n_classes in TRAINED_CLASSES:
        _train(network, n_classes)
    tensors = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    content = save(tensors, metadata={"format": "pt"})
    spec = _spec(n_classes, hashlib.sha256(content).hexdigest())
    fresh = folder.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    (fresh / "1").mkdir(parents=True)
    (fresh / spec.weights.file).write_bytes(content)
    (fresh / "model.toml").write_text(write_spec(spec), encoding="utf-8")
    (fresh / "config.pbtxt").write_text(render_config(spec), encoding="utf-8")
    fresh.replace(folder)
    return folder


def _train(network: nn.Module, n_classes: int) -> None:
    """Fit on windows of two built patients; then take the norms' statistics once more."""
    cases = [_case(seed, n_classes) for seed in (11, 12)]
    generator = torch.Generator().manual_seed(7)
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS)
    network.train()
    began = time.monotonic()
    for step in range(STEPS):
        image, labels = _window(cases[step % len(cases)], generator, TRAINING_ROI)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(image)
        loss = loss_of(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            seconds = time.monotonic() - began
            print(f"{n_classes} classes, step {step + 1}/{STEPS}: {loss:.3f}, {seconds:.0f} s")
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.reset_running_stats()
            module.momentum = None  # plain mean over the windows below
    with torch.no_grad():
        for step in range(CALIBRATION_WINDOWS):
            network(_window(cases[step % len(cases)], generator, ROI)[0])
    network.eval()


def _case(seed: int, n_classes: int) -> tuple[Tensor, Tensor]:
    """One patient on the model's grid, scaled as `model.toml` says: two (D, H, W) tensors."""
    array, labels, _ = bench_study(seed, (150, 256, 256), SPACING_MM)
    low, high = (_intensity()[key] for key in ("lower", "upper"))
    image = np.clip((array.astype(np.float32) - low) / (high - low), 0, 1)
    labels[labels >= n_classes] = 0
    return torch.from_numpy(image), torch.from_numpy(labels.astype(np.int64))


def _window(
    case: tuple[Tensor, Tensor], generator: torch.Generator, roi: int
) -> tuple[Tensor, Tensor]:
    """Draw one window, (1, 1, roi, roi, roi), anywhere in a case."""
    image, labels = case
    starts = [
        int(torch.randint(0, size - roi + 1, (1,), generator=generator)) for size in image.shape
    ]
    box = tuple(slice(start, start + roi) for start in starts)
    return image[box][None, None], labels[box][None, None]


def _intensity() -> dict[str, Any]:
    return {"kind": "clip_scale", "lower": -1000.0, "upper": 1700.0, "padding_value": 0.0}


def _spec(n_classes: int, sha256: str) -> ModelSpec:
    names = ["lungs", *(f"ball {n}" for n in range(1, N_BALLS + 1))]
    lung = {"value": "39607008", "scheme": "SCT", "meaning": "Lung"}
    return parse_spec(
        {
            "name": f"bundle_like_{n_classes}",
            "version": "1.0.0",
            "title": f"Benchmark network, {n_classes} classes",
            "status": "research",
            "intended_use": "Benchmarks only: built studies, never a patient.",
            "limitations": ["Trained for minutes on built studies."],
            "scope": {
                "modalities": ["CT"],
                "min_slices": 8,
                "slice_spacing_mm": [0.3, 8.0],
                "in_plane_spacing_mm": [0.3, 4.0],
                "min_extent_mm": [25.0, 100.0, 100.0],
            },
            "preprocessing": {"spacing_mm": list(SPACING_MM), "intensity": _intensity()},
            "window": {"roi_size": [ROI] * 3, "overlap": 0.5},
            "network": {
                "class": "unet",
                "args": {
                    "channels": [16, 32, 64, 128, 256],
                    "strides": [2, 2, 2, 2],
                    "num_res_units": 2,
                    "norm": "BATCH",
                },
            },
            "engine": {"precision": "fp32"},
            "weights": {"file": "1/weights.safetensors", "sha256": sha256},
            "labels": [
                {
                    "value": value,
                    "name": names[value - 1] if value <= len(names) else f"region {value}",
                    "category": {
                        "value": "91723000",
                        "scheme": "SCT",
                        "meaning": "Anatomical Structure",
                    },
                    "type": lung,
                    "color_rgb": [40 + 2 * value, 240 - 2 * value, (37 * value) % 256],
                }
                for value in range(1, n_classes)
            ],
            "training": {"data": "built studies, benchmarks/bundle_model.py", "seed": 20261122},
            "metrics": {},
        },
        path=f"bundle_like_{n_classes}",
    )
