"""Decisions: one wins; the corrected SEG lies in its place; report and training row follow."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from pydicom import Dataset, dcmread

from dicom_io.segmentation_masks import read_segmentation
from inference.bootstrap import Service
from inference.storage import audit
from inference.storage.database import Database
from tests.builders.dicom import Identity
from tests.builders.reviewing import decide, draw, labels_slice, shown_of
from tests.builders.service import FakeEngine, finished_study, running_service, send_zip
from tests.builders.two_boxes import SHAPE, two_boxes_study

N_SLICES, N_ROWS, N_COLUMNS = SHAPE
BOTH = N_SLICES - 1 - 7
"""Slice on the screen of native slice 7, where both boxes are."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("reviews")
    with running_service(folder, FakeEngine((200.0, 500.0))) as running:
        running.test_folder = folder  # type: ignore[attr-defined]
        yield running


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.http_url, timeout=60) as opened:
        yield opened


def analysed(service: Service, patient: str) -> tuple[str, int]:
    """A new study of a patient; its UID and its result."""
    study = two_boxes_study(identity=Identity(patient_id=patient, patient_name="Test^Person"))
    send_zip(service, study.zipped())
    return study.study_uid, finished_study(service, study.study_uid)["results"][0]["id"]


def fetched(client: httpx.Client, result_id: int, kind: str) -> Dataset:
    answer = client.get(f"/v1/results/{result_id}/files/{kind}")
    assert answer.status_code == 200, answer.text
    return dcmread(io.BytesIO(answer.content))


def rows(client: httpx.Client, study_uid: str) -> list[dict]:
    found = client.get("/v1/reviews/training-set").json()["rows"]
    return [row for row in found if row["study_uid"] == study_uid]


def test_accepting_verifies_the_report_and_fills_the_training_set(
    service: Service, client: httpx.Client
) -> None:
    study_uid, result_id = analysed(service, "P-accept")
    before = fetched(client, result_id, "sr")
    answer = decide(client, result_id, comment="fine")
    assert answer.status_code == 200, answer.text
    assert answer.json()["decision"] == "accept"
    after = fetched(client, result_id, "sr-verified")
    assert (before.VerificationFlag, after.VerificationFlag) == ("UNVERIFIED", "VERIFIED")
    assert str(after.VerifyingObserverSequence[0].VerifyingObserverName) == "loopback"
    named = after.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert named.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == before.SOPInstanceUID
    assert after.SOPInstanceUID != before.SOPInstanceUID
    (row,) = rows(client, study_uid)
    assert (row["effort"], row["labels_sha256"]) == ("untouched", row["machine_sha256"])


def test_a_corrected_slice_becomes_a_new_segmentation_in_its_place(
    service: Service, client: httpx.Client
) -> None:
    study_uid, result_id = analysed(service, "P-correct")
    labels = labels_slice(client, result_id, BOTH, (N_ROWS, N_COLUMNS))
    labels[2:4, 5:8] = 1  # beside the left box, on the patient's right and front
    kept = draw(client, result_id, {BOTH: labels})
    assert kept.status_code == 200, kept.text
    answer = decide(client, result_id)
    assert answer.status_code == 200, answer.text
    review = answer.json()
    assert (review["decision"], review["effort"]) == ("correct", "edited")
    assert review["changed_ml"] == pytest.approx(6 * 4.0 * 1.5 * 2.0 / 1000)
    new_id = review["new_result_id"]
    old, new = fetched(client, result_id, "seg"), fetched(client, new_id, "seg")
    assert old.SOPInstanceUID != new.SOPInstanceUID
    assert new.ReferencedImageSequence[0].ReferencedSOPInstanceUID == old.SOPInstanceUID
    assert str(new.ContentCreatorName) == "loopback"
    kinds = {one.SegmentLabel: one.SegmentAlgorithmType for one in new.SegmentSequence}
    assert kinds == {"Left box": "SEMIAUTOMATIC", "Right box": "AUTOMATIC"}
    trackings = [[one.TrackingUID for one in each.SegmentSequence] for each in (old, new)]
    assert trackings[0] == trackings[1]
    # The drawn pixels, read back from the object, lie where the screen's did in the patient.
    masks = read_segmentation(new)
    drawn = 0
    for frame in masks.frames:
        if frame.segment_number == 1 and frame.affine_lps[2, 3] == pytest.approx(105.0 + 7 * 4.0):
            drawn = int(masks.mask(frame, 1)[2:4, 5:8].sum())
    assert drawn == 6
    report = fetched(client, new_id, "sr")
    assert report.VerificationFlag == "VERIFIED"
    assert client.get(f"/v1/results/{result_id}").json()["state"] == "superseded"
    assert client.get(f"/v1/results/{new_id}").json()["is_current"] is True
    (row,) = rows(client, study_uid)
    assert row["effort"] == "edited"
    assert row["dice"]["Right box"] == 1.0
    assert 0.9 < row["dice"]["Left box"] < 1.0


