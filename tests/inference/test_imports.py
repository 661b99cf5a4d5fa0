"""Imports without collection leave the collector as they found it, also where one fails."""

from __future__ import annotations

import gc

import pytest

from inference.imports import without_collection


def _fail_while_importing() -> None:
    with without_collection():
        assert not gc.isenabled()
        raise ModuleNotFoundError


@pytest.mark.parametrize("is_on", [True, False])
def test_the_collector_is_as_before_even_after_a_failure(is_on: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if is_on else gc.disable)()
        with pytest.raises(ModuleNotFoundError):
            _fail_while_importing()
        assert gc.isenabled() is is_on
    finally:
        gc.unfreeze()
        (gc.enable if before else gc.disable)()
