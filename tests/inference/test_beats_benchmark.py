"""The benchmark of beats runs on a built record, so that it cannot rot."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import wfdb

from benchmarks.beats import run
from tests.builders.signals import ecg, regular_beats_s, write_wfdb


def test_the_benchmark_measures_both_and_checks_the_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = regular_beats_s(30.0)
    header = write_wfdb(tmp_path, {"II": ecg(beats_s=at, duration_s=30.0)})
    marks = np.rint(np.array(at) * 250).astype(int)
    wfdb.wrann("rec", "atr", marks, symbol=["N"] * len(at), write_dir=str(tmp_path))
    assert run([header], repeats=1, with_neurokit=False)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line[0] == "{"]
    assert [line["method"] for line in lines] == ["clinfer", "xqrs"]
    assert lines[0]["sensitivity"] == 1.0
