"""A measured choice is followed where everything matches, and nowhere else."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from inference.domain.errors import ModelSpecError
from inference.pipeline.engine_spec import Engine
from inference.pipeline.engines.cache import EngineCache
from inference.pipeline.engines.choice import (
    Evidence,
    Machine,
    TunedChoice,
    choice_path,
    computing_sha256,
    read_choice,
    served_spec,
    this_machine,
    versions_of,
    write_choice,
)
from inference.pipeline.spec import load_spec, write_spec

FAST = Engine(kind="onnxruntime")


def _choice(folder: Path, **changes: Any) -> TunedChoice:
    spec = load_spec(folder)
    values: dict[str, Any] = {
        "model": spec.name,
        "model_version": spec.version,
        "weights_sha256": spec.weights.sha256,
        "computing_sha256": computing_sha256(spec),
        "tuned_at": datetime(2026, 1, 2, tzinfo=UTC),
        "data": "a test",
        "cases": ("a",),
        "engine": FAST,
        "why": "onnxruntime-fp32 is the fastest",
        "machine": this_machine(),
        "versions": versions_of(FAST),
        "evidence": (Evidence(engine=FAST, passed=True, reason="agrees", dice={"box 1": 0.9999}),),
    }
    return TunedChoice.model_validate(values | changes)


def test_a_choice_is_written_read_and_followed(folder: Path, cache: EngineCache) -> None:
    assert served_spec(folder, cache=cache).why == "model.toml: not tuned on this machine"
    path = write_choice(folder, _choice(folder))
    assert path == choice_path(folder, this_machine())
    assert read_choice(path) == _choice(folder)
    served = served_spec(folder, cache=cache)
    assert served.spec.engine == FAST
    assert "onnxruntime-fp32 is the fastest" in served.why
    assert load_spec(folder).engine == Engine()  # model.toml itself does not change
    assert sorted(p.name for p in folder.iterdir()) == ["1", path.name, "model.toml"]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"weights_sha256": "1" * 64}, "weights 111111111111"),
        ({"computing_sha256": "1" * 64}, "network, window or preprocessing"),
        ({"versions": {"onnxruntime": "0.1"}}, "with onnxruntime 0.1, here is"),
        ({"versions": {"no-such-package": "1.0"}}, "here is none"),
        ({"engine": Engine(kind="openvino", precision="int8")}, "int8 network is not in the cache"),
    ],
)
def test_what_no_longer_matches_falls_back_to_model_toml_and_says_why(
    folder: Path, cache: EngineCache, changes: dict[str, Any], word: str
) -> None:
    write_choice(folder, _choice(folder, **changes))
    served = served_spec(folder, cache=cache)
    assert served.spec.engine == Engine()
    assert "is not followed" in served.why
    assert word in served.why


def test_a_machine_of_the_same_name_with_other_features_is_another(
    folder: Path, cache: EngineCache
) -> None:
    here = this_machine()
    there = here.model_copy(update={"features": ("avx2", "something_else")})
    write_choice(folder, _choice(folder, machine=there))
    assert "another machine" in served_spec(folder, cache=cache).why


def test_a_changed_window_is_not_the_one_that_was_measured(
    folder: Path, cache: EngineCache
) -> None:
    write_choice(folder, _choice(folder))
    spec = load_spec(folder)
    window = spec.window.model_copy(update={"roi_size": (16, 24, 24)})
    text = write_spec(spec.model_copy(update={"window": window}))
    (folder / "model.toml").write_text(text)
    assert "network, window or preprocessing" in served_spec(folder, cache=cache).why


@pytest.mark.parametrize("text", ["model = ", "model = 3", "what = 1"])
def test_a_damaged_choice_is_refused_naming_the_file(
    folder: Path, cache: EngineCache, text: str
) -> None:
    path = choice_path(folder, this_machine())
    path.write_text(text)
    with pytest.raises(ModelSpecError) as caught:
        served_spec(folder, cache=cache)
    assert caught.value.path == str(path)


def test_the_file_is_named_for_cpu_cores_and_gpu() -> None:
    machine = Machine(cpu="AMD EPYC 9B14 (x86)", cores=2, features=(), gpu="NVIDIA H200")
    assert machine.slug == "amd-epyc-9b14-x86-2-cores-nvidia-h200"
