"""Short forms of the serving benchmarks: they run, check their answers, and say what they measured.

No time is asserted; the order of batches is asserted in tests/inference/backends.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import serving, triton_share, urgency
from inference.backends.triton import TritonPredictor
from inference.domain.ports import Prediction

SHAPE = (40, 100, 104)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonPredictor]:
    with serving.triton(tmp_path_factory.mktemp("triton")) as client:
        yield client


def test_the_share_of_triton(tmp_path: Path) -> None:
    share, two = triton_share.compare(tmp_path, SHAPE, repeats=1)
    assert share["local"]["n"] == share["triton"]["n"] == two["two"]["n"] == 1  # type: ignore[index]
    assert two["times_one"] > 0  # type: ignore[operator]
    serving.write_lines(tmp_path / "results" / "share.json", [share, two])
    written = json.loads((tmp_path / "results" / "share.json").read_text())
    assert [line["model"] for line in written] == [serving.MODEL] * 2
    assert {"machine", "commit", "versions", "shape"} <= set(written[0])


def test_urgency(tmp_path: Path, server: TritonPredictor) -> None:
    stat = urgency.stat_under_load(tmp_path, server, SHAPE, 2, 2)
    assert stat["start"]["n"] == 2  # type: ignore[index]
    assert stat["first_window"]["s_median"] >= stat["start"]["s_median"]  # type: ignore[index]
    flow = urgency.throughput(tmp_path, server, SHAPE, 2, 2)
    assert flow["studies_per_hour"] > 0  # type: ignore[operator]


def test_a_wrong_answer_is_not_timed(tmp_path: Path, server: TritonPredictor) -> None:
    class Wrong:
        """Flips one voxel of every answer after the first."""

        n_asked = 0

        def predict(self, *arguments: Any, **options: Any) -> Prediction:
            self.n_asked += 1
            found = server.predict(*arguments, **options)
            if self.n_asked > 1:
                labels = found.labels.copy()
                labels[3, 20, 20] ^= 1
                found = replace(found, labels=np.asarray(labels))
            return found

    with pytest.raises(ValueError, match="labels under load differ"):
        urgency.stat_under_load(tmp_path, Wrong(), SHAPE, 1, 1)
