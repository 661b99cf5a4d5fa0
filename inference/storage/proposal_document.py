"""A proposal as JSON text and back; floats come back exactly as they were."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from inference.domain.limits import BoundLimit
from inference.domain.proposal import Confirmation, PatientKey, Proposal, ProposalState
from inference.domain.quantities import Quantity


def to_text(proposal: Proposal) -> str:
    """Write every field; infinite and NaN cannot occur and would be refused."""
    document = asdict(proposal)
    document["state"] = proposal.state.value
    return json.dumps(
        document, sort_keys=True, ensure_ascii=True, allow_nan=False, default=_moment_text
    )


def from_text(text: str) -> Proposal:
    """Read what `to_text` wrote."""
    document: dict[str, Any] = json.loads(text)
    own = document["modified_values"]
    return Proposal(
        **document
        | {
            "patient": PatientKey(**document["patient"]),
            "values": _quantities(document["values"]),
            "modified_values": None if own is None else _quantities(own),
            "limits": {name: BoundLimit(**one) for name, one in document["limits"].items()},
            "beyond_soft": tuple(document["beyond_soft"]),
            "confirmations": tuple(
                Confirmation(**one | {"at": datetime.fromisoformat(one["at"])})
                for one in document["confirmations"]
            ),
            "state": ProposalState(document["state"]),
            "created_at": datetime.fromisoformat(document["created_at"]),
            "valid_until": datetime.fromisoformat(document["valid_until"]),
            "decided_at": document["decided_at"] and datetime.fromisoformat(document["decided_at"]),
        }
    )


def _quantities(values: Mapping[str, Any]) -> dict[str, Quantity]:
    return {name: Quantity(**one) for name, one in values.items()}


def _moment_text(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} does not belong in a proposal")
