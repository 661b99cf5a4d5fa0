"""After a person acted on a decided proposal: what the device reports, against what was agreed.

A difference alarms. Nothing is sent again by itself, and no answer is "unknown", never "probably".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from inference.domain.care_errors import ProposalStateError
from inference.domain.proposal import PatientKey, Proposal
from inference.domain.quantities import Quantity
from inference.domain.readings import TechnicalAlarm

ANSWER_WITHIN = timedelta(seconds=10)
"""A device that has not answered by then is in an unknown state, and that is an alarm."""


class ReadBackState(StrEnum):
    """What is known about the device."""

    WAITING = "waiting"
    SAME = "same"
    DIFFERENT = "different"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class DeviceReport:
    """What a device says of itself; ``drug_code`` as the library codes it, "" where none."""

    device_id: str
    patient: PatientKey
    drug_code: str
    values: Mapping[str, Quantity]
    reported_at: datetime


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The pairing that was made at the bedside, before anything was agreed."""

    device_id: str
    drug_code: str


@dataclass(frozen=True, kw_only=True)
class ReadBack:
    """The comparison; alarms are empty only where the state is waiting or same."""

    state: ReadBackState
    alarms: tuple[TechnicalAlarm, ...] = ()


def compare(
    proposal: Proposal,
    expected: Expected,
    report: DeviceReport | None,
    *,
    now: datetime,
    rel_tolerance: float = 1e-6,
) -> ReadBack:
    """Compare the device's own report with the agreed values.

    ``rel_tolerance`` covers the device's number format only; a device that rounds to its own steps
    is registered with those steps, and agreed values are made of them.

    Raises
    ------
    ProposalStateError
        Nobody has decided for this proposal.
    """
    if not proposal.state.is_decided_for or proposal.decided_at is None:
        raise ProposalStateError(
            proposal_id=proposal.id, state=proposal.state.value, event="read-back"
        )
    if report is None or report.reported_at < proposal.decided_at:
        if now - proposal.decided_at < ANSWER_WITHIN:
            return ReadBack(state=ReadBackState.WAITING)
        silent = _alarm("link", "unknown", "no report since the confirmation; look at it", now)
        return ReadBack(state=ReadBackState.UNKNOWN, alarms=(silent,))
    alarms = [
        _alarm(name, "different", problem, now)
        for name, is_same, problem in (
            ("device", report.device_id == expected.device_id, "another device answers"),
            ("patient", report.patient == proposal.patient, "it is paired with another patient"),
            ("drug", report.drug_code == expected.drug_code, "it reports another drug"),
        )
        if not is_same
    ]
    for name in sorted(set(report.values) | set(proposal.agreed_values)):
        agreed, found = proposal.agreed_values.get(name), report.values.get(name)
        if agreed is None or found is None:
            alarms.append(_alarm(name, "different", "not agreed, or not reported", now))
        elif agreed.unit != found.unit or not math.isclose(
            agreed.value, found.value, rel_tol=rel_tolerance, abs_tol=0.0
        ):
            problem = f"{found.value:g} {found.unit}, agreed {agreed.value:g} {agreed.unit}"
            alarms.append(_alarm(name, "different", problem, now))
    state = ReadBackState.DIFFERENT if alarms else ReadBackState.SAME
    return ReadBack(state=state, alarms=tuple(alarms))


def _alarm(field: str, kind: str, problem: str, now: datetime) -> TechnicalAlarm:
    return TechnicalAlarm(field=field, kind=kind, problem=problem, raised_at=now)