def test_of_many_decisions_at_once_one_wins(service: Service, client: httpx.Client) -> None:
    _, result_id = analysed(service, "P-race")
    shown = shown_of(client, result_id)

    def one(number: int) -> httpx.Response:
        body = {"decision": "reject", "reason": "wrong_side", "shown": shown}
        if number % 2:
            body = {"decision": "accept", "shown": shown}
        with httpx.Client(base_url=service.http_url, timeout=60) as own:
            return own.post(f"/v1/results/{result_id}/decision", json=body)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(one, range(16)))
    winners = [answer for answer in answers if answer.status_code == 200]
    assert len(winners) == 1
    for answer in answers:
        if answer is not winners[0]:
            problem = answer.json()
            assert (answer.status_code, problem["code"]) == (409, "already_decided")
            assert problem["review"]["id"] == winners[0].json()["id"]
            assert "loopback" in problem["detail"]


def test_rejecting_needs_a_known_reason_and_leaves_no_training_row(
    service: Service, client: httpx.Client
) -> None:
    study_uid, result_id = analysed(service, "P-reject")
    wrong = decide(client, result_id, decision="reject", reason="ugly")
    assert (wrong.status_code, wrong.json()["code"]) == (422, "decision_field")
    silent = decide(client, result_id, decision="reject", reason="other")
    assert "comment" in silent.json()["detail"]
    done = decide(client, result_id, decision="reject", reason="wrong_side")
    assert (done.status_code, done.json()["reason_code"]) == (200, "wrong_side")
    assert rows(client, study_uid) == []


def test_what_was_not_shown_is_not_decided(service: Service, client: httpx.Client) -> None:
    _, result_id = analysed(service, "P-shown")
    shown = shown_of(client, result_id)
    labels = labels_slice(client, result_id, BOTH, (N_ROWS, N_COLUMNS))
    labels[0, 0] = 1
    draw(client, result_id, {BOTH: labels})
    answer = decide(client, result_id, shown=shown)  # the page did not see the draft
    assert (answer.status_code, answer.json()["code"]) == (409, "shown_outdated")
    assert client.get(f"/v1/results/{result_id}/decision").status_code == 404


@pytest.mark.parametrize(
    ("slices", "problem"),
    [
        ({"99": "eJwDAAAAAAE="}, "slices 0 to 13"),
        ({"1": "!!"}, "base64 of zlib"),
        ({"1": "eJwDAAAAAAE="}, "does not unpack to 825 bytes"),
    ],
)
def test_a_broken_draft_is_refused_by_its_slice(
    service: Service, client: httpx.Client, slices: dict[str, str], problem: str
) -> None:
    result_id = client.get("/v1/results").json()["items"][0]["id"]
    undecided = analysed(service, "P-broken")[1] if result_id else 0
    answer = client.put(f"/v1/results/{undecided}/draft", json={"slices": slices})
    assert (answer.status_code, answer.json()["code"]) == (422, "decision_field")
    assert problem in answer.json()["detail"]


def test_a_label_that_no_segment_has_is_refused(service: Service, client: httpx.Client) -> None:
    _, result_id = analysed(service, "P-label")
    labels = labels_slice(client, result_id, BOTH, (N_ROWS, N_COLUMNS))
    labels[0, 0] = 7
    draw(client, result_id, {BOTH: labels})
    answer = decide(client, result_id)
    assert answer.status_code == 422
    assert "[7]" in answer.json()["detail"]


def test_the_next_case_is_one_that_nobody_decided(service: Service, client: httpx.Client) -> None:
    study_uid, result_id = analysed(service, "P-next")
    open_ids = set()
    after = ""
    found = client.get("/v1/reviews/next", params={"after": after}).json()
    open_ids.add(found["result_id"])
    assert client.get(f"/v1/results/{found['result_id']}/decision").status_code == 404
    decide(client, result_id)
    later = client.get("/v1/reviews/next").json()
    assert later["study_uid"] != study_uid


def test_the_audit_names_the_person_and_the_overlay(service: Service, client: httpx.Client) -> None:
    study_uid, result_id = analysed(service, "P-audit")
    stamp = shown_of(client, result_id)["overlay_sha256"]
    decide(client, result_id)
    path: Path = service.test_folder / "data" / "clinfer.sqlite3"  # type: ignore[attr-defined]
    database = Database.open(path)
    with database.read() as connection:
        events = audit.events(connection, subject=study_uid)
    database.close()
    (event,) = [one for one in events if one.action == "review.accept"]
    assert event.actor == "person:loopback"
    assert event.detail["overlay_sha256"] == stamp


def test_figures_count_what_was_decided(service: Service, client: httpx.Client) -> None:
    figures = client.get("/v1/reviews/figures", params={"by": "model"}).json()
    (group,) = [one for one in figures["groups"] if one["name"] == "ct_two_boxes 1.2.0"]
    assert (
        group["n"]
        == figures["n_decisions"]
        == group["n_accepted"] + group["n_corrected"] + group["n_rejected"]
    )
    assert group["drift"] == "too_few"
    assert np.isclose(
        group["override_rate"], (group["n_corrected"] + group["n_rejected"]) / group["n"]
    )
