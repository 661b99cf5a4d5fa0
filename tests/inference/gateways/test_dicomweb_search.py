"""QIDO-RS over real HTTP: what is found, what is returned, and what is refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from dicomweb_client import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from inference.bootstrap import Service
from tests.builders.instances import ct_dataset, instance_uid, part10, series_uid, study_uid
from tests.builders.service import finished_study, running_service
from tests.builders.two_boxes import BuiltStudy, two_boxes_study

RELATED = 'multipart/related; type="application/dicom"; boundary=XX'


def requested(step: str, procedure: str) -> Dataset:
    item = Dataset()
    item.ScheduledProcedureStepID, item.RequestedProcedureID = step, procedure
    return item


def built() -> list[Dataset]:
    """Four studies of three patients, that each kind of matching tells apart."""
    files = [
        ct_dataset(
            study=1, slice_number=n, PatientID="SYN_1", PatientName="Müller^Änne",
            StudyDate="20240131", StudyTime="0915", ReferringPhysicianName="Doe^Jane^^Dr",
            IssuerOfPatientID="HOSPITAL-A",
            RequestAttributesSequence=DicomSequence([requested("S1", "R1"), requested("S2", "R2")]),
        )
        for n in (3, 1, 2)
    ]  # fmt: skip
    files.append(
        ct_dataset(
            study=1, series=2, slice_number=1, PatientID="SYN_1", PatientName="Müller^Änne",
            StudyDate="20240131", StudyTime="0915", Modality="MR", SeriesDescription="T1 sag",
            IssuerOfPatientID="HOSPITAL-A", PerformedProcedureStepStartDate="20240201",
            PerformedProcedureStepStartTime="080000",
        )
    )  # fmt: skip
    chinese = ct_dataset(
        study=2, PatientID="SYN%2", StudyDate="20240630", StudyTime="235959.5",
        SpecificCharacterSet="GB18030", PatientName="Wang^XiaoDong=王^小东",
        StudyDescription="胸部",
    )  # fmt: skip
    files.append(chinese)
    files.append(
        ct_dataset(study=3, PatientID="syn_1", StudyDate="20250101", AccessionNumber="A[3]")
    )
    files.append(ct_dataset(study=4, PatientID="other", StudyDate="", PatientName=""))
    for one in files:
        if "SpecificCharacterSet" not in one:
            one.SpecificCharacterSet = "ISO_IR 192"
    return files


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(tmp_path_factory.mktemp("qido")) as running:
        body = b"".join(
            b"--XX\r\nContent-Type: application/dicom\r\n\r\n" + part10(one) + b"\r\n"
            for one in built()
        )
        answer = httpx.post(
            f"{running.http_url}/dicom-web/studies",
            content=body + b"--XX--\r\n",
            headers={"Content-Type": RELATED},
        )
        assert answer.status_code == 200, answer.text
        yield running


@pytest.fixture
def http(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{service.http_url}/dicom-web", timeout=30) as client:
        yield client


@pytest.fixture
def web(service: Service) -> DICOMwebClient:
    return DICOMwebClient(url=f"{service.http_url}/dicom-web")


def numbers(answer: list[dict[str, Any]]) -> set[int]:
    """The built studies that were found."""
    uids = {item["0020000D"]["Value"][0] for item in answer}
    return {number for number in range(1, 10) if study_uid(number) in uids}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", {1, 2, 3, 4}),
        ("PatientID=SYN_1", {1}),  # not the one in small letters, and _ is no wildcard
        ("PatientID=SYN%2A", {1, 2}),
        ("PatientID=SYN*", {1, 2}),
        ("PatientID=?YN_1", {1}),
        ("PatientID=SYN%252", {2}),  # a percent sign is no wildcard
        ("00100020=syn_1", {3}),
        ("PatientID=", {1, 2, 3, 4}),
        ("PatientID=*", {1, 2, 3, 4}),
        ("AccessionNumber=A%5B3%5D", {3}),
        ("AccessionNumber=A%5B3*", {3}),
        ("PatientName=m%C3%BCller*", {1}),
        ("PatientName=MULLER%5EANNE", {1}),  # neither case nor accents count in a name
        ("PatientName=Müller", set()),  # one value is the whole name
        ("PatientName=%E7%8E%8B*", {2}),
        ("PatientName=wang%5Exiaodong", {2}),
        ("PatientName=Wang*%3D%E7%8E%8B*", {2}),
        ("ReferringPhysicianName=doe*", {1}),
        ("StudyDate=20240131", {1}),
        ("StudyDate=20240201-20241231", {2}),
        ("StudyDate=-20240630", {1, 2}),
        ("StudyDate=20240630-", {2, 3}),
        ("StudyTime=0915", {1}),
        ("StudyTime=091500-091500", {1}),
        ("StudyTime=2359-", {2}),
        ("StudyTime=091501-", {2, 3, 4}),
        ("ModalitiesInStudy=MR", {1}),
        ("ModalitiesInStudy=MR%5CSEG", {1}),
        ("ModalitiesInStudy=M*", {1}),
        ("StudyDescription=%E8%83%B8*", {2}),
        ("IssuerOfPatientID=HOSPITAL-A&PatientID=SYN_1", {1}),
        ("SOPClassesInStudy=1.2.840.10008.5.1.4.1.1.2", {1, 2, 3, 4}),
        (f"StudyInstanceUID={study_uid(1)},{study_uid(3)}", {1, 3}),
        (f"StudyInstanceUID={study_uid(1)}%5C{study_uid(3)}", {1, 3}),
        ("StudyID=2", {2}),
        ("PatientSex=O&StudyDate=20250101", {3}),
    ],
)
def test_studies_are_matched(http: httpx.Client, query: str, found: set[int]) -> None:
    answer = http.get(f"/studies?{query}")
    assert answer.status_code == 200
    assert numbers(answer.json()) == found


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/series?Modality=MR", {series_uid(1, 2)}),
        ("/series?PatientID=SYN_1&SeriesNumber=1", {series_uid(1)}),
        (f"/studies/{study_uid(1)}/series", {series_uid(1), series_uid(1, 2)}),
        (f"/studies/{study_uid(1)}/series?SeriesDescription=T1*", {series_uid(1, 2)}),
        ("/series?PerformedProcedureStepStartDate=20240201", {series_uid(1, 2)}),
        ("/series?PerformedProcedureStepStartTime=07-0830", {series_uid(1, 2)}),
        ("/series?RequestAttributesSequence.ScheduledProcedureStepID=S2", {series_uid(1)}),
        ("/series?00400275.00401001=R%2A", {series_uid(1)}),
        ("/series?ModalitiesInStudy=MR&Modality=CT", {series_uid(1)}),
        (f"/series?SeriesInstanceUID={series_uid(3)}", {series_uid(3)}),
    ],
)
def test_series_are_matched(http: httpx.Client, path: str, found: set[str]) -> None:
    answer = http.get(path).json()
    assert {item["0020000E"]["Value"][0] for item in answer} == found


def test_instances_come_in_the_order_of_their_numbers_at_every_level(http: httpx.Client) -> None:
    ordered = [instance_uid(1, number) for number in (1, 2, 3)]
    for path in (
        f"/studies/{study_uid(1)}/series/{series_uid(1)}/instances",
        f"/studies/{study_uid(1)}/instances?Modality=CT",
        f"/instances?SeriesInstanceUID={series_uid(1)}",
    ):
        assert [item["00080018"]["Value"][0] for item in http.get(path).json()] == ordered
    one = http.get("/instances", params={"InstanceNumber": "2", "PatientID": "SYN_1"}).json()
    assert [item["00080018"]["Value"] for item in one] == [[instance_uid(1, 2)]]


def test_a_study_has_what_the_standard_says_and_counts_of_what_is_there(
    http: httpx.Client, service: Service
) -> None:
    (item,) = http.get("/studies", params={"PatientID": "SYN_1"}).json()
    assert item["00080061"] == {"vr": "CS", "Value": ["CT", "MR"]}
    assert item["00201206"]["Value"] == [2]
    assert item["00201208"]["Value"] == [4]
    assert item["00100010"]["Value"] == [{"Alphabetic": "Müller^Änne"}]
    assert item["00100030"] == {"vr": "DA"}  # known to be empty
    assert item["00080056"]["Value"] == ["ONLINE"]
    url = f"{service.http_url}/dicom-web/studies/{study_uid(1)}"
    assert item["00081190"] == {"vr": "UR", "Value": [url]}
    required = {
        "00080005", "00080020", "00080030", "00080050", "00080056", "00080061", "00080090",
        "00081190", "00100010", "00100020", "00100030", "00100040", "0020000D", "00200010",
        "00201206", "00201208",
    }  # fmt: skip
    assert required <= item.keys()


def test_a_name_in_gb18030_is_found_and_comes_back_right(web: DICOMwebClient) -> None:
    (found,) = web.search_for_studies(search_filters={"PatientName": "王*"})
    name = found["00100010"]["Value"][0]
    assert name == {"Alphabetic": "Wang^XiaoDong", "Ideographic": "王^小东"}
    assert found["00080005"]["Value"] == ["ISO_IR 192"]
    assert Dataset.from_json(found).StudyDescription == "胸部"


def test_lower_levels_say_what_their_address_does_not(http: httpx.Client) -> None:
    below = http.get(f"/studies/{study_uid(1)}/series").json()[0]
    everywhere = http.get("/series", params={"SeriesInstanceUID": series_uid(1)}).json()[0]
    assert "00100020" not in below
    assert everywhere["00100020"]["Value"] == ["SYN_1"]
    assert everywhere["00201209"]["Value"] == [3]
    assert [one["00400009"]["Value"] for one in everywhere["00400275"]["Value"]] == [["S1"], ["S2"]]
    instance = http.get(f"/instances?SOPInstanceUID={instance_uid(1, 1)}").json()[0]
    assert (instance["00080060"]["Value"], instance["00100020"]["Value"]) == (["CT"], ["SYN_1"])
    assert (instance["00280010"]["Value"], instance["00280100"]["Value"]) == ([5], [16])


def test_attributes_are_included_by_keyword_tag_dots_and_all(http: httpx.Client) -> None:
    path = f"/studies/{study_uid(1)}/series/{series_uid(1)}/instances"
    plain = http.get(path).json()[0]
    assert "00280004" not in plain
    for query in (
        "includefield=PhotometricInterpretation,PatientID",
        "includefield=00280004&includefield=00100020",
        "includefield=all",
    ):
        item = http.get(f"{path}?{query}").json()[0]
        assert item["00280004"]["Value"] == ["MONOCHROME2"]
        assert item["00100020"]["Value"] == ["SYN_1"]
    dotted = "includefield=RequestAttributesSequence.RequestedProcedureID"
    assert "00400275" in http.get(f"{path}?{dotted}").json()[0]
    unknown = http.get(f"{path}?includefield=KVP")
    assert unknown.status_code == 200
    assert "Not indexed, so not included: KVP" in unknown.headers["warning"]


def test_pages_follow_each_other_and_say_that_there_is_more(
    http: httpx.Client, web: DICOMwebClient
) -> None:
    first = http.get("/studies?limit=3")
    assert len(first.json()) == 3
    assert first.headers["warning"].startswith("299 http")
    assert "additional results" in first.headers["warning"]
    last = http.get("/studies?limit=3&offset=3")
    assert "warning" not in last.headers
    assert numbers(first.json()) | numbers(last.json()) == {1, 2, 3, 4}
    assert len(last.json()) == 1
    assert numbers(web.search_for_studies(limit=1, get_remaining=True)) == {1, 2, 3, 4}
    assert http.get("/studies?limit=1000000000").status_code == 200
    beyond = http.get("/studies?offset=99999999")
    assert (beyond.status_code, beyond.json()) == (200, [])


def test_fuzzy_matching_is_said_not_to_be_done(http: httpx.Client) -> None:
    answer = http.get("/studies?PatientName=Mueller*&fuzzymatching=true")
    assert answer.json() == []
    assert "fuzzymatching parameter is not supported" in answer.headers["warning"]
    assert "warning" not in http.get("/studies?fuzzymatching=false").headers


def test_nothing_found_is_an_empty_list(http: httpx.Client, web: DICOMwebClient) -> None:
    answer = http.get("/studies?PatientID=nobody")
    assert (answer.status_code, answer.json()) == (200, [])
    assert answer.headers["content-type"] == "application/dicom+json"
    assert http.get("/studies/1.2.3.4/series").json() == []
    assert web.search_for_instances("1.2.3.4") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=-1", "limit"),
        ("limit=1e3", "limit"),
        ("limit=5&limit=6", "limit"),
        ("offset=x", "offset"),
        ("offset=99999999999", "offset"),
        ("fuzzymatching=maybe", "fuzzymatching"),
        ("NoSuchAttribute=1", "NoSuchAttribute"),
        ("includefield=NoSuchAttribute", "NoSuchAttribute"),
        ("KVP=120", "KVP"),
        ("Modality=CT", "Modality"),  # an attribute of series, not of studies
        ("StudyDate=2024", "StudyDate"),
        ("StudyDate=20240101-20240201-", "StudyDate"),
        ("StudyTime=9", "StudyTime"),
        ("StudyInstanceUID=abc", "StudyInstanceUID"),
        ("PatientID=A&00100020=B", "00100020"),
        ("PatientID=%FF", "query"),
        ("PatientID=%00", "PatientID"),
        ("multiplevaluematching=true", "multiplevaluematching"),
        ("&".join(f"includefield=KVP{n}" for n in range(101)), "query"),
    ],
)
def test_a_query_that_cannot_be_meant_is_refused_by_name(
    http: httpx.Client, query: str, field: str
) -> None:
    answer = http.get(f"/studies?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"].startswith(f"{field}: ")


@pytest.mark.parametrize("accept", ["application/dicom+xml", "image/png", "text/html;q=0.5"])
def test_only_json_is_answered(http: httpx.Client, accept: str) -> None:
    answer = http.get("/studies", headers={"Accept": accept})
    assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")


def test_a_wrong_address_is_no_address(http: httpx.Client) -> None:
    for uid in ("..%2f..%2fcanary", "1.2;x", "%00"):
        assert http.get(f"/studies/{uid}/series").status_code in (400, 404)
    assert http.post("/series").status_code == 405
    assert http.delete(f"/studies/{study_uid(1)}").status_code == 405


def test_results_are_series_of_their_study_until_they_are_superseded(
    tmp_path: Path,
) -> None:
    study: BuiltStudy = two_boxes_study()
    with running_service(tmp_path) as service:
        web = DICOMwebClient(url=f"{service.http_url}/dicom-web")
        web.store_instances(study.instances[:13])
        finished_study(service, study.study_uid)
        first = {item["00080060"]["Value"][0]: item for item in series_of(web, study)}
        assert first.keys() == {"CT", "SEG", "SR"}
        assert first["SEG"]["00201209"]["Value"] == [1]
        old_seg = first["SEG"]["0020000E"]["Value"][0]
        metadata = web.retrieve_series_metadata(study.study_uid, old_seg)
        assert metadata[0]["00080016"]["Value"] == ["1.2.840.10008.5.1.4.1.1.66.4"]
        (sent_back,) = web.retrieve_series(study.study_uid, old_seg)

        web.store_instances([study.instances[13], sent_back])  # late, and our own from a PACS
        ends_s = time.monotonic() + 120
        until_other = [old_seg]
        while old_seg in until_other:
            assert time.monotonic() < ends_s, "the old segmentation is still offered"
            time.sleep(0.1)
            until_other = [item["0020000E"]["Value"][0] for item in series_of(web, study)]
        finished_study(service, study.study_uid)
        until_other = [item["0020000E"]["Value"][0] for item in series_of(web, study)]
        assert len(until_other) == 3
        (again,) = web.search_for_studies()
        assert (again["00201206"]["Value"], again["00201208"]["Value"]) == ([3], [16])
        assert httpx.get(
            f"{service.http_url}/dicom-web/studies/{study.study_uid}/series/{old_seg}"
        ).status_code == 404  # fmt: skip


def series_of(web: DICOMwebClient, study: BuiltStudy) -> list[dict[str, Any]]:
    return web.search_for_series(study.study_uid)
