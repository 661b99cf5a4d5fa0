"""A radiologist's way through the page, in Chromium, down to the object in a real Orthanc."""

from __future__ import annotations

import base64
import io
import json
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser, Page
from pydicom import dcmread

from dicom_io.segmentation_masks import read_segmentation
from inference.api.keys import ApiKeys
from inference.bootstrap import Service
from inference.storage import audit, training_set
from inference.storage.database import Database
from tests.builders.dicom import Identity
from tests.builders.orthanc import Orthanc, find_orthanc, running_orthanc
from tests.builders.service import FakeEngine, finished_study, running_service
from tests.builders.two_boxes import LEFT_BOX, SHAPE, BuiltStudy, two_boxes_study
from tests.builders.validators import dciodvfy, pixelmed_sr

N_SLICES, N_ROWS, N_COLUMNS = SHAPE
DRAWN = N_SLICES - 1 - 4
"""Slice on the screen of native slice 4: only the left box is there."""
SEG_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"
SR_CLASS = "1.2.840.10008.5.1.4.1.1.88.34"


@dataclass(frozen=True, kw_only=True)
class Desk:
    service: Service
    folder: Path
    pacs: Orthanc
    key: str
    studies: list[BuiltStudy]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    if find_orthanc() is None:
        pytest.fail("Orthanc is missing: install the Debian packages orthanc orthanc-dicomweb")
    folder = tmp_path_factory.mktemp("desk")
    (folder / "orthanc").mkdir()
    keys_file = folder / "keys.json"
    key = ApiKeys(keys_file).create("dr.weber")
    studies = [
        two_boxes_study(identity=Identity(patient_id=f"P{k}", patient_name="Test^Person"))
        for k in range(2)
    ]
    with running_orthanc(folder / "orthanc") as pacs:
        destination = {
            "name": "pacs", "kind": "stow", "url": pacs.dicomweb_url, "research": True,
        }  # fmt: skip
        options = {"destinations": [destination], "auth": "keys", "api_keys_file": keys_file}
        with running_service(folder, FakeEngine((200.0, 500.0)), **options) as service:
            for study in studies:
                httpx.post(
                    f"{service.http_url}/v1/studies",
                    content=study.zipped(),
                    headers={"Content-Type": "application/zip", "X-API-Key": key},
                    timeout=60,
                ).raise_for_status()
                finished_study(service, study.study_uid, key=key)
            yield Desk(service=service, folder=folder, pacs=pacs, key=key, studies=studies)


def sign_in(page: Page, desk: Desk, path: str) -> None:
    page.goto(f"{desk.service.http_url}/sign-in?next={path}")
    page.click("details summary")
    page.fill("input[name=key]", desk.key)
    page.press("input[name=key]", "Enter")
    page.wait_for_selector('#stage[data-labels="all"]')


def place(page: Page, row: float, column: float, height: int, width: int) -> tuple[float, float]:
    """Where on the page the middle of a pixel of the slice is."""
    box = json.loads(page.locator("#stage").get_attribute("data-box") or "")
    stage = page.locator("#stage").bounding_box()
    assert stage is not None
    return (
        stage["x"] + box["left"] + (column + 0.5) / width * box["width"],
        stage["y"] + box["top"] + (row + 0.5) / height * box["height"],
    )


def arrived(pacs: Orthanc, instance_uids: set[str]) -> list[dict[str, str]]:
    """Where these objects are, once all of them are there."""
    ends_s = time.monotonic() + 30
    found: list[dict[str, str]] = []
    while time.monotonic() < ends_s:
        found = [row for row in pacs.instances() if row["SOPInstanceUID"] in instance_uids]
        if len(found) == len(instance_uids):
            return found
        time.sleep(0.1)
    raise AssertionError(f"{len(found)} objects of {len(instance_uids)} arrived")


def current_objects(desk: Desk, study_uid: str) -> set[str]:
    """SOP Instance UIDs of the study's current result."""
    answer = httpx.get(
        f"{desk.service.http_url}/v1/results",
        params={"study_uid": study_uid},
        headers={"X-API-Key": desk.key},
    ).json()
    (result,) = answer["items"]
    return {file["instance_uid"] for file in result["files"] if file["instance_uid"]}


