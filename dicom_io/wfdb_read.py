"""WFDB records to `Recording`: every format, several segments, gaps marked.

The samples are decoded by wfdb as the recorder's whole numbers; calibration, checksums, skew and
gaps are applied here, so that nothing that the header leaves out is filled in by a library.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import wfdb
from numpy.typing import NDArray

from dicom_io.recording import (
    Channel,
    Float64,
    Recording,
    SignalLimits,
    check_names,
    check_size,
    hash_of_files,
    make_channel,
)
from dicom_io.signal_errors import (
    ChecksumError,
    SampleCountError,
    SignalFieldError,
    SignalFormatError,
)
from dicom_io.signal_units import ucum_unit
from dicom_io.wfdb_header import SignalLine, WfdbHeader, read_header

DEFAULTS_NOTE = (
    "unit mV and baseline = ADC zero where the header says nothing, as header(5) has it: "
    "accepted on request"
)
_INVALID = {
    "16": -32768, "24": -8388608, "32": -2147483648, "61": -32768, "80": -128, "160": -32768,
    "212": -2048, "310": -512, "311": -512, "508": -128, "516": -32768, "524": -8388608,
}  # fmt: skip
"""The lowest value of each format marks a missing sample (signal(5)); differences (8) have none."""


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One channel of one segment, in physical units."""

    line: SignalLine
    unit: str
    samples: Float64


def read_wfdb(
    path: Path, *, accept_defaults: bool = False, limits: SignalLimits | None = None
) -> Recording:
    """Read a WFDB record, with one segment or many.

    Parameters
    ----------
    path : Path
        The .hea file, or the record's name without it.
    accept_defaults : bool
        Take mV where no unit stands and the ADC zero where no baseline stands; said in ``notes``.
    limits : SignalLimits, optional
        Bounds on size.

    Returns
    -------
    Recording
        A sample that the format marks as invalid, a segment named "~" and a channel that a segment
        does not have are missing. ``started_at`` is naive: the format has no time zone.

    Raises
    ------
    SignalError
        The header or the samples cannot be trusted; the class and its fields say why.
    """
    limits = limits or SignalLimits()
    path = path if path.suffix == ".hea" else path.with_name(path.name + ".hea")
    header = read_header(path, accept_defaults=accept_defaults, limits=limits)
    files = [path]
    if header.segments:
        channels, took = _read_segments(path, header, accept_defaults, limits, files)
    else:
        check_size(path.name, len(header.signals), header.n_frames or 0, limits)
        parts = _read_segment(path, header, limits, files)
        channels, took = _channels(header, [(parts, len(parts[0].samples))], parts), False
        took = header.took_defaults
    check_names(path.name, [channel.name for channel in channels])
    return Recording(
        record=header.record,
        kind="WFDB",
        channels=channels,
        source_sha256=hash_of_files(sorted(set(files)), limits),
        started_at=header.started_at,
        notes=(DEFAULTS_NOTE,) if took else (),
    )


def _read_segments(
    path: Path, header: WfdbHeader, accept: bool, limits: SignalLimits, files: list[Path]
) -> tuple[tuple[Channel, ...], bool]:
    """Read every segment; each has its own header, calibration and checksums."""
    total = sum(length for _, length in header.segments)
    check_size(path.name, 1, total, limits)
    pieces: list[tuple[list[_Part], int]] = []
    order: dict[str, _Part] = {}
    took = False
    for name, length in header.segments:
        if name == "~":
            pieces.append(([], length))
            continue
        segment_path = path.with_name(name + ".hea")
        segment = read_header(segment_path, accept_defaults=accept, limits=limits)
        if segment.segments:
            raise SignalFormatError(record=path.name, problem=f"segment {name} has segments itself")
        if segment.frame_rate_hz != header.frame_rate_hz:
            raise SignalFieldError(
                record=path.name,
                channel="",
                field=f"sampling rate of segment {name}",
                value=f"{segment.frame_rate_hz:g} Hz",
                allowed=f"{header.frame_rate_hz:g} Hz, as the record has",
                do="send the segments as records of their own",
            )
        took |= segment.took_defaults
        files.append(segment_path)
        if length == 0:  # the layout segment only names the channels
            continue
        parts = _read_segment(segment_path, segment, limits, files)
        for part in parts:
            _check_same(path, name, order.setdefault(part.line.name, part), part)
        check_size(path.name, len(order), total, limits)
        found = len(parts[0].samples) // parts[0].line.samples_per_frame
        if found != length:
            raise SampleCountError(
                record=path.name, channel=f"segment {name}", expected=length, found=found
            )
        pieces.append((parts, length))
    if not order:
        raise SignalFormatError(record=path.name, problem="no segment holds a sample")
    return _channels(header, pieces, list(order.values())), took


