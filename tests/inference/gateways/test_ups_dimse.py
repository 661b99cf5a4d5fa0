"""UPS over DIMSE against a running service, and its events at a real SCP."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    UnifiedProcedureStepEvent,
    UnifiedProcedureStepPull,
    UnifiedProcedureStepPush,
    UnifiedProcedureStepWatch,
)

from inference.bootstrap import Service
from tests.builders.service import running_service
from tests.builders.workitems import new_workitem, performed, state, text

PUSH, PULL, WATCH = UnifiedProcedureStepPush, UnifiedProcedureStepPull, UnifiedProcedureStepWatch
GLOBAL = "1.2.840.10008.5.1.4.34.5"


@pytest.fixture(scope="module")
def events() -> queue.Queue[tuple[int, str, str]]:
    return queue.Queue()


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, events: queue.Queue[tuple[int, str, str]]
) -> Iterator[Service]:
    """A service, and a node that takes events."""

    def on_event(event: Any) -> tuple[int, None]:
        shown = event.event_information
        events.put(
            (
                event.event_type,
                str(event.request.AffectedSOPInstanceUID),
                str(shown.get("ProcedureStepState", "")),
            )
        )
        return 0x0000, None

    node = AE(ae_title="WATCHER")
    node.add_supported_context(UnifiedProcedureStepEvent, scu_role=True, scp_role=True)
    server = node.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, on_event)]
    )
    assert server is not None
    receiver = {"ae_title": "WATCHER", "host": "127.0.0.1", "port": server.server_address[1]}
    with running_service(tmp_path_factory.mktemp("ups"), ups_receivers=[receiver]) as running:
        yield running
    server.shutdown()


@pytest.fixture
def association(service: Service) -> Iterator[Association]:
    entity = AE(ae_title="PERFORMER")
    for one in (PUSH, PULL, WATCH):
        entity.add_requested_context(one)
    opened = entity.associate("127.0.0.1", service.dicom_port, ae_title=service.ae_title)
    assert opened.is_established
    yield opened
    opened.release()


def data(document: dict[str, Any]) -> Dataset:
    return Dataset.from_json(document)


def create(association: Association, uid: str, **changes: Any) -> int:
    status, _ = association.send_n_create(data(new_workitem(**changes)), PUSH, uid)
    return int(status.Status)


def act(association: Association, uid: str, action: int, document: dict[str, Any]) -> int:
    information = data(document) if document else None
    status, _ = association.send_n_action(information, action, PUSH, uid, meta_uid=PULL)
    return int(status.Status)


def test_a_workitem_from_its_creation_to_its_end(association: Association) -> None:
    uid = "1.2.826.0.1.1"
    assert create(association, uid) == 0x0000
    assert create(association, uid) == 0x0111
    assert create(association, "1.2.9", **{"00741000": text("CS", "COMPLETED")}) == 0xC309
    assert act(association, "1.9.9", 1, state("IN PROGRESS", "1.2.3")) == 0xC307
    assert act(association, uid, 1, state("IN PROGRESS")) == 0xC301
    assert act(association, uid, 1, state("COMPLETED", "1.2.3")) == 0xC310
    assert act(association, uid, 1, state("IN PROGRESS", "1.2.3")) == 0x0000
    assert act(association, uid, 1, state("IN PROGRESS", "4.5.6")) == 0xC302
    assert act(association, uid, 1, state("SCHEDULED", "1.2.3")) == 0xC303
    assert act(association, uid, 1, state("COMPLETED", "1.2.3")) == 0xC304
    assert act(association, uid, 9, {}) == 0x0123

    def update(held: str) -> int:
        changes = data(performed() | {"00081195": text("UI", held)})
        status, _ = association.send_n_set(changes, PUSH, uid, meta_uid=PULL)
        return int(status.Status)

    assert [update("9.9"), update("1.2.3")] == [0xC301, 0x0000]
    assert act(association, uid, 1, state("COMPLETED", "1.2.3")) == 0x0000
    assert act(association, uid, 1, state("COMPLETED", "1.2.3")) == 0xB306
    assert act(association, uid, 1, state("CANCELED", "1.2.3")) == 0xC300
    assert act(association, uid, 2, {}) == 0xC311
    assert update("1.2.3") == 0xC300


def test_get_and_find_never_tell_the_transaction_uid(association: Association) -> None:
    uid = "1.2.826.0.1.2"
    create(association, uid, patient_id="FIND-1")
    act(association, uid, 1, state("IN PROGRESS", "1.2.77"))
    tags = [Tag(0x00741000), Tag(0x00081195), Tag(0x00100020)]
    status, shown = association.send_n_get(tags, PUSH, uid, meta_uid=PULL)
    assert (status.Status, shown.ProcedureStepState) == (0x0000, "IN PROGRESS")
    assert not shown.TransactionUID
    _, everything = association.send_n_get([], PUSH, uid, meta_uid=PULL)
    assert everything.PatientID == "FIND-1"
    assert "1.2.77" not in str(everything)
    keys = data({"00100020": text("LO", "FIND-*"), "00741000": text("CS"), "00081195": text("UI")})
    answers = list(association.send_c_find(keys, PULL))
    assert [status.Status for status, _ in answers] == [0xFF00, 0x0000]
    found = answers[0][1]
    assert (found.SOPInstanceUID, found.ProcedureStepState) == (uid, "IN PROGRESS")
    assert "1.2.77" not in str(found)
    asked = data({"00081195": text("UI", "1.2.77")})
    assert [status.Status for status, _ in association.send_c_find(asked, PULL)] == [0xA900]
    status, _ = association.send_n_get([], PUSH, "1.9.9", meta_uid=PULL)
    assert status.Status == 0xC307


def test_events_are_sent_to_a_node_that_subscribed(
    association: Association, events: queue.Queue[tuple[int, str, str]]
) -> None:
    uid = "1.2.826.0.1.3"
    watcher = {"00741234": text("AE", "WATCHER"), "00741230": text("LO", "FALSE")}
    assert act(association, GLOBAL, 3, watcher | {"00741234": text("AE", "NOBODY")}) == 0xC308
    assert act(association, "1.9.9", 3, watcher) == 0xC307
    assert act(association, GLOBAL, 3, watcher) == 0x0000
    create(association, uid)
    assert events.get(timeout=20) == (1, uid, "SCHEDULED")
    act(association, uid, 1, state("IN PROGRESS", "1.2.3"))
    assert events.get(timeout=20) == (1, uid, "IN PROGRESS")
    assert act(association, uid, 2, {}) == 0x0000
    assert events.get(timeout=20)[:2] == (2, uid)
    assert act(association, uid, 5, watcher) == 0xC314
    assert act(association, GLOBAL, 5, watcher) == 0x0000
    assert act(association, GLOBAL, 4, watcher) == 0x0000
    create(association, "1.2.826.0.1.4")
    assert events.empty()
