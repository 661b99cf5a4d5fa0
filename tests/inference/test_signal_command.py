"""`clinfer signal`: the folder that it writes, its refusals, and what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import wfdb
from PIL import Image

from tests.builders.signals import ecg, regular_beats_s, write_wfdb

AT = regular_beats_s(30.0)
LEAD = ecg(beats_s=AT, duration_s=30.0)


def clinfer(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "inference", "signal", *(str(one) for one in arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_a_record_gives_beats_table_annotations_and_strip(tmp_path: Path) -> None:
    header, out = write_wfdb(tmp_path, {"II": LEAD}), tmp_path / "out"
    done = clinfer(header, "-o", out)
    assert done.returncode == 0, done.stderr
    assert "a person decides" in " ".join(done.stdout.split())
    content = json.loads((out / "result.json").read_text())
    assert (content["status"], content["beats_found"]) == ("done", len(AT))
    assert abs(content["intervals"]["rr_ms"]["median"] - 800) <= 4
    marks = wfdb.rdann(str(out / "rec"), "qrs")
    assert np.abs(marks.sample / 250.0 - AT).max() <= 0.012
    assert marks.fs == 250
    assert len((out / "beats.csv").read_text().splitlines()) == len(AT) + 1
    with Image.open(out / "strip.png") as strip:
        colors = np.asarray(strip.convert("RGB")).reshape(-1, 3)
    assert (colors == (190, 20, 30)).all(axis=1).sum() > 20 * len(AT)  # a mark over each beat
    assert "a person decides" in (out / "strip.html").read_text()


def test_a_refusal_has_its_code_and_leaves_nothing(tmp_path: Path) -> None:
    header = write_wfdb(tmp_path, {"II": LEAD})
    header.write_text(header.read_text().replace(" 250 ", " 0 "))
    done = clinfer(header, "-o", tmp_path / "out")
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith("error[sampling_rate]:")
    assert not (tmp_path / "out").exists()


def test_a_flat_lead_abstains(tmp_path: Path) -> None:
    done = clinfer(write_wfdb(tmp_path, {"II": np.full(7500, 0.2)}))
    assert done.returncode == 0
    assert "abstained" in done.stdout
    assert "flat_line" in done.stdout
