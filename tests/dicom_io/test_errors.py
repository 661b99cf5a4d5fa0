"""The page of errors names every reading error: its code and each field a caller may use."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from dicom_io import errors, signal_errors
from dicom_io.errors import DicomIoError

CLASSES = [
    item
    for module in (errors, signal_errors)
    for _, item in inspect.getmembers(module, inspect.isclass)
    if issubclass(item, DicomIoError) and item.__module__ == module.__name__
]


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    pages = sorted((repository / "docs").glob("errors*.md"))
    return "\n".join(path.read_text("utf-8") for path in pages)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_is_on_the_page(page: str, kind: type[DicomIoError]) -> None:
    assert f"| `{kind.code}` | `{kind.__name__}` |" in page


def test_codes_are_unique() -> None:
    codes = [kind.code for kind in CLASSES]
    assert sorted(set(codes)) == sorted(codes)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_is_in_the_tree_at_the_top(kind: type[DicomIoError]) -> None:
    tree = inspect.getmodule(kind).__doc__
    assert tree is not None
    assert kind.__name__ in tree
