"""Deliveries: what was sent where, and sending a dead one again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from inference.api.deps import UID_PATTERN, Asker, Context, Limit, RowId
from inference.api.schemas import DeliveryOut, PageOut
from inference.domain.result import DeliveryState
from inference.domain.roles import SENDERS, Permissions, Role
from inference.storage import audit
from inference.storage import deliveries as delivery_store

router = APIRouter(prefix="/v1/deliveries", tags=["deliveries"])
PERMISSIONS: Permissions = {
    ("GET", "/v1/deliveries"): SENDERS | {Role.ADMIN},
    ("GET", "/v1/deliveries/{delivery_id}"): SENDERS | {Role.ADMIN},
    ("POST", "/v1/deliveries/{delivery_id}/requeue"): SENDERS | {Role.ADMIN},
}


@router.get("", summary="List deliveries, newest first")
def list_deliveries(
    context: Context,
    state: DeliveryState | None = None,
    study_uid: Annotated[str | None, Query(max_length=64, pattern=UID_PATTERN)] = None,
    result_id: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    limit: Limit = 50,
) -> PageOut[DeliveryOut]:
    """Return the newest deliveries; narrow the list to see older ones."""
    with context.database.read() as connection:
        found = delivery_store.list_deliveries(
            connection, study_uid=study_uid, result_id=result_id, state=state, limit=limit
        )
    return PageOut(items=[DeliveryOut.of(one) for one in found])


@router.get("/{delivery_id}", summary="One delivery")
def get_delivery(context: Context, delivery_id: RowId) -> DeliveryOut:
    """Return a delivery."""
    with context.database.read() as connection:
        return DeliveryOut.of(delivery_store.get_delivery(connection, delivery_id))


@router.post("/{delivery_id}/requeue", summary="Send a dead delivery again", status_code=202)
def requeue_delivery(context: Context, asker: Asker, delivery_id: RowId) -> DeliveryOut:
    """Queue a delivery again with fresh tries; the audit trail says who did it."""
    with context.database.write() as connection:
        now = context.database.now(connection)
        delivery = delivery_store.requeue(connection, delivery_id, now=now)
        audit.append(
            connection,
            at=now,
            actor=f"http:{asker.name}",
            action="delivery.requeued",
            subject=delivery.study_uid,
            detail={"delivery_id": delivery_id},
        )
    context.database.notify()
    return DeliveryOut.of(delivery)
