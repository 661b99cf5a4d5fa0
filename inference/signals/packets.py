"""The gate before a lead's stream: packets in order, from the bound device, at one rate and unit.

A packet that does not fit is never mended: the stream is held, with the reason, until a person
binds it anew. A gap is marked as missing samples, so nothing is carried over it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.domain.errors import ClinferError

Float64 = NDArray[np.float64]

CLOCK_TOLERANCE = 0.5
"""How far a packet may start from where it is due, in sampling periods."""
LONGEST_GAP_S = 600.0
"""A step forward of more than this is a clock that was set, not a gap."""


class StreamHeldError(ClinferError):
    """The stream is held: a packet does not fit what the stream is bound to.

    ``field`` is ``device_id``, ``unit``, ``sampling_rate_hz``, ``started_s`` or ``samples``.
    """

    code = "stream_held"

    def __init__(self, *, field: str, expected: str, found: str) -> None:
        self.field, self.expected, self.found = field, expected, found
        super().__init__(
            f"stream held: {field} is {found} where {expected} is bound or due; check that this "
            "device is on this patient, then bind the stream anew"
        )


@dataclass(frozen=True, kw_only=True)
class Binding:
    """What a stream was bound to: one device, one unit (UCUM), one rate."""

    device_id: str
    unit: str
    sampling_rate_hz: float


@dataclass(frozen=True, kw_only=True)
class Packet:
    """Samples from a device; ``started_s`` is the device's clock at the first one."""

    device_id: str
    unit: str
    sampling_rate_hz: float
    started_s: float
    samples: Float64


class PacketGate:
    """Turn packets into the samples of one stream, or hold it.

    Once held, every packet is refused with the same reason until `bind`.
    """

    def __init__(self, binding: Binding) -> None:
        self.bind(binding)

    def bind(self, binding: Binding) -> None:
        """Bind to a device: a new stream begins, with the next packet's clock."""
        self.binding = binding
        self.held: StreamHeldError | None = None
        self._due_s: float | None = None
        self._last = np.empty(0)
        self.n_repeated = 0

    def take(self, packet: Packet) -> Float64:
        """Return the samples to push, with NaN for what is missing before them.

        A packet that repeats the one before (same start, already taken) gives nothing and is
        counted in ``n_repeated``.

        Raises
        ------
        StreamHeldError
            The packet is from another device, in another unit or rate, holds no finite sample
            count, or its clock goes back or jumps; the stream is held from now on.
        """
        if self.held is not None:
            raise self.held
        bound = self.binding
        for field in ("device_id", "unit", "sampling_rate_hz"):
            if getattr(packet, field) != getattr(bound, field):
                self._hold(field, str(getattr(bound, field)), str(getattr(packet, field)))
        if not len(packet.samples) or not np.isfinite(packet.started_s):
            self._hold("samples", "one or more, with a start", f"{len(packet.samples)}")
        length_s = len(packet.samples) / bound.sampling_rate_hz
        if self._due_s is None:
            self._due_s = packet.started_s
        late = (packet.started_s - self._due_s) * bound.sampling_rate_hz
        if abs(late + len(packet.samples)) <= CLOCK_TOLERANCE and self._is_last(packet):
            self.n_repeated += 1
            return np.empty(0)
        if late < -CLOCK_TOLERANCE or late > LONGEST_GAP_S * bound.sampling_rate_hz:
            self._hold("started_s", f"{self._due_s:.3f} s", f"{packet.started_s:.3f} s")
        n_missing = max(0, round(late))
        self._due_s += n_missing / bound.sampling_rate_hz + length_s
        self._last = packet.samples.copy()
        return np.concatenate([np.full(n_missing, np.nan), packet.samples])

    def _is_last(self, packet: Packet) -> bool:
        return bool(np.array_equal(self._last, packet.samples, equal_nan=True))

    def _hold(self, field: str, expected: str, found: str) -> None:
        self.held = StreamHeldError(field=field, expected=expected, found=found)
        raise self.held
