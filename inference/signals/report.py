"""What `clinfer signal` writes: result.json, beats.csv, and a WFDB annotation file."""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import wfdb

from inference.signals.analyse import SignalResult
from inference.signals.beats import Beat
from inference.version import SOFTWARE_VERSION

NOTICE = "AI result, not verified. Decision support: a person decides."
QUANTITIES = {
    "rr_ms": "RR",
    "amplitude_mv": "amplitude",
    "qrs_ms": "QRS",
    "pr_ms": "PR",
    "qt_ms": "QT",
}
CORRECTIONS = ("bazett", "fridericia", "framingham", "hodges")
FEWEST_BEATS = 5
"""A median of fewer measured beats is not given."""
WAVES = ("qrs_ms", "pr_ms", "qt_ms")
MEASURED_PART, WIDEST_SPREAD_MS = 0.5, 60.0
"""QRS, PR and QT are given when at least this part of the beats has them and their quartiles lie no
further apart: beyond, the waves were not found reliably. Chosen here."""


def result_json(result: SignalResult) -> dict[str, Any]:
    """Return the content of ``result.json``: lengths in ms, amplitudes in mV, samples from 0."""
    recording, lead = result.recording, result.lead
    grades = Counter(window.grade for window in result.windows)
    started_at = recording.started_at
    return {
        "notice": NOTICE,
        "software": f"clinfer {SOFTWARE_VERSION}",
        "status": result.status,
        "reasons": list(result.reasons),
        "recording": {
            "record": recording.record,
            "kind": recording.kind,
            "source_sha256": recording.source_sha256,
            "started_at": None if started_at is None else started_at.isoformat(),
            "notes": list(recording.notes),
            "channels": [
                {
                    "name": channel.name,
                    "unit": channel.unit,
                    "sampling_rate_hz": channel.sampling_rate_hz,
                    "duration_s": channel.duration_s,
                    "missing_samples": int(channel.is_missing.sum()),
                }
                for channel in recording.channels
            ],
        },
        "lead": lead.name,
        "beats_found": len(result.beats),
        "intervals": None if result.reasons else interval_table(result.trusted_beats()),
        "quality": {
            "windows": {grade: grades.get(grade, 0) for grade in ("good", "poor", "unusable")},
            "states": [
                {
                    "from_s": window.first_sample / lead.sampling_rate_hz,
                    "to_s": (window.first_sample + window.n_samples) / lead.sampling_rate_hz,
                    "grade": window.grade,
                    "states": list(window.states),
                }
                for window in result.windows
                if window.states
            ],
        },
        "beats": [asdict(beat) for beat in result.beats],
    }


def interval_table(beats: tuple[Beat, ...]) -> dict[str, dict[str, float | int | None]]:
    """Return median, quartiles and count of each quantity; None where too few beats have it."""
    table = {name: _summary([getattr(beat, name) for beat in beats]) for name in QUANTITIES}
    for name in CORRECTIONS:
        values = [None if beat.qtc_ms is None else beat.qtc_ms[name] for beat in beats]
        table[f"qtc_{name}_ms"] = _summary(values)
    for name in WAVES:
        if not _is_reliable(table[name], len(beats)):
            withheld = [name] + (
                [key for key in table if key.startswith("qtc_")] * (name == "qt_ms")
            )
            for key in withheld:
                table[key] = {**table[key], "median": None, "quartile_1": None, "quartile_3": None}
    rr_ms = table["rr_ms"]["median"]
    table["rate_per_min"] = {
        "median": None if rr_ms is None else 60000.0 / rr_ms, "n": table["rr_ms"]["n"]
    }  # fmt: skip
    return table


def _is_reliable(row: dict[str, float | int | None], n_beats: int) -> bool:
    low, high = row["quartile_1"], row["quartile_3"]
    if low is None or high is None:
        return False
    return high - low <= WIDEST_SPREAD_MS and (row["n"] or 0) >= MEASURED_PART * n_beats


def _summary(values: list[float | None]) -> dict[str, float | int | None]:
    there = [value for value in values if value is not None]
    if len(there) < FEWEST_BEATS:
        return {"median": None, "quartile_1": None, "quartile_3": None, "n": len(there)}
    low, middle, high = (float(value) for value in np.percentile(there, [25, 50, 75]))
    return {"median": middle, "quartile_1": low, "quartile_3": high, "n": len(there)}


def write_beats_csv(path: Path, beats: tuple[Beat, ...]) -> None:
    """Write one row per beat; a quantity that was not measured is an empty field."""
    names = ["sample", "time_s", "looked_twice", *QUANTITIES, *(f"qtc_{n}_ms" for n in CORRECTIONS)]
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(names)
        for beat in beats:
            corrected = beat.qtc_ms or {}
            rows.writerow(
                [beat.sample, f"{beat.time_s:.4f}", int(beat.looked_twice)]
                + [_text(getattr(beat, name)) for name in QUANTITIES]
                + [_text(corrected.get(name)) for name in CORRECTIONS]
            )


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def write_annotations(folder: Path, result: SignalResult) -> Path:
    """Write the beats as a WFDB annotation file, RECORD.qrs; every beat is "N", unclassified.

    Its samples count at the lead's own rate, which the file says.
    """
    record = re.sub(r"[^A-Za-z0-9_-]", "_", Path(result.recording.record).stem) or "record"
    samples = np.array([beat.sample for beat in result.beats], np.int64)
    wfdb.wrann(
        record,
        "qrs",
        samples,
        symbol=["N"] * len(samples),
        fs=result.lead.sampling_rate_hz,
        write_dir=str(folder),
    )
    return folder / f"{record}.qrs"
