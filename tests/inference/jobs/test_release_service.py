"""The whole service beside a real Orthanc: every state on every door, and copies taken back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid
from typer.testing import CliRunner

from dicom_io.volume import Volume
from inference.__main__ import app
from inference.bootstrap import Service
from inference.domain.errors import InferenceError
from inference.domain.ports import Prediction
from inference.domain.study_state import StudyState
from tests.builders.dicom import Identity
from tests.builders.orthanc import Orthanc, find_orthanc, running_orthanc
from tests.builders.service import FakeEngine, finished_study, running_service, send_zip
from tests.builders.two_boxes import BuiltStudy, empty_study, two_boxes_study
from tests.builders.validators import dciodvfy, pixelmed_sr

SR, SC, KO = (f"1.2.840.10008.5.1.4.1.1.{tail}" for tail in ("88.34", "7", "88.59"))


class MoodyEngine(FakeEngine):
    """Fails, or stands still, where the patient's number says so."""

    def __init__(self) -> None:
        super().__init__((200.0, 500.0))
        self.go_on = threading.Event()

    def predict(self, model: str, volume: Volume, **options: Any) -> Prediction:
        assert volume.source is not None
        mood = str(volume.source.instances[0].header.PatientID)
        if mood == "FAILS":
            raise InferenceError("the network gave no number")
        if mood == "STANDS-STILL":
            assert self.go_on.wait(60)
        return super().predict(model, volume, **options)


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    if find_orthanc() is None:
        pytest.fail("Orthanc is missing: install the Debian packages orthanc orthanc-dicomweb")
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as server:
        yield server


def until(what: Callable[[], Any], *, timeout_s: float = 40) -> Any:
    """Wait until it is true; return it."""
    ends_s = time.monotonic() + timeout_s
    while time.monotonic() < ends_s:
        found = what()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"never came: {what}")


def study_of(patient_id: str, **options: Any) -> BuiltStudy:
    return two_boxes_study(identity=Identity(patient_id=patient_id), **options)


def in_pacs(pacs: Orthanc, study_uid: str) -> list[str]:
    """Orthanc's own names of the instances of a study."""
    query = {"Level": "Instance", "Query": {"StudyInstanceUID": study_uid}}
    answer = httpx.post(f"{pacs.url}/tools/find", json=query, trust_env=False)
    names: list[str] = answer.json()
    return names


def files_in_pacs(pacs: Orthanc, study_uid: str, folder: Path) -> dict[str, list[Path]]:
    """The objects of a study there, by SOP class."""
    found: dict[str, list[Path]] = {}
    for name in in_pacs(pacs, study_uid):
        path = folder / f"{name}.dcm"
        path.write_bytes(httpx.get(f"{pacs.url}/instances/{name}/file", trust_env=False).content)
        found.setdefault(str(dcmread(path).SOPClassUID), []).append(path)
    return found


def get(service: Service, path: str) -> dict[str, Any]:
    body: dict[str, Any] = httpx.get(f"{service.http_url}{path}", timeout=30).json()
    return body