def test_a_radiologist_corrects_and_accepts(page: Page, desk: Desk, tmp_path: Path) -> None:
    study = desk.studies[0]
    machine = current_objects(desk, study.study_uid)
    sign_in(page, desk, f"/studies/{study.study_uid}")
    page.focus("#stage")
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    page.uncheck('tr[data-label="2"] .segment-shown')  # hide the right box
    assert page.locator('tr[data-label="2"].is-hidden').count() == 1
    page.click('tr[data-label="1"] .segment-go')  # take the left box in hand
    page.fill("#slice", str(DRAWN))
    page.wait_for_selector(f'#stage[data-shown="axial/{DRAWN}"]')
    page.focus("#stage")
    page.keyboard.press("e")
    page.wait_for_selector("#drawing:not([hidden])")
    page.fill("#brush-size", "1")  # 1 mm: one pixel of 1.5 x 2 mm
    page.focus("#stage")
    with page.expect_response(lambda one: one.url.endswith("/draft") and one.status == 200):
        for column in (5, 6, 7):
            page.mouse.move(*place(page, 3, column, N_ROWS, N_COLUMNS))
            page.mouse.down()
            page.mouse.up()
    page.wait_for_selector('#draft-state[data-kind="saved"]')
    # A reload loses nothing: the draft comes back from the server.
    page.reload()
    page.wait_for_selector('#draft-state[data-kind="saved"]')
    page.focus("#stage")
    page.keyboard.press("a")
    page.wait_for_selector("#accept-dialog[open]")
    assert "(1 slices changed)" in page.inner_text("#accept-what")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/studies/{desk.studies[1].study_uid}*")

    person = current_objects(desk, study.study_uid)
    assert len(person) == len(machine) == 2  # SEG and SR
    assert not person & machine
    rows = arrived(desk.pacs, person)
    objects = []
    for number, row in enumerate(rows):
        content = desk.pacs.retrieve(
            row["StudyInstanceUID"], row["SeriesInstanceUID"], row["SOPInstanceUID"]
        )
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(content)
        assert dciodvfy(path) == []
        objects.append((path, dcmread(io.BytesIO(content))))
    (corrected,) = [
        one for _, one in objects if one.SOPClassUID == SEG_CLASS and "ContentCreatorName" in one
        and str(one.ContentCreatorName) == "dr.weber"
    ]  # fmt: skip
    drawn = set()
    masks = read_segmentation(corrected)
    for frame in masks.frames:
        if frame.segment_number == 1 and frame.affine_lps[2, 3] == pytest.approx(105.0 + 4 * 4.0):
            drawn = {(int(r), int(c)) for r, c in np.argwhere(masks.mask(frame, 1))}
    box = {
        (row, column)
        for row in range(LEFT_BOX[1].start, LEFT_BOX[1].stop)
        for column in range(LEFT_BOX[2].start, LEFT_BOX[2].stop)
    }
    assert drawn - box == {(3, 5), (3, 6), (3, 7)}
    assert box <= drawn
    ((verified_path, verified),) = [
        (path, one) for path, one in objects
        if one.SOPClassUID == SR_CLASS and one.VerificationFlag == "VERIFIED"
    ]  # fmt: skip
    assert str(verified.VerifyingObserverSequence[0].VerifyingObserverName) == "dr.weber"
    assert pixelmed_sr(verified_path) == []
    database = Database.open(desk.folder / "data" / "clinfer.sqlite3")
    with database.read() as connection:
        (row,) = training_set.list_rows(connection, study_uid=study.study_uid)
        events = audit.events(connection, subject=study.study_uid)
    database.close()
    assert row.effort == "edited"
    (event,) = [one for one in events if one.action == "review.correct"]
    assert event.actor == "person:dr.weber"


def test_an_accept_without_correction_takes_two_keys(page: Page, desk: Desk) -> None:
    study = desk.studies[1]
    sign_in(page, desk, f"/studies/{study.study_uid}")
    page.focus("#stage")
    presses = ["a", "Enter"]
    for key in presses:
        page.keyboard.press(key)
    page.wait_for_url(f"{desk.service.http_url}/")
    assert len(presses) <= 6
    answer = httpx.get(
        f"{desk.service.http_url}/v1/reviews",
        params={"study_uid": study.study_uid},
        headers={"X-API-Key": desk.key},
    ).json()
    assert [(one["decision"], one["person"]) for one in answer] == [("accept", "dr.weber")]
    page.goto(f"{desk.service.http_url}/studies/{study.study_uid}")
    assert "Accepted by dr.weber" in page.inner_text("#review")
    assert "Accepting is not reporting" in page.inner_text("#review")
    assert page.locator("#accept").count() == 0
    page.goto(f"{desk.service.http_url}/models")
    shown = page.inner_text("#figures")
    assert "Agreement of readers" in shown
    assert "ct_two_boxes 1.2.0" in shown
    assert "too few to say" in shown


@pytest.mark.parametrize(
    ("size", "scheme", "name"),
    [((1300, 900), "light", "light"), ((1300, 900), "dark", "dark"), ((390, 800), "dark", "small")],
)
def test_the_page_fits_light_dark_and_small_screens(
    browser: Browser, desk: Desk, tmp_path: Path, size: tuple[int, int], scheme: str, name: str
) -> None:
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,  # type: ignore[arg-type]
        locale="zh-CN" if name == "dark" else "en-GB",
    )
    page = context.new_page()
    sign_in(page, desk, f"/studies/{desk.studies[0].study_uid}")
    page.screenshot(path=tmp_path / f"{name}.png", full_page=True)
    wide = page.evaluate(
        """(width) => [...document.querySelectorAll('main *')]
            .filter(one => one.getBoundingClientRect().right > width + 1)
            .filter(one => !one.closest('.segment-scroll, .table-scroll'))
            .map(one => one.outerHTML.slice(0, 120))""",
        size[0],
    )
    assert wide == []
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert page.get_attribute("#review", "lang") == ("zh" if name == "dark" else "en")
    context.close()


