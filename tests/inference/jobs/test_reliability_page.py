"""The page for operators names every code, state and status that they may meet."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import ModuleType

import pytest

from inference.domain.errors import ClinferError
from inference.domain.job import JobState, RetryPolicy
from inference.gateways.dimse import STATUS_OF
from inference.jobs import errors as job_errors
from inference.jobs import sweep
from inference.storage import audit, jobs, results, studies
from inference.storage import errors as storage_errors

MODULES = [job_errors, storage_errors, sweep, audit, jobs, results, studies]


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "reliability.md").read_text("utf-8")


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_code_is_explained(page: str, module: ModuleType) -> None:
    codes = {
        one.code
        for _, one in inspect.getmembers(module, inspect.isclass)
        if issubclass(one, ClinferError) and one.__module__ == module.__name__
    }
    assert codes
    assert [code for code in sorted(codes) if f"`{code}`" not in page] == []


def test_every_state_and_status_is_there(page: str) -> None:
    assert [state for state in JobState if f"`{state.value}`" not in page] == []
    for error, status in STATUS_OF.items():
        (line,) = (line for line in page.splitlines() if f"| `{error.code}` |" in line)
        assert f"0x{status:04X}" in line


def test_the_figures_are_those_of_the_code(page: str) -> None:
    policy = RetryPolicy()
    assert f"{policy.max_tries} tries" in page
    assert f"{policy.max_losses} losses" in page
