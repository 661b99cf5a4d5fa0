"""Log lines are one line, and name no patient and no secret."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog
from pydicom.dataset import Dataset

from inference.telemetry import WITHHELD, Metrics, configure_logging, get_logger


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    configure_logging("info", "json")
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_patients_and_secrets_are_withheld(lines: io.StringIO) -> None:
    dataset = Dataset()
    dataset.PatientName = "Müller^Änne"
    get_logger("x").info(
        "got", patient_name="Müller", PatientID="7", token="t", birth_date="1970", ds=dataset, n=3
    )
    written = json.loads(lines.getvalue())
    assert written["n"] == 3
    for field in ("patient_name", "PatientID", "token", "birth_date", "ds"):
        assert written[field] == WITHHELD
    assert "ller" not in lines.getvalue()


def test_input_cannot_forge_a_line(lines: io.StringIO) -> None:
    get_logger("x").warning("got", name='a"\n{"event": "forged"}\x1b[31m')
    assert len(lines.getvalue().strip().splitlines()) == 1
    assert "\x1b" not in lines.getvalue()


def test_lines_of_libraries_have_the_same_form(lines: io.StringIO) -> None:
    logging.getLogger("some.library").warning("careful: %s", "x")
    logging.getLogger("highdicom").info("every step")
    written = json.loads(lines.getvalue())
    assert (written["event"], written["level"]) == ("careful: x", "warning")


def test_two_services_have_metrics_of_their_own() -> None:
    first, second = Metrics(), Metrics()
    first.results.labels("m", "finding").inc()
    assert (
        second.registry.get_sample_value(
            "clinfer_results_total", {"model": "m", "state": "finding"}
        )
        is None
    )
