"""A recording: named channels in physical units over one clock, with what is missing marked."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_io.signal_errors import (
    SamplingRateError,
    SignalLimitError,
    SignalNameError,
)

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class SignalLimits:
    """How large a recording may be; a channel of 24 h at 1000 Hz needs 691 MB as float64."""

    max_file_bytes: int = 1 << 30
    max_channels: int = 64
    max_samples: int = 100_000_000
    """Samples of one channel."""
    max_values: int = 200_000_000
    """Samples of all channels together."""
    max_segments: int = 10_000
    min_rate_hz: float = 0.1
    max_rate_hz: float = 100_000.0


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One signal.

    ``samples`` is (n_samples,) float64 in ``unit`` (UCUM); NaN exactly where ``is_missing`` is
    true. ``gain_per_unit`` is the recorder's steps per unit and ``rails`` the lowest and highest
    value that it can store, both None where the file does not say.
    """

    name: str
    unit: str
    sampling_rate_hz: float
    samples: Float64
    is_missing: Bool
    gain_per_unit: float | None = None
    rails: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        assert self.samples.shape == self.is_missing.shape
        assert self.samples.dtype == np.float64

    @property
    def duration_s(self) -> float:
        """Length of the channel in seconds, gaps included."""
        return len(self.samples) / self.sampling_rate_hz


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Channels that begin at one instant; ``source_sha256`` names the bytes they were read from.

    ``started_at`` is what the file says about its start: aware where the file has a time zone,
    naive local time of the recorder where it has none (WFDB, EDF), None where it says nothing.
    ``notes`` tells what was taken on someone's word and what was marked instead of refused.
    """

    record: str
    kind: str
    channels: tuple[Channel, ...]
    source_sha256: str
    started_at: datetime | None = None
    notes: tuple[str, ...] = field(default=())

    def channel(self, name: str) -> Channel:
        """Return the channel of this name, in any case of letters.

        Raises
        ------
        SignalNameError
            There is none.
        """
        for channel in self.channels:
            if channel.name.casefold() == name.casefold():
                return channel
        raise SignalNameError(
            record=self.record,
            channel="",
            field="channel",
            value=name,
            allowed=", ".join(channel.name for channel in self.channels),
            do="name one of these",
        )


def make_channel(
    *,
    name: str,
    unit: str,
    sampling_rate_hz: float,
    samples: Float64,
    gain_per_unit: float | None = None,
    rails: tuple[float, float] | None = None,
) -> Channel:
    """Make a channel; every sample that is not finite becomes NaN and is marked missing."""
    samples = np.ascontiguousarray(samples, np.float64)
    is_missing = ~np.isfinite(samples)
    if is_missing.any():
        samples = np.where(is_missing, np.nan, samples)
    return Channel(
        name=name,
        unit=unit,
        sampling_rate_hz=sampling_rate_hz,
        samples=samples,
        is_missing=is_missing,
        gain_per_unit=gain_per_unit,
        rails=rails,
    )


def checked_rate_hz(rate_hz: float, *, record: str, channel: str, limits: SignalLimits) -> float:
    """Return a sampling rate that is a finite number within the limits, or refuse it."""
    if not math.isfinite(rate_hz) or not limits.min_rate_hz <= rate_hz <= limits.max_rate_hz:
        raise SamplingRateError(
            record=record,
            channel=channel,
            field="sampling rate",
            value=f"{rate_hz:g} Hz",
            allowed=f"{limits.min_rate_hz:g} to {limits.max_rate_hz:g} Hz",
            do="correct the header",
        )
    return rate_hz


def check_size(record: str, n_channels: int, n_samples: int, limits: SignalLimits) -> None:
    """Refuse a recording that is wider or longer than allowed, before its samples are read."""
    for limit, found in (
        ("max_channels", n_channels),
        ("max_samples", n_samples),
        ("max_values", n_channels * n_samples),
    ):
        allowed = getattr(limits, limit)
        if found > allowed:
            raise SignalLimitError(record=record, limit=limit, allowed=allowed, found=found)


def check_names(record: str, names: list[str]) -> None:
    """Refuse channels without a name and two channels of one name."""
    seen: set[str] = set()
    for number, name in enumerate(names):
        if not name.strip() or name.casefold() in seen:
            raise SignalNameError(
                record=record,
                channel=str(number),
                field="name",
                value=name,
                allowed="a name that no other channel has",
                do="name the channels in the header",
            )
        seen.add(name.casefold())


def checked_bytes(path: Path, limits: SignalLimits) -> bytes:
    """Return the bytes of a file that is not larger than allowed."""
    size = path.stat().st_size
    if size > limits.max_file_bytes:
        raise SignalLimitError(
            record=path.name, limit="max_file_bytes", allowed=limits.max_file_bytes, found=size
        )
    return path.read_bytes()


def hash_of_files(paths: list[Path], limits: SignalLimits) -> str:
    """Return the SHA-256 over the files' own SHA-256, in the order given."""
    total = hashlib.sha256()
    for path in paths:
        total.update(hashlib.sha256(checked_bytes(path, limits)).digest())
    return total.hexdigest()
