"""Where models run: an embedded Triton, a Triton by address, or this process; one shape for all."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dicom_io.volume import Volume
from inference.api.health import Check
from inference.backends.triton import TritonPredictor
from inference.backends.triton_launch import TritonServerOptions
from inference.backends.triton_server import ServerState, TritonServer
from inference.domain.errors import BackendUnavailableError, ClinferError
from inference.domain.job import Priority
from inference.domain.ports import Prediction, Predictor

READY_KEPT_S = 5.0
"""How long an answer about a model's readiness is used again."""


class Engine(Predictor, Protocol):
    """A predictor that is started, asked how it is, and stopped."""

    def start(self) -> None:
        """Become ready; `stop`, called from another thread, ends the waiting."""
        ...

    def stop(self) -> None:
        """Let go of everything; does nothing twice."""
        ...

    def checks(self) -> tuple[Check, ...]:
        """Return the state of the server and of each model."""
        ...


class EmbeddedTriton:
    """The `tritonserver` that this service starts and watches."""

    def __init__(self, options: TritonServerOptions) -> None:
        self._options = options
        self._server = TritonServer(options)
        self._predictor: TritonPredictor | None = None
        self._models = _ModelChecks(options.models)

    def start(self) -> None:
        """Start the server and wait for its models."""
        self._server.start()
        self._predictor = TritonPredictor(
            self._server.address,
            model_repo=self._options.model_repo,
            secret=self._server.secret,
            shared_memory=True,
        )

    def stop(self) -> None:
        """Stop the server."""
        predictor, self._predictor = self._predictor, None
        if predictor is not None:
            predictor.close()
        self._server.stop()

    def predict(
        self,
        model: str,
        volume: Volume,
        *,
        priority: Priority = Priority.ROUTINE,
        deadline_s: float | None = None,
    ) -> Prediction:
        """Run a model; see `Predictor`."""
        if self._predictor is None:
            raise BackendUnavailableError("the Triton server is starting or stopping")
        with self._server.models.use(model):
            return self._predictor.predict(model, volume, priority=priority, deadline_s=deadline_s)

    def checks(self) -> tuple[Check, ...]:
        """Return the server's state and each model's."""
        state = self._server.state
        detail = state.value
        if self._server.n_restarts:
            detail += f", restarted {self._server.n_restarts} times"
        server = Check(name="triton", is_ready=state is ServerState.READY, detail=detail)
        if state is not ServerState.READY:
            return (server, *self._models.checks(self._predictor))
        resting = frozenset(self._options.models) - self._server.models.names
        return (server, *self._models.checks(self._predictor, resting=resting))


class TritonByAddress:
    """A Triton that somebody else runs, with the same model repository."""

    def __init__(self, address: str, model_repo: Path, models: tuple[str, ...]) -> None:
        self._predictor = TritonPredictor(address, model_repo=model_repo, shared_memory=False)
        self._models = _ModelChecks(models)

    def start(self) -> None:
        """Start nothing; a server that is away now may come later, and jobs wait for it."""

    def stop(self) -> None:
        """Close the connection."""
        self._predictor.close()

    def predict(
        self,
        model: str,
        volume: Volume,
        *,
        priority: Priority = Priority.ROUTINE,
        deadline_s: float | None = None,
    ) -> Prediction:
        """Run a model; see `Predictor`."""
        return self._predictor.predict(model, volume, priority=priority, deadline_s=deadline_s)

    def checks(self) -> tuple[Check, ...]:
        """Return the server's state, as its models' readiness shows it, and each model's."""
        models = self._models.checks(self._predictor)
        is_there = any(check.is_ready for check in models) or not models
        return (Check(name="triton", is_ready=is_there, detail="by address"), *models)


class InThisProcess:
    """The same model code without a server."""

    def __init__(
        self,
        model_repo: Path,
        models: tuple[str, ...],
        *,
        engine_cache_dir: Path | None = None,
        memory_budget_mib: float | None = None,
    ) -> None:
        # torch and the networks load in seconds: only where this process computes.
        from inference.backends.local_torch import LocalPredictor

        self._predictor = LocalPredictor(
            model_repo,
            engine_cache_dir=engine_cache_dir,
            memory_budget_mib=memory_budget_mib,
        )
        self._names = models

    def start(self) -> None:
        """Load every model now, so that a wrong one stops the start."""
        for name in self._names:
            self._predictor.load(name)

    def stop(self) -> None:
        """Hold nothing."""

    def predict(
        self,
        model: str,
        volume: Volume,
        *,
        priority: Priority = Priority.ROUTINE,
        deadline_s: float | None = None,
    ) -> Prediction:
        """Run a model; see `Predictor`."""
        return self._predictor.predict(model, volume, priority=priority, deadline_s=deadline_s)

    def probability(self, model: str, volume: Volume, label: int) -> NDArray[np.float32]:
        """Return the probability of one label; see `ProbabilityPredictor`."""
        return self._predictor.probability(model, volume, label)

    def checks(self) -> tuple[Check, ...]:
        """Return that models run here."""
        return tuple(
            Check(name=f"model {name}", is_ready=True, detail="in this process")
            for name in self._names
        )


class _ModelChecks:
    """Asks a Triton for each model, not more often than needed."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._asked_s = float("-inf")
        self._checks: tuple[Check, ...] = ()

    def checks(
        self, predictor: TritonPredictor | None, *, resting: frozenset[str] = frozenset()
    ) -> tuple[Check, ...]:
        """Ask about each; those that rest are not loaded on purpose."""
        if predictor is None:
            return tuple(Check(name=f"model {name}", is_ready=False) for name in self._names)
        if time.monotonic() - self._asked_s > READY_KEPT_S:
            self._checks = tuple(
                Check(name=f"model {name}", is_ready=True, detail="loaded at its next use")
                if name in resting
                else _check_model(predictor, name)
                for name in self._names
            )
            self._asked_s = time.monotonic()
        return self._checks


def _check_model(predictor: TritonPredictor, name: str) -> Check:
    try:
        predictor.check_ready(name)
    except ClinferError as error:
        return Check(name=f"model {name}", is_ready=False, detail=error.code)
    return Check(name=f"model {name}", is_ready=True)
