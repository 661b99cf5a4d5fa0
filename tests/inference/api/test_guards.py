"""What strangers may send: bodies, hosts, origins, encodings, slow and broken requests."""

from __future__ import annotations

import re
import socket
import time

import httpx
import pytest

from inference.api import guards, server
from inference.api.guards import SECURITY_HEADERS, host_name
from tests.inference.api.conftest import Running


def raw(running: Running, request: bytes, *, wait_s: float = 10) -> bytes:
    """Send bytes as they are; return everything up to the end of the connection."""
    host, port = running.service.http_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=wait_s) as connection:
        connection.sendall(request)
        answer = b""
        while True:
            try:
                piece = connection.recv(65536)
            except TimeoutError:
                return answer
            if not piece:
                return answer
            answer += piece


def status_of(answer: bytes) -> int:
    match = re.match(rb"HTTP/1.1 (\d+)", answer)
    assert match, answer
    return int(match[1])


def test_every_answer_carries_the_security_headers(client: httpx.Client) -> None:
    for path in ("/", "/v1/studies", "/v1/none", "/static/study.js", "/healthz"):
        headers = client.get(path).headers
        for name, value in SECURITY_HEADERS.items():
            assert headers[name] == value, (path, name)
        assert headers["cache-control"] == "no-store"
    assert "server" not in headers


def test_pages_run_scripts_of_our_own_only(client: httpx.Client, running: Running) -> None:
    for path in ("/", f"/studies/{running.study.study_uid}", "/models"):
        html = client.get(path).text
        assert not re.search(r"<script(?![^>]*\bsrc=|[^>]*application/json)", html)
        assert not re.search(r"\son\w+=|\sstyle=", html)
        assert not re.search(r"(src|href)=\"(https?:)?//", html)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil", ""])
def test_foreign_host_names_are_not_answered(client: httpx.Client, host: str) -> None:
    answer = client.get("/v1/studies", headers={"Host": host})
    assert (answer.status_code, answer.json()["code"]) == (421, "host_not_allowed")


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:8080", "LOCALHOST"])
def test_our_own_names_are(client: httpx.Client, host: str) -> None:
    assert client.get("/v1/studies", headers={"Host": host}).status_code == 200


def test_host_names_lose_their_port() -> None:
    assert host_name("a:80") == "a"
    assert host_name("[::1]:80") == "[::1]"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_sites_change_nothing_even_on_loopback(
    running: Running, client: httpx.Client, headers: dict[str, str]
) -> None:
    before = client.get("/v1/studies").json()["items"]
    answer = client.post(
        "/v1/studies",
        content=running.study.zipped(),
        headers={"Content-Type": "application/zip", **headers},
    )
    assert (answer.status_code, answer.json()["code"]) == (403, "cross_origin")
    assert len(client.get("/v1/studies").json()["items"]) == len(before)


def test_a_body_over_the_limit_is_refused_before_it_is_read(running: Running) -> None:
    answer = raw(
        running,
        b"POST /v1/studies HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/zip\r\n"
        b"Content-Length: 1000000000000\r\nConnection: close\r\n\r\n",
    )
    assert status_of(answer) == 413
    assert b"body_too_large" in answer


def test_a_chunked_body_ends_at_the_limit(client: httpx.Client) -> None:
    def endless():
        for _ in range(400):
            yield b"x" * 65536

    answer = client.post("/sign-out", content=endless())
    assert answer.status_code in {303, 413}
    answer = client.post("/v1/jobs/1/requeue", content=endless())
    assert answer.status_code in {404, 409, 413}


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, identity"])
def test_encoded_bodies_are_not_taken(client: httpx.Client, encoding: str) -> None:
    answer = client.post(
        "/v1/studies",
        content=b"\x1f\x8b",
        headers={"Content-Type": "application/zip", "Content-Encoding": encoding},
    )
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST /v1/studies HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 200 + b"\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -4\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"POST /v1/studies HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/zip\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nZZZ\r\n",
    ],
    ids=[
        "both lengths",
        "long header",
        "long address",
        "many headers",
        "negative length",
        "TLS",
        "bad chunk",
    ],
)
def test_malformed_requests_are_400_and_the_connection_ends(
    running: Running, request_bytes: bytes
) -> None:
    assert status_of(raw(running, request_bytes)) in {400, 431}
    assert running.client.get("/healthz").status_code == 200


def test_a_slow_head_is_cut_off_and_others_are_served(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD_TIMEOUT_S", 0.5)
    host, port = running.service.http_url.removeprefix("http://").split(":")
    slow = [socket.create_connection((host, int(port)), timeout=5) for _ in range(50)]
    try:
        for connection in slow:
            connection.sendall(b"GET / HT")
        began_s = time.monotonic()
        assert running.client.get("/healthz").status_code == 200
        assert time.monotonic() - began_s < 3
        for connection in slow:
            assert connection.recv(1) == b""
        assert time.monotonic() - began_s < 10
    finally:
        for connection in slow:
            connection.close()


def test_a_body_that_stalls_is_given_up(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "BODY_TIMEOUT_S", 0.4)
    answer = raw(
        running,
        b"POST /v1/studies HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/zip\r\n"
        b"Content-Length: 1000\r\n\r\nPK",
    )
    assert status_of(answer) == 408
    assert b"request_timeout" in answer


def test_a_request_id_is_kept_where_it_is_harmless(client: httpx.Client) -> None:
    given = client.get("/healthz", headers={"X-Request-ID": "abc-123"})
    assert given.headers["x-request-id"] == "abc-123"
    forged = client.get("/healthz", headers={"X-Request-ID": "a b<script>"})
    assert re.fullmatch(r"[0-9a-f]{16}", forged.headers["x-request-id"])


def test_a_person_sees_a_page_where_a_program_gets_a_problem(client: httpx.Client) -> None:
    page = client.get("/studies/1.2.3", headers={"Accept": "text/html"})
    assert page.status_code == 404
    assert page.headers["content-type"].startswith("text/html")
    assert "not_found" in page.text
    assert client.get("/studies/1.2.3").headers["content-type"] == "application/problem+json"
