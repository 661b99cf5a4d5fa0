"""What images say of their patient: number and authority, kept when a study begins."""

from __future__ import annotations

import re

from sqlalchemy import Connection

from inference.domain.patient import (
    Authorities,
    AuthorityError,
    Demographics,
    PatientIdentifier,
)
from inference.domain.study import Description, Instance
from inference.jobs.errors import ConflictError, IdentifierError
from inference.storage import audit, patients
from inference.storage.patients import StudyIdentity

ISSUER = "IssuerOfPatientID (0010,0021)"
_DATE = re.compile(r"[0-9]{4}([0-9]{2}){0,2}")


def note_patient(
    connection: Connection, new: Instance, description: Description, authorities: Authorities
) -> None:
    """Record whose study it is with its first instance; check that the others say the same.

    Images do not change what is known of a patient: they only fill in what nobody said yet.

    Raises
    ------
    IdentifierError
        The issuer cannot be understood.
    ConflictError
        The instance names another issuer than the study's.
    """
    try:
        authority = authorities.of_local(
            description.issuer_of_patient_id,
            description.issuer_universal_id,
            description.issuer_universal_type,
            field=ISSUER,
        )
    except AuthorityError as error:
        raise IdentifierError(field=error.field, problem=error.problem) from error
    known = patients.study_identity_of(connection, new.study_uid)
    if known is not None:
        says = bool(description.issuer_of_patient_id or description.issuer_universal_id)
        if (
            says
            and authority != known.identifier.authority
            and known.identifier.authority not in ("", authorities.default)
        ):
            raise ConflictError(
                field=ISSUER, problem=f"study {new.study_uid} belongs to a patient of another one"
            )
        return
    identifier = PatientIdentifier(value=description.patient_id, authority=authority)
    named = [identifier] if identifier.value else []  # without a number nobody is anybody else
    row_id = patients.ensure(connection, named, now=new.received_at)
    record = (patients.record_of(connection, identifier) if named else None) or row_id
    if not patients.get_patient(connection, row_id).demographics.name:
        patients.describe(
            connection, row_id, demographics=_demographics(description), now=new.received_at
        )
    patients.set_study(
        connection,
        StudyIdentity(
            study_uid=new.study_uid,
            patient_row=record,
            identifier=identifier,
            study_time=description.study_time,
        ),
    )
    if record != row_id:
        _note_merged(connection, new, identifier, row_id)


def _note_merged(
    connection: Connection, new: Instance, identifier: PatientIdentifier, row_id: int
) -> None:
    """Put on record that images came under a number that was merged into another."""
    found = patients.get_patient(connection, row_id)
    audit.append(
        connection,
        at=new.received_at,
        actor=f"{new.sender.channel.value}:{new.sender.name}",
        action="patient.resolved",
        subject=new.study_uid,
        detail={
            "identifier": [identifier.value, identifier.authority],
            "patient": row_id,
            "identifiers": [[one.value, one.authority] for one in found.identifiers],
        },
    )


def _demographics(description: Description) -> Demographics:
    """Keep a birth date or sex that DICOM's own rules allow; others stay in the images only."""
    return Demographics(
        name=description.patient_name,
        birth_date=description.birth_date if _DATE.fullmatch(description.birth_date) else "",
        sex=description.sex if description.sex in {"M", "F", "O"} else "",
    )
