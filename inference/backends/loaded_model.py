"""A model of a repository, ready to run: what the server and the in-process backend load alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from inference.pipeline.engine import use_all_cores
from inference.pipeline.engines.base import ReadyEngine
from inference.pipeline.engines.cache import EngineCache, default_cache_dir
from inference.pipeline.engines.choice import served_spec
from inference.pipeline.engines.factory import ready_engine
from inference.pipeline.network import load_network
from inference.pipeline.spec import ModelSpec
from inference.telemetry import get_logger

_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model in memory: its spec with the engine that serves here, and its network in it.

    ``why`` says why it is that engine; it stands in every report as ``engine_choice``.
    """

    spec: ModelSpec
    network: ReadyEngine
    why: str


def load_model(
    folder: Path, *, device: torch.device, engine_cache_dir: Path | None = None
) -> LoadedModel:
    """Read a model folder and make its network ready in the engine chosen for this machine.

    Raises
    ------
    ModelError
        The folder is wrong.
    EngineUnavailableError
        The engine cannot run here.
    """
    use_all_cores()
    cache = EngineCache(engine_cache_dir or default_cache_dir())
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    served = served_spec(folder, cache=cache, gpu=gpu)
    network = load_network(folder, served.spec)
    ready = ready_engine(network, served.spec, device, cache=cache)
    _log.info("engine", model=served.spec.name, engine=served.spec.engine.label, why=served.why)
    return LoadedModel(spec=served.spec, network=ready, why=served.why)
