"""Read a WFDB header as it stands, telling what it leaves out, which the library fills in.

The grammar is that of header(5) of the WFDB Applications Guide (PhysioNet).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dicom_io.recording import SignalLimits, checked_bytes, checked_rate_hz
from dicom_io.signal_errors import (
    CalibrationError,
    SignalFieldError,
    SignalFormatError,
    SignalPathError,
)

MAX_HEADER_BYTES = 4 << 20
FORMATS = frozenset(
    {"8", "16", "24", "32", "61", "80", "160", "212", "310", "311", "508", "516", "524"}
)
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_FORMAT = re.compile(r"(\d+)(?:x(\d+))?(?::(\d+))?(?:\+(\d+))?")
_GAIN = re.compile(r"([^(/]+)(?:\((-?\d+)\))?(?:/(\S+))?")
_RECORD = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, kw_only=True)
class SignalLine:
    """One signal of a header; None where the header says nothing."""

    file: str
    format: str
    samples_per_frame: int
    skew: int
    gain: float
    baseline: int
    unit: str
    resolution_bits: int
    zero: int
    checksum: int | None
    name: str


@dataclass(frozen=True, kw_only=True)
class WfdbHeader:
    """A header: either signals, or the names and lengths of segments."""

    record: str
    frame_rate_hz: float
    n_frames: int | None
    started_at: datetime | None
    signals: tuple[SignalLine, ...]
    segments: tuple[tuple[str, int], ...]
    took_defaults: bool
    """A unit or a baseline was absent and the format's own default was taken, as asked for."""


def read_header(path: Path, *, accept_defaults: bool, limits: SignalLimits) -> WfdbHeader:
    """Read one .hea file.

    Parameters
    ----------
    path : Path
        The header.
    accept_defaults : bool
        Whether an absent unit means mV and an absent baseline the ADC zero, as header(5) says.
        An absent or zero gain has no default in either case.
    limits : SignalLimits
        Bounds on the number of segments and the rate.

    Raises
    ------
    SignalFormatError, SignalFieldError
        The header breaks the grammar, or one of its fields is absent or impossible.
    """
    if path.is_file() and path.stat().st_size > MAX_HEADER_BYTES:
        raise SignalFormatError(record=path.name, problem="a header of more than 4 MiB")
    text = checked_bytes(path, limits).decode("ascii", "replace")
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise SignalFormatError(record=path.name, problem="the header is empty")
    first = lines[0].split()
    if len(first) < 2 or not first[1].isdigit():
        raise SignalFormatError(record=path.name, problem=f"record line {lines[0]!r} is not one")
    name, _, n_segments = first[0].partition("/")
    if not _RECORD.fullmatch(name):
        raise SignalFormatError(record=path.name, problem=f"record name {name!r} is not one")
    if int(first[1]) > limits.max_channels:
        raise SignalFormatError(
            record=path.name,
            problem=f"{first[1]} signals; at most {limits.max_channels} are read",
        )
    rate_hz = _rate_hz(path.name, first, limits)
    n_frames = int(first[3]) if len(first) > 3 and first[3].isdigit() else None
    if n_segments:
        segments = _segments(path, lines[1:], n_segments, limits)
        signals: tuple[SignalLine, ...] = ()
        took = False
    else:
        if len(lines) - 1 < int(first[1]):
            raise SignalFormatError(
                record=path.name, problem=f"{first[1]} signals are said, {len(lines) - 1} described"
            )
        found = [
            _signal(path, number, line, accept_defaults)
            for number, line in enumerate(lines[1 : 1 + int(first[1])])
        ]
        segments, signals = (), tuple(signal for signal, _ in found)
        took = any(took for _, took in found)
    return WfdbHeader(
        record=name,
        frame_rate_hz=rate_hz,
        n_frames=n_frames or None,
        started_at=_start(path.name, first),
        signals=signals,
        segments=segments,
        took_defaults=took,
    )


def checked_name(path: Path, name: str, channel: str = "") -> str:
    """Return a file or segment name that stays in the header's own folder, or refuse it."""
    inside = _FILE_NAME.fullmatch(name) is not None and ".." not in name
    if inside and (path.parent / name).is_symlink():
        inside = (path.parent / name).resolve().parent == path.parent.resolve()
    if not inside:
        raise SignalPathError(
            record=path.name,
            channel=channel,
            field="file name",
            value=name,
            allowed="letters, digits, '_', '-' and '.', in the header's own folder",
            do="put the signal file beside the header and name it so",
        )
    return name


