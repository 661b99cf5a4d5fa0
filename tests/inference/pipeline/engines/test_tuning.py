"""Tuning: engines that agree may serve, those that differ may not, whatever their speed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from inference.commands.models import app
from inference.domain.errors import RefusedError
from inference.pipeline.engine_spec import Engine
from inference.pipeline.engines import tuning
from inference.pipeline.engines.cache import EngineCache
from inference.pipeline.engines.candidates import Candidate
from inference.pipeline.engines.choice import read_choice, this_machine
from inference.pipeline.engines.tuning import Bench, TuningCase, real_windows, tune
from inference.pipeline.spec import ModelSpec
from tests.inference.pipeline.built import (
    HU_OF_LABEL,
    Levels,
    all_orientations,
    boxes,
    centres,
    grid,
    spec_of,
)

CPU = torch.device("cpu")
SHAPE = (37, 45, 51)
SPEC = spec_of(preprocessing={"spacing_mm": [1.0, 1.0, 1.0]}, window={"roi_size": [32, 40, 48]})
OTHER, GOOD = Engine(kind="onnxruntime"), Engine(kind="openvino")


def _case(*, reference: bool = False) -> TuningCase:
    affine = grid(all_orientations()[7], (1.0, 1.0, 1.0), SHAPE)
    truth = boxes(centres(SHAPE, affine))
    return TuningCase(
        id="boxes",
        array=HU_OF_LABEL[truth],
        affine_lps=affine,
        reference=truth if reference else None,
    )


class StandIn:
    """An engine whose answer and speed are known; ``ms`` is what the clock says of a window."""

    def __init__(self, engine: Engine, *, ms: float, shift: float) -> None:
        self.engine, self.device = engine, CPU
        self.ms, self._shift = ms, shift
        self._levels = Levels(4)

    def run(self, patches: torch.Tensor) -> torch.Tensor:
        return self._levels(patches + self._shift)


def _engines(monkeypatch: pytest.MonkeyPatch, engines: dict[Engine, StandIn]) -> None:
    def ready(network: Any, spec: ModelSpec, device: Any, **_: Any) -> Any:
        return engines[spec.engine]

    monkeypatch.setattr(tuning, "ready_engine", ready)
    monkeypatch.setattr(tuning, "_times_ms", lambda engine, _: [engine.ms - 1, engine.ms, 90.0])
    monkeypatch.setattr("inference.pipeline.batch.ready_engine", lambda engine, *_: engine)


def _bench(cache: EngineCache, *cases: TuningCase) -> Bench:
    return Bench(spec=SPEC, network=nn.Identity(), cases=cases, device=CPU, cache=cache)


def test_the_fastest_engine_that_agrees_is_chosen(
    monkeypatch: pytest.MonkeyPatch, cache: EngineCache
) -> None:
    engines = {
        Engine(): StandIn(Engine(), ms=30.0, shift=0.0),
        OTHER: StandIn(OTHER, ms=1.0, shift=0.2),  # fastest, and wrong
        GOOD: StandIn(GOOD, ms=5.0, shift=0.001),
    }
    _engines(monkeypatch, engines)
    absent = Engine(kind="tensorrt")
    listed = [Candidate(engine=e, missing=None) for e in engines]
    listed.append(Candidate(engine=absent, missing="not here"))
    choice = tune(_bench(cache, _case(reference=True)), listed, this_machine(), data="boxes")
    assert choice.engine == GOOD
    by_engine = {one.engine: one for one in choice.evidence}
    assert by_engine[Engine()].reason == "the reference"
    assert set(by_engine[GOOD].dice) == {"box 1", "box 2", "box 3"}
    assert by_engine[GOOD].dice["box 2"] == 1.0
    assert by_engine[Engine()].mean_dice == 1.0  # the boxes are labelled exactly
    assert by_engine[OTHER].passed is False
    assert "is below 0.995" in by_engine[OTHER].reason
    assert (by_engine[OTHER].median_ms, by_engine[GOOD].median_ms) == (1.0, 5.0)
    assert by_engine[absent].reason == "not here"
    # The boxes are 11 x 22 x 17, 7 x 19 x 23 and 9 x 12 x 7 mm, to a voxel at each side.
    assert by_engine[GOOD].volume_ml["box 1"] == pytest.approx(4.1, rel=0.1)
    assert choice.labelled_cases == ("boxes",)


def test_an_engine_that_breaks_stays_out_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, cache: EngineCache
) -> None:
    class Broken(StandIn):
        def run(self, patches: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no such instruction\nand more")

    engines = {
        Engine(): StandIn(Engine(), ms=1.0, shift=0.0),
        OTHER: Broken(OTHER, ms=1.0, shift=0.0),
    }
    _engines(monkeypatch, engines)
    listed = [Candidate(engine=e, missing=None) for e in engines]
    choice = tune(_bench(cache, _case()), listed, this_machine(), data="boxes")
    assert choice.engine == Engine()
    assert choice.evidence[1].reason.endswith(": no such instruction")  # its first line


def test_windows_are_real_ones_of_every_case() -> None:
    empty = TuningCase(id="air", array=np.full(SHAPE, -500, np.int16), affine_lps=np.eye(4))
    windows = real_windows(SPEC, [_case(), empty], 4)
    assert all(tuple(window.shape) == (1, 1, 32, 40, 48) for window in windows)
    assert all(len(window.unique()) > 1 for window in windows)
    with pytest.raises(RefusedError, match="only one value"):
        real_windows(SPEC, [empty], 4)


def test_cases_without_any_label_are_refused(
    monkeypatch: pytest.MonkeyPatch, cache: EngineCache
) -> None:
    affine = grid(all_orientations()[7], (1.0, 1.0, 1.0), SHAPE)
    noise = np.random.default_rng(0).integers(-100, -80, SHAPE).astype(np.int16)
    case = TuningCase(id="nothing", array=noise, affine_lps=affine)
    _engines(monkeypatch, {Engine(): StandIn(Engine(), ms=1.0, shift=0.0)})
    with pytest.raises(RefusedError, match="no label occurs"):
        tune(_bench(cache, case), [], this_machine(), data="nothing")


def test_the_command_measures_and_writes_what_serving_follows(folder: Path, tmp_path: Path) -> None:
    import nibabel

    affine = grid(np.eye(3)[:, [2, 1, 0]], (2.0, 1.5, 1.0), SHAPE)
    noise = np.random.default_rng(0).integers(-100, 300, SHAPE).astype(np.int16)
    study = tmp_path / "noise.nii.gz"
    affine_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    nibabel.save(nibabel.Nifti1Image(noise, affine_ras), study)
    done = CliRunner().invoke(
        app,
        [
            *("tune", "ct_box_seg", "--data", str(study), "--engine", "onnxruntime-fp32"),
            *("--model-repo", str(folder.parent), "--engine-cache", str(tmp_path / "cache")),
        ],
    )
    assert done.exit_code == 0, done.output
    (path,) = folder.glob("engine.*.toml")
    choice = read_choice(path)
    assert [one.engine for one in choice.evidence] == [Engine(), OTHER]
    assert all(one.passed and one.median_ms for one in choice.evidence)
    assert choice.data == "1 given studies"

    from dicom_io.volume import Volume
    from inference.backends.local_torch import LocalPredictor

    predictor = LocalPredictor(folder.parent, engine_cache_dir=tmp_path / "cache")
    volume = Volume(array=noise, affine_lps=affine, modality="CT")
    report = predictor.predict("ct_box_seg", volume).report
    assert report["engine_table"] == choice.engine.model_dump(mode="json")
    assert report["engine_choice"] == f"{path.name}: {choice.why}"


def test_an_unknown_engine_is_answered_with_those_there_are(folder: Path) -> None:
    done = CliRunner().invoke(
        app, ["tune", "ct_box_seg", "--engine", "magic", "--model-repo", str(folder.parent)]
    )
    assert done.exit_code == 2
    assert "torch-fp32" in done.output
