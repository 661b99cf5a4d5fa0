"""Reports on their way to other systems, and HL7 messages that were put aside."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from inference.api.deps import Asker, Context, Limit, RowId
from inference.domain.report import ReportDelivery, ReportStep
from inference.domain.result import DeliveryState
from inference.domain.roles import Permissions, Role
from inference.storage import audit, hl7_messages, report_deliveries
from inference.storage.hl7_messages import StoredMessage

router = APIRouter(prefix="/v1/reports", tags=["reports"])
PERMISSIONS: Permissions = {
    ("GET", "/v1/reports"): frozenset({Role.ADMIN, Role.AUDITOR}),
    ("POST", "/v1/reports/{report_id}/requeue"): frozenset({Role.ADMIN}),
    ("GET", "/v1/reports/put-aside"): frozenset({Role.ADMIN, Role.AUDITOR}),
}


class ReportOut(BaseModel):
    """One step of a result on its way to one destination."""

    id: int
    result_id: int
    step: ReportStep
    destination: str
    state: DeliveryState
    tries: int
    next_at: datetime
    last_error: str
    created_at: datetime
    delivered_at: datetime | None

    @classmethod
    def of(cls, one: ReportDelivery) -> ReportOut:
        """Write a row of the outbox."""
        return cls(
            id=one.id,
            result_id=one.event.result_id,
            step=one.event.step,
            destination=one.destination,
            state=DeliveryState(one.state),
            tries=one.tries,
            next_at=one.next_at,
            last_error=one.last_error,
            created_at=one.created_at,
            delivered_at=one.delivered_at,
        )


class PutAsideOut(BaseModel):
    """An HL7 message that was not taken, without its content: that is a patient's."""

    id: int
    sender: str
    control_id: str
    type: str
    errors: list[dict[str, str]]
    received_at: datetime

    @classmethod
    def of(cls, one: StoredMessage) -> PutAsideOut:
        """Write a message."""
        return cls(
            id=one.id,
            sender=one.sender,
            control_id=one.control_id,
            type=one.type,
            errors=one.errors,
            received_at=one.received_at,
        )


@router.get("", summary="List reports to HL7 and FHIR systems, newest first")
def list_reports(
    context: Context,
    state: Annotated[DeliveryState | None, Query(description="only reports in this state")] = None,
    limit: Limit = 50,
) -> list[ReportOut]:
    """Return rows of the outbox."""
    with context.database.read() as connection:
        found = report_deliveries.list_deliveries(connection, state=state, limit=limit)
    return [ReportOut.of(one) for one in found]


@router.post("/{report_id}/requeue", summary="Send a dead report again")
def requeue(context: Context, asker: Asker, report_id: RowId) -> ReportOut:
    """Start a dead letter again with fresh tries."""
    with context.database.write() as connection:
        now = context.database.now(connection)
        one = report_deliveries.requeue(connection, report_id, now=now)
        audit.append(
            connection,
            at=now,
            actor=f"http:{asker.name}",
            action="report.requeued",
            subject=f"result {one.event.result_id}",
            detail={"report_id": report_id},
        )
    context.database.notify()
    return ReportOut.of(one)


@router.get("/put-aside", summary="List HL7 messages that were put aside, newest first")
def list_put_aside(context: Context, limit: Limit = 50) -> list[PutAsideOut]:
    """Return what was wrong with each; correcting and sending again clears it."""
    with context.database.read() as connection:
        found = hl7_messages.list_refused(connection, limit=limit)
    return [PutAsideOut.of(one) for one in found]
