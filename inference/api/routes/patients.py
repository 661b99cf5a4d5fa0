"""Merges of patient records: what was merged, by whom, and the way back."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from inference.api.deps import Asker, Context, Limit, RowId
from inference.domain.roles import Permissions, Role
from inference.storage import audit, patients

router = APIRouter(prefix="/v1/patients", tags=["patients"])
PERMISSIONS: Permissions = {
    ("GET", "/v1/patients/merges"): frozenset({Role.ADMIN, Role.AUDITOR}),
    ("POST", "/v1/patients/merges/{merge_id}/undo"): frozenset({Role.ADMIN}),
}


class MergeOut(BaseModel):
    """One merge of two records."""

    id: int
    from_patient: int
    into_patient: int
    at: datetime
    actor: str
    undone_at: datetime | None
    undone_by: str
    undo_reason: str

    @classmethod
    def of(cls, merge: patients.Merge) -> MergeOut:
        """Write a merge."""
        return cls.model_validate(vars(merge))


class UndoIn(BaseModel):
    """Why two records were no one person."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(min_length=3, max_length=500)]


@router.get("/merges", summary="List merges of patient records, newest first")
def list_merges(context: Context, limit: Limit = 50) -> list[MergeOut]:
    """Return merges, those that were undone too."""
    with context.database.read() as connection:
        return [MergeOut.of(one) for one in patients.list_merges(connection, limit=limit)]


@router.post("/merges/{merge_id}/undo", summary="Undo a merge of two patient records")
def undo_merge(context: Context, asker: Asker, merge_id: RowId, body: UndoIn) -> MergeOut:
    """Make two records of one again; every study goes back to the number it came with."""
    with context.database.write() as connection:
        now = context.database.now(connection)
        undone = patients.undo_merge(
            connection, merge_id, actor=asker.name, reason=body.reason, now=now
        )
        audit.append(
            connection,
            at=now,
            actor=f"http:{asker.name}",
            action="patient.unmerged",
            subject=f"merge {merge_id}",
            detail={"reason": body.reason},
        )
    return MergeOut.of(undone)
