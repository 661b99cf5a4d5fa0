"""A service with a fake engine and one analysed study, shared by the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from inference.bootstrap import Service
from tests.builders.service import FakeEngine, finished_study, running_service, send_zip
from tests.builders.two_boxes import BuiltStudy, two_boxes_study


@dataclass(frozen=True, kw_only=True)
class Running:
    """A service, a client on it, and the study that it has analysed."""

    service: Service
    client: httpx.Client
    study: BuiltStudy
    analysed: dict[str, Any]
    engine: FakeEngine
    folder: Path

    @property
    def result_id(self) -> int:
        found: int = self.analysed["results"][0]["id"]
        return found


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("service")
    study = two_boxes_study()
    engine = FakeEngine((200.0, 500.0))
    with running_service(folder, engine) as service:
        send_zip(service, study.zipped())
        analysed = finished_study(service, study.study_uid)
        with httpx.Client(base_url=service.http_url, timeout=30) as client:
            yield Running(
                service=service,
                client=client,
                study=study,
                analysed=analysed,
                engine=engine,
                folder=folder,
            )


@pytest.fixture
def client(running: Running) -> httpx.Client:
    return running.client
