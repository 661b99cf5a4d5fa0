"""The conformance statement is that of the running service, whole, and the document's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import httpx
import pytest
from pynetdicom import AE, build_context

from inference.bootstrap import Service
from inference.domain.encoding import Base
from inference.domain.roles import Role
from inference.domain.statement import Section, StatementTable, markdown
from inference.gateways import conformance
from inference.gateways.fhir import routes as fhir_routes
from inference.gateways.hl7_inbound import TAKEN
from tests.builders.hl7 import adt, code_of, order, talk
from tests.builders.service import running_service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(tmp_path_factory.mktemp("service"), hl7_port=0) as found:
        yield found


def test_the_document_is_what_the_service_says(service: Service, repository: Path) -> None:
    said = httpx.get(f"{service.http_url}/conformance?as=markdown").text
    page = repository / "docs" / "conformance.md"
    assert page.read_text() == said, (
        "docs/conformance.md is out of date: take /conformance?as=markdown of a running service,"
        " and describe in inference/gateways/conformance.py what it calls NOT DESCRIBED"
    )


def test_nothing_is_undescribed(service: Service) -> None:
    said = httpx.get(f"{service.http_url}/conformance?as=markdown").text
    missing = [line for line in said.splitlines() if conformance.NOT_DESCRIBED in line]
    assert missing == []
    assert "| POST /dicom-web/studies | Store Instances (STOW-RS)" in said
    assert "| GET /fhir/{type} | search-type |" in said


def test_what_nobody_described_is_shown_as_that() -> None:
    context = build_context("1.2.840.10008.5.1.4.31")  # Modality Worklist, which is not offered
    sections = conformance.statement([("GET", "/dicom-web/unheard-of")], [context])
    text = markdown("t", sections)
    assert "| GET /dicom-web/unheard-of | NOT DESCRIBED |" in text
    assert "| 1.2.840.10008.5.1.4.31 | NOT DESCRIBED |" in text


def test_the_receiver_takes_every_class_it_lists(service: Service) -> None:
    said = httpx.get(f"{service.http_url}/conformance?as=markdown").text
    listed = [
        row.split(" | ")[1].rstrip(" |")
        for row in said.split("## DICOM: storage")[1].split("## ")[0].splitlines()
        if row.startswith("| ") and "1.2.840.10008.5" in row
    ]
    assert len(listed) > 100
    for start in range(0, len(listed), 120):
        entity = AE()
        for uid in listed[start : start + 120]:
            entity.add_requested_context(uid)
        association = entity.associate("127.0.0.1", service.dicom_port, ae_title=service.ae_title)
        try:
            assert association.rejected_contexts == []
            assert len(association.accepted_contexts) == len(listed[start : start + 120])
        finally:
            association.release()


def test_every_kind_of_result_and_every_message_is_described() -> None:
    assert set(conformance.SENT) == set(get_args(Base))
    taken = {(kind, event) for kind, events in TAKEN.items() for event in events}
    assert set(conformance.MESSAGES) == taken


def test_every_fhir_route_has_its_permissions(service: Service) -> None:
    document = httpx.get(f"{service.http_url}/openapi.json").json()
    routes = {
        (method.upper(), path)
        for path, methods in document["paths"].items()
        for method in methods
        if path.startswith("/fhir")
    }
    assert routes == set(fhir_routes.PERMISSIONS) == set(conformance.FHIR)
    assert Role.PATIENT not in fhir_routes.PERMISSIONS["GET", "/fhir/{type}"]


def test_the_page_shows_it_in_two_languages(service: Service) -> None:
    page = httpx.get(f"{service.http_url}/conformance").text
    assert '<h1 lang="en">Conformance statement</h1>' in page
    assert "<code>/fhir/metadata</code>" in page
    assert "一致性声明" in httpx.get(f"{service.http_url}/conformance?lang=zh").text
    assert httpx.get(f"{service.http_url}/conformance?lang=xx").status_code == 422


def test_cells_and_text_cannot_break_the_document() -> None:
    table = StatementTable(columns=("a", "b"), rows=(("x | y", "line\nbreak"),))
    text = markdown("T", [Section(title="S", title_zh="", text="words", tables=(table,))])
    assert text == "# T\n\n## S\n\nwords\n\n| a | b |\n| --- | --- |\n| x \\| y | line break |\n"


def test_the_service_takes_hl7_and_a_merge_is_undone_over_http(service: Service) -> None:
    merge = adt("A40", "NEW", "MRG|OLD^^^HOSP")
    (answer,) = talk(service.hl7_port, [merge])
    assert code_of(answer) == "AA"
    url = f"{service.http_url}/v1/patients/merges"
    (found,) = httpx.get(url).json()
    assert found["undone_at"] is None
    assert httpx.post(f"{url}/{found['id']}/undo", json={"reason": ""}).status_code == 422
    undone = httpx.post(f"{url}/{found['id']}/undo", json={"reason": "twins"})
    assert undone.json()["undo_reason"] == "twins"
    assert httpx.post(f"{url}/{found['id']}/undo", json={"reason": "again"}).status_code == 404
    talk(service.hl7_port, [order("CA", control_id="M7")])
    (aside,) = httpx.get(f"{service.http_url}/v1/reports/put-aside").json()
    assert (aside["control_id"], aside["errors"][0]["place"]) == ("M7", "ORC^1^2")
    assert httpx.get(f"{service.http_url}/v1/reports").json() == []
    assert httpx.post(f"{service.http_url}/v1/reports/1/requeue").status_code == 404
    assert 'code="message_refused",door="hl7"' in httpx.get(f"{service.http_url}/metrics").text


def test_fhir_is_served_and_its_errors_are_outcomes(service: Service) -> None:
    found = httpx.get(f"{service.http_url}/fhir/metadata").json()
    assert found["resourceType"] == "CapabilityStatement"
    missing = httpx.get(f"{service.http_url}/fhir/Patient/p99999")
    assert (missing.status_code, missing.json()["resourceType"]) == (404, "OperationOutcome")
    large = httpx.post(
        f"{service.http_url}/fhir",
        content=b"x" * (2 * 1024 * 1024),
        headers={"Content-Type": "application/fhir+json"},
    )
    assert large.status_code == 413
