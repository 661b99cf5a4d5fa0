"""Sends the events of watched workitems to DICOM nodes (N-EVENT-REPORT)."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pynetdicom import AE, build_role
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    UnifiedProcedureStepEvent,
    UnifiedProcedureStepPush,
)

from inference.storage import workitem_events
from inference.storage.database import Database
from inference.storage.workitem_events import Event
from inference.telemetry import get_logger

INTERVAL_S = 1.0
RETRY_S = 30.0
log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Receiver:
    """A node that takes events."""

    ae_title: str
    host: str
    port: int
    timeout_s: float = 10.0


class EventReporter:
    """One thread that tells each receiver what happened; one that is away is tried again later."""

    name = "worklist-events"

    def __init__(self, database: Database, receivers: Sequence[Receiver], *, ae_title: str) -> None:
        self._database = database
        self._receivers = receivers
        self._ae_title = ae_title

    def run(self, stop: threading.Event) -> None:
        """Send until told to stop."""
        not_before: dict[str, float] = dict.fromkeys((one.ae_title for one in self._receivers), 0.0)
        waited_s = 0.0
        while not stop.wait(INTERVAL_S):
            waited_s += INTERVAL_S
            for receiver in self._receivers:
                if waited_s < not_before[receiver.ae_title]:
                    continue
                if not self.send_to(receiver):
                    not_before[receiver.ae_title] = waited_s + RETRY_S

    def send_to(self, receiver: Receiver) -> bool:
        """Send what one receiver was not told yet; False: it could not be reached."""
        with self._database.read() as connection:
            events = workitem_events.pending(connection, receiver.ae_title)
        if not events:
            return True
        sent = self._send(receiver, events)
        if sent:
            with self._database.write() as connection:
                workitem_events.delivered(connection, sent)
        return len(sent) == len(events)

    def _send(self, receiver: Receiver, events: Sequence[Event]) -> list[int]:
        entity = AE(ae_title=self._ae_title)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = receiver.timeout_s
        entity.connection_timeout = receiver.timeout_s
        entity.add_requested_context(UnifiedProcedureStepEvent)
        # The one that sends events is their SCP, though it opens the association (PS3.4 CC.2.4).
        role = build_role(UnifiedProcedureStepEvent, scp_role=True)
        association = entity.associate(
            receiver.host, receiver.port, ae_title=receiver.ae_title, ext_neg=[role]
        )
        sent: list[int] = []
        if not association.is_established:
            log.warning("worklist events wait", receiver=receiver.ae_title, n_events=len(events))
            return sent
        try:
            for event in events:
                information = Dataset.from_json(event.document)
                status, _ = association.send_n_event_report(
                    information,
                    event.event_type,
                    UnifiedProcedureStepPush,
                    event.workitem_uid,
                    meta_uid=UnifiedProcedureStepEvent,
                )
                if "Status" not in status or status.Status != 0:
                    break
                sent.append(event.id)
        finally:
            association.release()
        return sent
