"""What the chaos run needs: a small model with random weights, and small studies to send."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pynetdicom.dsutils import split_dataset

from tests.builders.instances import ct_dataset, part10

MODEL = "ct_chaos_seg"
SCT = {"scheme": "SCT"}
MODEL_TABLE: dict[str, Any] = {
    "name": MODEL,
    "version": "1.0.0",
    "title": "A random network",
    "status": "research",
    "intended_use": "The chaos run.",
    "scope": {
        "modalities": ["CT"],
        "slice_spacing_mm": [0.1, 20.0],
        "in_plane_spacing_mm": [0.1, 20.0],
        "min_extent_mm": [0.1, 0.1, 0.1],
    },
    "preprocessing": {
        "spacing_mm": [2.0, 1.5, 1.5],
        "intensity": {"kind": "clip_scale", "lower": -1000.0, "upper": 3000.0},
    },
    "window": {"roi_size": [16, 16, 16], "overlap": 0.5},
    "network": {"class": "unet", "args": {"channels": [4, 8], "strides": [2]}},
    "weights": {"sha256": "0" * 64},
    "labels": [
        {
            "value": 1,
            "name": "structure",
            "category": {"value": "123037004", "meaning": "Anatomical Structure", **SCT},
            "type": {"value": "85756007", "meaning": "Tissue", **SCT},
            "color_rgb": [200, 100, 50],
        }
    ],
    "training": {"data": "none: the weights are random"},
}


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One instance to send: its file, and the hash of its data set as the sender knows it."""

    study_uid: str
    instance_uid: str
    path: Path
    dataset_sha256: str


def write_model(repo: Path) -> None:
    """Write the model folder as training would."""
    import torch
    from safetensors.torch import save_file

    from inference.backends.triton_config import CONFIG_FILE, render_config
    from inference.pipeline.network import build_network
    from inference.pipeline.spec import SPEC_FILE, parse_spec, write_spec

    folder = repo / MODEL
    (folder / "1").mkdir(parents=True)
    torch.manual_seed(7)
    weights = folder / "1" / "weights.safetensors"
    save_file(build_network(parse_spec(MODEL_TABLE)).state_dict(), weights)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    spec = parse_spec(MODEL_TABLE | {"weights": {"sha256": digest}})
    (folder / SPEC_FILE).write_text(write_spec(spec))
    (folder / CONFIG_FILE).write_text(render_config(spec))


def write_studies(folder: Path, *, n_studies: int, n_slices: int) -> list[Slice]:
    """Write small CT studies, slice after slice, study after study."""
    folder.mkdir(parents=True)
    slices = []
    for study in range(1, n_studies + 1):
        for number in range(1, n_slices + 1):
            dataset = ct_dataset(study=study, slice_number=number, shape=(24, 28))
            path = folder / f"{study}-{number}.dcm"
            path.write_bytes(part10(dataset))
            slices.append(
                Slice(
                    study_uid=str(dataset.StudyInstanceUID),
                    instance_uid=str(dataset.SOPInstanceUID),
                    path=path,
                    dataset_sha256=dataset_sha256(path),
                )
            )
    return slices


def dataset_sha256(path: Path) -> str:
    """Hash of a file's bytes after its meta information; found with pynetdicom, not our code."""
    _, offset = split_dataset(path)
    return hashlib.sha256(path.read_bytes()[offset:]).hexdigest()
