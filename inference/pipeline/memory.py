"""How much memory a volume will need, from its header alone, and a plan that keeps to a budget.

The plan changes how a volume is gone through, never its labels: windows of one value may be run
again instead of being kept, and the plane may be merged in strips of rows. A precision is never
changed to save memory; the refusal says what another one would need.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from inference.domain.errors import RefusedError
from inference.pipeline.engines.base import installed_version
from inference.pipeline.network import network_of
from inference.pipeline.preprocess import ModelGrid
from inference.pipeline.spec import ModelSpec, ZScore
from inference.pipeline.windows import WindowPlan, plan_strips, plan_windows

MIB = 2**20
DEFAULT_SHARE = 0.8
"""Share of the machine's memory that one process takes where no budget is set."""

MAX_STRIPS = 32
ACTIVATION_FACTOR = {"torch": 1.5, "onnxruntime": 1.5}
"""Memory of the libraries over what their tensors hold: convolutions reorder input and output
(measured on x86 with `benchmarks/memory.py`)."""
OTHER_FACTOR = 1.25
"""The same for engines that plan their memory before they run."""

LIBRARIES_MIB = 64.0
"""What libraries load at their first volume: compiled kernels, threads, convolution code."""

ACTIVATIONS_FOLDER = Path.home() / ".cache" / "clinfer" / "activations"
"""What networks hold while they run, by a hash of network, window and library versions."""

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """How a volume is gone through, and what it will need.

    Attributes
    ----------
    n_strips : strips of rows that the plane is merged in
    keep_constant : whether the answer for windows of one value is kept
    parts_mib : what is held when most is held: ``process`` (before the volume's own), ``image``,
        ``labels``, ``slab``, ``network``, ``answers``
    budget_mib : what may be used
    """

    n_strips: int
    keep_constant: bool
    parts_mib: dict[str, float]
    budget_mib: float

    @property
    def needed_mib(self) -> float:
        """The peak of the process that computes."""
        return sum(self.parts_mib.values())

    def as_json(self) -> dict[str, float]:
        """Return what the report says."""
        return {
            "predicted_mib": round(self.needed_mib, 1),
            "budget_mib": round(self.budget_mib, 1),
            "strips": self.n_strips,
        }


def plan_memory(
    grid: ModelGrid,
    spec: ModelSpec,
    *,
    budget_mib: float | None = None,
    resident_mib: float | None = None,
    caller_mib: float = 0.0,
    with_probability: bool = False,
) -> MemoryPlan:
    """Find the plan that costs least time and keeps to a budget.

    Parameters
    ----------
    grid : from `model_grid`: a header is enough, no voxel is read
    budget_mib : None takes 80 % of the machine's memory (or of the control group's)
    resident_mib : what the process holds already, input included; None asks the system
    caller_mib : what the process that asks for this one's work holds, and what they share

    Raises
    ------
    RefusedError
        No plan fits; says what would be needed and what there is, in MiB.
    """
    budget = default_budget_mib() if budget_mib is None else budget_mib
    process = _resident_mib() if resident_mib is None else resident_mib
    windows = plan_windows(grid.shape, spec.window)
    smallest: MemoryPlan | None = None
    for n_strips in range(1, min(MAX_STRIPS, grid.native_shape[1]) + 1):
        for keep in (True, False) if spec.window.skip_constant else (False,):
            parts = {"process": process + LIBRARIES_MIB + caller_mib} | _parts_mib(
                grid, windows, spec, n_strips, keep_constant=keep, probability=with_probability
            )
            plan = MemoryPlan(
                n_strips=n_strips, keep_constant=keep, parts_mib=parts, budget_mib=budget
            )
            if plan.needed_mib <= budget:
                return plan
            if smallest is None or plan.needed_mib < smallest.needed_mib:
                smallest = plan
    assert smallest is not None, "there is at least one row"
    raise RefusedError(_too_much(smallest, spec))


def activation_bytes(spec: ModelSpec, bytes_per_value: int) -> int:
    """Return the most that one window's tensors hold at a time, input and output among them."""
    table = spec.network.model_dump_json(by_alias=True)
    return _values_alive(_Hashable(spec, table)) * bytes_per_value


def default_budget_mib() -> float:
    """Return 80 % of this machine's memory, or of the control group's where that is less."""
    total = float(psutil.virtual_memory().total)
    for path in _CGROUP_LIMITS:
        try:
            text = Path(path).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            total = min(total, float(text))
    return DEFAULT_SHARE * total / MIB


