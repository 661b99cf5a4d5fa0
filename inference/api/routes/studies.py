"""Studies: list them, look at one, and send one as a zip or as DICOM files."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from inference.api.access import Identity
from inference.api.deps import ApiContext, Asker, Context, Limit, Offset, Uid
from inference.api.overview import StudyOverview, list_overviews, overview_of
from inference.api.schemas import (
    JobOut,
    PageOut,
    PartOut,
    PriorityName,
    ResultOut,
    SeriesOut,
    StudyDetailOut,
    StudyOut,
    UploadOut,
)
from inference.api.uploads import UploadOptions, take_upload
from inference.domain.job import Priority
from inference.domain.study_state import StudyState
from inference.storage import audit
from inference.storage import studies as study_store

router = APIRouter(prefix="/v1/studies", tags=["studies"])


@router.get("", summary="List studies, the one that changed last first")
def list_studies(
    context: Context,
    asker: Asker,
    state: Annotated[StudyState | None, Query(description="only studies in this state")] = None,
    limit: Limit = 50,
    offset: Offset = 0,
) -> PageOut[StudyOut]:
    """Return a page of studies."""
    with context.database.read() as connection:
        page, has_next = list_overviews(connection, state=state, limit=limit, offset=offset)
    next_url = None
    if has_next:
        next_url = f"/v1/studies?limit={limit}&offset={offset + limit}"
        next_url += f"&state={state.value}" if state else ""
    return PageOut(
        items=[StudyOut.model_validate(study_fields(one, asker)) for one in page], next=next_url
    )


@router.get("/{study_uid}", summary="One study with its series, job and current results")
def get_study(context: Context, asker: Asker, study_uid: Uid) -> StudyDetailOut:
    """Return a study; asking for one is written to the audit trail."""
    with context.database.read() as connection:
        overview = overview_of(connection, study_store.get_study(connection, study_uid))
        series = study_store.list_series(connection, study_uid)
    note_reading(context, asker, study_uid)
    return StudyDetailOut.model_validate(
        study_fields(overview, asker)
        | {
            "series": [SeriesOut.of(one) for one in series],
            "job": JobOut.of(overview.job) if overview.job else None,
            "results": [ResultOut.of(one) for one in overview.results],
        }
    )


@router.post(
    "",
    status_code=202,
    summary="Send a study: a zip, one DICOM file, or files as multipart/form-data",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/zip": {"schema": {"type": "string", "format": "binary"}},
                "application/dicom": {"schema": {"type": "string", "format": "binary"}},
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "properties": {
                            "file": {
                                "type": "array",
                                "items": {"type": "string", "format": "binary"},
                            }
                        },
                    }
                },
            },
        }
    },
)
async def send_study(
    request: Request,
    context: Context,
    asker: Asker,
    priority: Annotated[PriorityName, Query(description="STAT overtakes the others")] = "routine",
    expected_instances: Annotated[
        int | None,
        Query(ge=1, le=1_000_000, description="how many instances the study has in all"),
    ] = None,
    is_complete: Annotated[
        bool, Query(description="analyse at once, without waiting for more to come")
    ] = True,
) -> UploadOut:
    """Take an upload; the answer comes when every instance it counts is durably stored."""
    options = UploadOptions(
        priority=Priority[priority.upper()],
        expected_instances=expected_instances,
        is_complete=is_complete,
        sender_name=asker.name,
        sender_address=request.client.host if request.client else "",
    )
    return await take_upload(request, context, options)


def study_fields(overview: StudyOverview, asker: Identity) -> dict[str, object]:
    """Return the fields of a study; identity only for somebody who showed a key."""
    study = overview.study
    is_named = asker.sees_patient_names
    return {
        "study_uid": study.study_uid,
        "description": study.description,
        "study_date": study.study_date,
        "patient_name": study.patient_name if is_named else None,
        "patient_id": study.patient_id if is_named else None,
        "accession_number": study.accession_number if is_named else None,
        "modalities": list(study.modalities),
        "n_series": study.n_series,
        "n_instances": study.n_instances,
        "expected_instances": study.expected_instances,
        "version": study.version,
        "state": overview.state,
        "outcome": overview.state,
        "reason": overview.reason,
        "is_pending": overview.standing.is_pending,
        "parts": [PartOut.of(part) for part in overview.standing.parts],
        "first_received_at": study.first_received_at,
        "last_received_at": study.last_received_at,
    }


def note_reading(context: ApiContext, asker: Identity, study_uid: str) -> None:
    """Write down who looked at a study, where it is known who that is."""
    if asker.via == "loopback":
        return
    with context.database.write() as connection:
        audit.append(
            connection,
            at=context.database.now(connection),
            actor=f"http:{asker.name}",
            action="study.read",
            subject=study_uid,
        )
