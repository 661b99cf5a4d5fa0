"""Two readers of one study: neither learns of the other's reading before both have signed."""

from __future__ import annotations

import re
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import UnifiedProcedureStepPull

from inference.services.telemedicine.listing import SECOND_READING, hidden_audit_subjects
from inference.storage import audit
from inference.storage.database import Database
from tests.worklist.conftest import Ward

NOT_COMPARED = ("/metrics",)
"""Counts requests of everybody, by route and without names; it is for machines, not for readers."""

MOVING = re.compile(
    r'"(seconds_left|claim_until|X-Request-ID|request_id)": ?("[^"]*"|[-0-9.]+),?|[0-9]+ MiB free'
)


def everything(ward: Ward, name: str, task_id: int) -> dict[str, tuple[int, str]]:
    """Every GET address of the application that this person can ask for, with what it answers."""
    client = ward[name]
    document = client.get("/openapi.json").json()
    values = {
        "{task_id}": str(task_id), "{study_uid}": ward.study_uid, "{job_id}": "1",
        "{result_id}": "1", "{delivery_id}": "1", "{name}": "ct_two_boxes", "{kind}": "labels",
        "{uid}": "1.2.3", "{series_uid}": "1.2.3", "{plane}": "axial", "{index}": "0",
        "{critical_id}": "1",
    }  # fmt: skip
    paths = [path for path, methods in document["paths"].items() if "get" in methods]
    paths += ["/reading", "/reading?mine=true", "/fragments/reading", "/", "/fragments/studies"]
    paths += [f"/studies/{ward.study_uid}", f"/fragments/study-stamp/{ward.study_uid}"]
    paths += [f"/v1/reading-list?state={one}" for one in ("open", "taken", "done", "mine")]
    paths += ["/v1/critical-results?open_only=false", "/v1/reading-list?mine=true"]
    paths += ["/dicom-web/workitems?ProcedureStepLabel=Reading"]
    paths += [f"/dicom-web/workitems?ProcedureStepState={one}"
              for one in ("SCHEDULED", "IN%20PROGRESS", "CANCELED")]  # fmt: skip
    for level in ("studies", "series", "instances"):  # QIDO, where it is served
        paths.append(f"/dicom-web/{level}")
    found = {}
    for path in paths:
        if path in NOT_COMPARED:
            continue
        for token, value in values.items():
            path = path.replace(token, value)
        answer = client.get(path)
        assert answer.status_code < 500, path
        _, _, boundary = answer.headers.get("content-type", "").partition("boundary=")
        text = answer.text.replace(boundary.strip('"'), "") if boundary else answer.text
        found[path] = (answer.status_code, MOVING.sub("", text))
    found["C-FIND"] = (0, str(_find_all(ward)))
    return found


def differing(
    left: dict[str, tuple[int, str]], right: dict[str, tuple[int, str]]
) -> dict[str, object]:
    """The addresses that answer otherwise than before."""
    return {path: (left[path], right[path]) for path in left if left[path] != right[path]}


def _find_all(ward: Ward) -> list[str]:
    host, port = ward.service.dicom_address.split("@")[1].split(":")[0], ward.service.dicom_port
    entity = AE(ae_title="ANYBODY")
    entity.add_requested_context(UnifiedProcedureStepPull)
    association = entity.associate(host, port, ae_title=ward.service.ae_title)
    assert association.is_established
    keys = Dataset()
    keys.ProcedureStepLabel = "Reading"
    keys.ProcedureStepState = ""
    keys.TransactionUID = ""
    rows = [
        str(found) for status, found in association.send_c_find(keys, UnifiedProcedureStepPull)
        if found is not None
    ]  # fmt: skip
    association.release()
    return rows


