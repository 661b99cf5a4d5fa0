"""Cases of a training: where they come from, how they are read, and which are kept aside.

Reading a case gives its native volume and labels; `prepare` brings both to the model's grid with
the very code that serves (`inference.pipeline.preprocess`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dicom_io.nifti import read_nifti
from dicom_io.volume import Volume
from inference.pipeline.preprocess import preprocess, preprocess_labels
from inference.pipeline.spec import ModelSpec
from training.config import (
    LabelledSeries,
    NiftiPairs,
    Phantoms,
    ReferenceSeries,
    Split,
    TrainConfig,
)
from training.errors import CaseError
from training.lung_reference import segment_lungs
from training.phantoms import thorax_phantom
from training.reading import NIFTI_SUFFIXES, LabelledVolume, case_name, read_any, read_reference


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case before it is read. ``weight`` is how often it is drawn against the others."""

    id: str
    source: str
    licence: str
    weight: float
    read: Callable[[], LabelledVolume]


@dataclass(frozen=True, kw_only=True)
class CaseSplit:
    """Cases by their role; ids are unique over all three."""

    train: tuple[Case, ...]
    validation: tuple[Case, ...]
    test: tuple[Case, ...]


@dataclass(frozen=True, kw_only=True)
class PreparedCase:
    """A case on the model's grid: image (D, H, W) float32, labels (D, H, W) uint8.

    ``foreground`` holds, per label that occurs, the indices of its voxels, (n, 3).
    """

    id: str
    weight: float
    image: Tensor
    labels: Tensor
    foreground: dict[int, Tensor]


def list_cases(config: TrainConfig) -> CaseSplit:
    """List every case of a configuration, split by role.

    Raises
    ------
    CaseError
        A file is missing, an id is listed twice, or a split leaves no case for training.
    """
    root = Path(config.data_root)
    cases: dict[str, list[Case]] = {"train": [], "validation": [], "test": []}
    for entry in config.data:
        match entry:
            case NiftiPairs():
                split = split_pairs(list(_nifti_pairs(entry, root)), config.split)
                for role, found in zip(cases, split, strict=True):
                    cases[role] += found
            case ReferenceSeries():
                cases[entry.role].append(_reference_case(entry, root))
            case LabelledSeries():
                cases[entry.role].append(_labelled_case(entry, root))
            case Phantoms():
                cases[entry.role] += list(_phantom_cases(entry))
    ids = [case.id for found in cases.values() for case in found]
    for case_id in ids:
        if ids.count(case_id) > 1:
            raise CaseError(case_id=case_id, problem="listed more than once")
    if not cases["train"]:
        raise CaseError(case_id="(none)", problem="the split leaves no case to train on")
    return CaseSplit(
        train=tuple(cases["train"]),
        validation=tuple(cases["validation"]),
        test=tuple(cases["test"]),
    )


def split_pairs(cases: list[Case], split: Split) -> tuple[list[Case], list[Case], list[Case]]:
    """Return (train, validation, test): named test cases first, the others drawn by the seed."""
    by_id = {case.id: case for case in sorted(cases, key=lambda case: case.id)}
    unknown = set(split.test_ids) - set(by_id)
    if unknown:
        raise CaseError(case_id=sorted(unknown)[0], problem="named in split.test_ids, not found")
    free = [case_id for case_id in by_id if case_id not in split.test_ids]
    drawn = [free[k] for k in np.random.default_rng(split.seed).permutation(len(free))]
    n_more = max(split.n_test - len(split.test_ids), 0)
    test = [*split.test_ids, *drawn[:n_more]]
    validation = drawn[n_more : n_more + split.n_validation]
    train = drawn[n_more + split.n_validation :]
    train_cases, validation_cases, test_cases = (
        [by_id[case_id] for case_id in sorted(part)] for part in (train, validation, test)
    )
    return train_cases, validation_cases, test_cases


def prepare(case: Case, spec: ModelSpec) -> PreparedCase:
    """Read a case and bring it to the model's grid."""
    found = case.read()
    return prepare_volume(case.id, case.weight, found, spec)


def prepare_volume(
    case_id: str, weight: float, found: LabelledVolume, spec: ModelSpec
) -> PreparedCase:
    """Bring a labelled volume to the model's grid.

    Raises
    ------
    CaseError
        A label is not one of the model's.
    """
    highest = int(found.labels.max())
    if highest >= spec.n_classes:
        raise CaseError(
            case_id=case_id, problem=f"label {highest} is not one of {spec.name}'s labels"
        )
    volume = found.volume
    prepared = preprocess(volume.array, volume.affine_lps, spec)
    labels = preprocess_labels(found.labels, volume.affine_lps, spec)
    return _prepared_case(
        case_id,
        weight,
        torch.from_numpy(np.ascontiguousarray(prepared.array)),
        torch.from_numpy(labels),
    )


