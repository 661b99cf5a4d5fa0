"""Runs models inside this process, with the code that the server runs; the same labels."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dicom_io.volume import Volume
from inference.backends.loaded_model import LoadedModel, load_model
from inference.domain.errors import ModelSpecError
from inference.domain.job import Priority
from inference.domain.ports import Prediction
from inference.pipeline.segment import StoppedError, segment_volume
from inference.pipeline.spec import SPEC_FILE, list_models


class LocalPredictor:
    """Predictor over a model repository; models are loaded at first use and stay.

    Any thread may call it. Volumes are run one at a time, because one network already uses all
    cores; ``priority`` therefore only says who was asked for, not who overtakes. ``caller_mib`` is
    what another process, which this one computes for, holds of the memory budget.
    """

    def __init__(
        self,
        model_repo: Path,
        *,
        device: torch.device | None = None,
        engine_cache_dir: Path | None = None,
        memory_budget_mib: float | None = None,
    ) -> None:
        self._repo = model_repo
        self._engine_cache_dir = engine_cache_dir
        self._memory_budget_mib = memory_budget_mib
        self.caller_mib = 0.0
        self._device = device or torch.device("cpu")
        self._models: dict[str, LoadedModel] = {}
        self._loading = threading.Lock()
        self._running = threading.Lock()

    def predict(
        self,
        model: str,
        volume: Volume,
        *,
        priority: Priority = Priority.ROUTINE,
        deadline_s: float | None = None,
    ) -> Prediction:
        """Return the labels of every voxel; see `Predictor`.

        Raises
        ------
        ModelError
            The model is unknown, or its folder is wrong.
        RefusedError
            No result may be made from this volume by this model.
        InferenceError
            The network failed, or ``deadline_s`` (from now) passed before it was done.
        """
        until = None if deadline_s is None else time.monotonic() + deadline_s
        loaded = self.load(model)
        with self._running:
            waited_until = time.monotonic()
            if until is not None and waited_until > until:
                raise StoppedError(f"deadline of {deadline_s} s passed while waiting")
            result = segment_volume(
                volume.array,
                volume.affine_lps,
                loaded.spec,
                loaded.network,
                should_stop=lambda: until is not None and time.monotonic() > until,
                device=self._device,
                memory_budget_mib=self._memory_budget_mib,
                caller_mib=self.caller_mib,
            )
        report = {
            **result.report,
            "backend": "local",
            "priority": priority,
            "engine_choice": loaded.why,
        }
        return Prediction(labels=result.labels, report=report)

    def probability(self, model: str, volume: Volume, label: int) -> NDArray[np.float32]:
        """Return the probability of one label; see `ProbabilityPredictor`."""
        loaded = self.load(model)
        with self._running:
            result = segment_volume(
                volume.array,
                volume.affine_lps,
                loaded.spec,
                loaded.network,
                device=self._device,
                probability_of=label,
            )
        assert result.probability is not None, "it was asked for"
        return result.probability

    def load(self, model: str) -> LoadedModel:
        """Return a model, reading it from the repository the first time.

        Raises
        ------
        ModelError
        """
        with self._loading:
            if model not in self._models:
                if model not in list_models(self._repo):
                    raise ModelSpecError(
                        path=str(self._repo / model / SPEC_FILE),
                        field="(file)",
                        problem=f"no such model; there are {', '.join(list_models(self._repo))}",
                    )
                self._models[model] = load_model(
                    self._repo / model,
                    device=self._device,
                    engine_cache_dir=self._engine_cache_dir,
                )
            return self._models[model]
