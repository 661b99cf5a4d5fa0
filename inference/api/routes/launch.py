"""Open a study from the PACS by its address: IHE Invoke Image Display (RAD-106), STUDY requests.

The calling system names the study by UID, or by accession number and patient; a patient that is
not the study's is refused and shown nothing. A stranger signs in first and lands on the study.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import RedirectResponse
from sqlalchemy import Connection, select

from inference.api.deps import UID_PATTERN, Context
from inference.api.errors import ApiError
from inference.domain.roles import IMAGE_READERS, Permissions
from inference.storage.tables import study

router = APIRouter(include_in_schema=False)
PERMISSIONS: Permissions = {("GET", "/launch"): IMAGE_READERS}
Text = Annotated[str, Query(max_length=64)]


@router.get("/launch")
def launch(
    context: Context,
    request_type: Annotated[str, Query(alias="requestType", max_length=16)],
    study_uid: Annotated[
        str | None, Query(alias="studyUID", max_length=64, pattern=UID_PATTERN)
    ] = None,
    accession_number: Annotated[str, Query(alias="accessionNumber", max_length=64)] = "",
    patient_id: Annotated[str, Query(alias="patientID", max_length=256)] = "",
) -> RedirectResponse:
    """Lead to the study that is meant."""
    if request_type.upper() != "STUDY":
        raise ApiError("invalid_request", "requestType: only STUDY is answered here")
    if study_uid is None and not (accession_number and patient_id):
        raise ApiError("invalid_request", "give studyUID, or accessionNumber with patientID")
    with context.database.read() as connection:
        found = _find(connection, study_uid, accession_number)
    # A patient id may come with its authority, as HL7 v2 CX: ID^^^AUTHORITY.
    identifier = patient_id.split("^", 1)[0]
    fitting = [one for one in found if not identifier or one[1] == identifier]
    if found and not fitting:
        raise ApiError("patient_mismatch", "the study that is named is another patient's")
    if study_uid is not None and accession_number:
        fitting = [one for one in fitting if one[2] == accession_number]
    if not fitting:
        raise ApiError("not_found", "no stored study fits what was asked for")
    if len(fitting) > 1:
        raise ApiError("conflict", "several studies have this accession number; give studyUID")
    return RedirectResponse(f"/studies/{fitting[0][0]}", 303)


def _find(
    connection: Connection, study_uid: str | None, accession_number: str
) -> list[tuple[str, str, str]]:
    query = select(study.c.study_uid, study.c.patient_id, study.c.accession_number)
    if study_uid is not None:
        query = query.where(study.c.study_uid == study_uid)
    else:
        query = query.where(study.c.accession_number == accession_number)
    return [(row[0], row[1], row[2]) for row in connection.execute(query.limit(50))]
