"""An order for imaging: what was asked, how urgently, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from inference.domain.job import Priority


class OrderStatus(StrEnum):
    """The words of FHIR's request-status that an order here may have."""

    ACTIVE = "active"
    ON_HOLD = "on-hold"
    REVOKED = "revoked"
    COMPLETED = "completed"


@dataclass(frozen=True, kw_only=True)
class OrderDraft:
    """An order as a message says it.

    Attributes
    ----------
    placer_number, placer_authority : who asked, by the number it gave; together they are the key
    accession_number : by which its images are found; "" where the message has none
    study_uid : of the images, where the message names it; "" otherwise
    """

    placer_number: str
    placer_authority: str
    filler_number: str = ""
    accession_number: str = field(default="", repr=False)
    study_uid: str = ""
    priority: Priority = Priority.ROUTINE
    status: OrderStatus = OrderStatus.ACTIVE
    code: str = ""
    code_system: str = ""
    code_text: str = ""
    reason: str = ""
    requester: str = ""


@dataclass(frozen=True, kw_only=True)
class Order(OrderDraft):
    """An order as it is stored."""

    id: int
    patient_row: int
    created_at: datetime
    updated_at: datetime
