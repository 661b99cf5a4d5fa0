"""Compare a served model with reference labels: Dice and HD95 per case and label.

Images and reference label maps are paired by name. The model is run through a `Predictor`, so what
is judged is what is served. Both grids are seen along canonical axes before they are compared: a
reference may be stored in another axis order than the image, but not on another grid.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_io.volume import Volume
from inference.domain.ports import Predictor
from inference.pipeline.spec import ModelSpec
from training.errors import CaseError, TrainingConfigError
from training.metrics import Agreement, agreement, as_json, mean_of
from training.reading import NIFTI_SUFFIXES, case_name, read_any, read_reference

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tar.xz")
CONVENTIONS = (
    "Dice and HD95 are null where reference and prediction are both empty; with one of them empty"
    " Dice is 0 and HD95 null. Means leave nulls out; n_dice and n_hd95 count what they hold."
    " HD95 is the larger of the two directed 95th percentiles of distances between surface"
    " voxels' centres, in mm."
)

LabelMap = Mapping[int, Sequence[int]]
"""Which reference labels make up each of the model's labels."""


@dataclass(frozen=True, kw_only=True)
class EvaluationCase:
    """An image (NIfTI, DICOM folder or archive) and its reference label map (NIfTI)."""

    id: str
    image: Path
    labels: Path


@dataclass(frozen=True, kw_only=True)
class CaseFigures:
    """The figures of one case, by label name."""

    case_id: str
    labels: dict[str, Agreement]


def pair_cases(images: Path, labels: Path) -> tuple[EvaluationCase, ...]:
    """Pair what two folders hold, by name without suffix.

    Raises
    ------
    CaseError
        A name has no partner, or stands twice on one side.
    """
    found = [_by_name(images, with_dicom=True), _by_name(labels, with_dicom=False)]
    alone = sorted(set(found[0]) ^ set(found[1]))
    if alone or not found[0]:
        name = alone[0] if alone else "(none)"
        missing = labels if name in found[0] else images
        raise CaseError(case_id=name, problem=f"has no partner in {missing}")
    return tuple(
        EvaluationCase(id=name, image=found[0][name], labels=found[1][name])
        for name in sorted(found[0])
    )


