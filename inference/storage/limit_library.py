"""Load a limit library: a signed, versioned file; two named persons sign, offline.

The file is an envelope ``{"payload": base64, "signatures": [{"person", "key_id", "signature"}]}``
over the exact bytes of the payload (JSON). Signatures are Ed25519 over the domain separator
``clinfer limits 1``, a NUL byte and those bytes. The persons' public keys stand in a file of the
site; private keys are in neither the repository nor the server (`scripts/sign_limits.py` runs on
the signer's own machine). EXAMPLE libraries carry no signature and load in demo mode only.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from inference.domain.care_errors import LibraryError, QuantityError
from inference.domain.limits import Limit, LimitLibrary
from inference.domain.population import Range
from inference.domain.quantities import check_unit

SIGNED_PREFIX = b"clinfer limits 1\x00"
MAX_LIBRARY_BYTES = 8 * 1024 * 1024
SIGNERS_NEEDED = 2


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class _RangeFile(_Strict):
    low: float
    high: float


class _LimitFile(_Strict):
    parameter: str
    unit: str
    care_area: str
    hard_high: float
    hard_low: float = 0.0
    soft_low: float | None = None
    soft_high: float | None = None
    max_step: float | None = None
    step_interval_s: float | None = None
    weight_kg: _RangeFile
    age_a: _RangeFile
    needs_two: bool = False
    source: str

    @field_validator("unit")
    @classmethod
    def _known_unit(cls, value: str) -> str:
        try:
            return check_unit("unit", None, value)
        except QuantityError as error:
            raise ValueError(str(error)) from error

    @model_validator(mode="after")
    def _in_order(self) -> _LimitFile:
        lows = [self.hard_low, self.soft_low, self.soft_high, self.hard_high]
        said = [one for one in lows if one is not None]
        if said != sorted(said) or self.hard_low == self.hard_high:
            raise ValueError("hard_low <= soft_low <= soft_high <= hard_high does not hold")
        if (self.max_step is None) != (self.step_interval_s is None):
            raise ValueError("max_step and step_interval_s belong together")
        return self


class _LibraryFile(_Strict):
    schema_name: str
    name: str
    version: str
    is_example: bool
    valid_from: str
    valid_until: str
    limits: tuple[_LimitFile, ...]


class _SignatureFile(_Strict):
    person: str
    key_id: str
    signature: str


class _Envelope(_Strict):
    payload: str
    signatures: tuple[_SignatureFile, ...] = ()


def read_signers(path: Path) -> Mapping[str, tuple[str, Ed25519PublicKey]]:
    """Read the site's file of signers: ``[{"person", "key_id", "public_key"}]``, keys in base64.

    Returns key id to (person, public key).

    Raises
    ------
    LibraryError
        Not such a file, or two persons share a key.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        found = {
            str(row["key_id"]): (
                str(row["person"]).strip(),
                Ed25519PublicKey.from_public_bytes(_bytes(row["public_key"])),
            )
            for row in rows
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LibraryError(library=path.name, problem=f"no file of signers: {error}") from error
    raw = [key.public_bytes_raw() for _, key in found.values()]
    if len(set(raw)) != len(rows) or any(not person for person, _ in found.values()):
        raise LibraryError(library=path.name, problem="a key or key id stands there twice")
    return found


def load_library(
    path: Path,
    *,
    signers: Mapping[str, tuple[str, Ed25519PublicKey]],
    now: datetime,
    is_demo: bool = False,
) -> LimitLibrary:
    """Load a library, its signatures and its time of validity checked.

    Parameters
    ----------
    signers : from `read_signers`
    is_demo : whether EXAMPLE data may load; it may do so nowhere else

    Raises
    ------
    LibraryError
        Not readable, altered, signed by fewer than two known persons, EXAMPLE data outside a demo,
        or not valid now.
    """
    if not path.is_file() or path.stat().st_size > MAX_LIBRARY_BYTES:
        raise LibraryError(library=path.name, problem="no such file, or larger than 8 MiB")
    try:
        envelope = _Envelope.model_validate_json(path.read_bytes())
        payload = _bytes(envelope.payload)
        library = _LibraryFile.model_validate_json(payload)
        valid_from = datetime.fromisoformat(library.valid_from)
        valid_until = datetime.fromisoformat(library.valid_until)
    except (ValidationError, ValueError) as error:
        raise LibraryError(library=path.name, problem=_first_line(error)) from error
    if library.schema_name != "clinfer-limits/1":
        raise LibraryError(library=path.name, problem=f"schema {library.schema_name} is unknown")
    if valid_from.tzinfo is None or valid_until.tzinfo is None:
        raise LibraryError(library=path.name, problem="its times carry no time zone")
    label = f"{library.name} {library.version}"
    if library.is_example:
        if not is_demo:
            raise LibraryError(library=label, problem="is EXAMPLE data; it loads in a demo only")
        persons: tuple[str, ...] = ()
    else:
        persons = _verified_persons(label, payload, envelope.signatures, signers)
    loaded = LimitLibrary(
        name=library.name,
        version=library.version,
        sha256=hashlib.sha256(payload).hexdigest(),
        is_example=library.is_example,
        valid_from=valid_from,
        valid_until=valid_until,
        signed_by=persons,
        limits=tuple(_as_limit(one) for one in library.limits),
    )
    loaded.check_valid(now)
    return loaded


def _verified_persons(
    label: str,
    payload: bytes,
    signatures: tuple[_SignatureFile, ...],
    signers: Mapping[str, tuple[str, Ed25519PublicKey]],
) -> tuple[str, ...]:
    persons: set[str] = set()
    for one in signatures:
        known = signers.get(one.key_id)
        if known is None or known[0].casefold() != one.person.strip().casefold():
            raise LibraryError(library=label, problem=f"signer {one.person} is not known here")
        try:
            known[1].verify(_bytes(one.signature), SIGNED_PREFIX + payload)
        except (InvalidSignature, ValueError) as error:
            raise LibraryError(
                library=label, problem=f"the signature of {one.person} does not fit its bytes"
            ) from error
        persons.add(known[0].casefold())
    if len(persons) < SIGNERS_NEEDED:
        raise LibraryError(
            library=label,
            problem=f"is signed by {len(persons)} known person(s), {SIGNERS_NEEDED} are needed",
        )
    return tuple(sorted(persons))


def _as_limit(one: _LimitFile) -> Limit:
    fields: dict[str, Any] = one.model_dump()
    for name, unit in (("weight_kg", "kg"), ("age_a", "a")):
        low, high = fields[name]["low"], fields[name]["high"]
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise LibraryError(library=one.parameter, problem=f"{name} is no range")
        fields[name] = Range(low=low, high=high, unit=unit)
    return Limit(**fields)


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return str(error)