def save_prepared(path: Path, found: PreparedCase) -> None:
    """Keep a prepared case for a resumed run; the file appears whole."""
    fresh = path.with_suffix(".new")
    save_file({"image": found.image, "labels": found.labels}, fresh)
    fresh.replace(path)


def load_prepared(path: Path, case: Case) -> PreparedCase:
    """Return a case that `save_prepared` kept."""
    tensors = load_file(path)
    return _prepared_case(case.id, case.weight, tensors["image"], tensors["labels"])


def _prepared_case(case_id: str, weight: float, image: Tensor, labels: Tensor) -> PreparedCase:
    foreground = {
        int(label): torch.nonzero(labels == label).to(torch.int32)
        for label in torch.unique(labels)
        if label
    }
    return PreparedCase(
        id=case_id, weight=weight, image=image, labels=labels, foreground=foreground
    )


def _nifti_pairs(entry: NiftiPairs, root: Path) -> Iterator[Case]:
    images, labels = root / entry.images, root / entry.labels
    paths = sorted(path for path in images.glob("*") if path.name.endswith(NIFTI_SUFFIXES))
    if not paths:
        raise CaseError(case_id="(none)", problem=f"no NIfTI file in {images}")
    for path in paths:
        label_path = labels / path.name
        if not label_path.is_file():
            raise CaseError(case_id=case_name(path), problem=f"no labels at {label_path}")
        yield Case(
            id=case_name(path),
            source=entry.source,
            licence=entry.licence,
            weight=entry.weight,
            read=_PairReader(path, label_path),
        )


@dataclass(frozen=True)
class _PairReader:
    image: Path
    labels: Path

    def __call__(self) -> LabelledVolume:
        volume = read_nifti(self.image)
        case_id = case_name(self.image)
        labels = read_reference(self.labels, case_id, volume, None)
        if int(labels.max()) > 255:
            raise CaseError(case_id=case_id, problem=f"label {int(labels.max())} is above 255")
        return LabelledVolume(volume=volume, labels=labels.astype(np.uint8))


def _reference_case(entry: ReferenceSeries, root: Path) -> Case:
    path = root / entry.path
    if not path.exists():
        raise CaseError(case_id=entry.id, problem=f"{path} is not there")

    def read() -> LabelledVolume:
        volume = read_any(path)
        if not entry.has_lungs:
            return LabelledVolume(volume=volume, labels=np.zeros(volume.array.shape, np.uint8))
        return LabelledVolume(volume=volume, labels=segment_lungs(volume.array, volume.affine_lps))

    return Case(
        id=entry.id, source=entry.source, licence=entry.licence, weight=entry.weight, read=read
    )


def _labelled_case(entry: LabelledSeries, root: Path) -> Case:
    for path in (root / entry.path, root / entry.labels):
        if not path.exists():
            raise CaseError(case_id=entry.id, problem=f"{path} is not there")

    def read() -> LabelledVolume:
        volume = read_any(root / entry.path)
        joined = {int(value): sources for value, sources in entry.join.items()}
        labels = read_reference(root / entry.labels, entry.id, volume, joined)
        return LabelledVolume(volume=volume, labels=labels.astype(np.uint8))

    return Case(
        id=entry.id, source=entry.source, licence=entry.licence, weight=entry.weight, read=read
    )


def _phantom_cases(entry: Phantoms) -> Iterator[Case]:
    for seed in range(entry.first_seed, entry.first_seed + entry.count):
        yield Case(
            id=f"thorax_phantom_{seed}",
            source="training.phantoms.thorax_phantom",
            licence="Apache-2.0",
            weight=entry.weight,
            read=_PhantomReader(entry, seed),
        )


@dataclass(frozen=True)
class _PhantomReader:
    entry: Phantoms
    seed: int

    def __call__(self) -> LabelledVolume:
        rng = np.random.default_rng([self.seed, 2])
        depth = self.entry.shape[0]
        if self.entry.slices is not None:
            depth = int(rng.integers(self.entry.slices[0], self.entry.slices[1] + 1))
        array, labels, affine_lps = thorax_phantom(
            self.seed,
            (depth, *self.entry.shape[1:]),
            self.entry.spacing_mm,
            centre_z_mm=float(rng.uniform(*self.entry.centre_z_mm)),
        )
        volume = Volume(array=array, affine_lps=affine_lps, modality="CT", unit="[hnsf'U]")
        return LabelledVolume(volume=volume, labels=labels)
