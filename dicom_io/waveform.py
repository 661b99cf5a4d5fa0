"""DICOM waveform objects (12-lead, general and ambulatory ECG, haemodynamic) to `Recording`."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from dicom_io.recording import (
    Channel,
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
    SignalFieldError,
    SignalFormatError,
)
from dicom_io.signal_units import ucum_unit

SOP_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.9.1.1": "12-lead ECG",
    "1.2.840.10008.5.1.4.1.1.9.1.2": "general ECG",
    "1.2.840.10008.5.1.4.1.1.9.1.3": "ambulatory ECG",
    "1.2.840.10008.5.1.4.1.1.9.1.4": "general 32-bit ECG",
    "1.2.840.10008.5.1.4.1.1.9.2.1": "haemodynamic",
    "1.2.840.10008.5.1.4.1.1.9.3.1": "cardiac electrophysiology",
    "1.2.840.10008.5.1.4.1.1.9.5.1": "arterial pulse",
    "1.2.840.10008.5.1.4.1.1.9.6.1": "respiratory",
}
_DTYPES = {"SB": "i1", "UB": "u1", "SS": "<i2", "US": "<u2", "SL": "<i4", "UL": "<u4"}


def read_waveform(path: Path, *, group: int = 0, limits: SignalLimits | None = None) -> Recording:
    """Read one multiplex group of a DICOM waveform object.

    Parameters
    ----------
    path : Path
        The DICOM file.
    group : int
        Which multiplex group; their number and labels stand in ``notes``.
    limits : SignalLimits, optional
        Bounds on size.

    Raises
    ------
    SignalError
        Not a waveform object, or a sensitivity, unit, rate or length that cannot be trusted.
    """
    limits = limits or SignalLimits()
    content = checked_bytes(path, limits)
    try:
        dataset = pydicom.dcmread(path)
        kind = SOP_CLASSES.get(str(dataset.get("SOPClassUID", "")))
        groups = list(dataset.get("WaveformSequence") or [])
    except (InvalidDicomError, ValueError, EOFError, OSError, NotImplementedError) as error:
        raise SignalFormatError(record=path.name, problem=f"not readable: {error}") from error
    if kind is None or not groups:
        raise SignalFormatError(
            record=path.name,
            problem=f"SOP class {dataset.get('SOPClassUID', '(blank)')} with {len(groups)} "
            "waveform groups; read are ECG, haemodynamic, pulse and respiratory waveforms",
        )
    if not 0 <= group < len(groups):
        raise _refuse(path, "", "group", str(group), f"0 to {len(groups) - 1}")
    chosen = groups[group]
    channels = _channels(path, chosen, limits)
    check_names(path.name, [channel.name for channel in channels])
    notes = tuple(
        f"group {number}: {one.get('MultiplexGroupLabel', '') or '(no label)'}"
        + (" (read)" if number == group else "")
        for number, one in enumerate(groups)
    )
    return Recording(
        record=path.name,
        kind=f"DICOM {kind}",
        channels=channels,
        source_sha256=hashlib.sha256(content).hexdigest(),
        started_at=_start(path, dataset, chosen),
        notes=notes if len(groups) > 1 else (),
    )


def _channels(path: Path, group: Dataset, limits: SignalLimits) -> tuple[Channel, ...]:
    n_channels, n_samples, rate = (
        _number(path, group, keyword)
        for keyword in ("NumberOfWaveformChannels", "NumberOfWaveformSamples", "SamplingFrequency")
    )
    rate_hz = checked_rate_hz(rate, record=path.name, channel="", limits=limits)
    check_size(path.name, int(n_channels), int(n_samples), limits)
    coding = str(group.get("WaveformSampleInterpretation", ""))
    if coding not in _DTYPES:
        raise _refuse(path, "", "WaveformSampleInterpretation", coding, ", ".join(_DTYPES))
    definitions = list(group.get("ChannelDefinitionSequence") or [])
    data = bytes(group.get("WaveformData") or b"")
    dtype = np.dtype(_DTYPES[coding])
    expected = int(n_channels) * int(n_samples)
    if len(definitions) != int(n_channels) or not 0 <= len(data) - expected * dtype.itemsize <= 1:
        raise SampleCountError(
            record=path.name,
            channel=f"all {len(definitions)} of {int(n_channels)}",
            expected=expected,
            found=len(data) // dtype.itemsize,
        )
    stored = np.frombuffer(data, dtype, expected).reshape(int(n_samples), int(n_channels))
    padding = group.get("WaveformPaddingValue")
    if isinstance(padding, bytes):
        padding = int(np.frombuffer(padding, dtype, 1)[0])
    channels = []
    for number, definition in enumerate(definitions):
        values = stored[:, number]
        samples = values.astype(np.float64)
        if padding is not None:
            samples[values == padding] = np.nan
        channels.append(_channel(path, number, definition, samples, rate_hz))
    return tuple(channels)


def _channel(
    path: Path, number: int, definition: Dataset, stored: Float64, rate_hz: float
) -> Channel:
    """Calibrate one channel: stored value x sensitivity x correction + baseline (C.10.9.1.4)."""
    name = _name(path, number, definition)
    sensitivity = _number(path, definition, "ChannelSensitivity", name)
    correction = _number(path, definition, "ChannelSensitivityCorrectionFactor", name)
    baseline = _number(path, definition, "ChannelBaseline", name)
    if sensitivity * correction == 0:
        raise CalibrationError(
            record=path.name,
            channel=name,
            field="ChannelSensitivity",
            value=f"{sensitivity:g} x {correction:g}",
            allowed="not zero",
            do="correct it at the source",
        )
    units = definition.get("ChannelSensitivityUnitsSequence") or []
    unit = str(units[0].get("CodeValue", "")) if units else ""
    if definition.get("ChannelSampleSkew") or definition.get("ChannelTimeSkew"):
        skew = float(definition.get("ChannelSampleSkew") or 0)
        if skew or float(definition.get("ChannelTimeSkew") or 0):
            raise _refuse(path, name, "channel skew", f"{skew:g} samples", "0")
    return make_channel(
        name=name,
        unit=ucum_unit(unit, record=path.name, channel=name),
        sampling_rate_hz=rate_hz,
        samples=stored * (sensitivity * correction) + baseline,
        gain_per_unit=1.0 / abs(sensitivity * correction),
    )


def _name(path: Path, number: int, definition: Dataset) -> str:
    """Return the lead: the source's code meaning without "Lead", else the channel's label."""
    sources = definition.get("ChannelSourceSequence") or []
    meaning = str(sources[0].get("CodeMeaning", "")) if sources else ""
    name = meaning.removeprefix("Lead ").split(" (")[0].strip()
    name = name or str(definition.get("ChannelLabel", "")).strip()
    if not name:
        raise _refuse(path, str(number), "ChannelSourceSequence", "", "a source or a label")
    return name


def _number(path: Path, dataset: Dataset, keyword: str, channel: str = "") -> float:
    try:
        value = float(dataset.get(keyword))
    except (TypeError, ValueError):
        value = float("nan")
    if not np.isfinite(value):
        kind = CalibrationError if channel else SignalFieldError
        raise kind(
            record=path.name,
            channel=channel,
            field=keyword,
            value=str(dataset.get(keyword, "") or ""),
            allowed="a finite number",
            do="correct it at the source; none is assumed",
        )
    return value


def _refuse(path: Path, channel: str, field: str, value: str, allowed: str) -> SignalFieldError:
    return SignalFieldError(
        record=path.name,
        channel=channel,
        field=field,
        value=value,
        allowed=allowed,
        do="correct it at the source",
    )


def _start(path: Path, dataset: Dataset, group: Dataset) -> datetime | None:
    text = str(dataset.get("AcquisitionDateTime", "") or "")
    if not text:
        return None
    try:
        start = pydicom.valuerep.DT(text)
    except ValueError:
        start = None
    if start is None:
        raise _refuse(path, "", "AcquisitionDateTime", text, "YYYYMMDDHHMMSS.FFFFFF&ZZXX")
    offset_ms = float(group.get("MultiplexGroupTimeOffset") or 0.0)
    return datetime.fromisoformat(start.isoformat()) + timedelta(milliseconds=offset_ms)
