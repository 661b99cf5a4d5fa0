"""UPS-RS against a running service: every transaction, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from inference.api.keys import ApiKeys
from inference.bootstrap import Service
from inference.domain.job import JobState
from tests.builders.service import finished_study, running_service, send_zip
from tests.builders.two_boxes import two_boxes_study
from tests.builders.workitems import cancelled, new_workitem, performed, state, text

JSON = {"Content-Type": "application/dicom+json"}
NOWHERE = {"name": "nowhere", "kind": "stow", "url": "http://127.0.0.1:9/dicom-web"}
"""Nothing is delivered there; SEG and SR are made for it, so that a result has objects."""

GLOBAL, FILTERED = "1.2.840.10008.5.1.4.34.5", "1.2.840.10008.5.1.4.34.5.1"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(
        tmp_path_factory.mktemp("ups"), workers=1, stat_workers=0, destinations=[NOWHERE]
    ) as running:
        yield running


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{service.http_url}/dicom-web", headers=JSON, timeout=30) as opened:
        yield opened


def create(client: httpx.Client, **changes: Any) -> str:
    answer = client.post("/workitems", json=[new_workitem(**changes)])
    assert answer.status_code == 201, answer.text
    return answer.headers["Location"].rsplit("/", 1)[1]


def claim(client: httpx.Client, uid: str, held: str = "1.2.3") -> httpx.Response:
    return client.put(f"/workitems/{uid}/state", json=[state("IN PROGRESS", held)])


def refused(answer: httpx.Response, http_status: int, dicom_status: str) -> None:
    assert (answer.status_code, answer.json().get("dicom_status")) == (http_status, dicom_status)
    assert answer.headers["Warning"].startswith("299 ")
    assert answer.json()["code"] in ("workitem_refused", "workitem_request")


def test_a_workitem_from_its_creation_to_its_end(client: httpx.Client) -> None:
    uid = create(client)
    shown = client.get(f"/workitems/{uid}").json()[0]
    assert shown["00741000"]["Value"] == ["SCHEDULED"]
    assert shown["00100010"]["Value"][0]["Alphabetic"] == "Muster^Erika"
    refused(client.put(f"/workitems/{uid}/state", json=[state("COMPLETED", "1.2.3")]), 409, "C310")
    assert claim(client, uid).status_code == 200
    refused(claim(client, uid, "9.9"), 409, "C302")
    refused(client.post(f"/workitems/{uid}", json=[performed()]), 400, "C301")
    refused(client.post(f"/workitems/{uid}?transaction-uid=9.9", json=[performed()]), 400, "C301")
    missing = client.put(f"/workitems/{uid}/state", json=[state("COMPLETED", "1.2.3")])
    refused(missing, 409, "C304")
    assert "Output Information Sequence" in missing.json()["detail"]
    answer = client.post(f"/workitems/{uid}?transaction-uid=1.2.3", json=[performed()])
    assert answer.status_code == 200
    refused(client.put(f"/workitems/{uid}/state", json=[state("SCHEDULED", "1.2.3")]), 400, "C303")
    refused(client.put(f"/workitems/{uid}/state", json=[state("COMPLETED")]), 400, "C301")
    done = client.put(f"/workitems/{uid}/state", json=[state("COMPLETED", "1.2.3")])
    assert (done.status_code, done.headers.get("Warning")) == (200, None)
    again = client.put(f"/workitems/{uid}/state", json=[state("COMPLETED", "1.2.3")])
    assert again.status_code == 200
    assert "B306" in again.headers["Warning"]
    refused(claim(client, uid), 409, "C300")
    refused(client.post(f"/workitems/{uid}?1.2.3", json=[performed()]), 409, "C300")
    refused(client.post(f"/workitems/{uid}/cancelrequest"), 409, "C311")
    refused(client.get("/workitems/1.2.3.4.5"), 404, "C307")


def test_a_cancellation_by_the_holder_and_by_request(client: httpx.Client) -> None:
    uid = create(client)
    assert client.post(f"/workitems/{uid}/cancelrequest").status_code == 202
    assert client.get(f"/workitems/{uid}").json()[0]["00741000"]["Value"] == ["CANCELED"]
    assert "B304" in client.post(f"/workitems/{uid}/cancelrequest/SOMEBODY").headers["Warning"]
    held = create(client)
    claim(client, held)
    refused(client.put(f"/workitems/{held}/state", json=[state("CANCELED", "1.2.3")]), 409, "C304")
    client.post(f"/workitems/{held}?transaction=1.2.3", json=[cancelled()])
    for expected in (None, "B304"):
        answer = client.put(f"/workitems/{held}/state/AET", json=state("CANCELED", "1.2.3"))
        assert answer.status_code == 200
        assert (expected or "") in answer.headers.get("Warning", "")


SPELLINGS = (
    "?transaction=1.2.3", "?transaction-uid=1.2.3", "?Transaction-uid=1.2.3",
    "?transactionUID=1.2.3", "?TransactionUID=1.2.3", "?transaction-UID=1.2.3", "?1.2.3",
    "?00081195=1.2.3", "body",
)  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_transaction_uid_in_every_spelling_and_never_told(
    client: httpx.Client, spelling: str
) -> None:
    uid = create(client)
    claim(client, uid)
    progress = {"00741002": {"vr": "SQ", "Value": [{"00741004": text("DS", 40)}]}}
    if spelling == "body":
        answer = client.post(
            f"/workitems/{uid}", json=[progress | {"00081195": text("UI", "1.2.3")}]
        )
    else:
        answer = client.post(f"/workitems/{uid}{spelling}", json=[progress])
    assert answer.status_code == 200, answer.text
    found = client.get("/workitems", params={"00080018": uid, "includefield": "00081195"})
    for shown in (client.get(f"/workitems/{uid}"), found):
        assert shown.json()[0]["00741002"]["Value"][0]["00741004"]["Value"] == [40]
        assert "1.2.3" not in shown.text.replace(uid, "")
        assert "00081195" not in shown.text


def test_two_transaction_uids_or_none_are_refused(client: httpx.Client) -> None:
    uid = create(client)
    twice = f"/workitems/{uid}/state?transaction-uid=2.2"
    refused(client.put(twice, json=[state("IN PROGRESS", "1.1")]), 400, "0106")
    refused(claim(client, uid, "not-a-uid"), 400, "0106")
    refused(client.get("/workitems", params={"TransactionUID": "1.1"}), 400, "0106")


def test_search_matches_as_the_standard_says(client: httpx.Client) -> None:
    mine = create(client, patient_id="SEARCH-1", **{"00404005": text("DT", "20261201080000")})
    other = create(
        client, patient_id="SEARCH-2", **{"00100010": text("PN", {"Alphabetic": "Xu^Li"})}
    )

    def found(**query: str) -> set[str]:
        answer = client.get("/workitems", params={"PatientID": "SEARCH-*"} | query)
        rows = answer.json() if answer.status_code == 200 else []
        return {row["00080018"]["Value"][0] for row in rows}

    assert found() == {mine, other}
    assert found(PatientID="SEARCH-1") == {mine}
    assert found(PatientName="xu*") == {other}
    assert found(PatientName="X?^Li") == {other}
    assert found(ScheduledProcedureStepStartDateTime="20261130-") == {mine}
    assert found(ScheduledProcedureStepStartDateTime="-20261130") == {other}
    assert found(ProcedureStepState="IN PROGRESS") == set()
    assert found(**{"ScheduledWorkitemCodeSequence.CodeValue": "seg"}) == {mine, other}
    assert found(**{"00404018.00080100": "nothing"}) == set()
    limited = client.get("/workitems", params={"PatientID": "SEARCH-*", "limit": "1"})
    assert len(limited.json()) == 1
    assert "more results" in limited.headers["Warning"]


BAD = (
    ("no state", {"00741000": None}, 400, "C309"),
    ("in progress", {"00741000": text("CS", "IN PROGRESS")}, 400, "C309"),
    ("no label", {"00741204": None}, 400, "0120"),
    ("no start", {"00404005": text("DT")}, 400, "0120"),
    ("priority", {"00741200": text("CS", "STAT")}, 400, "0106"),
    ("readiness", {"00404041": text("CS", "MAYBE")}, 400, "0106"),
    ("a lock of its own", {"00081195": text("UI", "1.2.3")}, 400, "0106"),
    ("bulk data", {"00204000": {"vr": "LT", "BulkDataURI": "http://x"}}, 400, "0106"),
    ("NUL", {"00100020": text("LO", "a\x00b")}, 400, "0106"),
    ("inline binary", {"00204000": {"vr": "OB", "InlineBinary": "AAAA"}}, 400, "0106"),
    ("unknown VR", {"00204000": {"vr": "ZZ", "Value": ["a"]}}, 400, "0106"),
)


@pytest.mark.parametrize(("name", "changes", "status", "dicom"), BAD, ids=[row[0] for row in BAD])
def test_a_wrong_workitem_is_refused_with_its_attribute(
    client: httpx.Client, name: str, changes: dict[str, Any], status: int, dicom: str
) -> None:
    refused(client.post("/workitems", json=[new_workitem(**changes)]), status, dicom)


def test_wrong_requests_are_refused_and_nothing_is_stored(client: httpx.Client) -> None:
    """Areas http and auth of the shared list of bad inputs, where they touch these routes."""
    before = len(client.get("/workitems", params={"limit": "1000"}).json())
    deep = ("[" * 100_000).encode()
    for body, headers, status in (
        (b"{", JSON, 400), (deep, JSON, 400), (b"[]", JSON, 400), (b"[{},{}]", JSON, 400),
        (b'{"x": 1}', JSON, 400), (b'{"00100020": {"vr": "LO", "Value": [NaN]}}', JSON, 400),
        (b'{"00100020": {"vr": "LO", "Value": ["\\ud800"]}}', JSON, 400), (b"\xff\xfe", JSON, 400),
        (b"<NativeDicomModel/>", {"Content-Type": "application/dicom+xml"}, 415),
        (b"{}", {"Content-Type": "application/dicom+json", "Content-Encoding": "gzip"}, 415),
        (b"x" * (1024 * 1024 + 1), JSON, 413),
        (json.dumps([new_workitem()]).encode(), JSON | {"Accept": "text/plain"}, 406),
        (json.dumps([new_workitem()]).encode(), JSON | {"Origin": "http://evil.example"}, 403),
    ):  # fmt: skip
        assert client.post("/workitems", content=body, headers=headers).status_code == status
    for query in ("limit=-1", "limit=1e9", "offset=x", "NoSuchThing=1", "0020000Z=1"):
        assert client.get(f"/workitems?{query}").status_code == 400, query
    assert client.get("/workitems/../../etc/passwd").status_code == 404
    assert client.get("/workitems/1.2.3'%20OR%201=1").status_code == 404
    assert client.delete("/workitems/1.2.3").status_code == 405
    uid = create(client)
    assert client.post(f"/workitems?workitem={uid}", json=[new_workitem()]).status_code == 409
    patient = {"00100020": text("LO", "OTHER")}
    refused(client.post(f"/workitems/{uid}", json=[patient]), 400, "0106")
    assert len(client.get("/workitems", params={"limit": "1000"}).json()) == before + 1


def test_events_reach_who_subscribed_and_stop(service: Service, client: httpx.Client) -> None:
    address = service.http_url.replace("http", "ws") + "/dicom-web/ws/subscribers/WATCHER"
    uid = create(client)
    answer = client.post(f"/workitems/{uid}/subscribers/WATCHER?deletionlock=true")
    assert answer.status_code == 201
    assert answer.headers["Content-Location"] == address
    assert "B301" in answer.headers["Warning"]
    with connect(address) as channel:
        first = json.loads(channel.recv(timeout=10))
        assert first["00001000"]["Value"] == [uid]
        assert (first["00001002"]["Value"], first["00741000"]["Value"]) == ([1], ["SCHEDULED"])
        claim(client, uid)
        assert json.loads(channel.recv(timeout=10))["00741000"]["Value"] == ["IN PROGRESS"]
        reason = {"00741238": text("LT", "patient moved")}
        assert client.post(f"/workitems/{uid}/cancelrequest", json=[reason]).status_code == 202
        asked = json.loads(channel.recv(timeout=10))
        assert (asked["00001002"]["Value"], asked["00741238"]["Value"]) == ([2], ["patient moved"])
        progress = {"00741002": {"vr": "SQ", "Value": [{"00741004": text("DS", 40)}]}}
        client.post(f"/workitems/{uid}?transaction=1.2.3", json=[progress])
        assert json.loads(channel.recv(timeout=10))["00001002"]["Value"] == [3]
        assert client.delete(f"/workitems/{uid}/subscribers/WATCHER").status_code == 200
        client.post(f"/workitems/{uid}?transaction=1.2.3", json=[progress])
        filtered = f"/workitems/{FILTERED}/subscribers/WATCHER?filter=PatientID=EVENT-1"
        assert client.post(filtered).status_code == 201
        create(client, patient_id="EVENT-2")
        wanted = create(client, patient_id="EVENT-1")
        told = json.loads(channel.recv(timeout=10))
        assert told["00001000"]["Value"] == [wanted]
        assert client.post(f"/workitems/{FILTERED}/subscribers/WATCHER/suspend").status_code == 200
        create(client, patient_id="EVENT-1")
        claim(client, wanted)
        told = json.loads(channel.recv(timeout=10))
        assert told["00741000"]["Value"] == ["IN PROGRESS"]
        client.delete(f"/workitems/{FILTERED}/subscribers/WATCHER")
    refused(client.post("/workitems/1.2.3/subscribers/WATCHER"), 404, "C307")
    refused(client.post(f"/workitems/{FILTERED}/subscribers/WATCHER"), 400, "C314")
    refused(client.post(f"/workitems/{uid}/subscribers/WATCHER/suspend"), 400, "C314")


def test_events_that_nobody_fetched_wait(service: Service, client: httpx.Client) -> None:
    client.post(f"/workitems/{GLOBAL}/subscribers/LATER")
    uid = create(client)
    with connect(service.http_url.replace("http", "ws") + "/dicom-web/subscribers/LATER") as found:
        assert json.loads(found.recv(timeout=10))["00001000"]["Value"] == [uid]
    client.delete(f"/workitems/{GLOBAL}/subscribers/LATER")


def test_a_channel_needs_a_key_and_our_own_origin(tmp_path: Path) -> None:
    key = ApiKeys(tmp_path / "keys.json").create("pacs")
    with running_service(tmp_path, auth="keys", api_keys_file=tmp_path / "keys.json") as service:
        address = service.http_url.replace("http", "ws") + "/dicom-web/ws/subscribers/X"
        for headers in ({}, {"X-API-Key": "wrong"}, {"X-API-Key": key, "Origin": "http://evil"}):
            with (
                pytest.raises(InvalidStatus) as caught,
                connect(address, additional_headers=headers),
            ):
                pass
            assert caught.value.response.status_code == 403
        with connect(address, additional_headers={"Authorization": f"Bearer {key}"}):
            pass
        assert httpx.get(f"{service.http_url}/dicom-web/workitems").status_code == 401


def test_a_job_is_a_workitem_with_its_outputs(service: Service, client: httpx.Client) -> None:
    study = two_boxes_study()
    send_zip(service, study.zipped())
    finished_study(service, study.study_uid)
    query = {"ProcedureStepLabel": "AI analysis", "StudyInstanceUID": study.study_uid}
    found = client.get("/workitems", params=query).json()[0]
    uid = found["00080018"]["Value"][0]
    assert found["00741000"]["Value"] == ["COMPLETED"]
    outputs = found["00741216"]["Value"][0]["00404033"]["Value"]
    classes = {one["00081199"]["Value"][0]["00081150"]["Value"][0] for one in outputs}
    assert "1.2.840.10008.5.1.4.1.1.66.4" in classes
    assert {one["0020000D"]["Value"][0] for one in outputs} == {study.study_uid}
    refused(client.put(f"/workitems/{uid}/state", json=[state("CANCELED", "1.2")]), 403, "0124")
    refused(client.post(f"/workitems/{uid}", json=[performed()]), 403, "0124")
    refused(client.post(f"/workitems/{uid}/cancelrequest"), 409, "C311")


def test_a_waiting_job_is_cancelled_by_request(service: Service, client: httpx.Client) -> None:
    study = two_boxes_study()
    send_zip(service, study.zipped(), is_complete="false", expected_instances=999)
    query = {"ProcedureStepLabel": "AI analysis", "StudyInstanceUID": study.study_uid}
    found = client.get("/workitems", params=query).json()[0]
    assert (found["00741000"]["Value"], found["00404041"]["Value"]) == (
        ["SCHEDULED"],
        ["INCOMPLETE"],
    )
    uid = found["00080018"]["Value"][0]
    reason = {"00741238": text("LT", "wrong patient")}
    assert client.post(f"/workitems/{uid}/cancelrequest", json=[reason]).status_code == 202
    shown = client.get(f"/workitems/{uid}").json()[0]
    assert shown["00741000"]["Value"] == ["CANCELED"]
    body = httpx.get(f"{service.http_url}/v1/studies/{study.study_uid}").json()
    assert body["job"]["state"] == JobState.FAILED.value
    assert "wrong patient" in body["job"]["reason"]
