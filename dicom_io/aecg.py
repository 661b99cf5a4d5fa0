"""HL7 annotated ECG (aECG, ANSI/HL7 V3 ECG R1) to `Recording`; entities and DTDs are refused."""

from __future__ import annotations

import hashlib
import math
from datetime import UTC, datetime
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

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

_V3 = "{urn:hl7-org:v3}"
_LEAD = "MDC_ECG_LEAD_"
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}


def read_aecg(path: Path, *, series: int = 0, limits: SignalLimits | None = None) -> Recording:
    """Read the leads of one series of an aECG file.

    Parameters
    ----------
    path : Path
        The XML file.
    series : int
        Which series; the first is the rhythm strip.
    limits : SignalLimits, optional
        Bounds on size.

    Raises
    ------
    SignalError
        Not aECG, an entity or DTD inside, or a rate, scale or unit that cannot be trusted.
    """
    limits = limits or SignalLimits()
    content = checked_bytes(path, limits)
    try:
        root = fromstring(content, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise SignalFormatError(
            record=path.name, problem=f"not XML that is read here: {error!r}"
        ) from error
    if root.tag != f"{_V3}AnnotatedECG":
        raise SignalFormatError(record=path.name, problem=f"root element {root.tag} is not aECG")
    found = root.findall(f"./{_V3}component/{_V3}series")
    if not 0 <= series < len(found):
        raise _refuse(path, "", "series", str(series), f"0 to {len(found) - 1}")
    sets = found[series].findall(f"./{_V3}component/{_V3}sequenceSet")
    if len(sets) != 1:
        raise _refuse(path, "", "sequenceSet", str(len(sets)), "one in the series")
    sequences = sets[0].findall(f"./{_V3}component/{_V3}sequence")
    rate_hz, started_at = _clock(path, sequences, limits)
    leads = [one for one in sequences if _code(one).startswith(_LEAD)]
    if not leads:
        raise SignalFormatError(record=path.name, problem="the series holds no lead")
    channels = tuple(_channel(path, one, rate_hz, len(leads), limits) for one in leads)
    check_names(path.name, [channel.name for channel in channels])
    lengths = {len(channel.samples) for channel in channels}
    if len(lengths) > 1:
        raise SampleCountError(
            record=path.name, channel="one lead", expected=max(lengths), found=min(lengths)
        )
    return Recording(
        record=path.name,
        kind="aECG",
        channels=channels,
        source_sha256=hashlib.sha256(content).hexdigest(),
        started_at=started_at,
    )


def _code(sequence: Element) -> str:
    code = sequence.find(f"{_V3}code")
    return "" if code is None else code.get("code", "")


def _refuse(path: Path, channel: str, field: str, value: str, allowed: str) -> SignalFieldError:
    return SignalFieldError(
        record=path.name,
        channel=channel,
        field=field,
        value=value,
        allowed=allowed,
        do="correct it at the source",
    )


def _clock(
    path: Path, sequences: list[Element], limits: SignalLimits
) -> tuple[float, datetime | None]:
    """Return the rate and the start from the one time sequence of the set."""
    times = [one for one in sequences if _code(one) in ("TIME_ABSOLUTE", "TIME_RELATIVE")]
    value = times[0].find(f"{_V3}value") if len(times) == 1 else None
    step = None if value is None else value.find(f"{_V3}increment")
    if value is None or step is None or step.get("unit") not in _SECONDS:
        raise _refuse(path, "", "time increment", "", "one time sequence with s, ms or us")
    increment_s = _float(step.get("value")) * _SECONDS[step.get("unit", "")]
    rate_hz = 1.0 / increment_s if increment_s else math.inf
    checked_rate_hz(rate_hz, record=path.name, channel="", limits=limits)
    head = value.find(f"{_V3}head")
    text = "" if head is None else head.get("value", "")
    if _code(times[0]) == "TIME_RELATIVE" or not text:
        return rate_hz, None
    return rate_hz, _start(path, text)


def _start(path: Path, text: str) -> datetime:
    """Return an HL7 time stamp; aware where it has a zone."""
    for pattern in ("%Y%m%d%H%M%S.%f%z", "%Y%m%d%H%M%S%z", "%Y%m%d%H%M%S.%f", "%Y%m%d%H%M%S"):
        try:
            start = datetime.strptime(text, pattern)  # noqa: DTZ007 - naive where none is said
        except ValueError:
            continue
        return start.astimezone(UTC) if start.tzinfo else start
    raise _refuse(path, "", "time head", text, "YYYYMMDDHHMMSS.ffffff with or without zone")


def _float(text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        return math.nan


def _channel(
    path: Path, sequence: Element, rate_hz: float, n_leads: int, limits: SignalLimits
) -> Channel:
    name = _code(sequence).removeprefix(_LEAD)
    value = sequence.find(f"{_V3}value")
    origin = None if value is None else value.find(f"{_V3}origin")
    scale = None if value is None else value.find(f"{_V3}scale")
    digits = None if value is None else value.find(f"{_V3}digits")
    if origin is None or scale is None or digits is None:
        raise _refuse(path, name, "value", "", "SLIST_PQ with origin, scale and digits")
    factor, offset = _float(scale.get("value")), _float(origin.get("value"))
    if not math.isfinite(factor) or factor == 0 or not math.isfinite(offset):
        raise CalibrationError(
            record=path.name,
            channel=name,
            field="scale and origin",
            value=f"{scale.get('value')} and {origin.get('value')}",
            allowed="finite, the scale not zero",
            do="correct it at the source; none is assumed",
        )
    units = {scale.get("unit", ""), origin.get("unit", "")}
    if len(units) != 1:
        raise _refuse(path, name, "unit", " and ".join(sorted(units)), "one for origin and scale")
    words = (digits.text or "").split()
    check_size(path.name, n_leads, len(words), limits)
    return make_channel(
        name=name,
        unit=ucum_unit(units.pop(), record=path.name, channel=name),
        sampling_rate_hz=rate_hz,
        samples=_digits(path, name, words) * factor + offset,
        gain_per_unit=1.0 / abs(factor),
    )


def _digits(path: Path, name: str, words: list[str]) -> Float64:
    try:
        return np.array(words, np.float64)
    except ValueError as error:
        raise _refuse(path, name, "digits", str(error), "whole numbers") from error
