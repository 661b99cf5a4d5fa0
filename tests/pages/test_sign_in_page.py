"""Signing in as a person does, and the administration: keyboard, contrast, both themes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from inference.bootstrap import Service
from inference.domain.roles import Role
from inference.storage import people
from inference.storage.database import Database
from tests.builders.app import CHEAP, GOOD_PASSWORD
from tests.builders.service import running_service

CONTRAST = """
() => {
  const parse = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const under = (e) => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const bad = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility() || e.matches(".visually-hidden, .skip, option")) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(under(e))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) bad.push(e.tagName + ": " + e.textContent.trim());
  }
  return bad;
}
"""
NAMELESS = """
() => [...document.querySelectorAll("input:not([type=hidden]), select, textarea, button")]
  .filter((e) => !e.ariaLabel && !e.labels?.length && !e.textContent.trim())
  .map((e) => e.outerHTML)
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("people")
    with running_service(folder, auth="keys") as running:
        running._parts.http._server.config.app.state.context.access.signing_in.passwords._hasher = (
            CHEAP
        )
        database = Database.open(folder / "data" / "clinfer.sqlite3")
        with database.write() as connection:
            people.add(
                connection,
                name="root",
                roles=[Role.ADMIN, Role.AUDITOR, Role.READER],
                password_hash=CHEAP.hash(GOOD_PASSWORD),
                now=database.now(connection),
            )
        database.close()
        yield running


def sign_in(page: Page, service: Service, name: str, password: str) -> None:
    page.goto(f"{service.http_url}/sign-in")
    page.fill("#name", name)
    page.fill("#password", password)
    page.keyboard.press("Enter")


def test_a_first_sign_in_leads_to_an_own_password(
    page: Page, browser: Browser, service: Service
) -> None:
    sign_in(page, service, "root", GOOD_PASSWORD)
    page.wait_for_selector("text=No study yet")
    assert page.evaluate("document.cookie") == ""
    page.click("text=Administration")
    page.fill("section:last-of-type input[name=name]", "ada")
    page.fill("section:last-of-type input[name=password]", "given by the admin")
    page.check("section:last-of-type input[value=reader]")
    page.click("button.primary")
    expect(page.locator("tbody tr", has_text="ada")).to_contain_text("reader")

    other = browser.new_context().new_page()
    sign_in(other, service, "ada", "given by the admin")
    other.fill("#current", "given by the admin")
    other.fill("#new", "a harbour of my own")
    other.keyboard.press("Enter")
    other.wait_for_selector("text=No study yet")
    assert other.locator("text=Administration").count() == 0
    page.reload()
    page.click("tbody summary >> nth=0")
    page.click("tbody button.danger >> nth=0")
    expect(page.locator("tbody tr", has_text="ada")).to_contain_text("shut out")
    other.goto(service.http_url)
    other.wait_for_selector("#password")
    other.context.close()


def test_the_language_switch_is_remembered(page: Page, service: Service) -> None:
    page.goto(f"{service.http_url}/sign-in")
    page.click("text=中文")
    page.wait_for_selector("text=登录")
    page.goto(f"{service.http_url}/sign-in?next=/models")
    assert page.get_attribute("html", "lang") == "zh"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_can_be_read_and_worked_by_keyboard(
    browser: Browser, service: Service, scheme: str, tmp_path: Path
) -> None:
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    page.goto(f"{service.http_url}/sign-in")
    assert page.evaluate("document.activeElement.id") == "name"
    assert page.evaluate(CONTRAST) == []
    sign_in(page, service, "root", GOOD_PASSWORD)
    page.wait_for_selector("text=No study yet")
    tabs = ("people", "routes", "jobs", "deliveries", "dead", "models", "storage", "audit")
    for tab in tabs:
        page.goto(f"{service.http_url}/admin/{tab}")
        assert page.evaluate(CONTRAST) == [], tab
        assert page.evaluate(NAMELESS) == [], tab
        assert page.locator(f'nav.tabs a[aria-current][href="/admin/{tab}"]').count() == 1
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    context.close()


def test_a_small_screen_needs_no_sideways_scrolling(browser: Browser, service: Service) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 800})
    page = context.new_page()
    sign_in(page, service, "root", GOOD_PASSWORD)
    page.wait_for_selector("text=No study yet")
    for tab in ("people", "routes", "audit"):
        page.goto(f"{service.http_url}/admin/{tab}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, tab
    context.close()
