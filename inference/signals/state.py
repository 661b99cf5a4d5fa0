"""Write the state of a stream as bytes and read it back, so that a restart loses nothing.

The bytes are an .npz of plain arrays (never pickle) behind a SHA-256, so that a damaged or foreign
state is refused rather than continued.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.domain.errors import ClinferError

MAGIC = b"clinfer-signal-1\n"
State = dict[str, NDArray[Any]]


class StreamStateError(ClinferError):
    """A stored stream state is damaged, of another version, or of another stream."""

    code = "stream_state"

    def __init__(self, *, field: str, problem: str) -> None:
        self.field, self.problem = field, problem
        super().__init__(f"stream state: {field}: {problem}; start the stream anew")


def to_bytes(state: State) -> bytes:
    """Pack named arrays."""
    packed = io.BytesIO()
    np.savez(packed, **state)
    content = packed.getvalue()
    return MAGIC + hashlib.sha256(content).digest() + content


def from_bytes(stored: bytes) -> State:
    """Unpack what `to_bytes` packed.

    Raises
    ------
    StreamStateError
        The bytes are not such a state, or not as they were written.
    """
    head = len(MAGIC) + 32
    if stored[: len(MAGIC)] != MAGIC:
        raise StreamStateError(field="version", problem="not a state of this version")
    if hashlib.sha256(stored[head:]).digest() != stored[len(MAGIC) : head]:
        raise StreamStateError(field="sha256", problem="the bytes changed since they were written")
    try:
        with np.load(io.BytesIO(stored[head:]), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, zipfile.BadZipFile) as error:
        raise StreamStateError(field="arrays", problem=str(error)) from error


def under(name: str, state: State) -> State:
    """Return the part of a state whose names begin with ``name.``, without it."""
    prefix = f"{name}."
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def nested(name: str, state: State) -> State:
    """Return a state with ``name.`` before every name."""
    return {f"{name}.{key}": value for key, value in state.items()}
