"""Every route, error code and service error stands in its page."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import inference
from dicom_io.errors import DicomIoError
from inference.api.errors import PROBLEMS
from inference.domain.errors import ClinferError
from tests.builders.service import running_service


def subclasses(root: type) -> set[type]:
    found = {root}
    for child in root.__subclasses__():
        found |= subclasses(child)
    return found


@pytest.fixture(scope="module")
def every_module() -> None:
    for module in pkgutil.walk_packages(inference.__path__, "inference."):
        if not re.search(r"__main__|migrations", module.name):
            importlib.import_module(module.name)


def codes_in(page: str) -> set[str]:
    return set(re.findall(r"^\| `([a-z_]+)` \|", page, re.MULTILINE))


def test_every_error_code_is_in_its_page(repository: Path, every_module: None) -> None:
    ours = codes_in((repository / "docs" / "errors.md").read_text())
    service = {c.code for c in subclasses(ClinferError) if c.__module__.startswith("inference.")}
    assert service - ours == set()
    files = (repository / "docs" / "errors-dicom-io.md").read_text()
    missing = {c.code for c in subclasses(DicomIoError) if f"`{c.code}`" not in files}
    assert missing - ours == set()


def test_every_problem_is_in_its_page_with_its_status(repository: Path) -> None:
    page = (repository / "docs" / "errors.md").read_text()
    for code, problem in PROBLEMS.items():
        assert f"| `{code}` | {problem.status} |" in page


def test_every_route_is_in_its_page_and_no_other(repository: Path, tmp_path: Path) -> None:
    import httpx

    with running_service(tmp_path) as service:
        document = httpx.get(f"{service.http_url}/openapi.json").json()
    routes = {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
    }
    page = (repository / "docs" / "api.md").read_text()
    listed = set(re.findall(r"^\| `([A-Z]+ /[^`]*)` \|", page, re.MULTILINE))
    assert listed == routes
