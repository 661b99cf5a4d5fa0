"""Signals in CSV, read by a declared schema: nothing about columns, units or rate is guessed.

The schema is a TOML file::

    sampling_rate_hz = 125.0
    delimiter = ","              # one character; default ","
    missing = ["", "NaN"]        # texts that mean a missing sample; default as here
    [time]                       # absent: rows are evenly spaced, without a clock
    column = "Time [s]"
    unit = "s"                   # "s" or "ms"
    rounded_to = 0.01            # only for rounded stamps: rows must then be evenly spaced
    [[channel]]
    column = " II"               # as the header row writes it, spaces at its ends left out
    name = "II"
    unit = "mV"
"""

from __future__ import annotations

import csv
import hashlib
import math
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_io.recording import (
    Float64,
    Recording,
    SignalLimits,
    check_names,
    check_size,
    checked_bytes,
    checked_rate_hz,
    make_channel,
)
from dicom_io.signal_errors import SignalClockError, SignalFieldError, SignalFormatError
from dicom_io.signal_units import ucum_unit

CLOCK_TOLERANCE = 0.25
"""How far a step of the clock may lie from a whole number of sampling periods, in periods."""
LONGEST_GAP_S = 3600.0
"""A step forward of an hour or more is a clock that was set, not a gap."""
_KEYS = {"sampling_rate_hz", "delimiter", "missing", "time", "channel"}


def read_csv(path: Path, schema_path: Path, *, limits: SignalLimits | None = None) -> Recording:
    """Read a CSV file by its schema.

    A step of the clock over several periods is a gap, marked missing; a step back, a repeated time
    stamp, a step that is no whole number of periods and one of an hour or more are refused.

    Raises
    ------
    SignalFieldError, SignalFormatError, SignalClockError, SignalLimitError
        The schema or the file cannot be trusted.
    """
    limits = limits or SignalLimits()
    schema = _schema(schema_path)
    rate_hz = checked_rate_hz(
        _number(schema.get("sampling_rate_hz")), record=schema_path.name, channel="", limits=limits
    )
    content = checked_bytes(path, limits)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SignalFormatError(record=path.name, problem=f"not UTF-8 text: {error}") from error
    rows = list(csv.reader(text.splitlines(), delimiter=schema.get("delimiter", ",")))
    if len(rows) < 2:
        raise SignalFormatError(record=path.name, problem="no row of samples")
    header = [name.strip() for name in rows[0]]
    declared = schema["channel"]
    check_size(path.name, len(declared), len(rows) - 1, limits)
    check_names(path.name, [str(one.get("name", "")) for one in declared])
    missing = {str(one) for one in schema.get("missing", ["", "NaN"])}
    place, n_samples = None, len(rows) - 1
    if "time" in schema:
        times = _column(path, rows, header, str(schema["time"].get("column", "")), set())
        scale = _time_scale(schema_path, schema)
        rounded_s = _number(schema["time"].get("rounded_to", 0.0)) * scale
        place = _places(path, times * scale, rate_hz, rounded_s)
        n_samples = int(place[-1]) + 1
        check_size(path.name, len(declared), n_samples, limits)
    channels = []
    for one in declared:
        values = _column(path, rows, header, str(one.get("column", "")), missing)
        if place is not None:
            spread = np.full(n_samples, np.nan)
            spread[place] = values
            values = spread
        name = str(one["name"])
        unit = ucum_unit(str(one.get("unit", "")), record=schema_path.name, channel=name)
        channels.append(
            make_channel(name=name, unit=unit, sampling_rate_hz=rate_hz, samples=values)
        )
    digest = hashlib.sha256(content + schema_path.read_bytes()).hexdigest()
    return Recording(record=path.name, kind="CSV", channels=tuple(channels), source_sha256=digest)


def _schema(path: Path) -> dict[str, Any]:
    try:
        schema = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SignalFormatError(record=path.name, problem=f"not a TOML file: {error}") from error
    unknown = sorted(schema.keys() - _KEYS)
    delimiter = schema.get("delimiter", ",")
    for field, value, is_right, allowed in (
        ("schema", ", ".join(unknown), not unknown, ", ".join(sorted(_KEYS))),
        ("channel", "", bool(schema.get("channel")), "one [[channel]] or more"),
        ("delimiter", str(delimiter), len(str(delimiter)) == 1, "one character"),
    ):
        if not is_right:
            raise _refuse(path, field, value, allowed)
    return schema


def _refuse(path: Path, field: str, value: str, allowed: str) -> SignalFieldError:
    return SignalFieldError(
        record=path.name,
        channel="",
        field=field,
        value=value,
        allowed=allowed,
        do="correct the schema or the file",
    )


def _number(value: object) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else math.nan  # type: ignore[arg-type]  # checked above


def _time_scale(path: Path, schema: dict[str, Any]) -> float:
    unit = schema["time"].get("unit", "")
    if unit not in ("s", "ms"):
        raise _refuse(path, "time.unit", str(unit), "s, ms")
    return 1.0 if unit == "s" else 1e-3


def _column(
    path: Path, rows: list[list[str]], header: list[str], column: str, missing: set[str]
) -> Float64:
    """Return one column as numbers; a text that is neither number nor missing is refused."""
    if header.count(column.strip()) != 1:
        raise _refuse(path, "column", column, "one of: " + ", ".join(header))
    at = header.index(column.strip())
    values = np.empty(len(rows) - 1)
    for number, row in enumerate(rows[1:]):
        if len(row) != len(header):
            raise SignalFormatError(
                record=path.name,
                problem=f"row {number + 1} has {len(row)} columns, the header has {len(header)}",
            )
        text = row[at].strip()
        try:
            values[number] = math.nan if text in missing else float(text)
        except ValueError:
            raise _refuse(path, f"{column}, row {number + 1}", text, "a number") from None
        if not math.isfinite(values[number]) and text not in missing:
            raise _refuse(path, f"{column}, row {number + 1}", text, "a finite number")
    return values


def _places(path: Path, times_s: Float64, rate_hz: float, rounded_s: float) -> NDArray[np.int64]:
    """Return the sample number of each row by its time stamp.

    Stamps that are rounded cannot place a sample, but they must agree with evenly spaced rows.
    """
    if rounded_s != 0.0:
        due_s = times_s[0] + np.arange(len(times_s)) / rate_hz
        off = ~(np.abs(times_s - due_s) <= rounded_s)
        if off.any():
            index = int(np.argmax(off))
            raise SignalClockError(
                record=path.name,
                index=index,
                expected_s=float(due_s[index]),
                found_s=float(times_s[index]),
            )
        return np.arange(len(times_s), dtype=np.int64)
    steps = np.diff(times_s) * rate_hz
    whole = np.rint(steps)
    wrong = (whole < 1) | (np.abs(steps - whole) > CLOCK_TOLERANCE)
    wrong |= steps >= LONGEST_GAP_S * rate_hz
    if wrong.any():
        index = int(np.argmax(wrong)) + 1
        raise SignalClockError(
            record=path.name,
            index=index,
            expected_s=float(times_s[index - 1] + 1.0 / rate_hz),
            found_s=float(times_s[index]),
        )
    places: NDArray[np.int64] = np.concatenate([[0], np.cumsum(whole)]).astype(np.int64)
    return places
