"""Bad inputs of the shared list, areas http and auth, at the reading list's routes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.worklist.conftest import Ward

SHARED = Path(__file__).resolve().parents[3] / "shared" / "reference" / "bad_inputs.json"


def body_over_the_limit(ward: Ward) -> None:
    task_id = ward.task()["task_id"]
    body = b'{"conclusion": "no_finding", "report": "' + b"x" * 1_100_000 + b'"}'
    answer = ward["anna"].post(f"/v1/reading-tasks/{task_id}/sign", content=body)
    assert answer.status_code == 413


def deep_or_broken_json(ward: Ward) -> None:
    task_id = ward.task()["task_id"]
    for body in (b"[" * 100_000, b"{", b"\xff\xfe", b'{"conclusion": NaN}', b'{"reason": 1e999}',
                 b'{"reason": "a\\ud800bc"}', b'{"reason": "abc\\u0000"}'):  # fmt: skip
        answer = ward["anna"].post(
            f"/v1/reading-tasks/{task_id}/undo-promotion",
            content=body,
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code in (400, 422)
        assert answer.headers["content-type"] == "application/problem+json"


def unknown_fields_and_wrong_values(ward: Ward) -> None:
    task_id = ward.task()["task_id"]
    for path, body, field in (
        ("sign", {"conclusion": "elsewhere"}, "conclusion"),
        ("sign", {"conclusion": "finding", "by": "ben"}, "by"),
        ("undo-promotion", {"reason": " "}, "reason"),
        ("priority", {"priority": "asap"}, "priority"),
        ("critical-results", {"text": "bleed", "tell": []}, "tell"),
        ("critical-results", {"text": "bleed", "tell": ["x"], "acknowledge_s": 1}, "acknowledge_s"),
    ):
        answer = ward["anna"].post(f"/v1/reading-tasks/{task_id}/{path}", json=body)
        assert answer.status_code == 422, path
        assert answer.json()["errors"][0]["field"].startswith(field)
    no_zone = {"jurisdiction": "DE", "valid_until": "2027-01-01T00:00"}
    for path, body in (
        ("/v1/reading-queues/q", {"language": "not a tag"}),
        ("/v1/reading-queues/q", {"claim_s": 0}),
        ("/v1/readers/x", {"credentials": [no_zone]}),
    ):  # fmt: skip
        assert ward["anna"].put(path, json=body).status_code == 422, path


def pages_are_capped(ward: Ward) -> None:
    for query in ("limit=0", "limit=100000", "limit=x", "state=nothing", "modality=%00"):
        assert ward["anna"].get(f"/v1/reading-list?{query}").status_code == 422, query


def state_is_never_changed_by_get(ward: Ward) -> None:
    task_id = ward.task()["task_id"]
    for action in ("claim", "sign", "return", "undo-promotion", "priority"):
        assert ward["anna"].get(f"/v1/reading-tasks/{task_id}/{action}").status_code == 405


def another_site_asks(ward: Ward) -> None:
    task_id = ward.task()["task_id"]
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = ward["anna"].post(f"/v1/reading-tasks/{task_id}/claim", headers=headers)
        assert answer.status_code == 403
    assert ward.task()["standing"] == "open"


def no_key_or_a_wrong_one(ward: Ward) -> None:
    for headers in ({}, {"X-API-Key": "wrong"}):
        for path in ("/v1/reading-list", "/v1/critical-results", "/dicom-web/workitems"):
            url = f"{ward.service.http_url}{path}"
            assert httpx.get(url, headers=headers).status_code == 401


def one_claim_of_many_at_once(ward: Ward) -> None:
    task_id = ward.task()["task_id"]
    answers: list[int] = []

    def ask(name: str) -> None:
        answers.append(ward[name].post(f"/v1/reading-tasks/{task_id}/claim").status_code)

    threads = [threading.Thread(target=ask, args=(name,)) for name in ward.clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200, 200, 409, 409]  # two readings are wanted of this one


CASES: dict[str, Callable[[Ward], None]] = {
    "http-001": body_over_the_limit,
    "http-012": deep_or_broken_json,
    "http-020": pages_are_capped,
    "http-023": another_site_asks,
    "http-028": state_is_never_changed_by_get,
}


def test_bad_inputs_change_nothing(ward: Ward) -> None:
    """One service for all: each leaves the task as it was; the race comes last."""
    for case in (no_key_or_a_wrong_one, unknown_fields_and_wrong_values, *CASES.values()):
        case(ward)
        assert ward.task()["standing"] == "open", case.__name__
    one_claim_of_many_at_once(ward)


def test_the_cases_are_those_of_the_shared_list() -> None:
    if not SHARED.is_file():
        pytest.skip("the shared list is not beside the checkout")
    known = {one["id"]: one["area"] for one in json.loads(SHARED.read_text())["inputs"]}
    assert {known.get(name) for name in CASES} == {"http"}
