"""The CapabilityStatement, made of the tables that the server itself works by."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from inference.gateways.fhir.search_terms import SEARCH, includes_of
from inference.gateways.fhir.write import WRITABLE
from inference.version import SOFTWARE_VERSION

FHIR_VERSION = "4.0.1"
FORMATS = ("application/fhir+json", "application/json", "json")
MEDIA_TYPE = "application/fhir+json"


def capability_statement(
    types: Sequence[str], base: str, *, started_at: datetime
) -> dict[str, Any]:
    """Return what this server does with each type."""
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": started_at.isoformat(),
        "kind": "instance",
        "software": {"name": "clinfer", "version": SOFTWARE_VERSION},
        "implementation": {"description": "clinfer", "url": base},
        "fhirVersion": FHIR_VERSION,
        "format": list(FORMATS),
        "rest": [
            {
                "mode": "server",
                "documentation": (
                    "Reports are preliminary until a person signs them. Unknown search parameters"
                    " are refused unless handling=lenient is preferred."
                ),
                "resource": [_resource(type) for type in types],
                "interaction": [{"code": "transaction"}],
            }
        ],
    }


def _resource(type: str) -> dict[str, Any]:
    written = type in WRITABLE
    interactions = ["read", "search-type", *(["create", "update"] if written else [])]
    resource: dict[str, Any] = {
        "type": type,
        "interaction": [{"code": code} for code in interactions],
        "versioning": "versioned-update" if written else "versioned",
        "conditionalRead": "full-support",
        "searchParam": [
            {"name": name, "type": parameter.kind} for name, parameter in SEARCH[type].items()
        ],
    }
    if written:
        resource["conditionalCreate"] = True
    if includes_of(type):
        resource["searchInclude"] = list(includes_of(type))
    return resource