def _check_same(path: Path, segment: str, first: _Part, other: _Part) -> None:
    """Refuse a channel that changes its unit or rate from one segment to another."""
    for field, expected, found in (
        ("unit", first.unit, other.unit),
        ("samples per frame", first.line.samples_per_frame, other.line.samples_per_frame),
    ):
        if expected != found:
            raise SignalFieldError(
                record=path.name,
                channel=other.line.name,
                field=f"{field} in segment {segment}",
                value=str(found),
                allowed=f"{expected}, as in the segment before",
                do="send the segments as records of their own",
            )


def _channels(
    header: WfdbHeader, pieces: list[tuple[list[_Part], int]], order: list[_Part]
) -> tuple[Channel, ...]:
    """Join the pieces of each channel; where a piece lacks it, it is missing."""
    channels = []
    for model in order:
        per_frame = model.line.samples_per_frame
        samples: list[Float64] = []
        for parts, length in pieces:
            named = [part.samples for part in parts if part.line.name == model.line.name]
            whole = length if not header.segments else length * per_frame
            samples.append(named[0] if named else np.full(whole, np.nan))
        line = model.line
        half = 2.0 ** (line.resolution_bits - 1) if line.resolution_bits else 0.0
        rails = (line.zero - half, line.zero + half - 1)
        channels.append(
            make_channel(
                name=line.name,
                unit=model.unit,
                sampling_rate_hz=header.frame_rate_hz * per_frame,
                samples=np.concatenate(samples),
                gain_per_unit=line.gain,
                rails=None
                if half == 0
                else (
                    (rails[0] - line.baseline) / line.gain,
                    (rails[1] - line.baseline) / line.gain,
                ),
            )
        )
    return tuple(channels)


def _read_segment(
    path: Path, header: WfdbHeader, limits: SignalLimits, files: list[Path]
) -> list[_Part]:
    """Decode one segment, compare checksums and calibrate."""
    if not header.signals:
        raise SignalFormatError(record=path.name, problem="the record has no signals")
    for name in dict.fromkeys(line.file for line in header.signals):
        if not (path.parent / name).is_file():
            raise SignalFormatError(record=path.name, problem=f"signal file {name} is not there")
        files.append(path.parent / name)
    check_size(path.name, len(header.signals), header.n_frames or 0, limits)
    decoded = _decode(path, header)
    parts = []
    for line, digital in zip(header.signals, decoded, strict=True):
        _check_samples(path, header, line, digital)
        invalid = digital == _INVALID[line.format] if line.format in _INVALID else None
        samples = (digital.astype(np.float64) - line.baseline) / line.gain
        if invalid is not None:
            samples[invalid] = np.nan
        if line.skew:  # this signal was written `skew` samples too late
            samples = np.concatenate([samples[line.skew :], np.full(line.skew, np.nan)])
        unit = ucum_unit(line.unit, record=path.name, channel=line.name)
        parts.append(_Part(line=line, unit=unit, samples=samples))
    return parts


def _decode(path: Path, header: WfdbHeader) -> list[NDArray[np.int64]]:
    try:
        record = wfdb.rdrecord(
            str(path.with_suffix("")), physical=False, smooth_frames=False, ignore_skew=True
        )
    except (ValueError, IndexError, KeyError, OSError, RuntimeError, struct.error) as error:
        raise SignalFormatError(
            record=path.name,
            problem=f"the signal file does not fit its header ({type(error).__name__}: {error}); "
            "send both again",
        ) from error
    return [np.asarray(signal, np.int64) for signal in record.e_d_signal]


def _check_samples(
    path: Path, header: WfdbHeader, line: SignalLine, digital: NDArray[np.int64]
) -> None:
    """Compare length and 16-bit checksum with what the header says."""
    expected = None if header.n_frames is None else header.n_frames * line.samples_per_frame
    if expected is not None and len(digital) != expected:
        raise SampleCountError(
            record=path.name, channel=line.name, expected=expected, found=len(digital)
        )
    if line.checksum is None:
        return
    found = int(digital.sum()) & 0xFFFF
    if found != line.checksum & 0xFFFF:
        signed = found - 0x10000 if found >= 0x8000 else found
        raise ChecksumError(
            record=path.name, channel=line.name, expected=line.checksum, found=signed
        )
