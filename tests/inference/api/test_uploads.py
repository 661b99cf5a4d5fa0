"""Uploads: zips, files and forms become durable studies, or say why not; nothing is left behind."""

from __future__ import annotations

import io
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from inference.jobs.multipart import MAX_HEADER_BYTES, parameters_of
from tests.builders.service import finished_study, send_zip
from tests.builders.two_boxes import two_boxes_study
from tests.inference.api.conftest import Running


def leftovers(running: Running) -> list[str]:
    """Temporary files; a running job has a folder there too."""
    return [path.name for path in (running.folder / "data" / "tmp").iterdir() if path.is_file()]


def test_what_was_answered_is_stored(running: Running) -> None:
    study = two_boxes_study()
    answer = send_zip(running.service, study.zipped({"README.txt": b"hello"}))
    assert [(one["study_uid"], one["n_new"]) for one in answer["studies"]] == [
        (study.study_uid, 14)
    ]
    assert [(one["code"], "README.txt" in one["name"]) for one in answer["refused"]] == [
        ("not_dicom", True)
    ]
    again = send_zip(running.service, study.zipped())
    assert (again["studies"][0]["n_new"], again["studies"][0]["n_repeated"]) == (0, 14)
    assert finished_study(running.service, study.study_uid)["outcome"] == "finding"
    assert leftovers(running) == []


def test_files_come_as_a_form_too(running: Running, client: httpx.Client) -> None:
    study = two_boxes_study()
    files = [
        ("file", (f"IM{n}", content, "application/dicom"))
        for n, content in enumerate(study.files())
    ]
    answer = client.post("/v1/studies", files=files, data={"note": "ignored"})
    assert answer.status_code == 202
    assert answer.json()["studies"][0]["n_new"] == 14
    assert finished_study(running.service, study.study_uid)["outcome"] == "finding"


def test_a_study_in_single_files_waits_for_the_expected_number(
    running: Running, client: httpx.Client
) -> None:
    study = two_boxes_study()
    *most, last = study.files()
    for content in most:
        answer = client.post(
            "/v1/studies",
            params={"expected_instances": 14, "priority": "stat"},
            content=content,
            headers={"Content-Type": "application/dicom"},
        )
        assert answer.status_code == 202
    waiting = client.get(f"/v1/studies/{study.study_uid}").json()
    assert (waiting["outcome"], waiting["expected_instances"]) == ("waiting", 14)
    assert waiting["job"]["priority"] == "stat"
    client.post("/v1/studies", content=last, headers={"Content-Type": "application/dicom"})
    assert finished_study(running.service, study.study_uid)["n_instances"] == 14


def test_the_same_upload_twenty_times_at_once_is_one_study(running: Running) -> None:
    study = two_boxes_study(slices=range(5))
    content = study.zipped()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: send_zip(running.service, content), range(20)))
    assert sum(answer["studies"][0]["n_new"] for answer in answers) == 5
    found = finished_study(running.service, study.study_uid)
    assert found["n_instances"] == 5
    assert len(found["results"]) == 1


@pytest.mark.parametrize(
    ("content", "content_type", "status", "code"),
    [
        (b"", "application/zip", 422, "no_instances"),
        (b"PK\x03\x04 no zip at all", "application/zip", 422, "no_instances"),
        (b"hello", "application/dicom", 422, "no_instances"),
        (b"x" * 200 + b"DICM", "application/dicom", 422, "no_instances"),
        (b"x", "text/plain", 415, "unsupported_media_type"),
        (b"{}", "application/json", 415, "unsupported_media_type"),
        (b"x", "", 415, "unsupported_media_type"),
        (b"x", "multipart/form-data", 400, "multipart_refused"),
        (b"x", "multipart/form-data; boundary=a", 400, "multipart_refused"),
        (b"--a\r\n", "multipart/form-data; boundary=a", 400, "multipart_refused"),
        (
            b"--a\r\nA: " + b"h" * MAX_HEADER_BYTES + b"\r\n\r\nx\r\n--a--\r\n",
            "multipart/form-data; boundary=a",
            400,
            "multipart_refused",
        ),
        (b"--a--\r\n", "multipart/form-data; boundary=a", 422, "no_instances"),
    ],
)
def test_what_is_no_study_is_refused_by_name(
    running: Running,
    client: httpx.Client,
    content: bytes,
    content_type: str,
    status: int,
    code: str,
) -> None:
    answer = client.post("/v1/studies", content=content, headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert leftovers(running) == []


def test_an_archive_that_unpacks_to_too_much_is_refused(client: httpx.Client) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", b"\0" * (200 * 2**20))
    answer = client.post(
        "/v1/studies", content=buffer.getvalue(), headers={"Content-Type": "application/zip"}
    )
    assert answer.status_code == 422
    assert answer.json()["refused"][0]["code"] == "too_large"


def test_a_hundred_thousand_parts_end_early(running: Running, client: httpx.Client) -> None:
    body = b"--a\r\n\r\nx\r\n" * 100_000 + b"--a--\r\n"
    answer = client.post(
        "/v1/studies", content=body, headers={"Content-Type": "multipart/form-data; boundary=a"}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "multipart_refused")
    assert leftovers(running) == []


def test_a_sender_that_goes_away_leaves_nothing(running: Running) -> None:
    import socket
    import time

    host, port = running.service.http_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /v1/studies HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/zip\r\n"
            b"Content-Length: 100000\r\n\r\nPK" + b"x" * 5000
        )
    ends_s = time.monotonic() + 5
    while leftovers(running) and time.monotonic() < ends_s:
        time.sleep(0.05)
    assert leftovers(running) == []


def test_uploads_do_not_hold_up_others(running: Running, client: httpx.Client) -> None:
    study = two_boxes_study()
    content = study.zipped()
    gate = threading.Event()

    def slow():
        yield content[:1000]
        gate.wait(10)
        yield content[1000:]

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(
            httpx.post,
            f"{running.service.http_url}/v1/studies",
            content=slow(),
            headers={"Content-Type": "application/zip"},
        )
        assert client.get("/healthz", timeout=2).status_code == 200
        gate.set()
        assert waiting.result(30).status_code == 202


def test_content_type_parameters_are_read_as_quoted_or_plain() -> None:
    header = 'multipart/related; type="application/dicom"; boundary=a-b; x="q\\"q"'
    assert parameters_of(header) == {
        "type": "application/dicom",
        "boundary": "a-b",
        "x": 'q"q',
    }