def _parts_mib(
    grid: ModelGrid,
    windows: WindowPlan,
    spec: ModelSpec,
    n_strips: int,
    *,
    keep_constant: bool,
    probability: bool,
) -> dict[str, float]:
    depth, _, width = (windows.roi_size[0] + 1, *windows.padded_shape[1:])
    rows = max(
        strip.model_rows[1] - strip.model_rows[0]
        for strip in plan_strips(windows, grid.axes_to_native()[1], n_strips)
    )
    voxels, native = prod(windows.padded_shape), prod(grid.native_shape)
    roi = prod(windows.roi_size)
    # The scores are float32; beside them the weights (4 bytes) and the best class (2).
    slab = depth * rows * width * (4 * spec.n_classes + 6)
    answer = 4 * spec.n_classes * roi
    engine = spec.engine
    is_half = engine.precision in ("bf16", "fp16")
    factor = ACTIVATION_FACTOR.get(engine.kind, OTHER_FACTOR)
    network = activation_bytes(spec, 2 if is_half else 4) * factor
    # Normalising by the mean takes a mask, a copy of the values and one for the percentiles.
    image = voxels * 4 + (voxels * 9 if isinstance(spec.preprocessing.intensity, ZScore) else 0)
    labels = native * (1 if spec.n_classes <= 256 else 2) + (4 * native if probability else 0)
    if spec.postprocessing.keep_largest_component:
        # A mask and the component numbers of the label's box; by then the slab has gone.
        labels += max(0, 5 * native - slab - int(network) - answer)
    parts = {
        "image": image,
        "labels": labels,
        "slab": slab,
        "network": network,
        "answers": answer * (2 if keep_constant else 1) + 4 * roi,
    }
    return {name: size / MIB for name, size in parts.items()}


def _too_much(smallest: MemoryPlan, spec: ModelSpec) -> str:
    parts = ", ".join(f"{name} {mib:.0f}" for name, mib in smallest.parts_mib.items())
    text = (
        f"memory: this volume needs at least {smallest.needed_mib:.0f} MiB ({parts}), and"
        f" {smallest.budget_mib:.0f} MiB may be used; raise memory_budget_mib or use a machine"
        " with more"
    )
    if spec.engine.precision == "fp32":
        half = smallest.needed_mib - smallest.parts_mib["network"] / 2
        text += f"; a model tuned to bf16 would need {half:.0f} MiB"
    return text


def _resident_mib() -> float:
    return float(psutil.Process().memory_info().rss) / MIB


class _Hashable:
    """A spec as a cache sees it: network, classes and window."""

    def __init__(self, spec: ModelSpec, table: str) -> None:
        self.spec = spec
        self._key = (table, spec.n_classes, spec.window.roi_size)
        versions = (installed_version("torch"), installed_version("monai"))
        text = json.dumps([*self._key, *versions], sort_keys=True)
        self.digest = hashlib.sha256(text.encode()).hexdigest()[:32]

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hashable) and self._key == other._key


@lru_cache(maxsize=32)
def _values_alive(of: _Hashable) -> int:
    """Return how many values are alive at a time; counted once on a machine, then remembered.

    Counting takes torch's compiler, whose import alone costs more than a second.
    """
    place = ACTIVATIONS_FOLDER / of.digest
    with suppress(OSError, ValueError):
        return int(place.read_text(encoding="ascii"))
    values = _count_values_alive(of)
    with suppress(OSError):  # a home that cannot be written: counted again by the next process
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = place.with_suffix(f".{os.getpid()}")
        fresh.write_text(str(values), encoding="ascii")
        fresh.replace(place)
    return values


def _count_values_alive(of: _Hashable) -> int:
    """Run the network without data (torch's meta device) and count the values alive at a time."""
    with torch.device("meta"):
        network = network_of(of.spec.network, n_classes=of.spec.n_classes).eval()
        patch = torch.zeros(1, 1, *of.spec.window.roi_size)
    counter = _AliveCounter()
    with torch.no_grad(), counter:
        network(patch)
    return counter.most_bytes // patch.element_size() + patch.numel()


class _AliveCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums the storages that operations have made and that still live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._alive: Any = WeakIdKeyDictionary()
        self.most_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self._alive[storage] = storage.nbytes()
        self.most_bytes = max(self.most_bytes, sum(self._alive.values()))
        return out
