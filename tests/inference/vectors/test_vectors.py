"""The runner of acceptance vectors; small files are built, the large one lies beside the tree."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from inference.domain.care_errors import VectorFileError
from inference.vectors.document import Printed, Tolerance, Vector, load_suite
from inference.vectors.medication import same_timing
from inference.vectors.report import markdown_table
from inference.vectors.run import MODULES, run_suite, summarise

SHARED = Path(__file__).resolve().parents[4] / "shared" / "reference" / "clinical_vectors.json"


def vector(**changed: Any) -> dict[str, Any]:
    return {
        "id": "risk.ckdepi2021.own", "module": "disease_risk", "kind": "derived", "source": "",
        "inputs": {"scr_mg_dl": 1.0, "age": 50, "sex": "M"}, "expected": {"egfr": 92},
        "tolerance": "abs 1.0",
    } | changed  # fmt: skip


def write(folder: Path, *vectors: dict[str, Any], **document: Any) -> Path:
    path = folder / "vectors.json"
    path.write_text(json.dumps({"schema": "clinical-vectors/1", "vectors": vectors} | document))
    return path


def problem(folder: Path, *vectors: dict[str, Any]) -> str:
    return run_suite(load_suite(write(folder, *vectors)))[-1].problem


def test_a_right_answer_passes_and_a_wrong_one_names_its_field(tmp_path: Path) -> None:
    assert problem(tmp_path, vector()) == ""
    found = problem(tmp_path, vector(expected={"egfr": 95}))
    assert found.startswith("egfr: expected 95")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"module": "astrology"}, "unknown module 'astrology'"),
        ({"expected": {"egfr": 92, "stage": "G1"}}, "stage: expected"),
        (
            {"inputs": {"scr_mg_dl": 1.0, "age": 50, "sex": "M", "race": 1}},
            "unknown input field race",
        ),
        ({"inputs": {"cystatin_c": 1.0}}, "no formula of disease_risk takes these fields"),
        ({"inputs": {"scr_mg_dl": 1.0, "age": 5, "sex": "M"}}, "refused: CKD-EPI"),
        ({"inputs": {"scr_mg_dl": "1", "age": 50, "sex": "M"}}, "refused: CKD-EPI"),
        ({"inputs": {"scr_mg_dl": 1.0, "age": 50, "sex": "X"}}, "not understood"),
        ({"expected": {}}, "expects nothing"),
    ],
)
def test_what_is_unknown_is_named(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    assert words in problem(tmp_path, vector(**changed))


@pytest.mark.parametrize(
    "document", [{"schema": "clinical-vectors/2"}, {"vectors": []}, {"vectors": [{"id": "x"}]}]
)
def test_another_schema_is_refused(tmp_path: Path, document: dict[str, Any]) -> None:
    with pytest.raises(VectorFileError):
        load_suite(write(tmp_path, vector(), **document))


def test_an_id_twice_or_a_reference_to_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VectorFileError, match="twice"):
        load_suite(write(tmp_path, vector(), vector()))
    with pytest.raises(VectorFileError, match="nowhere"):
        load_suite(write(tmp_path, vector(inputs={"fills": "as adherence.none"})))


def test_a_reference_takes_the_other_inputs_and_keeps_its_own(tmp_path: Path) -> None:
    first = vector(id="a", inputs={"fills": [1], "days": 3})
    suite = load_suite(write(tmp_path, first, vector(id="b", inputs={"fills": "as a", "days": 4})))
    assert suite.by_id["b"].inputs == {"fills": [1], "days": 4}


@pytest.mark.parametrize(
    ("text", "variant", "wanted"),
    [
        ("abs 2e-4", "", ("abs", 2e-4)),
        ("rel 2e-5", "", ("rel", 2e-5)),
        ("abs 1e-6; Monte Carlo 0.775", "", ("abs", 1e-6)),
        ("abs 1e-6 (formula); Monte Carlo 40000 runs 0.771/0.666", "", ("abs", 1e-6)),
        ("rel 0.02 (back-derived coefs) / 0.025 (site-fitted)", "", ("rel", 0.02)),
        ("rel 0.02 (back-derived coefs) / 0.025 (site-fitted)", "site-fitted", ("rel", 0.025)),
    ],
)
def test_tolerances_are_read(text: str, variant: str, wanted: tuple[str, float]) -> None:
    one = Vector(id="x", module="m", inputs={}, expected={}, tolerance_text=text)
    assert one.tolerance(variant) == Tolerance(kind=wanted[0], size=wanted[1])
    with pytest.raises(VectorFileError):
        Vector(id="x", module="m", inputs={}, expected={}, tolerance_text="close").tolerance("")


def test_a_number_is_as_exact_as_it_is_printed() -> None:
    assert Printed("6.67").half_last_digit == pytest.approx(0.005)
    assert Printed("9.0").half_last_digit == pytest.approx(0.05)
    assert Printed("1.25e-3").half_last_digit == pytest.approx(5e-6)


def test_without_a_tolerance_a_rounded_step_must_be_exact(tmp_path: Path) -> None:
    basal = {"module": "infusion", "inputs": {"basal": 10.86}, "tolerance": ""}
    assert problem(tmp_path, vector(**basal, expected={"rounded": 10.9})) == ""
    assert problem(tmp_path, vector(**basal, expected={"rounded": 10.91})) != ""


def test_two_wordings_of_one_schedule_are_the_same_and_two_schedules_are_not() -> None:
    assert same_timing("every 8 hours") == same_timing("every 8 h")
    assert same_timing("three times a week for ½ hour") == same_timing("3 times a week for 30 min")
    assert same_timing("every 8 h") != same_timing("every 6 h")
    assert same_timing("3 times a day") != same_timing("3 times a week")


def test_a_changed_answer_of_any_module_is_a_miss(tmp_path: Path) -> None:
    """Every vector of the shared file, its numbers moved by a tenth: none may pass."""
    if not SHARED.is_file():
        pytest.skip("the reference vectors are not beside the checkout")
    document = json.loads(SHARED.read_text())

    def moved(value: Any) -> Any:
        if isinstance(value, bool) or value is None:
            return value
        if isinstance(value, int | float):
            return value * 1.1 + 1
        if isinstance(value, str):
            return value + " x"
        if isinstance(value, list):
            return [moved(one) for one in value]
        return {name: moved(one) for name, one in value.items()}

    rows = [v | {"expected": moved(v["expected"])} for v in document["vectors"]]
    verdicts = run_suite(load_suite(write(tmp_path, *rows)))
    assert [one.id for one in verdicts if not one.problem] == []


def test_every_published_value_is_reproduced_and_the_page_says_so(repository: Path) -> None:
    if not SHARED.is_file():
        pytest.skip("the reference vectors are not beside the checkout")
    verdicts = run_suite(load_suite(SHARED))
    assert [(one.id, one.problem) for one in verdicts if one.problem] == []
    assert len(verdicts) == 141
    assert {row.module for row in summarise(verdicts)} == set(MODULES)
    page = (repository / "docs" / "care" / "vectors.md").read_text()
    assert markdown_table(verdicts) == page


def test_the_command_ends_with_an_error_on_a_miss(tmp_path: Path) -> None:
    def run(path: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "inference", "check", "vectors", str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    good = run(write(tmp_path, vector()))
    assert (good.returncode, "all 1 vectors reproduced" in good.stdout) == (0, True)
    bad = run(write(tmp_path, vector(), vector(id="two", module="astrology")))
    assert bad.returncode == 5
    assert "missed two (astrology): unknown module" in bad.stdout
    assert "error[vectors_missed]: 1 of 2" in bad.stderr
    none = run(tmp_path / "gone.json")
    assert (none.returncode, "error[vector_file]" in none.stderr) == (3, True)
