from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from inference.jobs.intake import Intake
from inference.storage.database import Database
from inference.storage.objects import ObjectStore
from tests.builders.orthanc import Orthanc, find_orthanc, running_orthanc


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """A real PACS, empty at the session's start; use UIDs of your own in it."""
    if find_orthanc() is None:
        pytest.fail("Orthanc is missing: install the Debian packages orthanc, orthanc-dicomweb")
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as server:
        yield server


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "data" / "clinfer.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "data", reserve_bytes=0)


@pytest.fixture
def intake(database: Database, objects: ObjectStore) -> Intake:
    return Intake(database=database, objects=objects)