def sign(ward: Ward, name: str, task_id: int, **body: Any) -> Any:
    answer = ward[name].post(f"/v1/reading-tasks/{task_id}/sign", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_no_route_tells_a_reader_of_the_other_reading(ward: Ward) -> None:
    task_id = ward.task()["task_id"]
    before = everything(ward, "ben", task_id)
    assert SECOND_READING in before[f"/v1/reading-tasks/{task_id}"][1]
    assert ward["anna"].post(f"/v1/reading-tasks/{task_id}/claim").status_code == 200
    held = everything(ward, "ben", task_id)
    assert differing(held, before) == {}
    critical = {"text": "a mass nobody expected", "tell": ["ward physician"]}
    answer = ward["anna"].post(f"/v1/reading-tasks/{task_id}/critical-results", json=critical)
    assert answer.status_code == 201
    sign(ward, "anna", task_id, conclusion="critical", finding_codes=["SCT:4147007"],
         report="UNSEEN-WORDS mass")  # fmt: skip
    signed = everything(ward, "ben", task_id)
    assert differing(signed, before) == {}

    # Ben reads; what Anna sees of it is what she saw before he did.
    anna_before = everything(ward, "anna", task_id)
    claimed = ward["ben"].post(f"/v1/reading-tasks/{task_id}/claim").json()
    assert claimed["readings"][0]["role"] == "reading"
    assert "anna" not in str(claimed)
    assert differing(everything(ward, "anna", task_id), anna_before) == {}
    ben_while_reading = everything(ward, "ben", task_id)
    assert not any("UNSEEN-WORDS" in body for _, body in ben_while_reading.values())
    for action in ("claim", "undo-promotion", "return"):
        answer = ward["anna"].post(f"/v1/reading-tasks/{task_id}/{action}", json={"reason": "why"})
        assert "ben" not in answer.text
    review = ward["carl"].post(f"/v1/reading-tasks/{task_id}/peer-reviews", json={"score": "1"})
    assert review.json()["detail"].startswith("not_finished")

    done = sign(ward, "ben", task_id, conclusion="no_finding")
    assert {one["reader"] for one in done["readings"]} == {"anna", "ben"}
    assert "UNSEEN-WORDS" in str(ward.task("anna"))


def test_the_audit_of_a_blinded_reading_is_kept_from_readers(ward: Ward) -> None:
    task_id = ward.task()["task_id"]
    database = Database.open(ward.folder / "data" / "clinfer.sqlite3")
    with database.read() as connection:
        before = audit.head(connection)[0]
    ward["anna"].post(f"/v1/reading-tasks/{task_id}/claim")
    sign(
        ward, "anna", task_id, conclusion="finding", finding_codes=["SCT:4147007"], report="SECRET"
    )
    with database.read() as connection:
        hidden = hidden_audit_subjects(connection)
        rows = audit.events(connection, after_seq=before, limit=1000)
    assert f"reading:{task_id}" in hidden
    assert any(one.action == "reading.signed" and one.actor == "anna" for one in rows)
    open_rows = [one for one in rows if one.subject not in hidden]
    told = [one for one in open_rows if one.actor == "anna" or "anna" in str(one.detail)]
    assert all(one.action.startswith(("study.", "reading_queue")) for one in told), told
    assert not any("SECRET" in str(one) or "4147007" in str(one) for one in rows)
    ward["ben"].post(f"/v1/reading-tasks/{task_id}/claim")
    sign(ward, "ben", task_id, conclusion="finding", finding_codes=["SCT:4147007"])
    with database.read() as connection:
        assert f"reading:{task_id}" not in hidden_audit_subjects(connection)
        assert audit.verify(connection) > 0
    database.close()


def test_two_that_differ_go_to_a_third_who_sees_both(ward: Ward) -> None:
    task_id = ward.task()["task_id"]
    for name, conclusion, codes in (("anna", "finding", ["SCT:1"]), ("ben", "no_finding", [])):
        ward[name].post(f"/v1/reading-tasks/{task_id}/claim")
        sign(ward, name, task_id, conclusion=conclusion, finding_codes=codes)
    assert ward.task("carl")["standing"] == "arbitration"
    refused = ward["anna"].post(f"/v1/reading-tasks/{task_id}/claim")
    assert (refused.status_code, refused.json()["code"]) == (409, "reading_refused")
    claimed = ward["carl"].post(f"/v1/reading-tasks/{task_id}/claim").json()
    assert {one["conclusion"] for one in claimed["readings"]} == {"finding", "no_finding", None}
    done = sign(ward, "carl", task_id, conclusion="finding", finding_codes=["SCT:1"])
    assert done["standing"] == "done"
    own = ward["anna"].post(f"/v1/reading-tasks/{task_id}/peer-reviews", json={"score": "1"})
    assert own.json()["detail"].startswith("own_reading")
    silent = ward["dora"].post(
        f"/v1/reading-tasks/{task_id}/peer-reviews", json={"score": "3b", "role": "second"}
    )
    assert silent.json()["detail"].startswith("no_comment")
    scored = (
        ward["dora"]
        .post(
            f"/v1/reading-tasks/{task_id}/peer-reviews",
            json={"score": "3b", "role": "second", "comment": "seen on slice 4"},
        )
        .json()
    )
    assert scored["needs_internal_review"]
    assert "likely clinically significant" in scored["meaning"]
    for wrong in ("4", "1a", "2", ""):
        answer = ward["dora"].post(
            f"/v1/reading-tasks/{task_id}/peer-reviews", json={"score": wrong}
        )
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "score")
