"""The reading list as a person works with it: keyboard, claim, filters, undo, two languages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from inference.api.keys import ApiKeys
from inference.bootstrap import Service
from tests.builders.service import finished_study, running_service
from tests.builders.two_boxes import empty_study, two_boxes_study


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, str, list[str]]]:
    """Three studies: negative, refused, and the last with a finding, which is lifted."""
    folder = tmp_path_factory.mktemp("reading")
    key = ApiKeys(folder / "keys.json").create("anna")
    studies = [empty_study(), two_boxes_study(slices=[0, 1, 2, 5, 6, 7]), two_boxes_study()]
    with running_service(folder, auth="keys", api_keys_file=folder / "keys.json") as service:
        headers = {"X-API-Key": key, "Content-Type": "application/zip"}
        for study in studies:
            httpx.post(
                f"{service.http_url}/v1/studies",
                content=study.zipped(),
                headers=headers,
                timeout=60,
            ).raise_for_status()
            finished_study(service, study.study_uid, key=key)
        yield service, key, [one.study_uid for one in studies]


@pytest.fixture
def page(browser: Browser, ward: tuple[Service, str, list[str]]) -> Iterator[Page]:
    """A page that is signed in, and fails the test when a script of ours does."""
    service, key, _ = ward
    context = browser.new_context(viewport={"width": 1300, "height": 800}, locale="en-US")
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(f"{service.http_url}/reading")
    opened.click("details summary")
    opened.fill("#key", key)
    opened.press("#key", "Enter")
    opened.wait_for_selector("table.reading")
    yield opened
    context.close()
    assert complaints == []


def test_reading_with_the_keyboard(
    page: Page, ward: tuple[Service, str, list[str]], tmp_path: Path
) -> None:
    service, key, (negative, refused, finding) = ward
    rows = page.locator("tr[data-task]")
    expect(rows).to_have_count(3)
    order = [rows.nth(n).locator("a").get_attribute("href") for n in range(3)]
    assert order == [f"/studies/{one}" for one in (finding, negative, refused)]
    expect(rows.first).to_contain_text("raised by 2")
    expect(rows.first).to_contain_text("AI finding: Left box")
    expect(rows.first.locator(".timer")).to_have_text("23:59 h")
    assert "next, previous" in page.inner_text(".reading-keys")
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(rows.nth(1)).to_have_attribute("aria-current", "true")
    page.keyboard.press("k")
    page.keyboard.press("c")
    expect(rows.first).to_contain_text("yours")
    expect(page.locator("#message")).to_have_text("Claimed.")
    for name, scheme, width in (
        ("light", "light", 1300),
        ("dark", "dark", 1300),
        ("small", "dark", 400),
    ):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.set_viewport_size({"width": width, "height": 800})
        page.screenshot(path=tmp_path / f"reading-{name}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.set_viewport_size({"width": 1300, "height": 800})

    # Somebody else's change comes without a reload, and the keyboard stays where it was.
    page.evaluate("window.isSamePage = true")
    task = rows.first.get_attribute("data-task")
    httpx.post(
        f"{service.http_url}/v1/reading-tasks/{task}/return", headers={"X-API-Key": key}
    ).raise_for_status()
    expect(rows.first.locator("[data-act=claim]")).to_be_visible()
    assert page.evaluate("window.isSamePage") is True
    expect(rows.first).to_have_attribute("aria-current", "true")

    page.once("dialog", lambda dialog: dialog.accept("known old finding"))
    rows.first.locator("[data-act=undo-promotion]").click()
    expect(rows.nth(2)).to_contain_text("promotion undone by anna: known old finding")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/studies/{finding}")


def test_filters_and_the_other_language(page: Page, ward: tuple[Service, str, list[str]]) -> None:
    page.check("input[name=mine]")
    page.click("form.filter button")
    expect(page.locator("#reading h2")).to_have_text("Nothing to read")
    page.uncheck("input[name=mine]")
    page.select_option("#modality", "CT")
    page.select_option("#state", "open")
    page.click("form.filter button")
    expect(page.locator("tr[data-task]")).to_have_count(3)
    page.click("a.language")
    expect(page.locator("h1")).to_have_text("阅片列表")
    assert page.locator("#reading-page").get_attribute("lang") == "zh"
    expect(page.locator("tr[data-task]").first.locator("[data-act=claim]")).to_have_text("认领")
    assert "state=open" in page.url
