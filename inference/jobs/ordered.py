"""What an order does to its study: how urgent it is, and whether it is analysed at all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from inference.domain.job import Priority
from inference.domain.order import Order, OrderStatus
from inference.domain.result import ResultState
from inference.jobs.worker import study_result
from inference.storage import audit, deliveries, jobs, orders, orders_queue, results
from inference.storage.results import FiledResult

CANCEL_REASON = "the order for this study was cancelled"


@dataclass(frozen=True, kw_only=True)
class Ordered:
    """What an order says of an arriving study.

    ``is_on_record``: that the order is cancelled was said in a result already.
    """

    priority: Priority
    is_cancelled: bool = False
    is_on_record: bool = False


def ordered(connection: Connection, study_uid: str, priority: Priority) -> Ordered:
    """Return what the study's order says; the more urgent of order and sender counts."""
    order = orders.of_study(connection, study_uid)
    if order is None:
        return Ordered(priority=priority)
    if order.status is OrderStatus.REVOKED:
        return Ordered(
            priority=priority,
            is_cancelled=True,
            is_on_record=bool(orders_queue.cancelled_jobs(connection, study_uid)),
        )
    return Ordered(priority=min(priority, order.priority))


def cancel_study(connection: Connection, study_uid: str, *, now: datetime) -> int:
    """End what nobody has begun of a study, with a result that says why; return how many jobs.

    Its images are kept; those that come later start nothing.
    """
    ended = orders_queue.cancel_waiting(connection, study_uid, now=now, reason=CANCEL_REASON)
    for job in ended:
        draft = study_result(
            job, ResultState.REFUSED, orders_queue.ORDER_CANCELLED, CANCEL_REASON, now
        )
        stored = results.store(connection, job, filed=[FiledResult(draft=draft, files=())], now=now)
        deliveries.cancel(connection, stored.superseded)
        audit.append(
            connection,
            at=now,
            actor="orders",
            action="job.cancelled",
            subject=study_uid,
            detail={"job_id": job.id},
        )
    return len(ended)


def apply_order(connection: Connection, order: Order, *, now: datetime) -> None:
    """Let an order that came or changed take effect on the studies that are here of it."""
    for study_uid in orders.studies_of(connection, order):
        if order.status is OrderStatus.REVOKED:
            cancel_study(connection, study_uid, now=now)
            continue
        if orders_queue.cancelled_jobs(connection, study_uid) and not _has_other(
            connection, study_uid
        ):
            jobs.request(connection, study_uid, now=now, priority=order.priority)
        orders_queue.set_priority(connection, study_uid, order.priority)


def _has_other(connection: Connection, study_uid: str) -> bool:
    """Whether a job came after the cancelled one."""
    newest = jobs.list_jobs(connection, study_uid=study_uid, limit=1)
    return bool(newest) and newest[0].reason_code != orders_queue.ORDER_CANCELLED


def apply_patient(connection: Connection, patient_row: int, *, now: datetime) -> None:
    """Let a patient's orders take effect anew: a merge may have brought studies to them."""
    for order in orders.of_patient(connection, patient_row):
        apply_order(connection, order, now=now)
