"""A model's card in words: what it is for, what it was trained on, how well, on which cases."""

from __future__ import annotations

from typing import Any

from inference.api.overview import hex_color
from inference.pipeline.spec import ModelSpec

MAX_METRIC_LINES = 12


def model_card(spec: ModelSpec) -> dict[str, Any]:
    """Return what the card templates show."""
    scope = spec.scope
    return {
        "name": spec.name,
        "version": spec.version,
        "title": spec.title,
        "status": spec.status,
        "intended_use": spec.intended_use,
        "trained_on": _trained_on(spec),
        "metrics": metric_lines(spec.metrics),
        "metric_tables": metric_tables(spec.metrics),
        "limitations": spec.limitations,
        "labels": [
            {
                "name": label.name,
                "color": hex_color(label.color_rgb),
                "code": f"{label.type.value} {label.type.scheme} ({label.type.meaning})",
            }
            for label in spec.labels
        ],
        "scope": [
            ("Modality", ", ".join(scope.modalities)),
            ("Body part", ", ".join(scope.body_parts) or "any"),
            ("Slices", f"at least {scope.min_slices}"),
            ("Slice spacing", _range(scope.slice_spacing_mm)),
            ("In-plane spacing", _range(scope.in_plane_spacing_mm)),
            *([("Notes", scope.notes)] if scope.notes else []),
        ],
        "cases": [f"{case.id} ({case.source}, {case.licence})" for case in spec.training.cases],
        "unseen": [f"{case.id} ({case.source})" for case in spec.training.unseen_cases],
    }


def metric_tables(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one table for each set of cases that training measured label by label."""
    tables = []
    for name, measured in metrics.items():
        labels = _labels_of(measured)
        if not labels:
            continue
        n_cases = measured.get("n_cases")
        tables.append(
            {
                "title": name.replace("_", " ") + (f", {n_cases} cases" if n_cases else ""),
                "rows": [
                    {
                        "name": label,
                        "dice": _figure(found.get("dice")),
                        "lowest": _figure(found.get("dice_lowest")),
                        "hd95_mm": _figure(found.get("hd95_mm"), digits=1),
                    }
                    for label, found in labels.items()
                ],
            }
        )
    return tables


def metric_lines(metrics: dict[str, Any]) -> list[dict[str, str]]:
    """Return the other figures as lines of name and value."""
    others = {name: value for name, value in metrics.items() if not _labels_of(value)}
    return [{"name": name, "value": value} for name, value in _flat(others, ())[:MAX_METRIC_LINES]]


def _labels_of(measured: Any) -> dict[str, dict[str, Any]]:
    mean = measured.get("mean", {}) if isinstance(measured, dict) else {}
    labels: dict[str, dict[str, Any]] = mean.get("labels", {}) if isinstance(mean, dict) else {}
    return labels


def _flat(table: dict[str, Any], path: tuple[str, ...]) -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    for name, value in table.items():
        here = (*path, name.replace("_", " "))
        if isinstance(value, dict):
            lines += _flat(value, here)
        elif isinstance(value, float):
            lines.append((" · ".join(here), f"{value:.3g}"))
        elif not isinstance(value, list):
            lines.append((" · ".join(here), str(value)))
    return lines


def _figure(value: Any, *, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) else "–"


def _trained_on(spec: ModelSpec) -> str:
    cases, unseen = len(spec.training.cases), len(spec.training.unseen_cases)
    told = spec.training.data.rstrip(".")
    counts = [f"{cases} cases"] if cases and f"{cases} cases" not in told else []
    counts += [f"{unseen} more kept unseen"] if unseen else []
    return f"{told} ({'; '.join(counts)})" if counts else told


def _range(bounds: tuple[float, float]) -> str:
    return f"{bounds[0]:g} to {bounds[1]:g} mm"
