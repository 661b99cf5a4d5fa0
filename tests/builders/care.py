"""Limit libraries, signers and proposals for the care services."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from inference.domain.confirmation import Authenticated
from inference.domain.limits import BoundLimit, Limit, LimitLibrary, Person, bind, find_limit
from inference.domain.population import Range
from inference.domain.proposal import Origin, PatientKey, Proposal, make_proposal
from inference.domain.quantities import Quantity
from inference.storage.limit_library import SIGNED_PREFIX

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
RATE = "propofol.infusion_rate"
PATIENT = PatientKey(identifier="4711", assigning_authority="urn:oid:1.2.3")

LIMIT: dict[str, Any] = {
    "parameter": RATE, "unit": "mg/kg/h", "care_area": "icu", "hard_low": 0.0, "hard_high": 6.0,
    "soft_low": 0.3, "soft_high": 4.0, "max_step": 2.0, "step_interval_s": 300.0,
    "weight_kg": {"low": 40, "high": 150}, "age_a": {"low": 18, "high": 90},
    "needs_two": False, "source": "made up for a test",
}  # fmt: skip


@dataclass
class Signer:
    person: str
    key_id: str
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    def row(self) -> dict[str, str]:
        public = base64.b64encode(self.key.public_key().public_bytes_raw()).decode()
        return {"person": self.person, "key_id": self.key_id, "public_key": public}

    def sign(self, payload: bytes) -> dict[str, str]:
        signature = base64.b64encode(self.key.sign(SIGNED_PREFIX + payload)).decode()
        return {"person": self.person, "key_id": self.key_id, "signature": signature}


def payload(limits: list[Mapping[str, Any]] | None = None, **changed: Any) -> bytes:
    document = {
        "schema_name": "clinfer-limits/1", "name": "site drugs", "version": "7",
        "is_example": False, "valid_from": "2026-01-01T00:00:00+00:00",
        "valid_until": "2027-01-01T00:00:00+00:00",
        "limits": [LIMIT] if limits is None else limits,
    }  # fmt: skip
    return json.dumps(document | changed).encode()


def write_library(path: Path, content: bytes, signatures: list[dict[str, str]]) -> Path:
    envelope = {"payload": base64.b64encode(content).decode(), "signatures": signatures}
    path.write_text(json.dumps(envelope))
    return path


def library(*, needs_two: bool = False, **changed: Any) -> LimitLibrary:
    """A library as it is after loading."""
    fields = LIMIT | {"needs_two": needs_two} | changed
    fields["weight_kg"] = Range(low=40, high=150, unit="kg")
    fields["age_a"] = Range(low=18, high=90, unit="a")
    return LimitLibrary(
        name="site drugs", version="7", sha256="a" * 64, is_example=False,
        valid_from=NOW - timedelta(days=100), valid_until=NOW + timedelta(days=100),
        signed_by=("one", "two"), limits=(Limit(**fields),),
    )  # fmt: skip


def bound(one: LimitLibrary | None = None) -> dict[str, BoundLimit]:
    found = find_limit(
        one or library(), RATE, care_area="icu", person=Person(weight_kg=70, age_a=50), now=NOW
    )
    return {RATE: bind(found)}


def rate(value: float, unit: str = "mg/kg/h") -> dict[str, Quantity]:
    return {RATE: Quantity(value=value, unit=unit)}


def proposal(
    value: float = 2.0,
    *,
    needs_two: bool = False,
    now: datetime = NOW,
    valid_s: float = 60.0,
    patient: PatientKey = PATIENT,
    author: str = "",
) -> Proposal:
    limits = library(needs_two=needs_two)
    return make_proposal(
        service="treatment.infusion",
        patient=patient,
        origin=Origin(
            model="propofol_rate", model_version="1", model_sha256="b" * 64, input_sha256="c" * 64,
            inputs_valid_until=now + timedelta(seconds=valid_s), author=author,
        ),
        library=limits,
        values=rate(value),
        limits=bound(limits),
        explanation="made up for a test",
        now=now,
        valid_until=now + timedelta(hours=1),
    )  # fmt: skip


def nurse(name: str = "nurse", at: datetime = NOW, *, may_confirm: bool = True) -> Authenticated:
    return Authenticated(person=name, at=at, may_confirm=may_confirm)
