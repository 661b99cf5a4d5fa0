"""Fixtures shared by every test."""

from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real public cases beside the checkout; tests that need them say so and skip without."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real cases beside the checkout ({SHARED_DATA.name} is not there)")
    return SHARED_DATA