def _rate_hz(record: str, first: list[str], limits: SignalLimits) -> float:
    text = first[2].split("/")[0].split("(")[0] if len(first) > 2 else "nan"
    try:
        rate_hz = float(text)
    except ValueError:
        rate_hz = math.nan
    return checked_rate_hz(rate_hz, record=record, channel="", limits=limits)


def _start(record: str, first: list[str]) -> datetime | None:
    if len(first) < 6:
        return None  # a time of day without a date is no instant
    text = f"{first[5]} {first[4]}"
    for pattern in ("%d/%m/%Y %H:%M:%S.%f", "%d/%m/%Y %H:%M:%S"):
        try:
            return datetime.strptime(text, pattern)  # noqa: DTZ007 - the format has no time zone
        except ValueError:
            continue
    raise SignalFieldError(
        record=record,
        channel="",
        field="base time and date",
        value=text,
        allowed="HH:MM:SS DD/MM/YYYY",
        do="correct the header",
    )


def _segments(
    path: Path, lines: list[str], said: str, limits: SignalLimits
) -> tuple[tuple[str, int], ...]:
    if not said.isdigit() or int(said) != len(lines) or len(lines) > limits.max_segments:
        raise SignalFormatError(
            record=path.name,
            problem=f"{said} segments are said and {len(lines)} named (at most "
            f"{limits.max_segments})",
        )
    segments = []
    for line in lines:
        name, _, length = line.partition(" ")
        if not length.strip().isdigit():
            raise SignalFormatError(record=path.name, problem=f"segment line {line!r} is not one")
        segments.append((name if name == "~" else checked_name(path, name), int(length)))
    return tuple(segments)


def _signal(path: Path, number: int, line: str, accept_defaults: bool) -> tuple[SignalLine, bool]:
    parts = line.split(maxsplit=8)
    name = parts[8].strip() if len(parts) > 8 else f"signal {number}"
    file = checked_name(path, parts[0], name)
    form = _FORMAT.fullmatch(parts[1]) if len(parts) > 1 else None
    if form is None or form[1] not in FORMATS or form[2] == "0":
        raise SignalFieldError(
            record=path.name,
            channel=name,
            field="format",
            value=parts[1] if len(parts) > 1 else "",
            allowed=", ".join(sorted(FORMATS, key=int)),
            do="convert the signal file (xform)",
        )
    numbers = [_whole(path, name, text) for text in parts[3:8]]
    resolution, zero = [*numbers, 0, 0][:2]
    gain, baseline, unit, took = _calibration(
        path, name, parts[2] if len(parts) > 2 else "", zero, len(numbers) > 1, accept_defaults
    )
    return SignalLine(
        file=file,
        format=form[1],
        samples_per_frame=int(form[2] or 1),
        skew=int(form[3] or 0),
        gain=gain,
        baseline=baseline,
        unit=unit,
        resolution_bits=resolution,
        zero=zero,
        checksum=numbers[3] if len(numbers) > 3 else None,
        name=name,
    ), took


def _whole(path: Path, channel: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise SignalFieldError(
            record=path.name,
            channel=channel,
            field="signal line",
            value=text,
            allowed="whole numbers for resolution, zero, first value, checksum and block size",
            do="correct the header",
        ) from None


def _calibration(
    path: Path, channel: str, text: str, zero: int, has_zero: bool, accept_defaults: bool
) -> tuple[float, int, str, bool]:
    """Return gain, baseline, unit, and whether a default was taken for one of the last two."""
    parts = _GAIN.fullmatch(text)
    try:
        gain = float(parts[1]) if parts else 0.0
    except ValueError:
        gain = math.nan

    def refuse(field: str, value: str, allowed: str, do: str) -> CalibrationError:
        return CalibrationError(
            record=path.name, channel=channel, field=field, value=value, allowed=allowed, do=do
        )

    if parts is None or not math.isfinite(gain) or gain <= 0:
        raise refuse("gain", text, "a number above 0", "write the recorder's gain; none is assumed")
    took = parts[2] is None or parts[3] is None
    advice = (
        "write it into the header, or accept the format's own defaults (unit mV, baseline = ADC "
        "zero) if they hold for this recorder: --wfdb-defaults"
    )
    if parts[3] is None and not accept_defaults:
        raise refuse("unit", "", "a unit after the gain, as in 200(1024)/mV", advice)
    if parts[2] is None and not (accept_defaults and has_zero):
        raise refuse("baseline", "", "a number in brackets after the gain", advice)
    return gain, int(parts[2] or zero), parts[3] or "mV", took
