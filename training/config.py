"""The configuration of a training: one TOML file that says everything a run depends on.

``[model]`` is the model's ``model.toml`` without what training fills in (weights, training,
metrics). ``[[data]]`` lists where cases come from, ``[split]`` which are kept aside, ``[augment]``
how samples are changed, ``[fit]`` how long and how fast. The same file and the same data on the
same machine give the same weights.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inference.pipeline.spec import ModelSpec, parse_spec
from training.augment import AugmentConfig
from training.errors import TrainingConfigError

UNTRAINED_SHA256 = "0" * 64
"""Stands for the weights' hash while there are none."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NiftiPairs(_Table):
    """Images and label maps of the same names in two folders."""

    kind: Literal["nifti_pairs"]
    images: str
    labels: str
    source: str
    licence: str
    weight: Positive = 1.0


class ReferenceSeries(_Table):
    """CT series whose lungs are labelled by `lung_reference` while they are read.

    ``path`` is a NIfTI file, a folder, or an archive of DICOM instances. ``has_lungs`` false says
    that the series was looked at and shows none: it is a case of background only.
    """

    kind: Literal["ct_lung_reference"]
    id: str
    path: str
    source: str
    licence: str
    has_lungs: bool = True
    role: Literal["train", "validation", "test"] = "train"
    weight: Positive = 1.0


class LabelledSeries(_Table):
    """One image with a label map made elsewhere.

    ``join`` says which of its labels make up each of the model's (by value, as text); all others
    are background.
    """

    kind: Literal["labelled_series"]
    id: str
    path: str
    labels: str
    source: str
    licence: str
    join: dict[str, tuple[Count, ...]]
    role: Literal["train", "validation", "test"] = "test"
    weight: Positive = 1.0


class Phantoms(_Table):
    """Built thorax phantoms: ``count`` patients from ``first_seed`` on.

    Height of the middle above the carina and number of slices are drawn from the ranges.
    """

    kind: Literal["thorax_phantoms"]
    count: Count
    first_seed: int = 0
    shape: tuple[Count, Count, Count]
    spacing_mm: tuple[Positive, Positive, Positive]
    slices: tuple[Count, Count] | None = None
    centre_z_mm: tuple[float, float] = (-35.0, -35.0)
    role: Literal["train", "validation", "test"] = "train"
    weight: Positive = 1.0


Data = Annotated[
    NiftiPairs | ReferenceSeries | LabelledSeries | Phantoms, Field(discriminator="kind")
]


class Split(_Table):
    """How many cases of the `nifti_pairs` are kept aside, drawn by ``seed``; ids may be named."""

    seed: int = 0
    n_test: Annotated[int, Field(ge=0)] = 0
    n_validation: Annotated[int, Field(ge=0)] = 0
    test_ids: tuple[str, ...] = ()


class Fit(_Table):
    """Length and pace of a training.

    ``steps`` fixes the learning rate's way down; ``max_minutes`` ends a run early, with a
    checkpoint to resume from. ``foreground`` is the share of windows centred on a labelled voxel,
    the others lie anywhere.
    """

    steps: Count
    max_minutes: Positive | None = None
    batch_size: Count = 2
    learning_rate: Positive = 3e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    warmup_steps: Annotated[int, Field(ge=0)] = 30
    clip_gradient_norm: Positive = 12.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    foreground: Annotated[float, Field(ge=0, le=1)] = 0.5
    include_background_in_dice: bool = False
    autocast_bf16: bool = True
    validate_every: Count = 200
    checkpoint_every: Count = 100
    threads: Annotated[int, Field(ge=0)] = 0
    device: Literal["cpu", "cuda"] = "cpu"


class TrainConfig(_Table):
    """A whole configuration; see the module."""

    seed: int
    data_root: str = "."
    model: dict[str, Any]
    data: tuple[Data, ...] = ()
    """May be empty only for a training from reviews; `list_cases` refuses it otherwise."""
    split: Split = Split()
    augment: AugmentConfig = AugmentConfig()
    fit: Fit

    def spec(self) -> ModelSpec:
        """Return the model's spec with its weights, training and metrics still empty.

        Raises
        ------
        ModelSpecError
        """
        table = {
            **self.model,
            "weights": {"sha256": UNTRAINED_SHA256},
            "training": {"data": "not trained yet", "seed": self.seed},
            "metrics": {},
        }
        return parse_spec(table, path="[model]")


def load_config(path: Path) -> TrainConfig:
    """Read and check a configuration; relative data folders count from the file's own folder.

    Raises
    ------
    TrainingConfigError
        Names the file, the first wrong field and what is wrong with it.
    ModelSpecError
        The ``[model]`` table is not a model's.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TrainingConfigError(path=str(path), field="(file)", problem=str(error)) from error
    table["data_root"] = str((path.parent / table.get("data_root", ".")).resolve())
    try:
        config = TrainConfig.model_validate(table)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise TrainingConfigError(path=str(path), field=field, problem=first["msg"]) from error
    config.spec()
    return config
