"""What OHIF asks, in its order and with its headers; and who may ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from inference.api.keys import ApiKeys
from inference.bootstrap import Service
from inference.domain.roles import STAFF, Role
from inference.gateways import (
    dicomweb_pixels,
    dicomweb_rendered,
    dicomweb_retrieve,
    dicomweb_search,
)
from inference.storage import audit
from inference.storage.database import Database
from tests.builders.dicomweb import parts_of
from tests.builders.service import finished_study, running_service, send_zip
from tests.builders.two_boxes import BuiltStudy, two_boxes_study

FRAME_ACCEPT = "multipart/related; type=application/octet-stream; transfer-syntax=*"


@pytest.fixture(scope="module")
def study() -> BuiltStudy:
    return two_boxes_study()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, study: BuiltStudy) -> Iterator[Service]:
    with running_service(tmp_path_factory.mktemp("viewer")) as running:
        send_zip(running, study.zipped())
        finished_study(running, study.study_uid)
        yield running


def test_the_requests_of_ohif_from_the_list_to_the_overlay(
    service: Service, study: BuiltStudy
) -> None:
    json = {"Accept": "application/dicom+json"}
    with httpx.Client(base_url=f"{service.http_url}/dicom-web", timeout=30) as viewer:
        listed = viewer.get(
            "/studies",
            params={
                "limit": "101", "offset": "0", "fuzzymatching": "false",
                "includefield": "00081030,00080060",
            },
            headers=json,
        ).json()  # fmt: skip
        assert [one["0020000D"]["Value"][0] for one in listed] == [study.study_uid]
        one = viewer.get("/studies", params={"StudyInstanceUID": study.study_uid}, headers=json)
        assert one.json()[0]["00080061"]["Value"] == ["CT", "SEG", "SR"]
        series = viewer.get(
            f"/studies/{study.study_uid}/series",
            params={"includefield": "0008103E,00200011,00080021"},
            headers=json,
        ).json()
        by_modality = {
            item["00080060"]["Value"][0]: item["0020000E"]["Value"][0] for item in series
        }
        metadata = {
            modality: viewer.get(
                f"/studies/{study.study_uid}/series/{uid}/metadata", headers=json
            ).json()
            for modality, uid in by_modality.items()
        }
        ct, seg, report = metadata["CT"], metadata["SEG"][0], metadata["SR"][0]
        assert len(ct) == 14
        place = f"/studies/{study.study_uid}/series/{by_modality['CT']}/instances"
        for one_slice in ct[:3]:
            uid = one_slice["00080018"]["Value"][0]
            answer = viewer.get(f"{place}/{uid}/frames/1", headers={"Accept": FRAME_ACCEPT})
            (part,) = parts_of(answer)
            source = next(item for item in study.instances if item.SOPInstanceUID == uid)
            assert part.content == source.PixelData[: len(part.content)]
            assert 'transfer-syntax="' not in part.headers["content-type"]
            thumbnail = viewer.get(f"{place}/{uid}/rendered", params={"viewport": "128,128"})
            assert thumbnail.headers["content-type"] == "image/jpeg"
        bits = viewer.get(
            seg["7FE00010"]["BulkDataURI"],
            headers={"Accept": "multipart/related; type=application/octet-stream"},
        )
        (mask,) = parts_of(bits)
        n_frames = seg["00280008"]["Value"][0]
        n_bits = n_frames * seg["00280010"]["Value"][0] * seg["00280011"]["Value"][0]
        found = np.unpackbits(np.frombuffer(mask.content, np.uint8), bitorder="little")[:n_bits]
        assert 0 < found.mean() < 1
        assert len(seg["52009230"]["Value"]) == n_frames
        assert seg["00620002"]["Value"][0]["00620005"]["Value"] == ["Left box"]
        assert report["0040A730"]["Value"]


WADO = {
    **dicomweb_search.PERMISSIONS,
    **dicomweb_retrieve.PERMISSIONS,
    **dicomweb_pixels.PERMISSIONS,
    **dicomweb_rendered.PERMISSIONS,
}


def test_each_role_gets_what_the_routes_name_and_reads_are_on_record(
    tmp_path: Path, study: BuiltStudy
) -> None:
    with running_service(tmp_path, auth="keys") as service:
        keys = ApiKeys(tmp_path / "data" / "api_keys.json")
        of_role = {role: keys.create(role.value, [role]) for role in STAFF}
        send = {"X-API-Key": of_role[Role.INTEGRATION], "Content-Type": "application/zip"}
        httpx.post(
            f"{service.http_url}/v1/studies", content=study.zipped(), headers=send, timeout=60
        ).raise_for_status()
        one = study.instances[0]
        values = {
            "study_uid": study.study_uid,
            "series_uid": one.SeriesInstanceUID,
            "instance_uid": one.SOPInstanceUID,
            "frame_list": "1",
            "frame_number": "1",
            "attribute_path": "7FE00010",
        }
        with httpx.Client(base_url=service.http_url, timeout=30) as client:
            for (method, template), roles in WADO.items():
                address = template.format(**values)
                assert client.request(method, address).status_code == 401
                for role, key in of_role.items():
                    answer = client.request(method, address, headers={"X-API-Key": key})
                    assert answer.status_code == (200 if role in roles else 403), (role, template)
    database = Database.open(tmp_path / "data" / "clinfer.sqlite3")
    with database.read() as connection:
        events = audit.events(connection, subject=study.study_uid, limit=1000)
    database.close()
    readers = {event.actor for event in events if event.action == "study.read"}
    assert any("reader" in actor for actor in readers)
    assert not any("pharmacist" in actor for actor in readers)
