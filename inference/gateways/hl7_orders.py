"""ORM^O01 and OMI^O23: orders, their cancel and their change of priority."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from sqlalchemy import Connection

from inference.domain.job import Priority
from inference.domain.order import Order, OrderDraft, OrderStatus
from inference.domain.patient import Authorities
from inference.gateways.hl7_message import (
    DATA_TYPE,
    REQUIRED,
    SEGMENT_SEQUENCE,
    TABLE_VALUE,
    UNKNOWN_KEY,
    Hl7Error,
    Hl7Message,
    Place,
    Segment,
)
from inference.gateways.hl7_patients import ensure_patient
from inference.gateways.hl7_values import entity_of, priority_of
from inference.jobs.identify import VALID_UID
from inference.jobs.ordered import apply_order
from inference.storage import audit, orders
from inference.storage.patients import PatientConflictError

CONTROLS: Mapping[str, OrderStatus] = MappingProxyType(
    {
        "NW": OrderStatus.ACTIVE,
        "XO": OrderStatus.ACTIVE,
        "CA": OrderStatus.REVOKED,
        "DC": OrderStatus.REVOKED,
    }
)
"""ORC-1, order control (HL7 table 0119): new, change, cancel, discontinue."""

NEW = "NW"
MAX_TEXT = 2000
MAX_ACCESSION = 64


@dataclass
class _Group:
    """The segments of one order, in the order they came."""

    orc: Segment
    others: dict[str, Segment] = field(default_factory=dict)

    def text(self, name: str, index: int, component: int | None = None) -> str:
        segment = self.others.get(name)
        return segment.text(index, component) if segment is not None else ""


def take_order(
    connection: Connection, message: Hl7Message, authorities: Authorities, *, now: datetime
) -> None:
    """Take every order of a message, or none of them.

    Raises
    ------
    Hl7Error
    """
    patient_row = ensure_patient(connection, message, authorities, now=now)
    for group in _groups(message):
        stored = _take(connection, message, group, authorities, patient_row, now)
        apply_order(connection, stored, now=now)
        audit.append(
            connection,
            at=now,
            actor=f"hl7:{message.header.sender}",
            action=f"order.{stored.status.value}",
            subject=f"order {stored.id}",
            detail={
                "control": group.orc.text(1),
                "priority": stored.priority.name,
                "control_id": message.header.control_id,
            },
        )


def _groups(message: Hl7Message) -> list[_Group]:
    groups: list[_Group] = []
    for segment in message.segments:
        if segment.name == "ORC":
            groups.append(_Group(orc=segment))
        elif groups:
            groups[-1].others.setdefault(segment.name, segment)
    if not groups:
        raise Hl7Error(
            place=Place(segment="ORC"), hl7_code=SEGMENT_SEQUENCE, problem="the segment is missing"
        )
    return groups


def _take(
    connection: Connection,
    message: Hl7Message,
    group: _Group,
    authorities: Authorities,
    patient_row: int,
    now: datetime,
) -> Order:
    orc = group.orc
    control = orc.required(1)
    if control not in CONTROLS:
        raise Hl7Error(
            place=orc.place(1),
            hl7_code=TABLE_VALUE,
            problem=f"order control {control!r} is none of {', '.join(CONTROLS)}",
        )
    number, authority = entity_of(orc, 2, authorities, message.header.application)
    if not number:
        raise Hl7Error(place=orc.place(2), hl7_code=REQUIRED, problem="is missing or empty")
    known = orders.find(connection, number, authority)
    if known is None and control != NEW:
        raise Hl7Error(
            place=orc.place(2), hl7_code=UNKNOWN_KEY, problem="no such order was placed here"
        )
    if control == NEW and "OBR" not in group.others:
        raise Hl7Error(
            place=Place(segment="OBR", number=orc.number),
            hl7_code=SEGMENT_SEQUENCE,
            problem="a new order says what is asked for in OBR",
        )
    draft = _draft(group, number, authority, CONTROLS[control], _priority(group, known))
    try:
        return orders.put(connection, draft, patient_row=patient_row, now=now)
    except PatientConflictError as error:
        raise Hl7Error(place=orc.place(2), hl7_code=UNKNOWN_KEY, problem=error.problem) from error


def _draft(
    group: _Group, number: str, authority: str, status: OrderStatus, priority: Priority
) -> OrderDraft:
    accession = group.text("IPC", 1, 1) or group.text("OBR", 18, 1)
    if len(accession) > MAX_ACCESSION:
        raise Hl7Error(
            place=group.others["OBR"].place(18) if "OBR" in group.others else group.orc.place(2),
            hl7_code=DATA_TYPE,
            problem=f"the accession number is longer than {MAX_ACCESSION} characters",
        )
    return OrderDraft(
        placer_number=number,
        placer_authority=authority,
        filler_number=group.orc.text(3, 1) or group.text("OBR", 3, 1),
        accession_number=accession,
        study_uid=_study_uid(group),
        priority=priority,
        status=status,
        code=group.text("OBR", 4, 1)[:MAX_TEXT],
        code_system=group.text("OBR", 4, 3)[:MAX_TEXT],
        code_text=group.text("OBR", 4, 2)[:MAX_TEXT],
        reason=(group.text("OBR", 31, 2) or group.text("OBR", 31, 1))[:MAX_TEXT],
        requester=_requester(group)[:MAX_TEXT],
    )


def _priority(group: _Group, known: Order | None) -> Priority:
    """Return what TQ1-9, OBR-27.6, ORC-7.6 or OBR-5 say, else what was said before."""
    candidates = [(group.orc.text(7, 6), group.orc.place(7, component=6))]
    if "TQ1" in group.others:
        tq1 = group.others["TQ1"]
        candidates.append((tq1.text(9, 1), tq1.place(9, component=1)))
    if "OBR" in group.others:
        obr = group.others["OBR"]
        candidates.append((obr.text(27, 6), obr.place(27, component=6)))
        candidates.append((obr.text(5), obr.place(5)))
    said = priority_of(candidates)
    if said is not None:
        return said
    return Priority.ROUTINE if known is None else known.priority


def _study_uid(group: _Group) -> str:
    """Return the Study Instance UID of IPC-3 or, as IHE scheduled workflow has it, ZDS-1."""
    for name, index in (("IPC", 3), ("ZDS", 1)):
        found = group.text(name, index, 1)
        if found and (len(found) > MAX_ACCESSION or not re.fullmatch(VALID_UID, found)):
            raise Hl7Error(
                place=group.others[name].place(index, component=1),
                hl7_code=DATA_TYPE,
                problem="is no UID: digits and dots, 64 characters at most",
            )
        if found:
            return found
    return ""


def _requester(group: _Group) -> str:
    """Return the ordering provider (ORC-12) as a name a person reads."""
    return " ".join(part for part in (group.orc.text(12, 3), group.orc.text(12, 2)) if part)
