"""What a person or a system may be here; what each role may do is said by the routes."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Role(StrEnum):
    """One role of a person, or of a system that holds a key. A person may have several."""

    READER = "reader"
    REVIEWER = "reviewer"
    SURGEON = "surgeon"
    CLINICIAN = "clinician"
    DEVICE_CONFIRMER = "device_confirmer"
    PHARMACIST = "pharmacist"
    PATIENT = "patient"
    CAREGIVER = "caregiver"
    ADMIN = "admin"
    AUDITOR = "auditor"
    INTEGRATION = "integration"


Permissions = Mapping[tuple[str, str], frozenset[Role]]
"""(method, path template as the router declares it) to the roles that may ask. Each module with
routes exports one as ``PERMISSIONS``; a route that none names is open to nobody."""

CONFINED_ROLES = frozenset({Role.PATIENT, Role.CAREGIVER})
"""Roles that see their own compartment only, and nothing on a route that does not know of it."""

STAFF = frozenset(Role) - CONFINED_ROLES
IMAGE_READERS = frozenset({Role.READER, Role.REVIEWER, Role.SURGEON, Role.CLINICIAN})
"""Who looks at images and results."""

SENDERS = frozenset({Role.INTEGRATION, Role.READER, Role.REVIEWER})
"""Who may hand in studies and start work again."""