def deliveries_of(service: Service, study_uid: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = get(service, f"/v1/deliveries?study_uid={study_uid}&limit=200")[
        "items"
    ]
    return items


def all_done(service: Service, study_uid: str) -> list[dict[str, Any]]:
    """Every delivery of a study, once there are some and none is under way."""

    def settled() -> list[dict[str, Any]]:
        found = deliveries_of(service, study_uid)
        done = {"committed", "delivered", "cancelled", "dead", "refused", "held"}
        return found if found and {one["state"] for one in found} <= done else []

    found: list[dict[str, Any]] = until(settled)
    return found


def test_each_state_reaches_the_page_the_api_and_the_pacs(pacs: Orthanc, tmp_path: Path) -> None:
    studies = {
        StudyState.FINDING: study_of("FINDING"),
        StudyState.NO_FINDING: empty_study(),
        StudyState.REFUSED: study_of("REFUSED", slices=[0, 1, 2, 5, 6, 7]),
        StudyState.FAILED: study_of("FAILS"),
        StudyState.NOT_APPLICABLE: study_of("FEW", slices=[0, 1]),
        StudyState.SUPERSEDED: study_of("TAKEN-BACK"),
        StudyState.RUNNING: study_of("STANDS-STILL"),
        StudyState.WAITING: study_of("WAITS"),
    }
    engine = MoodyEngine()
    to_pacs = {
        "name": "pacs", "kind": "stow", "url": pacs.dicomweb_url, "research": True,
        "states": ["sr", "sc"], "commitment": "read_back",
    }  # fmt: skip
    with running_service(
        tmp_path, engine, destinations=[to_pacs], job_max_tries=1, workers=2, quiet_period_s=3600
    ) as service:
        try:
            send_zip(service, studies[StudyState.RUNNING].zipped())
            send_zip(service, studies[StudyState.WAITING].zipped(), is_complete=False)
            pending = {StudyState.RUNNING, StudyState.WAITING}
            for state in studies.keys() - pending:
                send_zip(service, studies[state].zipped())
            for state in studies.keys() - pending:
                finished_study(service, studies[state].study_uid)
            taken_back = studies[StudyState.SUPERSEDED].study_uid
            all_done(service, taken_back)
            (result,) = get(service, f"/v1/studies/{taken_back}")["results"]
            answer = httpx.post(
                f"{service.http_url}/v1/results/{result['id']}/retract",
                json={"reason": "the boxes are not boxes"},
            )
            assert answer.status_code == 200, answer.text
            assert answer.json()["cause"] == "rejected"
            for state, study in studies.items():
                _check_page_and_api(service, state, study.study_uid)
            for state in studies.keys() - pending:
                found = all_done(service, studies[state].study_uid)
                if state is StudyState.SUPERSEDED:
                    found = until(
                        lambda: [
                            one
                            for one in all_done(service, taken_back)
                            if one["kind"] == "rejection"
                        ]
                    )
                assert {one["state"] for one in found} == {"committed"}, (state, found)
        finally:
            engine.go_on.set()
        finished_study(service, studies[StudyState.RUNNING].study_uid)
    folder = tmp_path / "back"
    folder.mkdir()
    for state in (StudyState.REFUSED, StudyState.FAILED, StudyState.NOT_APPLICABLE):
        files = files_in_pacs(pacs, studies[state].study_uid, folder)
        assert {sop_class: len(paths) for sop_class, paths in files.items()} == {SR: 1, SC: 1}
        report = dcmread(files[SR][0])
        assert state.value in str(report.ContentSequence)
        assert "No result is not a normal result" in report.ContentSequence[-1].TextValue
        assert report.PatientID == {"refused": "REFUSED", "failed": "FAILS"}.get(state, "FEW")
        assert dciodvfy(files[SR][0]) == dciodvfy(files[SC][0]) == []
    assert pixelmed_sr(files[SR][0]) == []
    assert SR in files_in_pacs(pacs, studies[StudyState.NO_FINDING].study_uid, folder)
    files = files_in_pacs(pacs, taken_back, folder)
    (note,) = files[KO]
    assert dciodvfy(note) == []
    evidence = dcmread(note).CurrentRequestedProcedureEvidenceSequence[0]
    named = {
        item.ReferencedSOPInstanceUID
        for series in evidence.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    others = {dcmread(path).SOPInstanceUID for kind in files if kind != KO for path in files[kind]}
    assert named == others
    assert not in_pacs(pacs, studies[StudyState.WAITING].study_uid)


def _check_page_and_api(service: Service, state: StudyState, study_uid: str) -> None:
    found = get(service, f"/v1/studies/{study_uid}")
    assert found["state"] == state, found
    assert found["parts"][0]["state"] == state
    listed = get(service, f"/v1/studies?state={state.value}&limit=200")["items"]
    assert study_uid in {one["study_uid"] for one in listed}
    page = httpx.get(f"{service.http_url}/studies/{study_uid}").text
    assert f'class="state state-{state.value}"' in page
    rows = httpx.get(f"{service.http_url}/fragments/studies?state={state.value}").text
    assert f'data-study="{study_uid}"' in rows
    if state in (StudyState.REFUSED, StudyState.FAILED, StudyState.NOT_APPLICABLE):
        assert found["reason"]
        assert found["reason"][:20] in httpx.get(f"{service.http_url}/studies/{study_uid}").text
    if state is StudyState.SUPERSEDED:
        assert "the boxes are not boxes" in page


def test_a_recall_takes_every_copy_out_of_the_archive_and_names_the_patients(
    pacs: Orthanc, tmp_path: Path
) -> None:
    first, second, other = study_of("RECALL-1"), study_of("RECALL-2"), study_of("RECALL-3")
    to_pacs = {
        "name": "archive", "kind": "dicom", "host": "127.0.0.1", "port": pacs.dicom_port,
        "ae_title": pacs.aet, "research": True, "commitment": "n_action",
        "retract": "archive_api", "archive_url": pacs.url,
    }  # fmt: skip
    held = {"name": "late", "kind": "stow", "url": pacs.dicomweb_url, "research": True,
            "release": "after sign-off"}  # fmt: skip
    closed = {"name": "clinic", "kind": "stow", "url": pacs.dicomweb_url}
    options = {"destinations": [to_pacs, held, closed], "dicom_ae_title": "AISVC"}
    with running_service(tmp_path, **options) as service:
        we = {"AET": "AISVC", "Host": "127.0.0.1", "Port": service.dicom_port}
        httpx.put(f"{pacs.url}/modalities/aisvc", json=we, trust_env=False).raise_for_status()
        for study in (first, second):
            send_zip(service, study.zipped())
            finished_study(service, study.study_uid)
            states = {
                (one["destination"], one["state"]) for one in all_done(service, study.study_uid)
            }
            assert states == {("archive", "committed"), ("late", "held"), ("clinic", "refused")}
            reasons = {one["last_error"] for one in deliveries_of(service, study.study_uid)}
            assert any("not marked research" in reason for reason in reasons)
            assert len(in_pacs(pacs, study.study_uid)) == 2
        foreign = httpx.post(f"{pacs.url}/instances", content=first.files()[0], trust_env=False)
        assert foreign.status_code == 200
        send_zip(service, other.zipped())
        finished_study(service, other.study_uid)
        all_done(service, other.study_uid)

        where = ["--data", str(tmp_path / "data"), "--csv", str(tmp_path / "hit.csv")]
        command = ["recall", "ct_two_boxes@1.2.0", "--reason", "wrong on thin slices", *where]
        dry = CliRunner().invoke(app, command)
        assert dry.exit_code == 0, dry.output
        assert "3 results would be taken back" in dry.output
        assert get(service, f"/v1/studies/{first.study_uid}")["state"] == "finding"
        done = CliRunner().invoke(app, [*command, "--confirm"])
        assert "3 results taken back now" in done.output
        table = (tmp_path / "hit.csv").read_text(encoding="utf-8-sig").splitlines()
        assert [line.split(",")[0] for line in table[1:]] == ["RECALL-1", "RECALL-2", "RECALL-3"]
        again = CliRunner().invoke(app, [*command, "--confirm"])
        assert "0 results taken back now" in again.output

        for study in (first, second, other):
            state = get(service, f"/v1/studies/{study.study_uid}")
            assert (state["state"], state["results"]) == ("superseded", [])
            page = httpx.get(f"{service.http_url}/studies/{study.study_uid}").text
            assert "recall of ct_two_boxes 1.2.0: wrong on thin slices" in page
        until(lambda: len(in_pacs(pacs, second.study_uid)) == 0)
        until(lambda: len(in_pacs(pacs, first.study_uid)) == 1)  # the scanner's own image stays
        states = {(one["destination"], one["state"]) for one in all_done(service, first.study_uid)}
        assert ("late", "cancelled") in states

    unknown = CliRunner().invoke(
        app, ["recall", "ct_two_boxes@9", "--reason", "x", "--data", str(tmp_path / "data"),
              "--csv", str(tmp_path / "none.csv")],
    )  # fmt: skip
    assert unknown.exit_code != 0
    assert "1.2.0" in str(unknown.exception)


def test_what_waits_for_the_signature_goes_once_signed_and_a_late_result_waits_for_its_reader(
    pacs: Orthanc, tmp_path: Path
) -> None:
    study = study_of("SIGNED")
    held = {"name": "late", "kind": "stow", "url": pacs.dicomweb_url, "research": True,
            "release": "after sign-off"}  # fmt: skip
    with running_service(tmp_path, destinations=[held]) as service:
        send_zip(service, study.zipped())
        (result,) = finished_study(service, study.study_uid)["results"]
        assert {one["state"] for one in all_done(service, study.study_uid)} == {"held"}
        url = f"{service.http_url}/v1/studies/{study.study_uid}/report-status"
        nobody = {"status": "signed", "signed_by": " "}
        refused = httpx.post(url, json=nobody)
        assert (refused.status_code, refused.json()["code"]) == (409, "release")
        assert httpx.post(url, json={"status": "signed", "signed_by": "dr.lin"}).status_code == 200
        states = until(
            lambda: (
                {one["state"] for one in deliveries_of(service, study.study_uid)} == {"delivered"}
            )
        )
        assert states
        assert get(service, "/v1/late-results")["items"] == []

        more = two_boxes_study(identity=study.identity)  # the same study gets one more series
        series_uid = generate_uid()
        for instance in more.instances:
            instance.SeriesInstanceUID = series_uid
            uid = generate_uid()
            instance.SOPInstanceUID = instance.file_meta.MediaStorageSOPInstanceUID = uid
        send_zip(service, more.zipped())
        until(lambda: len(finished_study(service, study.study_uid)["results"]) == 2)
        (task,) = get(service, f"/v1/late-results?study_uid={study.study_uid}")["items"]
        assert (task["result_id"] != result["id"], task["signed_by"]) == (True, "dr.lin")
        httpx.post(url, json={"status": "signed", "signed_by": "dr.lin"}).raise_for_status()
        states = {
            one["state"] for one in deliveries_of(service, study.study_uid)
            if one["result_id"] == task["result_id"]
        }  # fmt: skip
        assert states == {"held"}, "signing again is not the same as having seen it"
        page = httpx.get(f"{service.http_url}/studies/{study.study_uid}").text
        assert "after the report was signed" in page
        closed = httpx.post(
            f"{service.http_url}/v1/late-results/{task['id']}/acknowledge", json={"note": "seen"}
        ).json()
        assert (closed["is_open"], closed["acknowledged_by"]) == (False, "loopback")
        until(
            lambda: (
                {one["state"] for one in deliveries_of(service, study.study_uid)} == {"delivered"}
            )
        )
        assert get(service, "/v1/late-results")["items"] == []
        assert len(get(service, "/v1/late-results?open_only=false")["items"]) == 1


def test_a_second_study_of_the_patient_shows_what_changed(pacs: Orthanc, tmp_path: Path) -> None:
    who = {"patient_id": "TWICE"}
    first, second = (two_boxes_study(identity=Identity(**who)) for _ in range(2))
    other = two_boxes_study(identity=Identity(**who))
    for study, date, kernel in (
        (first, "20260101", "B30f"), (second, "20260601", "B30f"), (other, "20260701", "B70f")
    ):  # fmt: skip
        for instance in study.instances:
            instance.StudyDate = date
            instance.ConvolutionKernel = kernel
            instance.IssuerOfPatientID = "NORTH"
    to_pacs = {"name": "pacs", "kind": "stow", "url": pacs.dicomweb_url, "research": True}
    with running_service(tmp_path, destinations=[to_pacs]) as service:
        found = {}
        for study in (first, second, other):
            send_zip(service, study.zipped())
            (found[study.study_uid],) = finished_study(service, study.study_uid)["results"]
        now, before = found[second.study_uid], found[first.study_uid]
        tracked = [{one["tracking_uid"] for one in result["segments"]} for result in (now, before)]
        assert tracked[0] == tracked[1]
        assert len(tracked[0]) == 2
        (one,) = get(service, f"/v1/results/{now['id']}/changes")["comparisons"]
        assert (one["is_comparable"], one["prior_study_uid"]) == (True, first.study_uid)
        assert one["changes"][0]["volume_ml"]["difference"] == 0
        assert one["changes"][0]["volume_ml"]["judgement"] == "limits unknown"
        assert one["changes"][0]["long_axis_mm"]["earlier"] > 0
        page = httpx.get(f"{service.http_url}/studies/{second.study_uid}").text
        assert "Change since earlier results" in page
        assert "limits unknown" in page
        url = f"{service.http_url}/v1/results/{now['id']}/matches"
        said = {"label": 1, "prior_result_id": before["id"], "prior_label": 1, "is_match": False}
        changes = httpx.post(url, json=said).json()["comparisons"][0]["changes"]
        assert (changes[0]["match"], changes[0]["volume_ml"]) == ("rejected", None)
        changes = httpx.post(url, json=said | {"is_match": True}).json()["comparisons"][0][
            "changes"
        ]
        assert changes[0]["match"] == "confirmed"
        wrong = httpx.post(url, json=said | {"prior_label": 9}).json()
        assert "prior_label: result" in wrong["detail"]
        latest = get(service, f"/v1/results/{found[other.study_uid]['id']}/changes")["comparisons"]
        assert [one["reason"] for one in latest] == [
            "reconstruction kernel B30f before, B70f now"
        ] * 2
        sent = until(
            lambda: [
                one for one in all_done(service, second.study_uid) if one["kind"] == "change_sr"
            ]
        )
        assert sent[0]["state"] == "delivered"
        kinds = {one["kind"] for one in all_done(service, other.study_uid)}
        assert kinds == {"seg", "sr"}, "what is not comparable gets no report of change"
    folder = tmp_path / "back"
    folder.mkdir()
    reports = files_in_pacs(pacs, second.study_uid, folder)[SR]
    (report,) = (path for path in reports if "CHANGE" in dcmread(path).SeriesDescription.upper())
    dataset = dcmread(report)
    assert "change since 20260101" in dataset.ContentSequence[-1].TextValue
    named = {
        item.StudyInstanceUID
        for keyword in (
            "CurrentRequestedProcedureEvidenceSequence",
            "PertinentOtherEvidenceSequence",
        )
        for item in dataset.get(keyword) or []
    }
    assert named == {first.study_uid, second.study_uid}
    assert dciodvfy(report) == []
    assert pixelmed_sr(report) == []
