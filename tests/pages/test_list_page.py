"""The list of studies: states in words, changes without a reload, nothing unescaped."""

from __future__ import annotations

from playwright.sync_api import Browser, Page

from inference.api.keys import ApiKeys
from tests.builders.dicom import Identity
from tests.builders.service import finished_study, running_service, send_zip
from tests.builders.two_boxes import empty_study, two_boxes_study
from tests.pages.conftest import Shown


def test_a_study_appears_and_changes_without_a_reload(page: Page, shown: Shown) -> None:
    page.goto(shown.service.http_url)
    row = page.locator(f'tr[data-study="{shown.study.study_uid}"]')
    assert "Finding" in row.inner_text()
    assert "Left box" in row.inner_text()
    page.evaluate("window.isSamePage = true")
    other = empty_study()
    send_zip(shown.service, other.zipped())
    page.wait_for_selector(f'tr[data-study="{other.study_uid}"] >> text=No finding')
    assert page.evaluate("window.isSamePage") is True


def test_a_page_says_when_the_service_is_gone(browser: Browser, tmp_path) -> None:
    context = browser.new_context()
    page = context.new_page()
    with running_service(tmp_path) as service:
        page.goto(service.http_url)
        page.wait_for_selector('#freshness[data-fresh="true"]')
    page.wait_for_selector('#freshness[data-fresh="false"]', timeout=20_000)
    assert "no answer" in page.inner_text("#freshness")
    context.close()


def test_text_from_files_is_shown_as_text(page: Page, shown: Shown) -> None:
    hostile = Identity(description="</script><img src=x onerror=alert(1)>")
    study = two_boxes_study(identity=hostile)
    for instance in study.instances:
        instance.StudyDescription = "<script>alert(1)</script>"
    send_zip(shown.service, study.zipped())
    finished_study(shown.service, study.study_uid)
    for url in (shown.service.http_url, f"{shown.service.http_url}/studies/{study.study_uid}"):
        page.goto(url)
        assert "<script>alert(1)</script>" in page.inner_text("body")
        assert page.locator("img").count() == 0
    assert "</script><img src=x" in page.inner_text("#corner-series")


def test_a_refused_study_says_why(page: Page, shown: Shown) -> None:
    study = two_boxes_study(slices=[0, 1, 2, 5, 6, 7])
    send_zip(shown.service, study.zipped())
    finished_study(shown.service, study.study_uid)
    page.goto(shown.service.http_url)
    row = page.locator(f'tr[data-study="{study.study_uid}"]')
    assert "Refused" in row.inner_text()
    row.click()
    page.wait_for_url("**/studies/*")
    assert "Refused." in page.inner_text(".banner")


def test_signing_in_with_a_key_shows_names(browser: Browser, tmp_path) -> None:
    key = ApiKeys(tmp_path / "keys.json").create("reader")
    context = browser.new_context()
    page = context.new_page()
    with running_service(tmp_path, auth="keys", api_keys_file=tmp_path / "keys.json") as service:
        page.goto(service.http_url)
        for typed in ("wrong", key):
            page.click("summary")
            page.fill("#key", typed)
            page.click("#keys button")
            if typed == "wrong":
                assert "not known" in page.inner_text("[role=alert]")
        page.wait_for_selector("text=No study yet")
        assert "reader" in page.inner_text("header")
        assert page.evaluate("document.cookie") == ""
        page.click("text=Sign out")
        page.wait_for_selector("#password")
    context.close()