def test_the_prior_stands_beside_and_scrolls_along(page: Page, desk: Desk) -> None:
    earlier, later = (
        two_boxes_study(identity=Identity(patient_id="P-prior", patient_name="Test^Prior"))
        for _ in range(2)
    )
    for instance in earlier.instances:
        instance.StudyDate = "20250301"
    for study in (earlier, later):
        httpx.post(
            f"{desk.service.http_url}/v1/studies",
            content=study.zipped(),
            headers={"Content-Type": "application/zip", "X-API-Key": desk.key},
            timeout=60,
        ).raise_for_status()
        finished_study(desk.service, study.study_uid, key=desk.key)
    sign_in(page, desk, f"/studies/{later.study_uid}")
    page.focus("#stage")
    page.keyboard.press("v")
    page.wait_for_selector("#prior-stage[data-shown]")
    assert "Prior 2025-03-01" in page.inner_text("#prior-stage")
    current = page.get_attribute("#stage", "data-shown")
    page.wait_for_selector(f'#prior-stage[data-shown="{current}"]')
    page.keyboard.press("ArrowDown")
    plane, index = (current or "").split("/")
    page.wait_for_selector(f'#prior-stage[data-shown="{plane}/{int(index) + 1}"]')
    page.keyboard.press("v")
    assert not page.is_visible("#prior-stage")


def test_tools_draw_what_they_say_and_undo_it(page: Page, desk: Desk) -> None:
    study = two_boxes_study(identity=Identity(patient_id="P-tools", patient_name="Test^Tools"))
    httpx.post(
        f"{desk.service.http_url}/v1/studies",
        content=study.zipped(),
        headers={"Content-Type": "application/zip", "X-API-Key": desk.key},
        timeout=60,
    ).raise_for_status()
    result_id = finished_study(desk.service, study.study_uid, key=desk.key)["results"][0]["id"]
    sign_in(page, desk, f"/studies/{study.study_uid}")

    def show(index: int) -> None:
        page.fill("#slice", str(index))
        page.wait_for_selector(f'#stage[data-shown="axial/{index}"]')
        page.focus("#stage")

    def click(row: int, column: int) -> None:
        page.mouse.move(*place(page, row, column, N_ROWS, N_COLUMNS))
        page.mouse.down()
        page.mouse.up()

    def saved(index: int) -> np.ndarray:
        page.wait_for_selector('#draft-state[data-kind="saved"]')
        answer = httpx.get(
            f"{desk.service.http_url}/v1/results/{result_id}/draft", headers={"X-API-Key": desk.key}
        ).json()["slices"]
        content = zlib.decompress(base64.b64decode(answer[str(index)]))
        return np.frombuffer(content, np.uint8).reshape(N_ROWS, N_COLUMNS)

    show(2)
    page.keyboard.press("e")
    page.wait_for_selector("#drawing:not([hidden])")
    page.fill("#brush-size", "3.5")  # 3.5 mm: two rows of 1.5 mm, one column of 2 mm
    page.focus("#stage")
    page.keyboard.press("t")
    page.fill("#range-low", "1000")
    page.fill("#range-high", "2000")
    page.press("#range-high", "Tab")
    show(2)
    click(14, 12)  # background is -100 HU, outside of the range: nothing is drawn
    assert page.is_disabled("#undo")
    page.keyboard.press("t")
    for index in (2, 6):
        show(index)
        click(14, 12)
    show(4)
    page.keyboard.press("i")
    page.locator("#draft-state", has_text="5 slices").wait_for()
    page.wait_for_selector('#draft-state[data-kind="saved"]')
    disc = saved(2)[12:18, 9:16]
    assert set(np.unique(disc)) == {0, 1}
    rows, columns = np.nonzero(saved(2)[12:18, 9:16])
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (5, 3)  # round in millimetres
    assert all(np.array_equal(saved(k)[12:18, 9:16], disc) for k in (3, 4, 5, 6))
    page.keyboard.press("z")
    page.wait_for_selector('#draft-state[data-kind="saved"]')
    assert not saved(4)[12:18, 9:16].any()
    page.keyboard.press("y")
    page.wait_for_selector('#draft-state[data-kind="saved"]')
    assert saved(4)[12:18, 9:16].any()
    show(4)
    page.keyboard.press("x")
    page.keyboard.press("b")  # a ball of 3.5 mm does not reach slices 4 mm away
    click(14, 12)
    page.wait_for_selector('#draft-state[data-kind="unsaved"]')
    page.wait_for_selector('#draft-state[data-kind="saved"]')
    assert not saved(4)[12:18, 9:16].any()
    assert saved(3)[12:18, 9:16].any()
    page.keyboard.press("]")
    page.keyboard.press("]")  # 5.5 mm: it does
    click(14, 12)
    page.wait_for_selector('#draft-state[data-kind="unsaved"]')
    page.wait_for_selector('#draft-state[data-kind="saved"]')
    assert saved(3)[12:18, 9:16].sum() < disc.sum()
