"""The API over real HTTP: lists, single things, files, cards, health, and errors as problems."""

from __future__ import annotations

import hashlib
import io
import time

import httpx
import numpy as np
import pydicom
import pytest

from dicom_io.nifti import read_nifti
from dicom_io.segmentation import read_segmentation
from tests.builders.service import finished_study, send_zip
from tests.builders.two_boxes import LEFT_BOX, RIGHT_BOX, SPACING_MM, empty_study, two_boxes_study
from tests.inference.api.conftest import Running


def box_ml(box: tuple[slice, slice, slice]) -> float:
    voxels = np.prod([part.stop - part.start for part in box])
    return float(voxels * np.prod(SPACING_MM) / 1000)


def test_a_study_says_where_it_stands_and_what_was_found(running: Running) -> None:
    study = running.analysed
    assert (study["state"], study["is_pending"], study["n_instances"]) == ("finding", False, 14)
    assert [one["modality"] for one in study["series"]] == ["CT"]
    volumes = {one["name"]: one["volume_ml"] for one in study["results"][0]["segments"]}
    # Counted by hand from the boxes' sides; volumes are exact but for floating point.
    assert volumes == {
        "Left box": pytest.approx(box_ml(LEFT_BOX), rel=1e-9),
        "Right box": pytest.approx(box_ml(RIGHT_BOX), rel=1e-9),
    }
    means = [one["mean"] for one in study["results"][0]["segments"]]
    assert means == [300.0, 700.0]


def test_patient_names_are_not_told_without_a_key(running: Running, client: httpx.Client) -> None:
    study = client.get(f"/v1/studies/{running.study.study_uid}")
    assert study.json()["patient_name"] is None
    for path in ("/", f"/studies/{running.study.study_uid}", "/v1/studies"):
        text = client.get(path).text
        assert "Müller" not in text
        assert "SECRET-77" not in text


def test_lists_come_in_pages(running: Running, client: httpx.Client) -> None:
    for _ in range(2):
        other = empty_study()
        send_zip(running.service, other.zipped())
        finished_study(running.service, other.study_uid)
    first = client.get("/v1/studies", params={"limit": 2}).json()
    second = client.get(first["next"]).json()
    seen = [one["study_uid"] for one in first["items"] + second["items"]]
    assert len(first["items"]) == 2
    assert len(seen) == len(set(seen))
    assert running.study.study_uid in seen
    jobs = client.get("/v1/jobs", params={"limit": 1}).json()
    older = client.get(jobs["next"]).json()
    assert older["items"][0]["id"] < jobs["items"][0]["id"]
    results = client.get("/v1/results", params={"limit": 1, "current_only": False}).json()
    assert "current_only=false" in results["next"]


def test_studies_are_filtered_by_what_a_person_calls_their_state(
    running: Running, client: httpx.Client
) -> None:
    other = empty_study()
    send_zip(running.service, other.zipped())
    assert finished_study(running.service, other.study_uid)["outcome"] == "no_finding"
    found = client.get("/v1/studies", params={"state": "no_finding"}).json()["items"]
    assert other.study_uid in [one["study_uid"] for one in found]
    assert {one["outcome"] for one in found} == {"no_finding"}


def test_files_come_as_they_were_stored(running: Running, client: httpx.Client) -> None:
    files = {file["kind"]: file for file in running.analysed["results"][0]["files"]}
    assert set(files) == {"seg", "sr", "labels", "sheet", "result"}
    for file in files.values():
        answer = client.get(file["url"])
        assert answer.status_code == 200
        assert hashlib.sha256(answer.content).hexdigest() == file["sha256"]
        assert answer.headers["content-type"] == file["media_type"]
        assert answer.headers["content-disposition"].startswith("attachment")


def test_the_segmentation_that_is_fetched_shows_the_boxes(
    running: Running, client: httpx.Client
) -> None:
    content = client.get(f"/v1/results/{running.result_id}/files/seg").content
    masks = read_segmentation(pydicom.dcmread(io.BytesIO(content)))
    assert masks is not None


def test_the_label_map_that_is_fetched_is_on_the_series_grid(
    running: Running, client: httpx.Client, tmp_path
) -> None:
    path = tmp_path / "labels.nii.gz"
    path.write_bytes(client.get(f"/v1/results/{running.result_id}/files/labels").content)
    labels = read_nifti(path).array
    expected = np.zeros(labels.shape)
    expected[LEFT_BOX], expected[RIGHT_BOX] = 1, 2
    np.testing.assert_array_equal(labels, expected)


