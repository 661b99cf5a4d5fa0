"""The care pages name every formula and every reason there is."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import inference.services
from inference.domain import renal
from inference.domain.limits import OVERRIDE_REASONS
from inference.domain.population import Population
from inference.domain.proposal import ProposalState

NOT_A_FORMULA = {"body size"}


def populations() -> list[Population]:
    names = [
        module.name
        for module in pkgutil.walk_packages(inference.services.__path__, "inference.services.")
    ]
    modules = [importlib.import_module(name) for name in names] + [renal]
    return [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, Population)
    ]


def test_every_formula_stands_on_its_page_and_names_a_source(repository: Path) -> None:
    page = (repository / "docs" / "care" / "formulas.md").read_text()
    found = {one.formula for one in populations()} - NOT_A_FORMULA
    assert len(found) > 15
    assert {formula for formula in found if formula not in page} == set()
    assert all(one.source for one in populations())


def test_every_reason_and_state_stands_on_its_page(repository: Path) -> None:
    page = (repository / "docs" / "care" / "safety.md").read_text()
    assert all(f"| `{reason}` |" in page for reason in OVERRIDE_REASONS)
    assert all(state.value in page for state in ProposalState)
