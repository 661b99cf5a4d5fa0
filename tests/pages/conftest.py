"""A service with an analysed study of two boxes, and Chromium to look at it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from inference.bootstrap import Service
from tests.builders.service import FakeEngine, finished_study, running_service, send_zip
from tests.builders.two_boxes import BuiltStudy, two_boxes_study

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A service and the study that its pages show."""

    service: Service
    study: BuiltStudy
    engine: FakeEngine

    @property
    def study_url(self) -> str:
        return f"{self.service.http_url}/studies/{self.study.study_uid}"


@pytest.fixture(scope="package")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    study, engine = two_boxes_study(), FakeEngine((200.0, 500.0))
    with running_service(tmp_path_factory.mktemp("pages"), engine) as service:
        send_zip(service, study.zipped())
        assert finished_study(service, study.study_uid)["outcome"] == "finding"
        yield Shown(service=service, study=study, engine=engine)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    assert chromium is not None, "the Debian package chromium is missing"
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that fails the test when a script of ours does, or anything outside is asked for."""
    context = browser.new_context(viewport={"width": 1300, "height": 900})
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on(
        "console",
        lambda message: complaints.append(message.text) if message.type == "error" else None,
    )
    opened.on(
        "request",
        lambda request: (
            None
            if request.url.startswith(("http://127.0.0.1:", "blob:", "data:"))
            else complaints.append(f"asked for {request.url}")
        ),
    )
    yield opened
    context.close()
    assert complaints == []
