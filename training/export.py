"""From a finished run to an entry of the model repository that can be served as it is."""

from __future__ import annotations

import copy
import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor, nn

from inference.pipeline.spec import SPEC_FILE, ModelSpec, parse_spec, write_spec
from training.cases import Case
from training.config import TrainConfig

WEIGHTS_FILE = "1/weights.safetensors"


def export_model(
    config: TrainConfig,
    network: nn.Module,
    *,
    cases: Sequence[Case],
    unseen: Sequence[Case],
    metrics: dict[str, Any],
    model_repo: Path,
    render_config: Callable[[ModelSpec], str],
) -> Path:
    """Write ``model_repo/<name>``: weights, ``model.toml`` and ``config.pbtxt``; return it.

    ``cases`` are all that the weights or the choice of steps have seen, ``unseen`` those kept
    aside. ``render_config`` gives the text of ``config.pbtxt``. The folder appears whole: an
    older entry of the same name is replaced in two renames.
    """
    folder = model_repo / config.spec().name
    fresh = model_repo / f".{folder.name}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    (fresh / "1").mkdir(parents=True)
    # Cloned, because a DynUNet names each of its tensors twice and safetensors shares none.
    tensors = {name: stored(t).clone() for name, t in network.state_dict().items()}
    content = save(tensors, metadata={"format": "pt"})
    (fresh / WEIGHTS_FILE).write_bytes(content)
    spec = parse_spec(
        {
            **config.model,
            "weights": {"file": WEIGHTS_FILE, "sha256": hashlib.sha256(content).hexdigest()},
            "training": _training_table(config, cases, unseen),
            "metrics": metrics,
        },
        path=str(folder / SPEC_FILE),
    )
    (fresh / SPEC_FILE).write_text(write_spec(spec), encoding="utf-8")
    (fresh / "config.pbtxt").write_text(render_config(spec), encoding="utf-8")
    old = model_repo / f".{folder.name}.old"
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.replace(old)
    fresh.replace(folder)
    shutil.rmtree(old, ignore_errors=True)
    return folder


def stored(tensor: Tensor) -> Tensor:
    """Return a tensor as the weights file keeps it: float16, which halves the file."""
    kept = tensor.detach().cpu()
    return kept.half() if kept.is_floating_point() else kept


def as_served(network: nn.Module) -> nn.Module:
    """Return a copy of a network with its weights rounded as the weights file rounds them."""
    rounded = copy.deepcopy(network).cpu().eval()
    rounded.load_state_dict({name: stored(t) for name, t in rounded.state_dict().items()})
    return rounded


def _training_table(
    config: TrainConfig, cases: Sequence[Case], unseen: Sequence[Case]
) -> dict[str, Any]:
    sources = sorted({case.source for case in cases})
    return {
        "data": f"{len(cases)} cases: " + "; ".join(sources),
        "licences": sorted({case.licence for case in cases}),
        "cases": [
            {"id": case.id, "source": case.source, "licence": case.licence} for case in cases
        ],
        "unseen_cases": [{"id": case.id, "source": case.source} for case in unseen],
        "seed": config.seed,
    }
