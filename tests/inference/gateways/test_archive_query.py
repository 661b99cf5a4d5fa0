"""A batch over a real Orthanc: found by query or list, fetched as stored, fetched once."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from inference.gateways.archive_query import DicomwebOptions, DicomwebSource, parse_filters
from inference.jobs.batch_sources import BatchItem, BatchSourceError
from inference.jobs.structure import read_file_meta
from inference.storage import audit, studies
from tests.builders.batching import PoolHere, opened_batch
from tests.builders.dicom import Identity
from tests.builders.orthanc import Orthanc
from tests.builders.two_boxes import BuiltStudy, two_boxes_study


class CountedSource(DicomwebSource):
    """Remembers which studies were fetched."""

    fetched: list[str]

    def files(self, item: BatchItem):  # type: ignore[no-untyped-def]
        self.fetched = [*getattr(self, "fetched", []), item.study_uid]
        return super().files(item)


@pytest.fixture
def sent(orthanc: Orthanc) -> list[BuiltStudy]:
    """Two studies of one patient that no other test has."""
    who = [Identity(patient_id="BATCH-QUERY"), Identity(patient_id="BATCH-QUERY")]
    built = [two_boxes_study(identity=one) for one in who]
    for study in built:
        for content in study.files():
            httpx.post(
                f"{orthanc.url}/instances", content=content, trust_env=False
            ).raise_for_status()
    return built


def options(orthanc: Orthanc) -> DicomwebOptions:
    return DicomwebOptions(url=orthanc.dicomweb_url)


def test_a_query_is_analysed_and_a_second_run_fetches_nothing(
    orthanc: Orthanc, sent: list[BuiltStudy], tmp_path: Path
) -> None:
    filters = parse_filters(["PatientID=BATCH-QUERY", "ModalitiesInStudy=CT"])
    with opened_batch(tmp_path, PoolHere()) as opened:
        source = CountedSource(options(orthanc), filters=filters)
        report = opened.run(source)
        outcomes = {line.study_uid: line.outcome for line in report.lines}
        assert [outcomes[study.study_uid] for study in sent] == ["finding", "finding"]
        wanted = {study.study_uid for study in sent}
        assert wanted <= set(source.fetched)
        with opened.database.read() as connection:
            kept = studies.list_instances(connection, sent[0].study_uid)
    expected = {dataset_sha256(content, tmp_path) for content in sent[0].files()}
    assert {instance.dataset_sha256 for instance in kept} == expected
    with opened_batch(tmp_path, PoolHere()) as opened:
        again = CountedSource(options(orthanc), filters=filters)
        second = opened.run(again)
    assert second.n_skipped == len(second.lines)
    assert not hasattr(again, "fetched")


def dataset_sha256(content: bytes, folder: Path) -> str:
    """Hash of what follows the file meta information."""
    path = folder / "one.dcm"
    path.write_bytes(content)
    return hashlib.sha256(content[read_file_meta(path).dataset_offset :]).hexdigest()


def test_a_list_of_studies_says_which_could_not_be_had(
    orthanc: Orthanc, sent: list[BuiltStudy], tmp_path: Path
) -> None:
    missing = "1.2.826.0.1.3680043.10.1.404"
    source = DicomwebSource(options(orthanc), study_uids=(missing, sent[1].study_uid))
    with opened_batch(tmp_path, PoolHere()) as opened:
        report = opened.run(source)
        with opened.database.read() as connection:
            (event,) = audit.events(connection, subject=missing)
    lines = {line.study_uid: line for line in report.lines}
    assert lines[sent[1].study_uid].outcome == "finding"
    assert (lines[missing].outcome, lines[missing].code) == ("not_fetched", "batch_source")
    assert missing in lines[missing].reason
    assert (event.action, event.detail["code"]) == ("study.not_fetched", "batch_source")


@contextmanager
def server_that_wants(authorization: str) -> Iterator[str]:
    """Answers a QIDO query with one study to whoever shows this header, else with 401."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_let_in = self.headers.get("Authorization") == authorization
            body = b'[{"0020000D": {"vr": "UI", "Value": ["1.2.3"]}}]' if is_let_in else b""
            self.send_response(200 if is_let_in else 401)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        ({"token": "abc"}, "Bearer abc"),
        ({"user": "batch", "password": "geheim"}, "Basic YmF0Y2g6Z2VoZWlt"),
    ],
)
def test_it_is_let_in_by_what_the_settings_hold(shown: dict[str, str], wanted: str) -> None:
    with server_that_wants(wanted) as url:
        found = DicomwebSource(DicomwebOptions(url=url, **shown)).listing(PoolHere())
        assert [item.study_uid for item in found.items] == ["1.2.3"]
        with pytest.raises(BatchSourceError) as caught:
            DicomwebSource(DicomwebOptions(url=url, token="wrong")).listing(PoolHere())
    assert caught.value.problem == "answered 401"
    assert "wrong" not in str(caught.value)


def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(BatchSourceError) as caught:
        DicomwebSource(DicomwebOptions(url="http://127.0.0.1:9", timeout_s=5)).listing(PoolHere())
    assert caught.value.source == "http://127.0.0.1:9"


def test_secrets_are_not_told() -> None:
    assert "geheim" not in repr(DicomwebOptions(url="http://h", password="geheim", token="geheim"))


@pytest.mark.parametrize("text", ["Modality", "NoSuchKeyword=1"])
def test_a_filter_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BatchSourceError, match="DicomKeyword=value"):
        parse_filters([text])
