"""Models under a memory budget: the one used longest ago goes, one in use stays."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.api.health import Check
from inference.backends import triton_models
from inference.backends.local_torch import LocalPredictor
from inference.backends.triton_launch import TritonServerOptions
from inference.backends.triton_models import MIB, MemoryBudgetError, ServedModels
from inference.backends.triton_server import TritonServer
from inference.domain.errors import BackendUnavailableError
from inference.engines import EmbeddedTriton
from tests.inference.backends.conftest import MANY, TINY, noise_volume

SIZES_MIB = {"a": 300, "b": 300, "c": 500}


@dataclass
class Server:
    """Stands for a server with models of known sizes; ``log`` is what it was told."""

    log: list[str] = field(default_factory=list)
    running: dict[str, int] = field(default_factory=dict)
    more_mib: int = 0

    @property
    def stub(self) -> Server:
        return self

    metadata = ()

    def RepositoryModelLoad(self, request: Any, **_: Any) -> None:  # noqa: N802
        self.log.append(f"+{request.model_name}")
        self.running[request.model_name] = len(self.log)

    def RepositoryModelUnload(self, request: Any, **_: Any) -> None:  # noqa: N802
        self.log.append(f"-{request.model_name}")
        del self.running[request.model_name]

    def processes(self, _server_pid: int) -> dict[str, Any]:
        return {name: Process(self, name, pid) for name, pid in self.running.items()}


@dataclass
class Process:
    server: Server
    name: str
    pid: int
    region: Any = field(default_factory=lambda: Path(__file__))

    def memory_bytes(self) -> int:
        return (SIZES_MIB[self.name] + self.server.more_mib) * MIB


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Server:
    server = Server()
    region = tmp_path / "region"
    region.touch()

    def processes(pid: int) -> dict[str, Any]:
        return {
            name: Process(server, name, number, region) for name, number in server.running.items()
        }

    monkeypatch.setattr(triton_models, "_processes", processes)
    monkeypatch.setattr(triton_models, "is_running", lambda pid: pid in server.running.values())
    return server


def models_of(server: Server, budget_mib: int | None) -> ServedModels:
    return ServedModels(server, 1, budget_mib=budget_mib)  # type: ignore[arg-type]


def use(models: ServedModels, *names: str) -> None:
    for name in names:
        with models.use(name):
            assert name in models.names


def test_the_model_used_longest_ago_is_unloaded(server: Server) -> None:
    models = models_of(server, 800)
    models.try_each(("a", "b", "c"))
    assert server.log == ["+a", "+b", "+c", "-a"], "each is tried; then one more than fits goes"
    use(models, "b", "a")
    assert models.names == {"a", "b"}
    assert server.log[4:] == ["-c", "+a"], "room is made first, where the need is known"
    use(models, "a", "b", "b", "a")
    assert server.log[6:] == [], "what is there is not loaded again"
    use(models, "c")
    assert server.log[6:] == ["-b", "+c"]


def test_a_model_in_use_stays_and_another_waits_for_it(server: Server) -> None:
    models = models_of(server, 550)
    models.try_each(("a", "b"))
    del server.log[:]
    done = threading.Event()

    def use_a() -> None:
        use(models, "a")
        done.set()

    with models.use("b"):
        thread = threading.Thread(target=use_a)
        thread.start()
        assert not done.wait(0.3)
        assert server.log == []
    assert done.wait(10)
    thread.join()
    assert server.log == ["-b", "+a"]


def test_what_a_model_grew_to_counts(server: Server) -> None:
    models = models_of(server, 1200)
    models.try_each(("a", "b", "c"))
    assert models.names == {"a", "b", "c"}
    with models.use("c"):
        server.more_mib = 100  # a large study: 1400 MiB now
    assert models.names == {"b", "c"}


def test_a_model_that_is_too_large_alone_is_refused_and_unloaded(server: Server) -> None:
    models = models_of(server, 400)
    with pytest.raises(MemoryBudgetError) as caught:
        models.try_each(("a", "b", "c"))
    assert (caught.value.model, caught.value.needed_mib, caught.value.budget_mib) == ("c", 500, 400)
    assert "c" not in models.names


def test_without_a_budget_nothing_is_unloaded(server: Server) -> None:
    models = models_of(server, None)
    server.running = {"a": 1, "b": 2}
    models.find_loaded()
    use(models, "a", "b")
    assert server.log == []
    assert models.dead() == []
    del server.running["b"]
    assert models.dead() == [2]


def test_a_model_that_was_unloaded_on_purpose_is_not_dead(server: Server) -> None:
    models = models_of(server, None)
    models.load("a")
    models.unload("a")
    models.unload("a")
    assert (models.dead(), models.names) == ([], frozenset())
    assert server.log == ["+a", "-a"]


def test_a_process_that_does_not_go_is_told_to_whoever_restarts_the_server(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = models_of(server, None)
    models.load("a")
    monkeypatch.setattr(triton_models, "UNLOAD_TIMEOUT_S", 0.05)
    monkeypatch.setattr(triton_models, "is_running", lambda pid: True)
    with pytest.raises(BackendUnavailableError, match="still runs"):
        models.unload("a")
    assert models.dead() == [1]


def test_the_real_server_swaps_models_and_stays_within_the_budget(
    tiny_repo: Path, tmp_path: Path
) -> None:
    """Each of the two needs 210 to 390 MiB, so one fits."""
    budget_mib = 400
    engine = EmbeddedTriton(
        TritonServerOptions(
            model_repo=tiny_repo,
            models=(MANY, TINY),
            data_dir=tmp_path,
            model_memory_mib=budget_mib,
        )
    )
    local, volume = LocalPredictor(tiny_repo), noise_volume((19, 33, 41), np.int16)
    engine.start()
    try:
        models = engine._server.models
        assert models.names == {TINY}
        for name in (MANY, TINY):
            found = engine.predict(name, volume).labels
            np.testing.assert_array_equal(found, local.predict(name, volume).labels)
            assert models.names == {name}
            assert 0 < models.memory_bytes() <= budget_mib * MIB
        assert engine.checks() == (
            Check(name="triton", is_ready=True, detail="ready"),
            Check(name=f"model {MANY}", is_ready=True, detail="loaded at its next use"),
            Check(name=f"model {TINY}", is_ready=True),
        )
        assert engine._server.n_restarts == 0, "a model that was unloaded is no accident"
    finally:
        engine.stop()


def test_a_budget_too_small_for_a_model_stops_the_start(tiny_repo: Path, tmp_path: Path) -> None:
    options = TritonServerOptions(
        model_repo=tiny_repo, models=(TINY,), data_dir=tmp_path, model_memory_mib=200
    )
    with (
        pytest.raises(MemoryBudgetError, match="model_memory_mib is 200 MiB"),
        TritonServer(options),
    ):
        pass
