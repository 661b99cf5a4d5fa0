"""The engine that was measured for a model on a machine, beside its `model.toml`.

`clinfer models tune` writes `engine.<machine>.toml` with all its evidence. It is followed where
machine, weights, network and library versions are those it was measured with; else `model.toml`'s
own `[engine]` is used, and the report says why.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import tempfile
import tomllib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inference.domain.errors import ModelSpecError
from inference.pipeline.engine_spec import Engine
from inference.pipeline.engines.base import PACKAGES, installed_version
from inference.pipeline.engines.cache import INT8_FORM, EngineCache
from inference.pipeline.engines.candidates import cpu_flags
from inference.pipeline.spec import ModelSpec, load_spec

SPEED_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8", "asimd")
"""CPU features that decide which engine is fastest; clouds give one name to several CPUs."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Machine(_Table):
    """What an engine was measured on."""

    cpu: str
    cores: int
    features: tuple[str, ...]
    gpu: str | None = None

    @property
    def slug(self) -> str:
        """Its name in a file name, e.g. ``amd-epyc-2-cores``."""
        words = f"{self.cpu} {self.cores} cores {self.gpu or ''}".lower()
        return re.sub(r"[^a-z0-9]+", "-", words).strip("-")


class Evidence(_Table):
    """What was measured of one engine; times are of one window."""

    engine: Engine
    passed: bool
    reason: str
    median_ms: float | None = None
    p95_ms: float | None = None
    n_timed: int = 0
    prepare_s: float | None = None
    dice: dict[str, float] = {}
    volume_ml: dict[str, float] = {}
    mean_dice: float | None = None


class TunedChoice(_Table):
    """The file's content.

    ``data`` says what was measured on. ``dice`` of the evidence is agreement with torch fp32, by
    label, pooled over the cases; ``mean_dice`` is agreement with reference labels.
    """

    model: str
    model_version: str
    weights_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    computing_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    tuned_at: datetime
    data: str
    cases: tuple[str, ...]
    labelled_cases: tuple[str, ...] = ()
    engine: Engine
    why: str
    machine: Machine
    versions: dict[str, str]
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, kw_only=True)
class ServedSpec:
    """A model's spec with the engine that serves it here, and why it is that one."""

    spec: ModelSpec
    why: str


def served_spec(folder: Path, *, cache: EngineCache, gpu: str | None = None) -> ServedSpec:
    """Read a model folder's spec, with the engine that was measured for this machine.

    Raises
    ------
    ModelSpecError
        `model.toml` is wrong, or the file of this machine is damaged.
    """
    spec = load_spec(folder)
    machine = this_machine(gpu=gpu)
    path = choice_path(folder, machine)
    if not path.exists():
        return ServedSpec(spec=spec, why="model.toml: not tuned on this machine")
    choice = read_choice(path)
    tuned = spec.model_copy(update={"engine": choice.engine})
    problem = _mismatch(choice, spec, machine)
    if problem is None and choice.engine.precision == "int8" and not cache.has(tuned, INT8_FORM):
        problem = "the calibrated int8 network is not in the cache"
    if problem is not None:
        return ServedSpec(spec=spec, why=f"model.toml: {path.name} is not followed: {problem}")
    return ServedSpec(spec=tuned, why=f"{path.name}: {choice.why}")


def _mismatch(choice: TunedChoice, spec: ModelSpec, machine: Machine) -> str | None:
    """Return why a choice does not hold here and now; None where it does."""
    if choice.machine != machine:
        return "it was measured on another machine"
    if choice.weights_sha256 != spec.weights.sha256:
        return f"it was measured with weights {choice.weights_sha256[:12]}"
    if choice.computing_sha256 != computing_sha256(spec):
        return "network, window or preprocessing have changed since"
    for package, measured in choice.versions.items():
        found = installed_version(package)
        if found != measured:
            return f"it was measured with {package} {measured}, here is {found or 'none'}"
    return None


def versions_of(engine: Engine) -> dict[str, str]:
    """Return the versions on which an engine's speed and values depend."""
    names = {"torch", "monai", *PACKAGES[engine.kind]}
    names |= {"nncf"} if engine.precision == "int8" else set()
    names |= {"onnx"} if engine.kind == "onnxruntime" else set()
    return {name: found for name in sorted(names) if (found := installed_version(name))}


def computing_sha256(spec: ModelSpec) -> str:
    """Return the hash of what decides the network's work; the engine and the labels' names not."""
    parts = spec.model_dump(mode="json", include={"preprocessing", "window", "network"})
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def this_machine(*, gpu: str | None = None) -> Machine:
    """Return what an engine is measured on: CPU, cores that this process may use, GPU."""
    flags = cpu_flags()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Machine(
        cpu=_cpu_name(),
        cores=cores or 1,
        features=tuple(flag for flag in SPEED_FLAGS if flag in flags),
        gpu=gpu,
    )


def choice_path(folder: Path, machine: Machine) -> Path:
    """Return where a machine's choice for a model lies."""
    return folder / f"engine.{machine.slug}.toml"


def read_choice(path: Path) -> TunedChoice:
    """Read a choice.

    Raises
    ------
    ModelSpecError
        The file is damaged: `clinfer models tune` writes it anew.
    """
    try:
        return TunedChoice.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ModelSpecError(path=str(path), field=field, problem=first["msg"]) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ModelSpecError(path=str(path), field="(file)", problem=str(error)) from error


def write_choice(folder: Path, choice: TunedChoice) -> Path:
    """Write a choice beside the model's `model.toml`; it appears whole. Return its path."""
    path = choice_path(folder, choice.machine)
    table: dict[str, Any] = choice.model_dump(mode="json", exclude_none=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=folder)
    fresh = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write("# Written by `clinfer models tune`; delete it to go back to model.toml.\n")
            file.write(tomli_w.dumps(table))
            file.flush()
            os.fsync(file.fileno())
        fresh.chmod(0o644)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    return path


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine() or "unknown"
