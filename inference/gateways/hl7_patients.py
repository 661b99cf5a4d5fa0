"""ADT: who a patient is, where they lie, and which two records are one person."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType

from sqlalchemy import Connection

from inference.domain.patient import Authorities
from inference.gateways.hl7_message import UNKNOWN_KEY, Hl7Error, Hl7Message, Segment
from inference.gateways.hl7_values import demographics_of, identifiers_of
from inference.jobs.ordered import apply_patient
from inference.storage import audit, patients
from inference.storage.patients import PatientConflictError

VISITS: Mapping[str, str | None] = MappingProxyType(
    {"A01": "admitted", "A02": "transferred", "A03": "discharged", "A08": None}
)
"""Trigger events about one patient, and what they make of the visit; A08 changes none."""

MERGE = "A40"


def ensure_patient(
    connection: Connection, message: Hl7Message, authorities: Authorities, *, now: datetime
) -> int:
    """Return the patient of a message's PID, with what the message says of them recorded.

    Raises
    ------
    Hl7Error
    """
    pid = message.first("PID")
    row_id = _ensure(connection, pid, 3, authorities, now)
    patients.describe(connection, row_id, demographics=demographics_of(pid, now=now), now=now)
    return row_id


def take_adt(
    connection: Connection, message: Hl7Message, authorities: Authorities, *, now: datetime
) -> None:
    """Take an ADT message.

    Raises
    ------
    Hl7Error
    """
    if message.header.event == MERGE:
        _merge(connection, message, authorities, now)
        return
    row_id = ensure_patient(connection, message, authorities, now=now)
    pv1 = message.find("PV1")
    location = pv1.text(3) if pv1 is not None else ""
    patients.describe(
        connection,
        row_id,
        location=location or None,
        visit=VISITS[message.header.event],
        now=now,
    )


def _merge(
    connection: Connection, message: Hl7Message, authorities: Authorities, now: datetime
) -> None:
    """Take the pairs of PID and MRG in order; all of them or none."""
    survivor: tuple[Segment, int] | None = None
    n_merged = 0
    for segment in message.segments:
        if segment.name == "PID":
            row_id = _ensure(connection, segment, 3, authorities, now)
            patients.describe(
                connection, row_id, demographics=demographics_of(segment, now=now), now=now
            )
            survivor = (segment, row_id)
        elif segment.name == "MRG" and survivor is not None:
            _merge_one(connection, message, segment, survivor, authorities, now)
            n_merged += 1
    if survivor is None or not n_merged:
        message.first("PID")
        message.first("MRG")
        raise Hl7Error(
            place=message.first("MRG").place(1),
            hl7_code=UNKNOWN_KEY,
            problem="stands before the PID of the patient that goes on",
        )


def _merge_one(
    connection: Connection,
    message: Hl7Message,
    mrg: Segment,
    survivor: tuple[Segment, int],
    authorities: Authorities,
    now: datetime,
) -> None:
    pid, surviving = survivor
    old_identifiers = identifiers_of(mrg, 1, authorities)
    records = {patients.record_of(connection, one) for one in old_identifiers} - {None}
    if len(records) > 1:
        raise Hl7Error(
            place=mrg.place(1), hl7_code=UNKNOWN_KEY, problem="names more than one patient"
        )
    actor = f"hl7:{message.header.sender}"
    try:
        # The old number may be new here: its images can still come, and belong to the survivor.
        patients.ensure(connection, old_identifiers, now=now)
        old = patients.record_of(connection, old_identifiers[0])
        assert old is not None, "ensure gave it a record"
        made = patients.merge(connection, old=old, surviving=surviving, actor=actor, now=now)
    except PatientConflictError as error:
        raise Hl7Error(place=mrg.place(1), hl7_code=UNKNOWN_KEY, problem=error.problem) from error
    if made is None:
        return
    audit.append(
        connection,
        at=now,
        actor=actor,
        action="patient.merged",
        subject=f"merge {made.id}",
        detail={
            "from": [[one.value, one.authority] for one in old_identifiers],
            "into": [[one.value, one.authority] for one in identifiers_of(pid, 3, authorities)],
            "control_id": message.header.control_id,
        },
    )
    apply_patient(connection, surviving, now=now)


def _ensure(
    connection: Connection, segment: Segment, index: int, authorities: Authorities, now: datetime
) -> int:
    try:
        return patients.ensure(connection, identifiers_of(segment, index, authorities), now=now)
    except PatientConflictError as error:
        raise Hl7Error(
            place=segment.place(index), hl7_code=UNKNOWN_KEY, problem=error.problem
        ) from error
