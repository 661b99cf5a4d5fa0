"""STOW-RS over real HTTP, by the standard's own client and by hand."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from dicomweb_client import DICOMwebClient

from tests.builders.instances import ct_file, instance_uid, study_uid
from tests.builders.service import finished_study, running_service
from tests.builders.two_boxes import BuiltStudy, two_boxes_study

RELATED = 'multipart/related; type="application/dicom"; boundary=XX'
FAILED, STORED, NAMELESS = "00081198", "00081199", "0008119A"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory):
    with running_service(tmp_path_factory.mktemp("stow")) as running:
        yield running


@pytest.fixture
def client(service):
    with httpx.Client(base_url=service.http_url, timeout=30) as opened:
        yield opened


def body(*files: bytes) -> bytes:
    parts = b"".join(
        b"--XX\r\nContent-Type: application/dicom\r\n\r\n" + file + b"\r\n" for file in files
    )
    return parts + b"--XX--\r\n"


def store(client: httpx.Client, *files: bytes, path: str = "/dicom-web/studies") -> httpx.Response:
    return client.post(path, content=body(*files), headers={"Content-Type": RELATED})


def uids(answer: dict[str, Any], sequence: str) -> list[str]:
    items = answer.get(sequence, {}).get("Value", [])
    return [item["00081155"]["Value"][0] for item in items]


def test_the_standard_client_stores_a_study_that_is_analysed(service) -> None:
    study: BuiltStudy = two_boxes_study()
    web = DICOMwebClient(url=f"{service.http_url}/dicom-web")
    answer = web.store_instances(list(study.instances))
    assert len(answer.ReferencedSOPSequence) == 14
    assert "FailedSOPSequence" not in answer
    assert finished_study(service, study.study_uid)["outcome"] == "finding"


def test_one_bad_instance_among_fifty_is_named_alone(client: httpx.Client) -> None:
    files = [ct_file(study=50, slice_number=n) for n in range(1, 51)]
    files[20] = files[20][:-40]  # the pixels are cut off
    answer = store(client, *files)
    assert answer.status_code == 202
    assert answer.headers["content-type"] == "application/dicom+json"
    failed = answer.json()[FAILED]["Value"]
    assert [item["00081155"]["Value"] for item in failed] == [[instance_uid(50, 21)]]
    assert failed[0]["00081197"]["Value"] == [0xC000]
    assert len(uids(answer.json(), STORED)) == 49
    assert client.get(f"/v1/studies/{study_uid(50)}").json()["n_instances"] == 49


def test_an_instance_of_another_study_is_refused_and_not_stored(client: httpx.Client) -> None:
    answer = store(client, ct_file(study=61), path=f"/dicom-web/studies/{study_uid(60)}")
    assert answer.status_code == 409
    assert uids(answer.json(), FAILED) == [instance_uid(61, 1)]
    assert answer.json()[FAILED]["Value"][0]["00081197"]["Value"] == [0xA900]
    assert client.get(f"/v1/studies/{study_uid(61)}").status_code == 404
    right = store(client, ct_file(study=61), path=f"/dicom-web/studies/{study_uid(61)}")
    assert right.status_code == 200


def test_other_content_under_a_known_uid_is_a_conflict(client: httpx.Client) -> None:
    assert store(client, ct_file(study=70)).status_code == 200
    assert store(client, ct_file(study=70)).status_code == 200  # the very same again
    answer = store(client, ct_file(study=70, fill=7))
    assert answer.status_code == 409
    assert answer.json()[FAILED]["Value"][0]["00081197"]["Value"] == [0x0111]


def test_what_is_no_dicom_is_a_failure_without_a_name(client: httpx.Client) -> None:
    answer = store(client, b"hello", ct_file(study=71))
    assert answer.status_code == 202
    assert answer.json()[NAMELESS]["Value"] == [{"00081197": {"vr": "US", "Value": [0xC000]}}]


@pytest.mark.parametrize(
    ("headers", "content", "status", "code"),
    [
        ({"Content-Type": "application/dicom"}, b"x", 415, "unsupported_media_type"),
        (
            {"Content-Type": 'multipart/related; type="application/dicom+json"; boundary=XX'},
            b"x",
            415,
            "unsupported_media_type",
        ),
        ({"Content-Type": RELATED, "Accept": "application/dicom+xml"}, b"x", 406, "not_acceptable"),
        ({"Content-Type": RELATED}, b"--XX\r\n", 400, "multipart_refused"),
        ({"Content-Type": RELATED}, b"--XX--\r\n", 400, "multipart_refused"),
        ({"Content-Type": "multipart/related"}, b"x", 400, "multipart_refused"),
    ],
)
def test_what_is_no_store_request_is_a_problem(
    client: httpx.Client, headers: dict[str, str], content: bytes, status: int, code: str
) -> None:
    answer = client.post("/dicom-web/studies", content=content, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_malformed_study_uid_is_the_address_of_nothing(client: httpx.Client) -> None:
    answer = store(client, ct_file(study=72), path="/dicom-web/studies/..%2f..%2fx")
    assert answer.status_code == 404