def test_models_say_what_they_are_for(client: httpx.Client) -> None:
    assert [one["name"] for one in client.get("/v1/models").json()["items"]] == ["ct_two_boxes"]
    card = client.get("/v1/models/ct_two_boxes").json()
    assert card["limitations"] == ["Knows nothing but boxes."]
    assert card["metrics"]["unseen"]["n_cases"] == 36
    page = client.get("/models/ct_two_boxes").text
    for text in ("unseen, 36 cases", "0.991", "0.930", "1.4", "seed · dice", "Built boxes"):
        assert text in page


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/studies/1.2.3.4", 404, "not_found"),
        ("GET", "/v1/studies/..%2f..%2fetc", 404, "not_found"),
        ("GET", "/v1/studies/%00", 404, "not_found"),
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/v1/jobs/999999", 404, "not_found"),
        ("GET", "/v1/results/999999", 404, "not_found"),
        ("GET", "/v1/results/1/files/keys", 404, "not_found"),
        ("GET", "/v1/models/none", 404, "not_found"),
        ("GET", "/v1/deliveries/5", 404, "not_found"),
        ("GET", "/v1/studies?limit=-1", 422, "invalid_request"),
        ("GET", "/v1/studies?limit=1000000000", 422, "invalid_request"),
        ("GET", "/v1/studies?state=maybe", 422, "invalid_request"),
        ("GET", "/v1/jobs?study_uid=../x", 422, "invalid_request"),
        ("DELETE", "/v1/studies", 405, "method_not_allowed"),
        ("TRACE", "/v1/jobs", 405, "method_not_allowed"),
        ("PUT", "/healthz", 405, "method_not_allowed"),
        ("POST", "/v1/jobs/999999/requeue", 404, "not_found"),
        ("POST", "/v1/deliveries/9/requeue", 404, "not_found"),
    ],
)
def test_every_error_is_a_problem_with_a_stable_code(
    client: httpx.Client, method: str, path: str, status: int, code: str
) -> None:
    answer = client.request(method, path)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in answer.text


def test_a_wrong_field_is_named(client: httpx.Client) -> None:
    problem = client.get("/v1/studies", params={"limit": 0}).json()
    assert [one["field"] for one in problem["errors"]] == ["limit"]


def test_a_job_that_is_done_is_not_started_again(running: Running, client: httpx.Client) -> None:
    job_id = running.analysed["job"]["id"]
    answer = client.post(f"/v1/jobs/{job_id}/requeue")
    assert (answer.status_code, answer.json()["code"]) == (409, "not_requeueable")


def test_a_refused_study_says_why_and_can_be_started_again(
    running: Running, client: httpx.Client
) -> None:
    study = two_boxes_study(slices=[0, 1, 2, 5, 6, 7])
    send_zip(running.service, study.zipped())
    refused = finished_study(running.service, study.study_uid)
    assert refused["outcome"] == "refused"
    assert refused["reason"]
    assert refused["results"][0]["reason_code"] == "slice_gap"
    page = client.get(f"/studies/{study.study_uid}").text
    assert "Refused" in page
    assert "cannot be drawn" in page


def test_ready_names_each_part(running: Running, client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "alive"}
    ready = client.get("/readyz")
    names = [check["name"] for check in ready.json()["checks"]]
    assert names == ["database", "disk", "triton", "model ct_two_boxes"]
    running.engine.is_ready = False
    try:
        time.sleep(1.1)  # answers are kept for a second
        not_ready = client.get("/readyz")
    finally:
        running.engine.is_ready = True
    assert not_ready.status_code == 503
    away = [check["name"] for check in not_ready.json()["checks"] if not check["is_ready"]]
    assert away == ["triton", "model ct_two_boxes"]


def test_metrics_count_what_happened(client: httpx.Client) -> None:
    text = client.get("/metrics").text
    assert 'clinfer_instances_received_total{door="upload"}' in text
    assert 'clinfer_results_total{model="ct_two_boxes",state="finding"}' in text
    assert 'clinfer_jobs{state="done"}' in text
    assert 'clinfer_stage_seconds_bucket{le="0.05",model="ct_two_boxes",stage="encode"}' in text
    # The route's pattern, never its values: a label for each study would grow without end.
    assert 'route="/v1/studies/{study_uid}"' in text


def test_openapi_describes_every_route_with_examples(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert all(operation.get("summary") for operation in operations)
    assert set(document["components"]["schemas"]["StudyOut"]["properties"]["study_uid"]) >= {
        "examples"
    }
