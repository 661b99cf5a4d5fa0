"""Everything that a report of one result says, read from the database when it is sent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from inference.domain.order import Order
from inference.domain.patient import Patient, PatientIdentifier
from inference.domain.report import ReportEvent, ReportStep
from inference.domain.result import Result, ResultState
from inference.domain.study import Study
from inference.storage import orders, patients, report_events, results, studies


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """One result with all that surrounds it.

    Attributes
    ----------
    patient : None for a study that came before patients were kept
    identifier : as the images say it
    reader : the event by which a person last accepted or signed; None: nobody did
    order : what the study was made for, where that is known
    """

    event: ReportEvent
    result: Result
    study: Study
    study_time: str
    patient: Patient | None
    identifier: PatientIdentifier
    reader: ReportEvent | None
    order: Order | None

    @property
    def segments(self) -> tuple[dict[str, Any], ...]:
        """What was measured, segment by segment: label, name, volume_ml, mean, sd, unit, codes."""
        return tuple(self.result.summary.get("segments", ()))

    @property
    def outcome(self) -> str:
        """What came out, in words."""
        words = {
            ResultState.FINDING: "finding",
            ResultState.NO_FINDING: "no finding",
            ResultState.REFUSED: "refused, no result was made",
            ResultState.FAILED: "failed, no result was made",
            ResultState.NOT_APPLICABLE: "no model is for this study",
        }
        said = words[self.result.outcome]
        return f"{said}: {self.result.reason}" if self.result.reason else said


def read_content(connection: Connection, event: ReportEvent) -> ReportContent:
    """Gather what a report of the event's result says.

    Raises
    ------
    NotFoundError
    """
    result = results.get_result(connection, event.result_id)
    study = studies.get_study(connection, result.study_uid)
    identity = patients.study_identity_of(connection, study.study_uid)
    if identity is None:
        identifier = PatientIdentifier(value=study.patient_id, authority="")
    else:
        identifier = identity.identifier
    return ReportContent(
        event=event,
        result=result,
        study=study,
        study_time="" if identity is None else identity.study_time,
        patient=None
        if identity is None
        else patients.get_patient(connection, identity.patient_row),
        identifier=identifier,
        reader=report_events.reader_of(connection, result.id),
        order=orders.of_study(connection, study.study_uid),
    )


def event_of(connection: Connection, result_id: int, created_at: datetime) -> ReportEvent:
    """Return a result's last event; one for results that came before events were kept."""
    found = report_events.latest(connection, [result_id]).get(result_id)
    return found or ReportEvent(
        id=0,
        result_id=result_id,
        step=ReportStep.PRELIMINARY,
        actor="",
        reason="",
        at=created_at,
    )
