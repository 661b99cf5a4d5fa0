"""A service with keys for several people, and a study that is to be read twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine, text

from inference.api.keys import ApiKeys
from inference.bootstrap import Service
from inference.domain.roles import Role
from inference.storage.database import Database
from tests.builders.clock import SetClock
from tests.builders.postgresql import find_binaries, running_postgresql
from tests.builders.service import finished_study, running_service
from tests.builders.two_boxes import two_boxes_study

PEOPLE = {
    "anna": {Role.READER, Role.REVIEWER, Role.INTEGRATION, Role.ADMIN},
    "ben": {Role.READER},
    "carl": {Role.READER, Role.REVIEWER},
    "dora": {Role.READER, Role.REVIEWER, Role.CLINICIAN},
}
"""Anna looks after the queues too, and sends what is to be read."""


@dataclass(frozen=True, kw_only=True)
class Ward:
    """A running service, a client for each person, and the analysed study's task."""

    service: Service
    clients: dict[str, httpx.Client]
    study_uid: str
    folder: Path

    def __getitem__(self, name: str) -> httpx.Client:
        return self.clients[name]

    def task(self, name: str = "anna") -> dict[str, Any]:
        items = self[name].get("/v1/reading-list").json()["items"]
        found: dict[str, Any] = next(one for one in items if one["study_uid"] == self.study_uid)
        return found


@dataclass(frozen=True, kw_only=True)
class Hospital:
    """The running service that the tests share; each brings a study of its own."""

    service: Service
    keys: dict[str, str]
    clients: dict[str, httpx.Client]
    folder: Path


@pytest.fixture(scope="package")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    folder = tmp_path_factory.mktemp("hospital")
    keys = ApiKeys(folder / "keys.json")
    made = {name: keys.create(name, roles) for name, roles in PEOPLE.items()}
    with running_service(folder, auth="keys", api_keys_file=folder / "keys.json") as service:
        clients = {
            name: httpx.Client(base_url=service.http_url, headers={"X-API-Key": key}, timeout=30)
            for name, key in made.items()
        }
        queue = {"needs_second": True, "deputies": ["dora"]}
        assert clients["anna"].put("/v1/reading-queues/twice", json=queue).status_code == 200
        yield Hospital(service=service, keys=made, clients=clients, folder=folder)
        for client in clients.values():
            client.close()


@pytest.fixture
def ward(hospital: Hospital) -> Ward:
    study = two_boxes_study()
    answer = hospital.clients["anna"].post(
        "/v1/studies", content=study.zipped(), headers={"Content-Type": "application/zip"}
    )
    assert answer.status_code == 202
    finished_study(hospital.service, study.study_uid, key=hospital.keys["anna"])
    return Ward(
        service=hospital.service,
        clients=hospital.clients,
        study_uid=study.study_uid,
        folder=hospital.folder,
    )


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    binaries = find_binaries()
    if binaries is None:
        pytest.fail("PostgreSQL is missing: install the Debian package postgresql")
    with running_postgresql(binaries) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    clock = SetClock()
    if request.param == "sqlite":
        opened = Database.open(tmp_path / "clinfer.sqlite", clock=clock)
    else:
        url = request.getfixturevalue("postgresql_url")
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        engine.dispose()
        opened = Database.open(url, clock=clock)
    opened.test_clock = clock  # type: ignore[attr-defined]
    yield opened
    opened.close()
