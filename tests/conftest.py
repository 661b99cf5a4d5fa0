"""Fixtures shared by every test."""

from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


RAY_FILES = frozenset({"test_ray_batch.py", "test_batch_command.py"})


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a file's tests in one process, and all that start Ray in the same one: Ray gives its own
    processes 30 seconds to come up, which two at a time on two cores may miss."""
    for item in items:
        group = "ray" if item.path.name in RAY_FILES else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real public cases beside the checkout; tests that need them say so and skip without."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real cases beside the checkout ({SHARED_DATA.name} is not there)")
    return SHARED_DATA