def load_label_map(path: Path, spec: ModelSpec) -> dict[int, tuple[int, ...]]:
    """Read a TOML or JSON file that says which reference labels are which label of the model.

    Keys are the model's label names (spaces may be written as underscores) or values; each value
    is a reference label or a list of them. The table may stand under ``labels``. Reference labels
    that are not listed are background.

    Raises
    ------
    TrainingConfigError
        Names the key that is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
        table = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise TrainingConfigError(path=str(path), field="(file)", problem=str(error)) from error
    if isinstance(table, dict) and isinstance(table.get("labels"), dict):
        table = table["labels"]
    if not isinstance(table, dict) or not table:
        raise TrainingConfigError(path=str(path), field="(file)", problem="holds no labels")
    value_of = {str(label.value): label.value for label in spec.labels}
    value_of |= {label.name.replace(" ", "_"): label.value for label in spec.labels}
    joined: dict[int, tuple[int, ...]] = {}
    taken: set[int] = set()
    for key, listed in table.items():
        value = value_of.get(str(key).strip().replace(" ", "_"))
        if value is None:
            known = ", ".join(label.name for label in spec.labels)
            raise TrainingConfigError(
                path=str(path), field=str(key), problem=f"not a label of {spec.name}: {known}"
            )
        sources = listed if isinstance(listed, list) else [listed]
        if not sources or any(type(s) is not int or s < 1 or s in taken for s in sources):
            raise TrainingConfigError(
                path=str(path),
                field=str(key),
                problem=f"{listed!r} must be whole numbers of 1 or more, each used once",
            )
        taken |= set(sources)
        joined[value] = tuple(sources)
    return joined


def evaluate_model(
    spec: ModelSpec,
    predictor: Predictor,
    cases: Iterable[EvaluationCase],
    *,
    label_map: LabelMap | None = None,
    done: Callable[[CaseFigures], None] | None = None,
) -> tuple[CaseFigures, ...]:
    """Run the model on every case and compare; ``done`` is told after each.

    Raises
    ------
    CaseError
        Image and reference do not lie on one grid, or a reference label is unknown.
    BackendError, ModelError, RefusedError
        The model cannot be run on a case.
    """
    figures = []
    for case in cases:
        volume = read_any(case.image)
        reference = _reference(case, volume, spec, label_map)
        predicted = predictor.predict(spec.name, volume).labels
        found = compare(case.id, predicted, reference, volume.affine_lps, spec)
        figures.append(found)
        if done is not None:
            done(found)
    return tuple(figures)


def compare(
    case_id: str,
    predicted: NDArray[Any],
    reference: NDArray[Any],
    affine_lps: NDArray[np.float64],
    spec: ModelSpec,
) -> CaseFigures:
    """Compare two label maps on one grid, label by label."""
    return CaseFigures(
        case_id=case_id,
        labels={
            label.name: agreement(predicted == label.value, reference == label.value, affine_lps)
            for label in spec.labels
        },
    )


def summarise(figures: Sequence[CaseFigures], spec: ModelSpec) -> dict[str, Any]:
    """Return means per label and over all, with how many cases each mean holds."""
    labels: dict[str, Any] = {}
    every: list[Agreement] = []
    for label in spec.labels:
        found = [case.labels[label.name] for case in figures]
        every += found
        labels[label.name] = _means(found)
    return {"labels": labels, "all_labels": _means(every)}


def report_json(
    spec: ModelSpec, figures: Sequence[CaseFigures], label_map: LabelMap | None
) -> dict[str, Any]:
    """Return what ``REPORT/metrics.json`` holds."""
    return {
        "model": spec.name,
        "model_version": spec.version,
        "weights_sha256": spec.weights.sha256,
        "n_cases": len(figures),
        "conventions": CONVENTIONS,
        "label_map": None
        if label_map is None
        else {spec.labels[value - 1].name: list(joined) for value, joined in label_map.items()},
        "mean": summarise(figures, spec),
        "cases": [
            {
                "case": case.case_id,
                "labels": {name: as_json(found) for name, found in case.labels.items()},
            }
            for case in figures
        ],
    }


def report_markdown(report: Mapping[str, Any]) -> str:
    """Return the same figures as a table that people read."""
    lines = [
        f"# {report['model']} {report['model_version']} on {report['n_cases']} cases",
        "",
        "| case | label | Dice | HD95 mm | reference ml | predicted ml |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for case in report["cases"]:
        for name, found in case["labels"].items():
            lines.append(
                f"| {case['case']} | {name} | {_text(found['dice'], 4)} |"
                f" {_text(found['hd95_mm'], 2)} | {found['reference_ml']:.2f} |"
                f" {found['predicted_ml']:.2f} |"
            )
    means = {**report["mean"]["labels"], "all labels": report["mean"]["all_labels"]}
    for name, found in means.items():
        lines.append(
            f"| **mean** | {name} | {_text(found['dice'], 4)} | {_text(found['hd95_mm'], 2)} | | |"
        )
    return "\n".join([*lines, "", report["conventions"], ""])


def _text(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _means(found: Sequence[Agreement]) -> dict[str, Any]:
    dices, distances = [each.dice for each in found], [each.hd95_mm for each in found]
    known = [value for value in dices if value is not None]
    mean_dice, mean_hd95 = mean_of(dices), mean_of(distances)
    return {
        "dice": None if mean_dice is None else round(mean_dice, 5),
        "dice_lowest": round(min(known), 5) if known else None,
        "hd95_mm": None if mean_hd95 is None else round(mean_hd95, 3),
        "n_dice": len(known),
        "n_hd95": sum(value is not None for value in distances),
    }


def _by_name(folder: Path, *, with_dicom: bool) -> dict[str, Path]:
    found: dict[str, Path] = {}
    suffixes = (*NIFTI_SUFFIXES, *ARCHIVE_SUFFIXES) if with_dicom else NIFTI_SUFFIXES
    for path in sorted(folder.glob("*")):
        if path.name.startswith("."):
            continue
        if path.name.endswith(suffixes) or (with_dicom and path.is_dir()):
            name = case_name(path)
            if name in found:
                raise CaseError(case_id=name, problem=f"stands twice in {folder}")
            found[name] = path
    return found


def _reference(
    case: EvaluationCase, volume: Volume, spec: ModelSpec, label_map: LabelMap | None
) -> NDArray[np.uint16]:
    """Read the reference as the model's labels."""
    reference = read_reference(case.labels, case.id, volume, label_map)
    highest = int(reference.max())
    if highest > len(spec.labels):
        raise CaseError(
            case_id=case.id,
            problem=f"reference label {highest} is not one of {spec.name}'s labels;"
            " a label map (--label-map) says what it is",
        )
    return reference
