"""EDF, EDF+C and EDF+D files to `Recording`; the pauses of EDF+D are marked as gaps.

Headers and samples are read by edfio; the start of each data record comes from its time-keeping
annotation (EDF+, Kemp and Olivan, Clin Neurophysiol 2003;114:1755-1761, section 2.2.4).
"""

from __future__ import annotations

import hashlib
import re
import warnings
from pathlib import Path

import edfio
import numpy as np

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
from dicom_io.signal_errors import (
    CalibrationError,
    SampleCountError,
    SignalClockError,
    SignalFormatError,
)
from dicom_io.signal_units import ucum_unit

_ONSET = re.compile(rb"([+-]\d+(?:\.\d+)?)\x14\x14")
_FIXED, _PER_SIGNAL = 256, 256


def read_edf(path: Path, *, limits: SignalLimits | None = None) -> Recording:
    """Read an EDF or EDF+ file; annotation channels are left out.

    Raises
    ------
    SignalError
        The header contradicts itself or the length of the file, a range is empty, a unit is not
        known, or the records of EDF+D go back in time.
    """
    limits = limits or SignalLimits()
    content = checked_bytes(path, limits)
    _check_length(path, content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what edfio mends in silence is refused here
            edf = edfio.read_edf(content)
            signals = [(signal, signal.digital, signal.digital_range) for signal in edf.signals]
            started_at = edf.startdatetime
    except edfio.AnonymizedDateError:
        signals = [(signal, signal.digital, signal.digital_range) for signal in edf.signals]
        started_at = None
    except (ValueError, IndexError, UnicodeDecodeError, UserWarning) as error:
        raise SignalFormatError(record=path.name, problem=f"not readable: {error}") from error
    check_names(path.name, [signal.label for signal, _, _ in signals])
    starts_s = None if edf.is_continuous else _record_starts(path, content)
    channels = []
    for signal, digital, (low, high) in signals:
        name = signal.label
        rate_hz = checked_rate_hz(
            signal.sampling_frequency, record=path.name, channel=name, limits=limits
        )
        physical = (signal.physical_min, signal.physical_max)
        if low >= high or physical[0] == physical[1] or not np.isfinite(physical).all():
            raise CalibrationError(
                record=path.name,
                channel=name,
                field="physical and digital range",
                value=f"{physical[0]:g} to {physical[1]:g} for {low} to {high}",
                allowed="ranges that are not empty",
                do="correct the header",
            )
        step = (physical[1] - physical[0]) / (high - low)
        samples = physical[0] + (digital.astype(np.float64) - low) * step
        if starts_s is not None:
            samples = _spread(path, samples, starts_s, rate_hz, limits)
        check_size(path.name, len(signals), len(samples), limits)
        channels.append(
            make_channel(
                name=name,
                unit=ucum_unit(signal.physical_dimension, record=path.name, channel=name),
                sampling_rate_hz=rate_hz,
                samples=samples,
                gain_per_unit=1.0 / abs(step),
                rails=(min(physical), max(physical)),
            )
        )
    if not channels:
        raise SignalFormatError(record=path.name, problem="no signal beside annotations")
    return Recording(
        record=path.name,
        kind="EDF" if not edf.reserved.startswith("EDF+") else edf.reserved[:5],
        channels=tuple(channels),
        source_sha256=hashlib.sha256(content).hexdigest(),
        started_at=started_at,
    )


def _layout(content: bytes) -> tuple[int, int, list[int], list[str]]:
    """Return header bytes, number of records, samples per record and labels of each signal."""
    n_signals = int(content[252:256])
    fields = content[_FIXED : _FIXED + _PER_SIGNAL * n_signals]
    at = 216 * n_signals  # where "samples in each data record" stands among the signal fields
    samples = [int(fields[at + 8 * k : at + 8 * k + 8]) for k in range(n_signals)]
    labels = [fields[16 * k : 16 * k + 16].decode("ascii").strip() for k in range(n_signals)]
    return int(content[184:192]), int(content[236:244]), samples, labels


def _check_length(path: Path, content: bytes) -> None:
    """Refuse a file whose length is not what its header says."""
    try:
        header_bytes, n_records, samples, _ = _layout(content)
    except (ValueError, UnicodeDecodeError) as error:
        raise SignalFormatError(record=path.name, problem=f"not an EDF header: {error}") from error
    if not samples or min(samples) <= 0 or n_records <= 0:
        raise SignalFormatError(
            record=path.name, problem=f"{n_records} records of {samples} samples make no recording"
        )
    found = (len(content) - header_bytes) // 2
    expected = n_records * sum(samples)
    if found != expected:
        raise SampleCountError(record=path.name, channel="all", expected=expected, found=found)


def _record_starts(path: Path, content: bytes) -> Float64:
    """Return the start of each data record in seconds."""
    header_bytes, n_records, samples, labels = _layout(content)
    if "EDF Annotations" not in labels:
        raise SignalFormatError(record=path.name, problem="EDF+D without its time keeping")
    at = labels.index("EDF Annotations")
    starts = np.empty(n_records)
    for number in range(n_records):
        first = header_bytes + 2 * (number * sum(samples) + sum(samples[:at]))
        onset = _ONSET.match(content[first : first + 2 * samples[at]])
        if onset is None:
            raise SignalFormatError(
                record=path.name, problem=f"data record {number} says no start time"
            )
        starts[number] = float(onset[1])
    return starts


def _spread(
    path: Path, samples: Float64, starts_s: Float64, rate_hz: float, limits: SignalLimits
) -> Float64:
    """Put each data record where its start time says; what lies between is missing."""
    per_record = len(samples) // len(starts_s)
    first = np.rint((starts_s - starts_s[0]) * rate_hz).astype(np.int64)
    early = np.flatnonzero(np.diff(first) < per_record)
    if len(early):
        index = int(early[0]) + 1
        raise SignalClockError(
            record=path.name,
            index=index,
            expected_s=float(starts_s[index - 1] + per_record / rate_hz),
            found_s=float(starts_s[index]),
        )
    check_size(path.name, 1, int(first[-1]) + per_record, limits)
    spread = np.full(int(first[-1]) + per_record, np.nan)
    for number, start in enumerate(first.tolist()):
        spread[start : start + per_record] = samples[
            number * per_record : (number + 1) * per_record
        ]
    return spread
